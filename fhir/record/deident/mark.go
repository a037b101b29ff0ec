package deident

import (
	"maps"
	"slices"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
)

// absence is the extension that says why an element has no value
// (http://hl7.org/fhir/R4/extension-data-absent-reason.html).
const absence = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

// masked is what stands for an element that R4 requires and that is left out.
func masked() *element.Node {
	return element.NewObject(element.Field{Name: "extension", Value: listOf(element.NewObject(
		element.Field{Name: "url", Value: element.NewString(absence)},
		element.Field{Name: "valueCode", Value: element.NewString("masked")},
	))})
}

func listOf(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

// fill marks the elements that R4 requires and that out has not.
func (w *walk) fill(pl *plan, n, out *element.Node) {
	for _, json := range missing(pl, n, out) {
		e := pl.known[json]
		name, mark := json, masked()
		if e.Primitive {
			name = "_" + json
		} else if sub := required(e.Type); sub != nil {
			mark = sub
		}
		if e.List {
			mark = listOf(mark)
		}
		out.Fields = append(out.Fields, element.Field{Name: name, Value: mark})
	}
}

// missing lists the required elements that out has not, sorted, by the JSON name that
// n has of each or else the first.
func missing(pl *plan, n, out *element.Node) []string {
	if len(pl.needs) == 0 {
		return nil
	}
	there := map[string]bool{}
	for _, f := range out.Fields {
		there[pl.known[f.Name].Name] = true
	}
	names := map[string]string{}
	for _, json := range pl.needs {
		e := pl.known[json]
		if there[e.Name] {
			continue
		}
		_, listed := pl.rules[json]
		switch {
		case names[e.Name] == "", n.Get(json) != nil && listed:
			names[e.Name] = json
		}
	}
	return slices.Sorted(maps.Values(names))
}

// required is an object of a type with nothing but marks for what the type requires; nil
// where it requires nothing.
func required(name string) *element.Node {
	d, ok := codec.DefinitionOf(name)
	if !ok {
		return nil
	}
	out := element.NewObject()
	done := map[string]bool{}
	for _, e := range d.Elements() {
		if !e.Required || done[e.Name] {
			continue
		}
		done[e.Name] = true
		json, mark := e.JSON, masked()
		if e.Primitive {
			json = "_" + json
		} else if sub := required(e.Type); sub != nil {
			mark = sub
		}
		if e.List {
			mark = listOf(mark)
		}
		out.Fields = append(out.Fields, element.Field{Name: json, Value: mark})
	}
	if len(out.Fields) == 0 {
		return nil
	}
	return out
}

// isMark reports whether a value is made of marks alone.
func isMark(v *element.Node) bool {
	switch v.Kind {
	case element.Array:
		return !slices.ContainsFunc(v.Items, func(x *element.Node) bool { return !isMark(x) })
	case element.Object:
		if v.Get("url").String() == absence {
			return true
		}
		return len(v.Fields) > 0 && !slices.ContainsFunc(v.Fields, func(f element.Field) bool { return !isMark(f.Value) })
	}
	return false
}

// extension says what of an extension may be released, by its URL: the value that it
// may have, or extensions inside it.
type extension struct {
	value  string // JSON name
	codes  map[string]bool
	coded  bool // the value is a Coding or a CodeableConcept
	inside map[string]extension
}

// extensionsAllowed is the list of the extensions.
var extensionsAllowed = func() map[string]extension {
	const core = "http://hl7.org/fhir/us/core/StructureDefinition/"
	group := extension{inside: map[string]extension{"ombCategory": {value: "valueCoding", coded: true}, "detailed": {value: "valueCoding", coded: true}}}
	return map[string]extension{
		core + "us-core-race":           group,
		core + "us-core-ethnicity":      group,
		core + "us-core-birthsex":       {value: "valueCode", codes: words("F M OTH UNK ASKU")},
		core + "us-core-sex":            {value: "valueCode", codes: words("248152002 248153007 asked-declined UNK")},
		core + "us-core-genderIdentity": {value: "valueCodeableConcept", coded: true},
		absence: {value: "valueCode", codes: words(`unknown asked-unknown temp-unknown not-asked asked-declined masked not-applicable unsupported
			as-text error not-a-number negative-infinity positive-infinity not-performed not-permitted`)},
	}
}()

// extensions keeps of a list of extensions those that are listed.
func (w *walk) extensions(v *element.Node) *element.Node {
	return w.extensionsOf(extensionsAllowed, v)
}

func (w *walk) extensionsOf(allowed map[string]extension, v *element.Node) *element.Node {
	var out []*element.Node
	for _, x := range v.List() {
		url := x.Get("url").String()
		a, ok := allowed[url]
		if !ok {
			continue
		}
		field := element.Field{Name: a.value}
		switch {
		case a.inside != nil:
			field.Name, field.Value = "extension", w.extensionsOf(a.inside, x.Get("extension"))
		case a.coded:
			of := rule{element: codec.Element{Name: url}}
			if in := x.Get(a.value); in.Get("coding") != nil {
				field.Value = w.concept(w.plans["Patient"], of, in)
			} else {
				field.Value = w.coding(w.plans["Patient"], of, in)
			}
		default:
			if s := x.Get(a.value).String(); a.codes[s] {
				field.Value = element.NewString(s)
			}
		}
		if field.Value != nil {
			out = append(out, element.NewObject(element.Field{Name: "url", Value: element.NewString(url)}, field))
		}
	}
	if len(out) == 0 {
		return nil
	}
	return listOf(out...)
}
