package patch

import (
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
)

// add puts the value below the element that the path selected.
func (o pathOperation) add(to fhirpath.Value) error {
	owner := to.Node()
	if to.Kind() != fhirpath.Complex {
		// A primitive has its id and extensions in the other half.
		if owner = to.Extension(); owner == nil {
			p := to.Place()
			if p.Owner == nil {
				return refuse("the path does not lead to an element of the resource")
			}
			owner = element.NewObject()
			setHalf(p.Owner, "_"+p.Field, p.Index, owner)
		}
	}
	slot, err := o.value.slot(to.Type(), o.name)
	if err != nil {
		return err
	}
	p := fhirpath.Place{Owner: owner, Type: to.Type(), Element: o.name, Field: slot.JSON, Index: -1}
	n := max(len(owner.Get(slot.JSON).List()), len(owner.Get("_"+slot.JSON).List()))
	if slot.List {
		p.Index = n
		return o.value.insert(p, n)
	}
	for _, x := range to.Child(o.name) {
		if x.HasValue() || x.Kind() == fhirpath.Complex {
			return refuse("the element is there already, and does not repeat")
		}
	}
	return o.value.put(p, slot)
}

// slot finds the element for c below an element of type owner.
func (c *content) slot(owner, name string) (fhirpath.Slot, error) {
	of := ""
	if c.set {
		of = c.value.Type()
	}
	s, ok := fhirpath.SlotFor(owner, name, of)
	switch {
	case !ok:
		return s, refuse("there is no such element for a value of this type")
	case !c.set:
		if s.Primitive || s.Type == "Resource" {
			return s, refuse("a value is expected here, not parts")
		}
	case s.Primitive != (c.value.Kind() != fhirpath.Complex),
		s.Type == "Resource" && !fhirpath.IsA(of, "Resource"),
		!s.Primitive && !fhirpath.IsA(of, s.Type) && !fhirpath.IsA(s.Type, of):
		return s, refuse("the value is of another type than the element")
	}
	return s, nil
}

// nodes are the two halves of c as a value of the element.
func (c *content) nodes(s fhirpath.Slot) (value, ext *element.Node, err error) {
	if c.set {
		return c.value.Node().Clone(), c.value.Extension().Clone(), nil
	}
	n := element.NewObject()
	for i := range c.parts {
		part := &c.parts[i]
		slot, err := part.slot(s.Type, part.name)
		if err != nil {
			return nil, nil, err
		}
		p := fhirpath.Place{Owner: n, Field: slot.JSON, Index: -1}
		if slot.List {
			p.Index = max(len(n.Get(slot.JSON).List()), len(n.Get("_"+slot.JSON).List()))
		}
		if err := part.put(p, slot); err != nil {
			return nil, nil, err
		}
	}
	return n, nil, nil
}

// put writes c at a place where nothing is yet.
func (c *content) put(p fhirpath.Place, s fhirpath.Slot) error {
	value, ext, err := c.nodes(s)
	if err != nil {
		return err
	}
	setHalf(p.Owner, p.Field, p.Index, value)
	if s.Primitive {
		setHalf(p.Owner, "_"+p.Field, p.Index, ext)
		alignHalves(p.Owner, p.Field)
	}
	return nil
}

// insert makes room in the list of p, which has n items, and writes c there.
func (c *content) insert(p fhirpath.Place, n int) error {
	s, err := c.slot(p.Type, p.Element)
	if err != nil {
		return err
	}
	for _, name := range []string{p.Field, "_" + p.Field} {
		if half := p.Owner.Get(name); half != nil && half.Kind == element.Array {
			pad(half, n)
			insert(half, p.Index, &element.Node{})
		}
	}
	return c.put(p, s)
}

// replace writes c in the place of an element. A choice may get another type, and with it another name.
func (c *content) replace(p fhirpath.Place) error {
	s, err := c.slot(p.Type, p.Element)
	if err != nil {
		return err
	}
	if s.JSON != p.Field {
		p.Owner.Delete(p.Field)
		p.Owner.Delete("_" + p.Field)
		p.Field = s.JSON
	}
	return c.put(p, s)
}

// setHalf writes one half of an element; nil removes it, in a list it leaves null.
func setHalf(owner *element.Node, name string, index int, v *element.Node) {
	if index < 0 {
		if v == nil {
			owner.Delete(name)
		} else {
			owner.Set(name, v)
		}
		return
	}
	n := owner.Get(name)
	if n == nil || n.Kind != element.Array {
		if v == nil {
			return
		}
		n = &element.Node{Kind: element.Array}
		owner.Set(name, n)
	}
	if v == nil {
		v = &element.Node{}
	}
	pad(n, index+1)
	n.Items[index] = v
}

func pad(n *element.Node, length int) {
	for len(n.Items) < length {
		n.Items = append(n.Items, &element.Node{})
	}
}

// alignHalves brings the two halves of a list of primitives to one length (json.html#primitive).
func alignHalves(owner *element.Node, name string) {
	a, b := owner.Get(name), owner.Get("_"+name)
	if a == nil || b == nil || a.Kind != element.Array || b.Kind != element.Array {
		return
	}
	n := max(len(a.Items), len(b.Items))
	pad(a, n)
	pad(b, n)
}

// removeAt removes an element with both its halves.
func removeAt(p fhirpath.Place) {
	for _, name := range []string{p.Field, "_" + p.Field} {
		n := p.Owner.Get(name)
		switch {
		case n == nil:
		case p.Index < 0:
			p.Owner.Delete(name)
		case n.Kind == element.Array && p.Index < len(n.Items):
			n.Items = append(n.Items[:p.Index:p.Index], n.Items[p.Index+1:]...)
		}
	}
}
