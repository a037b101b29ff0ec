package codec

import (
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// nested checks a resource inside another: contained, an entry of a Bundle, a
// parameter.
func (c *checker) nested(e *fieldDef, n *element.Node) {
	switch {
	case e.name == "contained":
		c.contained(n)
	case e.name == "resource" && len(c.trail.segs) == 3 && c.trail.segs[0].name == "Bundle" && c.entry < 0:
		c.entry = c.trail.segs[1].index
		c.apart(n)
		c.entry = -1
	default:
		c.apart(n)
	}
}

// apart checks a resource that stands for itself inside its container.
func (c *checker) apart(n *element.Node) {
	outer := c.scope
	c.scope = nil
	c.resource(n)
	c.scope = outer
}

// contained checks one contained resource (dom-2, dom-4, references.html#contained).
func (c *checker) contained(n *element.Node) {
	if c.scope.inside {
		c.fault(outcome.BusinessRule, "a contained resource cannot contain another one (dom-2)")
		return
	}
	index := c.trail.segs[len(c.trail.segs)-1].index
	switch own := n.Get("id").String(); {
	case index >= maxContained:
		if index == maxContained {
			c.fault(outcome.BusinessRule, "there are too many contained resources")
		}
		return
	case own == "":
		c.faultAt("id", outcome.Required, "a contained resource needs an id")
	default:
		if first, ok := c.scope.byID[own]; ok && first < index {
			c.faultAt("id", outcome.BusinessRule, "another contained resource has the same id")
		}
	}
	if meta := n.Get("meta"); meta.Get("versionId") != nil || meta.Get("lastUpdated") != nil {
		c.faultAt("meta", outcome.BusinessRule, "a contained resource has no version of its own (dom-4)")
	}
	c.scope.inside = true
	c.resource(n)
	c.scope.inside = false
}

// use marks the contained resource of that id as referred to; found says
// whether there is one.
func (c *checker) use(fragment string) (x *containedRef, found bool) {
	if c.scope == nil {
		return nil, false
	}
	i, found := c.scope.byID[fragment]
	if !found || fragment == "" {
		return nil, false
	}
	c.scope.contained[i].used = true
	return &c.scope.contained[i], true
}

// rules are the invariants that hold for every resource.
func (c *checker) rules(d *typeDef, n *element.Node) {
	if !d.resource && d.meaning != isCompanion && len(n.Fields) == 1 && n.Fields[0].Name == "id" {
		c.fault(outcome.Value, "an element needs a value or elements besides its id (ele-1)")
	}
	if d.meaning == isExtension {
		values := 0
		for i := range n.Fields {
			if name := n.Fields[i].Name; strings.HasPrefix(name, "value") || strings.HasPrefix(name, "_value") {
				values = 1
			}
		}
		if n.Get("extension") != nil {
			values++
		}
		if values != 1 {
			c.fault(outcome.BusinessRule, "an extension has either a value or extensions (ext-1)")
		}
	}
}

// reference checks one Reference, as far as its text says what it names
// (references.html#literal).
func (c *checker) reference(e *fieldDef, n *element.Node) {
	node := n.Get("reference")
	text := node.String()
	if text == "" || n.Kind != element.Object || c.flaws != nil && len(c.flaws[node]) > 0 {
		return
	}
	var target fhir.ResourceType
	switch {
	case text == "#":
		switch i := c.containedIndex(); {
		case c.scope == nil:
		case !c.scope.inside:
			c.faultAt("reference", outcome.Value, "only a contained resource can refer to its container")
		case i < len(c.scope.contained):
			c.scope.contained[i].used = true // dom-3 is satisfied in this direction too
		}
		return
	case text[0] == '#':
		x, found := c.use(text[1:])
		if !found {
			c.faultAt("reference", outcome.Value, "no contained resource has this id")
			return
		}
		target = x.typ
	default:
		if t, ok := c.fullURLs[text]; ok {
			target = t
			break
		}
		t, ok := fhir.ReferenceType(text)
		if !ok {
			c.faultAt("reference", outcome.Value, "the reference is neither Type/id, an absolute URI, a #fragment nor a conditional one")
			return
		}
		target = t
	}
	if target != "" && e.targets != nil && !e.targets[target] {
		c.faultAt("reference", outcome.Value, "a resource of this type cannot be referred to here")
	}
}

// containedIndex is the contained resource in which the trail stands.
func (c *checker) containedIndex() int {
	for i := len(c.trail.segs) - 1; i > 0; i-- {
		if c.trail.segs[i].name == "contained" && c.trail.segs[i].index >= 0 {
			return c.trail.segs[i].index
		}
	}
	return -1
}

// concept applies a required binding to a Coding or CodeableConcept: one of its codings
// must be in the value set (terminologies.html#required).
func (c *checker) concept(e *fieldDef, n *element.Node) {
	codings := []*element.Node{n}
	if e.typ.meaning == isConcept {
		codings = n.Get("coding").List()
		if n.Get("coding") == nil && n.Get("extension") != nil {
			return // for instance a data-absent-reason
		}
	}
	for _, x := range codings {
		if e.codes.systems[x.Get("system").String()][x.Get("code").String()] {
			return
		}
	}
	c.fault(outcome.CodeInvalid, "no coding is one of those that R4 requires here")
}
