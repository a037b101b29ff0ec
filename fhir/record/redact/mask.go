package redact

import (
	"slices"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// absence is the extension that says why an element has no value
// (http://hl7.org/fhir/R4/extension-data-absent-reason.html).
const absence = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

func absent() *element.Node {
	return element.NewObject(element.Field{Name: "extension", Value: array(element.NewObject(
		element.Field{Name: "url", Value: element.NewString(absence)},
		element.Field{Name: "valueCode", Value: element.NewString("masked")},
	))})
}

func array(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

// required are the elements that an item of a list has to have: in a mark each
// of them is absent, too, where for other items the item as a whole is.
var required = map[fhir.ResourceType]map[string][]string{
	"Claim":                {diagnosis: {"_sequence", "diagnosisCodeableConcept"}, items: {"_sequence", "productOrService"}},
	"Composition":          {sections: {entries}},
	"Encounter":            {diagnosis: {"condition"}},
	"EpisodeOfCare":        {diagnosis: {"condition"}},
	"ExplanationOfBenefit": {diagnosis: {"_sequence", "diagnosisCodeableConcept"}, items: {"_sequence", "productOrService"}},
	"List":                 {entries: {"item"}},
}

// mark is the item that says that others are left out of a list. It is the same
// whatever they are, and however many.
func mark(t fhir.ResourceType, name string) *element.Node {
	parts := required[t][name]
	if parts == nil {
		return absent()
	}
	out := element.NewObject()
	for _, p := range parts {
		v := absent()
		if t == "Composition" {
			v = array(v)
		}
		out.Set(p, v)
	}
	return out
}

// Mark puts one mark at the end of each of these lists of [Mentions], unless it
// has one. Where the entries of a Composition are meant, it is a section of its own: which
// section is shorter than it was is not said.
func Mark(t fhir.ResourceType, root *element.Node, lists []string) {
	for _, name := range mentions[t] {
		if m := mark(t, name); slices.Contains(lists, name) && !among(m, root.Get(name).List()) {
			setList(root, name, append(slices.Clone(root.Get(name).List()), m))
		}
	}
}

// Marked reports whether a list of [Mentions] has a mark.
func Marked(t fhir.ResourceType, root *element.Node) bool {
	return slices.ContainsFunc(mentions[t], func(name string) bool { return among(mark(t, name), root.Get(name).List()) })
}

// Unmark takes the marks out of root, which is what somebody sends who was shown
// marks, but for those that are in before, which is what is stored of it.
func Unmark(t fhir.ResourceType, root, before *element.Node) {
	for _, name := range mentions[t] {
		m := mark(t, name)
		if list := root.Get(name).List(); among(m, list) && !among(m, before.Get(name).List()) {
			setList(root, name, slices.DeleteFunc(slices.Clone(list), func(n *element.Node) bool { return same(n, m) }))
		}
	}
}

// Withheld lists the [Mentions] of which fuller has an item that shown has not;
// both are views of one version of a resource.
func Withheld(t fhir.ResourceType, shown, fuller *element.Node) []string {
	var there []*element.Node
	for _, x := range Items(t, shown) {
		there = append(there, pointless(x.Node))
	}
	hidden := func(list []Item) bool {
		return slices.ContainsFunc(list, func(x Item) bool { return !among(pointless(x.Node), there) })
	}
	var out []string
	all := Items(t, fuller)
	for _, name := range mentions[t] {
		of := slices.DeleteFunc(slices.Clone(all), func(x Item) bool { return t != "Composition" && x.name != name })
		if hidden(of) {
			out = append(out, name)
		}
	}
	return out
}

// pointless is an item without its pointers to others, which a view may have lost.
func pointless(item *element.Node) *element.Node {
	if item.Get(pointers) == nil {
		return item
	}
	out := item.Clone()
	out.Delete(pointers)
	return out
}
