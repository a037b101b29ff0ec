package fhirpath

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

//go:embed types.txt
var typesText string

// typeInfo is one FHIR type: a resource type, a data type, a primitive, or an
// element that has elements of its own ("Patient.contact").
type typeInfo struct {
	name     string
	base     *typeInfo
	resource bool // a concrete resource type
	kind     Kind // of a primitive: what it is to FHIRPath; else Complex
	json     map[string]*variant
	elements map[string][]*variant // by FHIRPath name; several for a choice
}

// variant is one element under one of its JSON names.
type variant struct {
	in      *typeInfo // that defines it
	element string    // FHIRPath name
	json    string
	typ     *typeInfo
	any     bool // a resource of any type
	list    bool
}

// primitiveTypes: name, base, kind (datatypes.html#primitive).
var primitiveTypes = []struct {
	name, base string
	kind       Kind
}{
	{"boolean", "Element", Boolean}, {"decimal", "Element", Decimal}, {"integer", "Element", Integer},
	{"unsignedInt", "integer", Integer}, {"positiveInt", "integer", Integer},
	{"string", "Element", String}, {"code", "string", String}, {"id", "string", String}, {"markdown", "string", String},
	{"uri", "Element", String}, {"url", "uri", String}, {"canonical", "uri", String}, {"oid", "uri", String}, {"uuid", "uri", String},
	{"base64Binary", "Element", String}, {"xhtml", "Element", String},
	{"date", "Element", Date}, {"dateTime", "Element", DateTime}, {"instant", "Element", DateTime}, {"time", "Element", Time},
}

var model = sync.OnceValue(func() map[string]*typeInfo {
	m, err := loadTypes(typesText)
	if err != nil {
		panic("fhirpath: types.txt: " + err.Error())
	}
	return m
})

func loadTypes(text string) (map[string]*typeInfo, error) {
	types := map[string]*typeInfo{}
	for _, p := range primitiveTypes {
		types[p.name] = &typeInfo{name: p.name, kind: p.kind}
	}
	var lines [][]string
	for line := range strings.Lines(text) {
		if line[0] == '#' {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) < 3 {
			return nil, fmt.Errorf("line %q", line)
		}
		types[f[0]] = &typeInfo{name: f[0], kind: Complex, resource: f[2] == "resource"}
		lines = append(lines, f)
	}
	for _, p := range primitiveTypes {
		types[p.name].base = types[p.base]
	}
	fields := make(map[string][]string, len(lines))
	for _, f := range lines {
		fields[f[0]] = f
		if f[1] == "" {
			continue
		}
		if types[f[0]].base = types[f[1]]; types[f[0]].base == nil {
			return nil, fmt.Errorf("%s: no base type %q", f[0], f[1])
		}
	}
	for _, t := range types {
		if err := t.complete(types, fields); err != nil {
			return nil, err
		}
	}
	return types, nil
}

func (t *typeInfo) complete(types map[string]*typeInfo, fields map[string][]string) error {
	if t.json != nil {
		return nil
	}
	t.json, t.elements = map[string]*variant{}, map[string][]*variant{}
	if t.base != nil {
		if err := t.base.complete(types, fields); err != nil {
			return err
		}
		for k, v := range t.base.json {
			t.json[k] = v
		}
		for k, v := range t.base.elements {
			t.elements[k] = v
		}
	}
	if len(fields[t.name]) == 0 {
		return nil
	}
	for _, f := range fields[t.name][3:] {
		name, list, ok := strings.Cut(f, ":")
		if !ok {
			return fmt.Errorf("%s: element %q", t.name, f)
		}
		list, many := strings.CutSuffix(list, "*")
		name, choice := strings.CutSuffix(name, "[x]")
		t.elements[name] = nil // an element of the base that is defined anew
		for one := range strings.SplitSeq(list, "|") {
			v := &variant{in: t, element: name, json: name, list: many, any: one == "Resource"}
			if v.typ = types[one]; v.typ == nil {
				return fmt.Errorf("%s.%s: no type %q", t.name, name, one)
			}
			if choice {
				v.json += strings.ToUpper(one[:1]) + one[1:]
			}
			t.json[v.json] = v
			t.elements[name] = append(t.elements[name], v)
		}
	}
	return nil
}

// is reports whether t is want or derives from it.
func (t *typeInfo) is(want *typeInfo) bool {
	for ; t != nil; t = t.base {
		if t == want {
			return true
		}
	}
	return false
}

// IsA reports whether the FHIR type of that name is base or derives from it: "Age" is a "Quantity",
// "Patient.contact" a "BackboneElement". Unknown names are nothing.
func IsA(name, base string) bool {
	t, b := model()[name], model()[base]
	return t != nil && b != nil && t.is(b)
}

// Base is the FHIR type from which the one of that name derives, "" for one that derives from none.
func Base(name string) string {
	if t := model()[name]; t != nil && t.base != nil {
		return t.base.name
	}
	return ""
}

// ElementType says how elements of that name are typed below the FHIR type of that name: the types it may have
// (several for a choice, "Resource" for any) and whether it repeats. ok is false if there is no such element.
func ElementType(typ, element string) (types []string, list, ok bool) {
	t := model()[typ]
	if t == nil {
		return nil, false, false
	}
	for _, v := range t.elements[element] {
		types = append(types, v.typ.name)
		list = v.list
	}
	return types, list, types != nil
}

// Slot is an element below one of a type, for a value of one type.
type Slot struct {
	JSON      string // name in JSON: of a choice with the type
	Type      string // FHIR type; "Resource" for a resource of any type
	List      bool
	Primitive bool
}

// SlotFor finds the element of that name below an element of type owner. A choice ("value") has one for each type
// that it may have; for any other element of does not matter. ok is false where R4 has no such element.
func SlotFor(owner, element, of string) (s Slot, ok bool) {
	t := model()[owner]
	if t == nil {
		return Slot{}, false
	}
	for _, v := range t.elements[element] {
		if v.typ.name == of || v.json == v.element {
			return Slot{v.json, v.typ.name, v.list, v.typ.kind != Complex}, true
		}
	}
	return Slot{}, false
}
