package clinic

import (
	"strconv"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// mentalHealth writes the care of the general program.
func (c *chart) mentalHealth() {
	p, lead := c.general, c.member(c.clinician)
	seats := []seat{{c.self, "Patient", c.start(), time.Time{}}, {lead.ref(), "Lead clinician", c.start(), time.Time{}}}
	for _, more := range []struct{ key, role string }{{c.supervisor, "Supervisor"}, {c.prescriber, "Prescriber"}} {
		if more.key != "" {
			seats = append(seats, seat{c.member(more.key).ref(), more.role, c.start(), time.Time{}})
		}
	}
	if c.former != "" {
		seats = append(seats, seat{c.member(c.former).ref(), "Former clinician", c.start(), days(c.Now, -200)})
	}
	if c.minor {
		seats = append(seats, seat{c.parent, "Parent", c.start(), time.Time{}})
	}
	e := c.open(p, "Outpatient therapy", "general/", lead.ref(), seats)

	n := 14
	if c.attendsSUD {
		n = 8 // the other program takes its share of the time
	}
	low := course{12 + c.dice.IntN(8), 3 + c.dice.IntN(4)}
	worry := course{10 + c.dice.IntN(7), 3 + c.dice.IntN(3)}
	author := c.self
	for i, start := range c.sessions(n) {
		kind := therapy
		if i == 0 {
			kind = intake
		}
		v := c.meet(p, lead, i, kind, start, e.episode, e.conditions, i%4 == 1, false)
		if i == 0 {
			for j, d := range c.diagnoses {
				e.conditions = append(e.conditions, c.condition(v, j, d))
			}
			c.aims(e, v, lead.ref(), []string{"Feel able to work and rest again", "Keep up two activities a week"}, phq9)
		}
		if i%2 == 0 {
			c.score(phq9, i/2, low.at(c.dice, i, n, 27), v, author)
		}
		if i%3 == 0 {
			c.score(gad7, i/3, worry.at(c.dice, i, n, 21), v, author)
		}
		if i%4 != 3 {
			c.progressNote(v, i)
		}
		if i%4 == 2 {
			c.apartNote(v, i/4, psychotherapyNote)
		}
		if i%3 == 2 {
			c.claim(v, i/3, kind, c.diagnoses[0])
		}
	}
	if c.prescriber != "" {
		c.medicate(p, c.member(c.prescriber), e, 4, pick(c.dice, []prescription{sertraline, escitalopram}))
	}
	if c.minorConsented {
		c.alone(p, lead, e)
	}
	c.ahead(visit{by: lead, program: p}, 2, nil)
}

// medicate writes the prescriber's visits: vital signs, a note, and the
// prescription, renewed once.
func (c *chart) medicate(p program, by Staff, e episode, n int, rx prescription) {
	for i, start := range c.sessions(n) {
		v := c.meet(p, by, 100+i, medication, start, e.episode, e.conditions, false, false)
		c.vitals(v, i)
		c.progressNote(v, 100+i)
		switch i {
		case 0:
			c.prescribe(v, i, rx, "completed", e.conditions)
		case n / 2:
			c.prescribe(v, i, rx, "active", e.conditions)
		}
	}
}

// alone writes the care to which a minor consented without a parent. Each of its
// resources refers to one of its Encounters, directly or through the Condition;
// there is no bill, because a bill would go to the parent.
func (c *chart) alone(p program, lead Staff, e episode) {
	var first []fhir.Ref
	all := c.sessions(12)
	for i, start := range []time.Time{all[4], all[7], all[10]} {
		v := c.meet(p, lead, i, therapy, weekday(days(start, 3)), e.episode, first, false, true)
		if i == 0 {
			first = []fhir.Ref{c.condition(v, 0, chronicTrauma)}
		}
		c.score(phq9, i, 14-4*i, v, c.self)
		c.progressNote(v, i)
	}
	c.ahead(visit{by: lead, program: p, alone: true}, 1, first)
}

// recovery writes the care of the Part 2 program. Each of its resources refers to
// the program, directly or through its Encounters; nothing outside does.
func (c *chart) recovery() {
	p, lead := c.sud, c.member(c.counselor)
	seats := []seat{{c.self, "Patient", c.start(), time.Time{}}, {lead.ref(), "Counselor", c.start(), time.Time{}}}
	if c.sudPrescriber != "" {
		seats = append(seats, seat{c.member(c.sudPrescriber).ref(), "Prescriber", c.start(), time.Time{}})
	}
	e := c.open(p, "Recovery program", "sud/", lead.ref(), seats)
	n := 15
	if c.attendsGeneral {
		n = 7
	}
	low := course{11 + c.dice.IntN(7), 4 + c.dice.IntN(3)}
	for i, start := range c.sessions(n) {
		kind := sudSession
		if i == 0 {
			kind = sudAdmission
		}
		v := c.meet(p, lead, i, kind, start, e.episode, e.conditions, i%5 == 1, false)
		if i == 0 {
			for j, d := range c.addictions {
				e.conditions = append(e.conditions, c.condition(v, j, d))
			}
			c.aims(e, v, lead.ref(), []string{"Stay with the recovery plan"}, phq9)
		}
		if i%3 == 0 {
			c.score(phq9, i/3, low.at(c.dice, i, n, 27), v, c.self)
		}
		if i%2 == 0 {
			c.drugScreen(v, i/2, float64(i)/float64(n))
		}
		if i%4 != 3 {
			c.progressNote(v, i)
		}
		if i%4 == 2 {
			c.apartNote(v, i/4, sudCounselingNote)
		}
		if i%4 == 2 {
			c.claim(v, i/4, kind, c.addictions[0])
		}
	}
	if c.sudPrescriber != "" {
		rx := naltrexone
		if c.addictions[0] == opioid {
			rx = buprenorphine
		}
		c.medicate(p, c.member(c.sudPrescriber), e, 3, rx)
	}
	c.ahead(visit{by: lead, program: p}, 2, nil)
	for _, d := range c.consents {
		c.consent(d)
	}
}

// drugScreen writes a urine drug screen; positives grow rare over the course (x from 0 to 1).
func (c *chart) drugScreen(v visit, n int, x float64) {
	result := func(expected float64) node {
		r := code{snomed, "260385009", "Negative"}
		if c.dice.Float64() < expected {
			r = code{snomed, "10828004", "Positive"}
		}
		return concept(r.display, r)
	}
	when := instant(v.start.Add(20 * time.Minute))
	analytes := []struct {
		loinc, name string
		expected    float64
	}{
		{"3879-4", "Opiates in urine", 0.5 * (1 - x)},
		{"19261-7", "Amphetamines in urine", 0.1},
	}
	if c.addictions[0] == opioid {
		analytes = append(analytes, struct {
			loinc, name string
			expected    float64
		}{"3414-0", "Buprenorphine in urine", 0.9})
	}
	for i, a := range analytes {
		c.put(c.ref("Observation", v.key("screen/"+strconv.Itoa(i), n)), declares("observation-lab"), str("status", "final"), category("laboratory", "Laboratory"),
			conceptField("code", a.name, code{loinc, a.loinc, a.name}),
			reference("subject", c.self), reference("encounter", v.encounter),
			str("effectiveDateTime", when), str("issued", when), references("performer", v.by.ref()),
			field{Name: "valueCodeableConcept", Value: result(a.expected)})
	}
}

// ahead books n sessions to come, the first within two weeks.
func (c *chart) ahead(v visit, n int, reasons []fhir.Ref) {
	for i := range n {
		start := weekday(days(c.Now, 5+c.dice.IntN(8)+28*i)).Add(time.Duration(14+c.dice.IntN(8)) * time.Hour)
		c.book(v, i, "booked", start, reasons)
	}
}
