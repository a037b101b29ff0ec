package codec

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// View says which elements of a resource are asked for. The zero View is all of them.
type View struct {
	Summary  search.Summary
	Elements []string // of the top level, "name" or "Type.name"; nil: all
}

// Whole reports whether v leaves out nothing.
func (v View) Whole() bool { return v.Summary == search.Whole && len(v.Elements) == 0 }

// Project gives the part of a stored resource that v asks for (R4 search,
// 3.1.1.5.8 and 3.1.1.5.9), marked with the tag SUBSETTED. Elements without which
// the rest would not be valid, or would mean something else, always stay.
func Project(body []byte, v View) ([]byte, error) {
	root, _, err := read(body, DefaultLimits)
	if err != nil {
		return nil, outcome.New(outcome.Internal, "the server failed; its log says why").Because(err)
	}
	d := types()[root.Get("resourceType").String()]
	if d == nil || root.Kind != element.Object {
		return nil, outcome.New(outcome.Internal, "the server failed; its log says why")
	}
	contained := root.Get("contained")
	fields := root.Fields
	root.Fields = make([]element.Field, 0, len(fields))
	for _, f := range fields {
		e := d.fields[strings.TrimPrefix(f.Name, "_")]
		if f.Name == "resourceType" || e != nil && v.keeps(d, e) {
			root.Fields = append(root.Fields, f)
		}
	}
	if v.Summary == search.SummaryTrue {
		summarise(d, root)
	}
	if contained != nil && root.Get("contained") == nil && refersInside(root) {
		root.Set("contained", contained) // else what stays would not be valid (R4 dom-3, ref-1)
	}
	unreferenced(root)
	tagSubsetted(root)
	return root.AppendJSON(make([]byte, 0, len(body)+128)), nil
}

// keeps reports whether an element of the top level stays.
func (v View) keeps(d *typeDef, e *fieldDef) bool {
	switch e.json {
	case "id", "meta", "implicitRules", "modifierExtension":
		return true
	}
	switch {
	case e.required || e.modifier && v.Summary != search.SummaryText:
		return true
	case v.Summary == search.SummaryText:
		return e.json == "text"
	case v.Summary == search.SummaryData:
		return e.json != "text"
	case v.Summary == search.SummaryTrue:
		return e.summary
	}
	return slices.ContainsFunc(v.Elements, func(name string) bool {
		if t, rest, ok := strings.Cut(name, "."); ok && t == d.name {
			name = rest
		}
		name, _, _ = strings.Cut(name, ".") // what lies below comes with it
		return name == e.json || name == e.name || name == e.name+"[x]"
	})
}

// summarise leaves of what lies below the top level the summary, too.
func summarise(d *typeDef, n *element.Node) {
	for i := 0; i < len(n.Fields); i++ {
		f := n.Fields[i]
		e := d.fields[f.Name]
		if e == nil || e.typ == nil || e.json == "meta" {
			continue
		}
		for _, x := range f.Value.List() {
			if x != nil && x.Kind == element.Object {
				shorten(e.typ, x)
			}
		}
	}
}

func shorten(d *typeDef, n *element.Node) {
	if d.meaning == isExtension || d.meaning == isReference {
		return
	}
	fields := n.Fields
	kept := make([]element.Field, 0, len(fields))
	for _, f := range fields {
		e := d.fields[strings.TrimPrefix(f.Name, "_")]
		if e == nil || e.summary || e.required || e.modifier || e.json == "id" {
			kept = append(kept, f)
		}
	}
	if len(kept) == 0 {
		return // an element without anything in it is not valid
	}
	n.Fields = kept
	summarise(d, n)
}

// unreferenced drops the contained resources to which nothing refers any more:
// they would have no meaning (R4 dom-3).
func unreferenced(root *element.Node) {
	contained := root.Get("contained").List()
	if len(contained) == 0 {
		return
	}
	used := make([]bool, len(contained))
	rest := element.NewObject()
	for _, f := range root.Fields {
		if f.Name != "contained" {
			rest.Fields = append(rest.Fields, f)
		}
	}
	var from func(n *element.Node)
	from = func(n *element.Node) {
		n.Walk(func(_ string, x *element.Node) bool {
			id, inside := strings.CutPrefix(x.String(), "#")
			for i, c := range contained {
				if inside && !used[i] && c.Get("id").String() == id {
					used[i] = true
					from(c)
				}
			}
			return true
		})
	}
	from(rest)
	for i, c := range contained {
		c.Walk(func(_ string, x *element.Node) bool {
			used[i] = used[i] || x.Kind == element.String && x.Text == "#"
			return true
		})
	}
	var kept []*element.Node
	for i, c := range contained {
		if used[i] {
			kept = append(kept, c)
		}
	}
	if kept == nil {
		root.Delete("contained")
		return
	}
	root.Set("contained", &element.Node{Kind: element.Array, Items: kept})
}

func refersInside(n *element.Node) (found bool) {
	n.Walk(func(name string, x *element.Node) bool {
		found = found || x.Kind == element.String && strings.HasPrefix(x.Text, "#") && name != "div"
		return !found
	})
	return found
}

const observationValue = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"

func subsetted(root *element.Node) bool {
	return slices.ContainsFunc(root.Get("meta").Get("tag").List(), func(t *element.Node) bool {
		return t.Get("system").String() == observationValue && t.Get("code").String() == "SUBSETTED"
	})
}

// Subsetted reports the tag of a resource that a server did not give whole (R4
// search, 3.1.1.5.9): who stores it would lose the rest.
func (r *Resource) Subsetted() bool { return subsetted(r.Root) }

// tagSubsetted tags a resource that is not whole, so that nobody takes it for the whole one.
func tagSubsetted(root *element.Node) {
	meta := root.Get("meta")
	if meta == nil {
		meta = element.NewObject()
		after := "resourceType"
		if root.Get("id") != nil {
			after = "id"
		}
		setAfter(root, after, "meta", meta)
	}
	if subsetted(root) {
		return
	}
	meta.Set("tag", &element.Node{Kind: element.Array, Items: append(slices.Clone(meta.Get("tag").List()), element.NewObject(
		element.Field{Name: "system", Value: element.NewString(observationValue)}, element.Field{Name: "code", Value: element.NewString("SUBSETTED")},
	))})
}
