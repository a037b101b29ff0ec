package codec

import (
	"maps"
	"slices"

	"github.com/cloister-health/cloister/fhir"
)

// Definition is what R4 says of one type: of a resource type, of a data type, or of
// an element that has elements of its own ("Patient.contact").
type Definition struct{ d *typeDef }

// DefinitionOf finds a type by its name; ok is false for one that R4 does not have,
// and for a primitive type.
func DefinitionOf(name string) (d Definition, ok bool) {
	t := types()[name]
	return Definition{t}, t != nil
}

// Definitions lists the names of all types, sorted.
func Definitions() []string { return slices.Sorted(maps.Keys(types())) }

// Name is the name of the type.
func (d Definition) Name() string { return d.d.name }

// Resource reports whether it is a type of resources.
func (d Definition) Resource() bool { return d.d.resource }

// Elements lists the elements of the type, inherited ones too, sorted by their JSON names.
func (d Definition) Elements() []Element {
	out := make([]Element, 0, len(d.d.fields))
	for _, json := range slices.Sorted(maps.Keys(d.d.fields)) {
		out = append(out, elementOf(d.d.fields[json]))
	}
	return out
}

// Element finds an element by its JSON name ("deceasedDateTime").
func (d Definition) Element(json string) (e Element, ok bool) {
	f := d.d.fields[json]
	if f == nil {
		return Element{}, false
	}
	return elementOf(f), true
}

// Element is one element of a type, under one of its JSON names: a choice of types
// is several.
type Element struct {
	Name      string // as in a FHIRPath, without the type of a choice
	JSON      string
	Type      string // a primitive type, or the name of a [Definition], or "Resource" for one of any type
	Primitive bool
	Attribute bool // a primitive that has no extensions, and so no _ member beside it
	List      bool
	Required  bool
	Forbidden bool // no value is allowed
	codes     *codeSet
	targets   map[fhir.ResourceType]bool
}

// Targets lists the resource types to which a Reference may refer, sorted; none where
// it may refer to any.
func (e Element) Targets() []fhir.ResourceType { return slices.Sorted(maps.Keys(e.targets)) }

// Bound reports whether R4 says which codes the element may have (a required binding).
func (e Element) Bound() bool { return e.codes != nil }

// Permits reports whether a code is one of those of a bound element of type code.
func (e Element) Permits(code string) bool { return e.codes != nil && e.codes.has(code) }

// PermitsCoding is Permits for a Coding, or one of a CodeableConcept.
func (e Element) PermitsCoding(system, code string) bool {
	return e.codes != nil && e.codes.systems[system][code]
}

// Codes lists the codes of a bound element with their systems, sorted; none of
// those that are told by a pattern.
func (e Element) Codes() []Coding {
	if e.codes == nil {
		return nil
	}
	var out []Coding
	for _, system := range slices.Sorted(maps.Keys(e.codes.systems)) {
		for _, code := range slices.Sorted(maps.Keys(e.codes.systems[system])) {
			out = append(out, Coding{System: system, Code: code})
		}
	}
	return out
}

func elementOf(f *fieldDef) Element {
	e := Element{Name: f.name, JSON: f.json, Primitive: f.prim != noPrimitive, Attribute: f.attribute,
		List: f.list, Required: f.required, Forbidden: f.forbidden, codes: f.codes, targets: f.targets}
	switch {
	case f.any:
		e.Type = "Resource"
	case f.typ != nil:
		e.Type = f.typ.name
	default:
		for name, p := range primitives {
			if p == f.prim {
				e.Type = name
			}
		}
	}
	return e
}
