package fhirpath

import (
	"github.com/cloister-health/cloister/fhir/element"
)

// Kind is what a value is to FHIRPath.
type Kind uint8

// The kinds: Complex is an element or resource that is no primitive, the others are the System types of FHIRPath.
const (
	Complex Kind = iota
	Boolean
	Integer
	Decimal
	String
	Date
	DateTime
	Time
	Quantity // computed or literal; an element of type Quantity is Complex
)

var kindNames = [...]string{"", "Boolean", "Integer", "Decimal", "String", "Date", "DateTime", "Time", "Quantity"}

// Value is one item of a collection: an element of the tree with its type, or a computed value. The zero Value
// is a Complex one without a type.
type Value struct {
	kind  Kind
	typ   *typeInfo // nil: computed
	text  string    // the literal of a primitive or a computed value; of a Quantity its number
	unit  string    // of a computed Quantity
	node  *element.Node
	ext   *element.Node // the _name half of a primitive
	owner *element.Node // the object in which it stands
	slot  *variant      // its element there
	index int           // in the array of that name; -1: no array
}

// Place is where an element stands: in member Field of Owner, at Index of its array (-1: it is no array). Owner is
// nil for the root and for computed values.
type Place struct {
	Owner   *element.Node
	Type    string // FHIR type that defines the element
	Element string // name in FHIRPath
	Field   string // name in JSON: of a choice with its type
	Index   int
}

// Kind says what v is to FHIRPath.
func (v Value) Kind() Kind { return v.kind }

// Type is the FHIR type of an element ("HumanName", "code", "Patient.contact"), or "System.Boolean" and so on for a
// computed value.
func (v Value) Type() string {
	if v.typ != nil {
		return v.typ.name
	}
	if v.kind == Complex {
		return ""
	}
	return "System." + kindNames[v.kind]
}

// Node is the node of an element: nil for computed values and for a primitive that has extensions but no value.
func (v Value) Node() *element.Node { return v.node }

// Extension is the half of a primitive element that holds id and extensions (_name in JSON), or nil.
func (v Value) Extension() *element.Node { return v.ext }

// Place is where v stands in its tree.
func (v Value) Place() Place {
	if v.slot == nil {
		return Place{Index: -1}
	}
	return Place{v.owner, v.slot.in.name, v.slot.element, v.slot.json, v.index}
}

// Text is the literal text of a primitive or computed value, "" for any other.
func (v Value) Text() string { return v.text }

// HasValue reports whether v is a primitive with a value, or a computed value.
func (v Value) HasValue() bool { return v.kind != Complex && (v.typ == nil || v.node != nil) }

// Is reports whether v is an element of the FHIR type of that name or one derived from it.
func (v Value) Is(typ string) bool {
	t := model()[typ]
	return v.typ != nil && t != nil && v.typ.is(t)
}

// Resource is the value of a resource by its resourceType; ok is false if that is none of R4.
func Resource(n *element.Node) (v Value, ok bool) {
	t := resourceType(n)
	return Value{typ: t, node: n, index: -1}, t != nil
}

// Of is the value of a node of a known FHIR type, such as "HumanName"; ok is false if R4 has no such type.
func Of(n *element.Node, typ string) (v Value, ok bool) {
	t := model()[typ]
	if t == nil {
		return Value{}, false
	}
	return valueOf(t, n, nil, nil, nil, -1), true
}

func resourceType(n *element.Node) *typeInfo {
	if t := model()[n.Get("resourceType").String()]; t != nil && t.resource {
		return t
	}
	return nil
}

func valueOf(t *typeInfo, n, ext, owner *element.Node, slot *variant, index int) Value {
	v := Value{kind: t.kind, typ: t, node: n, ext: ext, owner: owner, slot: slot, index: index}
	if t.kind != Complex && n != nil {
		v.text = n.Text
	}
	return v
}

// Child gives the elements of that FHIRPath name directly below v, in order; of a choice whatever its type.
func (v Value) Child(name string) []Value { return v.appendChild(nil, name) }

func (v Value) appendChild(dst []Value, name string) []Value {
	if v.typ == nil {
		return dst
	}
	if v.kind != Complex {
		if v.ext == nil && name != "value" {
			return dst
		}
		switch name {
		case "id":
			return appendVariant(dst, v.ext, v.typ.json["id"])
		case "extension":
			return appendVariant(dst, v.ext, v.typ.json["extension"])
		case "value":
			if v.node != nil {
				dst = append(dst, Value{kind: v.kind, text: v.text, index: -1})
			}
		}
		return dst
	}
	for _, x := range v.typ.elements[name] {
		dst = appendVariant(dst, v.node, x)
	}
	return dst
}

// appendVariant appends what stands in owner under the JSON name of x.
func appendVariant(dst []Value, owner *element.Node, x *variant) []Value {
	n := owner.Get(x.json)
	var ext *element.Node
	if x.typ.kind != Complex {
		ext = companion(owner, x.json)
	}
	if n == nil && ext == nil {
		return dst
	}
	if n == nil && ext.Kind == element.Array || n != nil && n.Kind == element.Array {
		for i := range max(len(n.List()), len(ext.List())) {
			a, b := item(n, i), item(ext, i)
			if a != nil || b != nil {
				dst = appendOne(dst, x, a, b, owner, i)
			}
		}
		return dst
	}
	return appendOne(dst, x, n, ext, owner, -1)
}

func appendOne(dst []Value, x *variant, n, ext, owner *element.Node, index int) []Value {
	t := x.typ
	if x.any {
		if t = resourceType(n); t == nil {
			return dst
		}
	}
	return append(dst, valueOf(t, n, ext, owner, x, index))
}

// companion is the member _name of owner, or nil.
func companion(owner *element.Node, name string) *element.Node {
	if owner == nil {
		return nil
	}
	for i := range owner.Fields {
		if f := owner.Fields[i].Name; len(f) == len(name)+1 && f[0] == '_' && f[1:] == name {
			return owner.Fields[i].Value
		}
	}
	return nil
}

// item is item i of an array, or nil if it is absent or null.
func item(n *element.Node, i int) *element.Node {
	if n == nil || i >= len(n.Items) || n.Items[i].Kind == element.Null {
		return nil
	}
	return n.Items[i]
}

// Element is one element directly below a value, by its FHIRPath name.
type Element struct {
	Name string
	Value
}

// Elements gives everything directly below v, in document order. What the type does not know is left out.
func (v Value) Elements() []Element {
	if v.typ == nil {
		return nil
	}
	owner := v.node
	if v.kind != Complex {
		owner = v.ext
	}
	if owner == nil {
		return nil
	}
	out := make([]Element, 0, len(owner.Fields))
	var buf []Value
	for i := range owner.Fields {
		name := owner.Fields[i].Name
		if name != "" && name[0] == '_' {
			if name = name[1:]; owner.Get(name) != nil {
				continue // comes with its value
			}
		}
		x := v.typ.json[name]
		if x == nil {
			continue
		}
		buf = appendVariant(buf[:0], owner, x)
		for _, c := range buf {
			out = append(out, Element{x.element, c})
		}
	}
	return out
}
