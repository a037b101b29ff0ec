package clinic

import (
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// shared writes what the general program says of a patient who attends the
// other one, too, and told of it: records of its own that mention a record of
// the Part 2 program.
func (c *chart) shared() {
	lead := c.member(c.clinician)
	v := visit{start: weekday(days(c.Now, -3)).Add(15 * time.Hour), by: lead, program: c.general}
	own, theirs := c.ref("Condition", "general/problem/0"), c.ref("Condition", "sud/problem/0")
	d, addiction := c.diagnoses[0], c.addictions[0]
	told := func() field { return narrative("Told of the other program: " + addiction.display) }
	encounter := c.put(c.ref("Encounter", "shared/session"), told(), str("status", "finished"),
		field{Name: "class", Value: code{actCode, "AMB", "Ambulatory"}.coding()},
		list("type", concept(therapy.display, therapy)), reference("subject", c.self),
		list("participant", object(reference("individual", lead.ref()))),
		period("period", v.start, v.start.Add(50*time.Minute)),
		list("reasonCode", concept(d.display, code{icd10cm, d.icd, d.display}), concept(addiction.display, code{icd10cm, addiction.icd, addiction.display})),
		list("diagnosis", object(reference("condition", own), number("rank", 1)), object(reference("condition", theirs), number("rank", 2))),
		reference("serviceProvider", c.general.org))
	c.put(c.ref("List", "shared/problems"), narrative("Problems: "+d.display+", "+addiction.display), str("status", "current"), str("mode", "working"),
		str("title", "Problems"), conceptField("code", "Problem list", code{loinc, "11450-4", "Problem list"}),
		reference("subject", c.self), reference("encounter", encounter), str("date", instant(v.start)), reference("source", lead.ref()),
		list("entry", object(nest("item", str("reference", own.String()))), object(nest("item", str("reference", theirs.String())))))
	c.put(c.ref("CarePlan", "shared/plan"), str("status", "active"), str("intent", "plan"),
		str("title", "Shared plan"), str("description", "Also about: "+addiction.display),
		reference("subject", c.self), reference("encounter", encounter), str("created", date(v.start)), reference("author", lead.ref()),
		references("addresses", own, theirs),
		list("activity",
			object(nest("detail", conceptField("code", "Regular sessions", therapy), references("reasonReference", own), str("status", "in-progress"))),
			object(nest("detail", conceptField("code", "Keep in touch with the other program"), references("reasonReference", theirs), str("status", "in-progress")))))
	c.put(c.ref("Composition", "shared/summary"), told(), str("status", "final"),
		conceptField("type", "Summary", code{loinc, "34133-9", "Summary of episode note"}),
		reference("subject", c.self), reference("encounter", encounter), str("date", instant(v.start)),
		references("author", lead.ref()), str("title", "Summary of care"),
		list("section",
			object(str("title", "Problems"), conceptField("code", "Problem list", code{loinc, "11450-4", "Problem list"}), references("entry", own, theirs)),
			object(str("title", "Elsewhere"), told(), references("entry", theirs))))
	c.claimShared(v, encounter, own, theirs)
}

func (c *chart) claimShared(v visit, encounter, own, theirs fhir.Ref) {
	item := func(n int, diagnoses ...int) node {
		var to []node
		for _, d := range diagnoses {
			to = append(to, element.NewNumber(int64(d)))
		}
		return object(number("sequence", n), list("diagnosisSequence", to...), conceptField("productOrService", therapy.display, therapy),
			str("servicedDate", date(v.start)), references("encounter", encounter))
	}
	c.put(c.ref("Claim", "shared/claim"), str("status", "active"),
		conceptField("type", "Professional", code{terminology + "claim-type", "professional", "Professional"}),
		str("use", "claim"), reference("patient", c.self), str("created", instant(v.start)), reference("insurer", c.payer),
		reference("provider", c.general.org),
		conceptField("priority", "Normal", code{terminology + "processpriority", "normal", "Normal"}),
		list("diagnosis", object(number("sequence", 1), reference("diagnosisReference", own)), object(number("sequence", 2), reference("diagnosisReference", theirs))),
		list("insurance", object(number("sequence", 1), yes("focal"), reference("coverage", c.coverage))),
		list("item", item(1, 1), item(2, 1, 2)))
}
