package clinic

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// instrument is a questionnaire with a total score. The items are known by
// their LOINC codes; their wording here is ours and names the topic only.
type instrument struct {
	key, title, code, total string
	items                   []instrumentItem
}

type instrumentItem struct {
	loinc, topic string
	weight       int // how readily it is answered with yes
}

var phq9 = instrument{"phq-9", "Depression severity, nine items", "44249-1", "44261-6", []instrumentItem{
	{"44250-9", "Interest and pleasure", 10}, {"44255-8", "Low mood", 10}, {"44259-0", "Sleep", 9},
	{"44254-1", "Energy", 10}, {"44251-7", "Appetite", 6}, {"44258-2", "Self-regard", 7},
	{"44252-5", "Concentration", 7}, {"44253-3", "Slowness or restlessness", 4}, {"44260-8", "Thoughts of harm", 1},
}}

var gad7 = instrument{"gad-7", "Anxiety severity, seven items", "69737-5", "70274-6", []instrumentItem{
	{"69725-0", "Nervousness", 10}, {"68509-9", "Control over worry", 9}, {"69733-4", "Amount of worry", 9},
	{"69734-2", "Relaxing", 8}, {"69735-9", "Restlessness", 5}, {"69689-8", "Irritability", 6}, {"69736-7", "Dread", 6},
}}

var instruments = []instrument{phq9, gad7}

// frequency holds the four answers, by LOINC answer code, worth 0 to 3.
var frequency = [4]code{
	{loinc, "LA6568-5", "Never"}, {loinc, "LA6569-3", "Some days"},
	{loinc, "LA6570-1", "Most days"}, {loinc, "LA6571-9", "Almost daily"},
}

// canonical is the URL by which responses name the instrument. It is the same in
// every practice and is no address on this server.
func (q instrument) canonical() string { return fhir.Canonical + "/Questionnaire/" + q.key }

const ordinalValue = "http://hl7.org/fhir/StructureDefinition/ordinalValue"

func (b *shelf) questionnaire(q instrument) fhir.Ref {
	var items []node
	for _, it := range q.items {
		var options []node
		for worth, f := range frequency {
			options = append(options, object(nest("valueCoding",
				list("extension", object(str("url", ordinalValue), number("valueDecimal", worth))),
				str("system", f.system), str("code", f.code), str("display", f.display))))
		}
		items = append(items, object(str("linkId", it.loinc),
			list("code", code{system: loinc, code: it.loinc}.coding()),
			str("text", it.topic), str("type", "choice"), yes("required"),
			list("answerOption", options...)))
	}
	items = append(items, object(str("linkId", q.total),
		list("code", code{system: loinc, code: q.total}.coding()),
		str("text", "Total"), str("type", "integer"), yes("readOnly")))
	return b.put(b.ref("Questionnaire", q.key),
		str("url", q.canonical()), str("title", q.title), str("status", "active"),
		strs("subjectType", "Patient"), list("code", code{system: loinc, code: q.code}.coding()),
		list("item", items...))
}

// answers spreads total over the items, at most 3 each.
func (q instrument) answers(d *rand.Rand, total int) []int {
	out := make([]int, len(q.items))
	for range min(total, 3*len(q.items)) {
		sum := 0
		for i, it := range q.items {
			if out[i] < 3 {
				sum += it.weight
			}
		}
		at := d.IntN(sum)
		for i, it := range q.items {
			if out[i] == 3 {
				continue
			}
			if at -= it.weight; at < 0 {
				out[i]++
				break
			}
		}
	}
	return out
}

// score records one filling of q: the QuestionnaireResponse and the
// Observation of its total.
func (c *chart) score(q instrument, n, total int, at visit, author fhir.Ref) {
	answers := q.answers(c.dice, total)
	total = 0
	items := make([]node, 0, len(answers)+1)
	for i, a := range answers {
		total += a
		items = append(items, object(str("linkId", q.items[i].loinc),
			list("answer", object(nest("valueCoding", str("system", loinc), str("code", frequency[a].code))))))
	}
	items = append(items, object(str("linkId", q.total), list("answer", object(number("valueInteger", total)))))
	when := at.start.Add(-10 * time.Minute)
	key := at.key(q.key, n)
	r := c.put(c.ref("QuestionnaireResponse", key), declares("questionnaireresponse"),
		narrative(q.title+": "+strconv.Itoa(total)),
		str("questionnaire", q.canonical()), str("status", "completed"),
		reference("subject", c.self), reference("encounter", at.encounter),
		str("authored", instant(when)), reference("author", author), reference("source", c.self),
		list("item", items...))
	c.put(c.ref("Observation", key), declares("observation-screening-assessment"),
		str("status", "final"), category("survey", "Survey"),
		conceptField("code", q.title, code{loinc, q.total, "Total score"}),
		reference("subject", c.self), reference("encounter", at.encounter),
		str("effectiveDateTime", instant(when)), str("issued", instant(when)),
		references("performer", author),
		quantity("valueQuantity", strconv.Itoa(total), "score", "{score}"),
		references("derivedFrom", r))
}

// course is the way of a score from the first visit to the last: a decline with noise.
type course struct {
	from, till int
}

func (k course) at(d *rand.Rand, i, n, ceiling int) int {
	x := float64(i) / float64(max(1, n-1))
	mean := float64(k.till) + float64(k.from-k.till)*(1-x)*(1-x)
	return min(ceiling, max(0, int(mean+d.NormFloat64()*1.6+0.5)))
}
