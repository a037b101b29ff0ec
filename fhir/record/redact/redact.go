// Package redact makes the views of a resource in which mentions of what is
// protected are left out without a trace, and merges what is written to a view
// into a fuller one.
package redact

import (
	"slices"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// mentions are the elements by which a resource only mentions other things: lists
// whose items can be left out without making the rest untrue. Whatever else
// refers or is coded is part of what the resource is, and protects it as a whole.
var mentions = map[fhir.ResourceType][]string{
	"Appointment":              {"reasonCode", "reasonReference"},
	"CarePlan":                 {"addresses", "activity"},
	"CareTeam":                 {"reasonCode", "reasonReference"},
	"ChargeItem":               {"reason"},
	"Claim":                    {"diagnosis", "item"},
	"ClinicalImpression":       {"problem", "finding"},
	"Communication":            {"reasonCode", "reasonReference"},
	"CommunicationRequest":     {"reasonCode", "reasonReference"},
	"Composition":              {"section"},
	"DeviceRequest":            {"reasonCode", "reasonReference"},
	"DeviceUseStatement":       {"reasonCode", "reasonReference"},
	"Encounter":                {"reasonCode", "reasonReference", "diagnosis"},
	"EpisodeOfCare":            {"diagnosis"},
	"ExplanationOfBenefit":     {"diagnosis", "item"},
	"Goal":                     {"addresses"},
	"GuidanceResponse":         {"reasonCode", "reasonReference"},
	"ImagingStudy":             {"reasonCode", "reasonReference"},
	"Immunization":             {"reasonCode", "reasonReference"},
	"List":                     {"entry"},
	"Media":                    {"reasonCode"},
	"MedicationAdministration": {"reasonCode", "reasonReference"},
	"MedicationRequest":        {"reasonCode", "reasonReference"},
	"MedicationStatement":      {"reasonCode", "reasonReference"},
	"Procedure":                {"reasonCode", "reasonReference"},
	"RequestGroup":             {"reasonCode", "reasonReference"},
	"RiskAssessment":           {"reasonCode", "reasonReference"},
	"ServiceRequest":           {"reasonCode", "reasonReference"},
	"SupplyRequest":            {"reasonCode", "reasonReference"},
}

// Types lists the types that can mention, sorted.
func Types() []fhir.ResourceType {
	out := make([]fhir.ResourceType, 0, len(mentions))
	for t := range mentions {
		out = append(out, t)
	}
	slices.Sort(out)
	return out
}

// Mentions lists the elements of t whose items are mentions. Those of a
// Composition are the entries of its sections, at any depth.
func Mentions(t fhir.ResourceType) []string { return mentions[t] }

// origins are the elements by which a resource says where it comes from: the
// visit, or who provides it and where.
var origins = []string{"encounter", "context", "episodeOfCare", "serviceProvider", "managingOrganization", "provider", "custodian", "location", "participant"}

// Rooted reports whether the resource says by anything but its mentions where
// it comes from. One that does not comes from where they come from: a goal of which
// nothing is known but that it addresses a diagnosis of a program is a record of that program.
func Rooted(root *element.Node) (rooted bool) {
	for _, name := range origins {
		root.Get(name).Walk(func(name string, n *element.Node) bool {
			if name == "reference" && n.Kind == element.String {
				ref, _ := fhir.ParseRef(n.Text)
				switch ref.Type {
				case "Encounter", "EpisodeOfCare", "Organization", "Location", "HealthcareService", "PractitionerRole":
					rooted = true
				}
			}
			return !rooted
		})
	}
	return rooted
}

const sections, entries = "section", "entry"

// free are the elements at the root that are free text, and may repeat what the
// items say: narrative, annotations, descriptions. They are optional in every type above.
var free = []string{"text", "note", "description", "comment", "patientInstruction", "conclusion", "summary"}

// further are those of one type: elsewhere the name is that of something coded.
var further = map[fhir.ResourceType][]string{
	"ChargeItem":           {"overrideReason"},
	"ExplanationOfBenefit": {"disposition"},
	"Goal":                 {"statusReason"},
	"RiskAssessment":       {"mitigation"},
}

func texts(t fhir.ResourceType) []string { return append(slices.Clip(free), further[t]...) }

// payload is what a Communication says; contentString is free text, and what an
// attachment holds cannot be looked at.
const payload = "payload"

// Item is one mention.
type Item struct {
	Node *element.Node
	at   *element.Node // the object whose list holds it
	name string
}

// Items lists the mentions of a resource, in a fixed order.
func Items(t fhir.ResourceType, root *element.Node) []Item {
	var out []Item
	add := func(at *element.Node, name string) {
		for _, n := range at.Get(name).List() {
			out = append(out, Item{n, at, name})
		}
	}
	if t == "Composition" {
		walkSections(root, func(s *element.Node) { add(s, entries) })
		return out
	}
	for _, name := range mentions[t] {
		add(root, name)
	}
	return out
}

func walkSections(at *element.Node, visit func(section *element.Node)) {
	for _, s := range at.Get(sections).List() {
		visit(s)
		walkSections(s, visit)
	}
}

// Alone is a tree with nothing but the item in its place, for whoever asks what
// the item says. It shares the item with the resource.
func (i Item) Alone(t fhir.ResourceType) *element.Node {
	holder := element.NewObject(element.Field{Name: i.name, Value: &element.Node{Kind: element.Array, Items: []*element.Node{i.Node}}})
	name := element.Field{Name: "resourceType", Value: element.NewString(string(t))}
	if t == "Composition" {
		return element.NewObject(name, element.Field{Name: sections, Value: &element.Node{Kind: element.Array, Items: []*element.Node{holder}}})
	}
	holder.Fields = append([]element.Field{name}, holder.Fields...)
	return holder
}

// Rest is a copy without any mention, for whoever asks what the resource says of itself.
func Rest(t fhir.ResourceType, root *element.Node) *element.Node {
	out := root.Clone()
	drop(Items(t, out), func(int) bool { return false })
	return out
}

// View is a copy in which only those items of [Items] are kept for which keep
// says so. Where one is left out, so is what may repeat it: narrative, annotations
// and descriptions, the text of sections, numbers that point to it, contained
// resources that only it referred to. What was, the same view before or nil,
// showed already of these stays where it is the same.
func View(t fhir.ResourceType, root *element.Node, keep func(i int) bool, was *element.Node) *element.Node {
	out := root.Clone()
	if !drop(Items(t, out), keep) {
		return out
	}
	quiet(t, out, was)
	if t == "Composition" {
		prune(out)
	}
	point(out)
	orphans(root, out)
	return out
}

// drop takes items out of their lists, and reports whether it took any.
func drop(items []Item, keep func(i int) bool) (dropped bool) {
	type list struct {
		at   *element.Node
		name string
	}
	kept := map[list][]*element.Node{}
	less := map[list]bool{}
	for i, x := range items {
		l := list{x.at, x.name}
		if keep(i) {
			kept[l] = append(kept[l], x.Node)
		} else {
			less[l], dropped = true, true
		}
	}
	for l := range less {
		setList(l.at, l.name, kept[l])
	}
	return dropped
}

// setList makes a list of these items; FHIR knows no empty one.
func setList(at *element.Node, name string, items []*element.Node) {
	// Extensions of a list of primitives would lose their places; no mention is a primitive.
	if len(items) == 0 {
		at.Delete(name)
		return
	}
	at.Set(name, &element.Node{Kind: element.Array, Items: items})
}

// quiet takes out what may repeat a mention, but for what was shown before.
func quiet(t fhir.ResourceType, root, was *element.Node) {
	for _, name := range texts(t) {
		v := root.Get(name)
		switch {
		case v == nil:
		case v.Kind == element.Array: // annotations
			setList(root, name, common(v.List(), was.Get(name).List()))
		case name != "text" && v.Kind != element.String: // a description that is coded
		case was == nil || !same(v, was.Get(name)):
			root.Delete(name)
			root.Delete("_" + name)
		}
	}
	if t == "Communication" || t == "CommunicationRequest" {
		setList(root, payload, slices.DeleteFunc(slices.Clone(root.Get(payload).List()), func(p *element.Node) bool {
			return (p.Get("contentString") != nil || p.Get("_contentString") != nil || p.Get("contentAttachment") != nil) && !among(p, was.Get(payload).List())
		}))
	}
	if t == "Composition" {
		var before []*element.Node
		walkSections(was, func(s *element.Node) { before = append(before, s.Get("text")) })
		walkSections(root, func(s *element.Node) {
			if text := s.Get("text"); text != nil && !among(text, before) {
				s.Delete("text")
			}
		})
	}
}

// prune takes out sections that have come to say nothing (R4 composition.html, cmp-1).
func prune(at *element.Node) {
	list := at.Get(sections).List()
	if len(list) == 0 {
		return
	}
	left := make([]*element.Node, 0, len(list))
	for _, s := range list {
		prune(s)
		if s.Get("text") != nil || s.Get(entries) != nil || s.Get(sections) != nil || s.Get("emptyReason") != nil {
			left = append(left, s)
		}
	}
	setList(at, sections, left)
}

// pointers are how an item of a Claim or ExplanationOfBenefit names a diagnosis, by its sequence.
const pointers, diagnosis, sequence, items = "diagnosisSequence", "diagnosis", "sequence", "item"

// point takes out pointers to a diagnosis that is not there.
func point(root *element.Node) {
	there := sequences(root)
	for _, item := range root.Get(items).List() {
		if list := item.Get(pointers); list != nil {
			setList(item, pointers, slices.DeleteFunc(slices.Clone(list.List()), func(n *element.Node) bool { return !there[n.Text] }))
		}
	}
}

func sequences(root *element.Node) map[string]bool {
	there := map[string]bool{}
	for _, d := range root.Get(diagnosis).List() {
		if n := d.Get(sequence); n != nil {
			there[n.Text] = true
		}
	}
	return there
}

// orphans takes out contained resources to which nothing refers any more (R4 references.html, dom-3).
func orphans(before, after *element.Node) {
	contained := after.Get("contained").List()
	if len(contained) == 0 {
		return
	}
	was, is := fragments(before), fragments(after)
	setList(after, "contained", slices.DeleteFunc(slices.Clone(contained), func(c *element.Node) bool {
		id := "#" + c.Get("id").String()
		return was[id] && !is[id]
	}))
}

func fragments(root *element.Node) map[string]bool {
	out := map[string]bool{}
	root.Walk(func(_ string, n *element.Node) bool {
		if n.Kind == element.String && len(n.Text) > 1 && n.Text[0] == '#' {
			out[n.Text] = true
		}
		return true
	})
	return out
}

// same compares without regard to the order of members, which the database does not keep.
func same(a, b *element.Node) bool {
	if a == nil || b == nil || a.Kind != b.Kind || a.Text != b.Text || len(a.Fields) != len(b.Fields) || len(a.Items) != len(b.Items) {
		return false
	}
	for i := range a.Fields {
		if !same(a.Fields[i].Value, b.Get(a.Fields[i].Name)) {
			return false
		}
	}
	for i := range a.Items {
		if !same(a.Items[i], b.Items[i]) {
			return false
		}
	}
	return true
}

func among(n *element.Node, list []*element.Node) bool {
	return slices.ContainsFunc(list, func(x *element.Node) bool { return same(n, x) })
}

// common are the items of a that are in b, too.
func common(a, b []*element.Node) []*element.Node {
	return slices.DeleteFunc(slices.Clone(a), func(n *element.Node) bool { return !among(n, b) })
}
