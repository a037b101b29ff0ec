package clinic

import (
	"fmt"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

var (
	intake       = code{snomed, "10197000", "Intake interview"}
	therapy      = code{snomed, "18512000", "Individual session"}
	medication   = code{snomed, "390906007", "Medication visit"}
	sudSession   = code{snomed, "56876005", "Recovery session"}
	sudAdmission = code{snomed, "10197000", "Recovery intake"}
)

// prescription is a medicine by its RxNorm codes.
type prescription struct {
	text, sig string
	codes     []code
	form      string
	dose      string
	unit      string
	ucum      string
}

var (
	sertraline    = prescription{"sertraline", "One in the morning", []code{{rxnorm, "36437", "sertraline"}}, "tablet", "50", "mg", "mg"}
	escitalopram  = prescription{"escitalopram", "One in the evening", []code{{rxnorm, "321988", "escitalopram"}}, "tablet", "10", "mg", "mg"}
	buprenorphine = prescription{"buprenorphine and naloxone", "One under the tongue, daily",
		[]code{{rxnorm, "351267", "buprenorphine and naloxone"}, {rxnorm, "1819", "buprenorphine"}}, "tablet", "8", "mg", "mg"}
	naltrexone = prescription{"naltrexone", "One daily", []code{{rxnorm, "7243", "naltrexone"}}, "tablet", "50", "mg", "mg"}
)

// episode is what one program does for one patient: the frame of the visits.
type episode struct {
	program    program
	team       fhir.Ref
	episode    fhir.Ref
	conditions []fhir.Ref
}

// seat is one participant of a CareTeam.
type seat struct {
	who        fhir.Ref
	role       string
	from, till time.Time
}

// open writes the CareTeam and the EpisodeOfCare. The team is what makes a
// clinician a treating one.
func (c *chart) open(p program, name, prefix string, leader fhir.Ref, seats []seat) episode {
	var participants []node
	for _, s := range seats {
		participants = append(participants, object(
			list("role", concept(s.role, code{snomed, "223366009", "Member of the team"})),
			reference("member", s.who), period("period", s.from, s.till)))
	}
	e := episode{program: p}
	e.team = c.put(c.ref("CareTeam", prefix+"team"), declares("careteam"), str("status", "active"),
		str("name", name), reference("subject", c.self), period("period", c.start(), time.Time{}),
		list("participant", participants...),
		references("managingOrganization", p.org))
	e.episode = c.put(c.ref("EpisodeOfCare", prefix+"episode"), str("status", "active"),
		list("type", concept(name)), reference("patient", c.self),
		reference("managingOrganization", p.org),
		nest("period", str("start", date(c.start()))),
		reference("careManager", leader), references("team", e.team))
	return e
}

func (c *chart) condition(v visit, n int, d diagnosis) fhir.Ref {
	return c.put(c.ref("Condition", v.key("problem", n)), declares("condition-problems-health-concerns"),
		narrative(d.display),
		conceptField("clinicalStatus", "Active", code{terminology + "condition-clinical", "active", "Active"}),
		conceptField("verificationStatus", "Confirmed", code{terminology + "condition-ver-status", "confirmed", "Confirmed"}),
		list("category", concept("Problem", code{terminology + "condition-category", "problem-list-item", "On the problem list"})),
		conceptField("code", d.display, code{icd10cm, d.icd, d.display}),
		reference("subject", c.self), reference("encounter", v.encounter),
		str("onsetDateTime", date(days(v.start, -30-c.dice.IntN(400)))),
		str("recordedDate", instant(v.start)), reference("recorder", v.by.ref()), reference("asserter", v.by.ref()))
}

func (c *chart) prescribe(v visit, n int, rx prescription, status string, reasons []fhir.Ref) {
	c.put(c.ref("MedicationRequest", v.key("rx", n)), declares("medicationrequest"), str("status", status), str("intent", "order"),
		conceptField("medicationCodeableConcept", rx.text, rx.codes...),
		reference("subject", c.self), reference("encounter", v.encounter),
		str("authoredOn", instant(v.start)), reference("requester", v.by.ref()),
		references("reasonReference", reasons...),
		list("dosageInstruction", object(
			str("text", rx.sig), str("patientInstruction", "Take with water"),
			nest("timing", nest("repeat", number("frequency", 1), decimal("period", "1"), str("periodUnit", "d"))),
			list("doseAndRate", object(quantity("doseQuantity", rx.dose, rx.unit, rx.ucum))))),
		nest("dispenseRequest", number("numberOfRepeatsAllowed", 2),
			nest("quantity", decimal("value", "30"), str("unit", rx.form)),
			nest("expectedSupplyDuration", decimal("value", "30"), str("unit", "days"), str("system", ucum), str("code", "d"))))
}

// aims writes the Goals and the CarePlan of an episode.
func (c *chart) aims(e episode, v visit, author fhir.Ref, what []string, measure instrument) {
	var goals []fhir.Ref
	for i, w := range what {
		goals = append(goals, c.put(c.ref("Goal", v.key("goal", i)), declares("goal"), str("lifecycleStatus", "active"),
			conceptField("achievementStatus", "On the way", code{terminology + "goal-achievement", "in-progress", "In progress"}),
			conceptField("description", w),
			reference("subject", c.self), str("startDate", date(v.start)),
			list("target", object(conceptField("measure", measure.title, code{loinc, measure.total, "Total score"}),
				nest("detailRange", quantity("high", "4", "score", "{score}")), str("dueDate", date(days(c.Now, 90))))),
			references("addresses", e.conditions...)))
	}
	c.put(c.ref("CarePlan", v.key("plan", 0)), declares("careplan"),
		narrative("Plan: "+what[0]),
		str("status", "active"), str("intent", "plan"),
		list("category", concept("Assessment and plan", code{"http://hl7.org/fhir/us/core/CodeSystem/careplan-category", "assess-plan", "Assessment and plan"})),
		str("title", "Treatment plan"), str("description", "Agreed with the patient at intake"),
		reference("subject", c.self), reference("encounter", v.encounter),
		period("period", v.start, time.Time{}), str("created", date(v.start)),
		reference("author", author), references("careTeam", e.team),
		references("addresses", e.conditions...), references("goal", goals...),
		list("activity", object(nest("detail", conceptField("code", "Regular sessions", therapy),
			str("status", "in-progress"), str("description", "A session about every five weeks")))))
}

// vitals writes blood pressure and weight.
func (c *chart) vitals(v visit, n int) {
	when := instant(v.start.Add(5 * time.Minute))
	component := func(loincCode, display string, value int) node {
		return object(conceptField("code", display, code{loinc, loincCode, display}),
			quantity("valueQuantity", strconv.Itoa(value), "mmHg", "mm[Hg]"))
	}
	systolic := 112 + c.dice.IntN(26)
	c.put(c.ref("Observation", v.key("pressure", n)), declares("blood-pressure"), str("status", "final"), category("vital-signs", "Vital signs"),
		conceptField("code", "Blood pressure", code{loinc, "85354-9", "Blood pressure"}),
		reference("subject", c.self), reference("encounter", v.encounter), str("effectiveDateTime", when),
		references("performer", v.by.ref()),
		list("component", component("8480-6", "Systolic", systolic), component("8462-4", "Diastolic", systolic-42-c.dice.IntN(8))))
	c.put(c.ref("Observation", v.key("weight", n)), declares("body-weight"), str("status", "final"), category("vital-signs", "Vital signs"),
		conceptField("code", "Body weight", code{loinc, "29463-7", "Body weight"}),
		reference("subject", c.self), reference("encounter", v.encounter), str("effectiveDateTime", when),
		references("performer", v.by.ref()),
		quantity("valueQuantity", fmt.Sprintf("%d.%d", 58+c.dice.IntN(40), c.dice.IntN(10)), "kg", "kg"))
}

// claim bills one visit.
func (c *chart) claim(v visit, n int, kind code, d diagnosis) {
	money := func(name string) field {
		return nest(name, decimal("value", "145.00"), str("currency", "USD"))
	}
	c.put(c.ref("Claim", v.key("claim", n)), str("status", "active"),
		conceptField("type", "Professional", code{terminology + "claim-type", "professional", "Professional"}),
		str("use", "claim"), reference("patient", c.self),
		nest("billablePeriod", str("start", date(v.start)), str("end", date(v.start))),
		str("created", instant(days(v.start, 2))), reference("insurer", c.payer),
		reference("provider", v.program.org),
		conceptField("priority", "Normal", code{terminology + "processpriority", "normal", "Normal"}),
		list("diagnosis", object(number("sequence", 1), conceptField("diagnosisCodeableConcept", d.display, code{icd10cm, d.icd, d.display}))),
		list("insurance", object(number("sequence", 1), yes("focal"), reference("coverage", c.coverage))),
		list("item", object(number("sequence", 1), list("diagnosisSequence", element.NewNumber(1)),
			conceptField("productOrService", kind.display, kind), str("servicedDate", date(v.start)),
			money("unitPrice"), money("net"), references("encounter", v.encounter))),
		money("total"))
}
