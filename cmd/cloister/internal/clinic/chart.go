package clinic

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// chart writes the resources of one patient.
type chart struct {
	*shelf
	plan
	dice     *rand.Rand
	self     fhir.Ref
	parent   fhir.Ref
	coverage fhir.Ref
}

func (c *chart) ref(t fhir.ResourceType, key string) fhir.Ref {
	return c.patientRef(c.index, t, key)
}

func (s *site) patient(i int) Batch {
	c := &chart{shelf: &shelf{site: s}, plan: s.plan(i)}
	c.dice = s.dice("chart/" + c.key())
	c.identity()
	if c.attendsGeneral {
		c.mentalHealth()
	}
	if c.attendsSUD {
		c.recovery()
	}
	if c.shares() {
		c.shared()
	}
	return Batch{
		Practice: s.Slug, Patient: c.self.ID, Resources: c.out,
		Title: fmt.Sprintf("%s, patient %d of %d", s.Name, i+1, s.patients),
	}
}

// shares tells of whom the general program knows that she attends the other one, too.
func (c *chart) shares() bool { return c.SUD && (c.index == featuredTPO || c.index == featuredBoth) }

// identity writes who the patient is, who speaks for them and who pays.
func (c *chart) identity() {
	home := c.general.org
	if !c.attendsGeneral {
		home = c.sud.org // that the person is a patient at all is then a Part 2 record
	}
	street := pick(c.dice, streets)
	house, place := 1+c.dice.IntN(250), c.dice.IntN(len(cities))
	line := strconv.Itoa(house) + " " + street
	phoneNumber := fmt.Sprintf("+1-555-01%02d", c.dice.IntN(100))
	address := func() node { // a new tree each time: every resource plants its own canaries
		return object(str("use", "home"), strs("line", line), str("city", cities[place].city),
			str("postalCode", cities[place].zip), str("country", "US"))
	}
	c.self = c.put(c.ref("Patient", ""), declares("patient"),
		narrative(c.name()+", born "+date(c.birth)),
		list("identifier", object(str("use", "usual"),
			conceptField("type", "Medical record number", code{terminology + "v2-0203", "MR", "Medical record number"}),
			str("system", "https://cloister.health/fhir/sid/"+c.Slug+"/mrn"),
			str("value", fmt.Sprintf("%c%07d", c.Slug[0]-'a'+'A', c.dice.IntN(1e7))))),
		yes("active"),
		list("name", object(str("use", "official"), str("text", c.name()), str("family", c.family), strs("given", c.given))),
		list("telecom", object(str("system", "phone"), str("value", phoneNumber), str("use", "mobile"))),
		str("gender", c.gender), str("birthDate", date(c.birth)),
		list("address", address()),
		list("communication", object(conceptField("language", "English", code{"urn:ietf:bcp:47", "en-US", "English"}), yes("preferred"))),
		references("generalPractitioner", c.leader()),
		reference("managingOrganization", home))
	if c.minor {
		c.parent = c.put(c.ref("RelatedPerson", "parent"), declares("relatedperson"), yes("active"),
			reference("patient", c.self),
			list("relationship", concept("Mother", code{roleCode, "MTH", "Mother"}, code{roleCode, "PRN", "Parent"})),
			list("name", object(str("use", "official"), str("text", parentName+" "+c.family), str("family", c.family), strs("given", parentName))),
			list("telecom", object(str("system", "phone"), str("value", phoneNumber), str("use", "home"))),
			str("gender", "female"), list("address", address()),
			nest("period", str("start", date(c.birth))))
	}
	subscriber := c.self
	relation := code{terminology + "subscriber-relationship", "self", "The patient"}
	if c.minor {
		subscriber, relation = c.parent, code{terminology + "subscriber-relationship", "child", "Child of the subscriber"}
	}
	c.coverage = c.put(c.ref("Coverage", "plan"), declares("coverage"), str("status", "active"),
		conceptField("type", "Health plan", code{actCode, "HIP", "Health insurance plan"}),
		reference("subscriber", subscriber),
		str("subscriberId", fmt.Sprintf("MM%08d", c.dice.IntN(1e8))),
		reference("beneficiary", c.self),
		conceptField("relationship", "Relation to the subscriber", relation),
		nest("period", str("start", date(c.start()))),
		references("payor", c.payer))
}

// parentName is the given name of every mother in the clinic.
const parentName = "Renata"

// leader is the clinician who leads the patient's care.
func (c *chart) leader() fhir.Ref {
	key := c.clinician
	if key == "" {
		key = c.counselor
	}
	return c.member(key).ref()
}

// start is the day on which care begins.
func (c *chart) start() time.Time { return c.Now.AddDate(0, -18, 0) }

// visit is one encounter that has taken place.
type visit struct {
	encounter fhir.Ref
	start     time.Time
	by        Staff
	program   program
	alone     bool // minor-consented
}

// key names the n-th resource of a kind in the program of the visit.
func (v visit) key(kind string, n int) string {
	k := "general/"
	switch {
	case v.program.part2:
		k = "sud/"
	case v.alone:
		k = "alone/"
	}
	return k + kind + "/" + strconv.Itoa(n)
}

// sessions spreads n visits over the 18 months, on weekdays; the last lies
// before the day on which the clinic stands.
func (c *chart) sessions(n int) []time.Time {
	first := days(c.start(), c.dice.IntN(10))
	span := int(days(c.Now, -4).Sub(first).Hours()/24) - 3
	out := make([]time.Time, n)
	for i := range out {
		day := span * i / max(1, n-1)
		out[i] = weekday(days(first, day)).Add(time.Duration(14+c.dice.IntN(8))*time.Hour + time.Duration(c.dice.IntN(2)*30)*time.Minute)
	}
	return out
}

func category(c, display string) field {
	return list("category", concept(display, code{terminology + "observation-category", c, display}))
}

// meet writes the Encounter of one session and, for some, the Appointment before it.
func (c *chart) meet(p program, by Staff, n int, kind code, start time.Time, episode fhir.Ref, reasons []fhir.Ref, booked, alone bool) visit {
	v := visit{start: start, by: by, program: p, alone: alone}
	end := start.Add(50 * time.Minute)
	var appointment fhir.Ref
	if booked {
		appointment = c.book(v, n, "fulfilled", start, nil)
	}
	types := []node{concept(kind.display, kind)}
	if alone {
		types = append(types, concept("Care to which the minor consented", code{fhir.EncounterKind, "minor-consented", "Consented by the minor"}))
	}
	var diagnoses []node
	for i, r := range reasons {
		diagnoses = append(diagnoses, object(reference("condition", r), number("rank", i+1)))
	}
	v.encounter = c.put(c.ref("Encounter", v.key("session", n)), declares("encounter"), str("status", "finished"),
		field{Name: "class", Value: code{actCode, "AMB", "Ambulatory"}.coding()},
		list("type", types...), reference("subject", c.self),
		references("episodeOfCare", episode),
		list("participant", object(
			list("type", concept("Performer", code{partType, "PPRF", "Primary performer"})),
			period("period", start, end), reference("individual", by.ref()))),
		references("appointment", appointment),
		period("period", start, end),
		list("diagnosis", diagnoses...),
		list("location", object(reference("location", p.place))),
		reference("serviceProvider", p.org))
	return v
}

// book writes an Appointment; its Location tells which program it belongs to.
func (c *chart) book(v visit, n int, status string, start time.Time, reasons []fhir.Ref) fhir.Ref {
	return c.put(c.ref("Appointment", v.key("appointment/"+status, n)), str("status", status),
		list("serviceType", concept("Session", code{snomed, "390906007", "Follow-up visit"})),
		references("reasonReference", reasons...),
		str("description", "Session with "+v.by.Given+" "+v.by.Family),
		str("start", instant(start)), str("end", instant(start.Add(50*time.Minute))), number("minutesDuration", 50),
		str("created", instant(earlier(days(start, -20), days(c.Now, -1)))),
		str("comment", "Booked by the front desk"),
		str("patientInstruction", "Please come ten minutes early"),
		list("participant",
			object(reference("actor", c.self), str("required", "required"), str("status", "accepted")),
			object(reference("actor", v.by.ref()), str("required", "required"), str("status", "accepted")),
			object(reference("actor", v.program.place), str("required", "required"), str("status", "accepted"))))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
