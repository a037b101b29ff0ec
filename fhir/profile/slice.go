package profile

import (
	"strings"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// sliced tells the values of an element apart and checks each against its slice (profiling.html#slicing).
func (c *check) sliced(e *elem, values []fhirpath.Value, f frame) {
	counts := make([]int, len(e.slices))
	last, unmatched := -1, false
	for _, v := range values {
		if c.stopped() {
			return
		}
		g := inside(f, e.name, v)
		i := c.sliceOf(e, v, g)
		switch {
		case i < 0 && e.slicing != nil && e.slicing.closed:
			c.fault(g.at, outcome.Value, "the value is in none of the slices, and the profile allows no other")
		case i < 0:
			unmatched = true
		default:
			if e.slicing != nil && (e.slicing.ordered && i < last || e.slicing.openAtEnd && unmatched) {
				c.fault(g.at, outcome.Value, "the slice "+e.slices[i].slice+" does not stand where the profile wants it")
			}
			counts[i]++
			last = max(last, i)
			c.element(e.slices[i], v, g)
		}
	}
	for i, s := range e.slices {
		if n := counts[i]; n < s.min || s.max >= 0 && n > s.max {
			c.count(s, n, f.below(e.name, -1))
		}
	}
}

// sliceOf is the first slice to which v belongs, or -1.
func (c *check) sliceOf(e *elem, v fhirpath.Value, f frame) int {
	for i, s := range e.slices {
		if c.belongs(e.slicing, s, v, f) {
			return i
		}
	}
	return -1
}

// byType is how a choice is sliced where the snapshot does not say it.
var byType = &slicing{discriminators: []discriminator{{kind: "type", path: "$this"}}}

func (c *check) belongs(s *slicing, slice *elem, v fhirpath.Value, f frame) bool {
	if s == nil || len(s.discriminators) == 0 {
		if len(slice.types) == 0 {
			return false
		}
		s = byType
	}
	for i := range s.discriminators {
		if !c.meets(&s.discriminators[i], slice, v, f) {
			return false
		}
	}
	return true
}

// meets says whether v is in a slice as far as one discriminator tells.
func (c *check) meets(d *discriminator, slice *elem, v fhirpath.Value, f frame) bool {
	found := []fhirpath.Value{v}
	references := d.kind == "type" || d.kind == "profile"
	if len(d.segs) > 0 {
		expr := d.expr
		var err error
		found, err = expr.Eval(c.ctx, v, fhirpath.Options{Resource: f.resource, Root: f.root, Limits: fhirpath.Limits{Steps: 100_000, Spent: &c.budget}})
		if err != nil {
			if !isOurs(err) {
				c.err = err
			}
			return false
		}
	}
	at := c.definition(slice, d.segs)
	if d.kind == "exists" {
		if at.e == nil {
			return false
		}
		if at.e.max == 0 {
			return len(found) == 0
		}
		return at.e.min == 0 || len(found) > 0
	}
	for _, x := range found {
		switch {
		case references && d.kind == "type":
			if ofType(at.e, x) {
				return true
			}
		case d.kind == "profile":
			if c.conforms(at.e, x, f) {
				return true
			}
		default:
			if c.has(at, x) {
				return true
			}
		}
	}
	return false
}

// definition is what a slice says of the element at the end of a discriminator's path: its definition, and the value
// that it must have, which may be part of a pattern further up.
type definition struct {
	e        *elem
	constant *element.Node
	fixed    bool
}

func (c *check) definition(slice *elem, segs []string) definition {
	at := definition{e: slice}
	at.take()
	for _, name := range segs {
		if name == "resolve()" {
			continue // the type of the target is in targetProfile
		}
		if strings.HasPrefix(name, "ofType(") {
			continue
		}
		if at.constant != nil {
			at.constant = part(at.constant, name)
		}
		at.e = c.childOf(at.e, name)
		if at.e != nil {
			at.take()
		}
		if at.e == nil && at.constant == nil {
			return at
		}
	}
	return at
}

// take prefers what the element itself fixes.
func (d *definition) take() {
	switch {
	case d.e.fixed != nil:
		d.constant, d.fixed = d.e.fixed, true
	case d.e.pattern != nil:
		d.constant, d.fixed = d.e.pattern, false
	}
}

// part is the member of a constant; of several items the first.
func part(n *element.Node, name string) *element.Node {
	for _, x := range n.List() {
		if m := x.Get(name); m != nil {
			return m
		}
	}
	return nil
}

// childOf finds the definition of an element below e: in the snapshot, or in the one profile of its type, as the url of
// an extension is.
func (c *check) childOf(e *elem, name string) *elem {
	if e == nil {
		return nil
	}
	if url, ok := strings.CutPrefix(name, "extension("); ok {
		url = strings.Trim(strings.TrimSuffix(url, ")"), "'")
		for _, x := range e.children {
			if x.name != "extension" {
				continue
			}
			for _, s := range x.slices {
				for _, t := range s.types {
					for _, p := range t.profiles {
						if p == url {
							return s
						}
					}
				}
			}
		}
		return nil
	}
	if e.ref != nil && len(e.children) == 0 {
		e = e.ref
	}
	for _, x := range e.children {
		if x.name == name {
			return only(x)
		}
	}
	if len(e.types) == 1 && len(e.types[0].profiles) == 1 {
		canonical := e.types[0].profiles[0]
		p, err := c.find(c.ctx, c.revision, canonical)
		if err != nil {
			c.err = err
			return nil
		}
		if p != nil && p.root != nil {
			for _, x := range p.root.children {
				if x.name == name {
					return x
				}
			}
		}
		if p == nil && name == "url" && e.types[0].code == "Extension" {
			url, _, _ := strings.Cut(canonical, "|")
			return &elem{name: "url", fixed: element.NewString(url), max: 1}
		}
	}
	return nil
}

// only is the one slice of an element that its definition goes on in, where it has a constant and the element has none:
// a coding that is required by being sliced.
func only(e *elem) *elem {
	if len(e.slices) == 1 && e.slices[0].min > 0 && e.fixed == nil && e.pattern == nil {
		return e.slices[0]
	}
	return e
}

// has says whether x has the value by which a slice is known.
func (c *check) has(at definition, x fhirpath.Value) bool {
	switch {
	case at.constant != nil && at.fixed:
		return same(at.constant, x.Node())
	case at.constant != nil:
		if at.constant.Kind == element.Array && x.Node() != nil && x.Node().Kind != element.Array {
			return len(at.constant.Items) > 0 && covers(at.constant.Items[0], x.Node())
		}
		return covers(at.constant, x.Node())
	case at.e != nil && at.e.strength == "required":
		// A binding tells slices apart, too (profiling.html#discriminator).
		return c.silently(func() { c.binding(at.e, x, frame{}) }) == 0
	}
	return false
}

func ofType(e *elem, x fhirpath.Value) bool {
	if e == nil {
		return false
	}
	for _, t := range e.types {
		if x.Is(t.code) {
			return true
		}
		if t.code == "Reference" && x.Is("Resource") { // behind resolve()
			for _, p := range t.targets {
				if want := typeOfCanonical(p); want != "" && x.Is(string(want)) {
					return true
				}
			}
		}
	}
	return false
}

// conforms says whether x meets one of the profiles by which a slice is known. Of a reference only the type is known.
func (c *check) conforms(e *elem, x fhirpath.Value, f frame) bool {
	if e == nil {
		return false
	}
	for _, t := range e.types {
		if t.code == "Reference" && x.Is("Resource") {
			for _, p := range t.targets {
				if d, err := c.find(c.ctx, c.revision, p); err == nil && d != nil && x.Is(d.typ) || x.Is(string(typeOfCanonical(p))) {
					return true
				}
			}
			continue
		}
		for _, p := range t.profiles {
			d, err := c.find(c.ctx, c.revision, p)
			if err != nil {
				c.err = err
			}
			if d != nil && d.root != nil && c.silently(func() { c.profile(p, x, f) }) == 0 {
				return true
			}
		}
	}
	return false
}
