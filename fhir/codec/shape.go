package codec

import (
	"slices"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// shape checks the JSON of something that no definition covers: all that can
// be said of it is what no FHIR JSON may have.
func (c *checker) shape(n *element.Node, root bool) {
	for _, f := range c.flaws[n] {
		if f.field < 0 {
			c.fault(outcome.Structure, f.text)
		}
	}
	if c.full() {
		return
	}
	switch n.Kind {
	case element.Null:
		c.fault(outcome.Structure, "null is not allowed here; leave the element out")
	case element.String:
		if n.Text == "" {
			c.fault(outcome.Structure, "an empty string is not allowed; leave the element out")
		}
	case element.Object:
		if len(n.Fields) == 0 {
			c.fault(outcome.Structure, "an empty object is not allowed; leave the element out")
		}
		for i, f := range n.Fields {
			if root && f.Name == "resourceType" {
				continue
			}
			c.trail.push(segment(f.Name), -1)
			c.nameFlaw(n, i)
			c.shape(f.Value, false)
			c.trail.pop()
		}
	case element.Array:
		if len(n.Items) == 0 {
			c.fault(outcome.Structure, "an empty array is not allowed; leave the element out")
		}
		name := ""
		if len(c.trail.segs) > 0 {
			name = c.trail.segs[len(c.trail.segs)-1].name
		}
		for i, x := range n.Items {
			c.trail.pop()
			c.trail.push(name, i)
			if x.Kind != element.Null { // in an array a null can be padding
				c.shape(x, false)
			}
		}
		c.trail.pop()
		c.trail.push(name, -1)
	}
}

// nameFlaw reports what the reader found wrong with the name of field i of n.
func (c *checker) nameFlaw(n *element.Node, i int) bool {
	if c.flaws == nil {
		return false
	}
	list := c.flaws[n]
	at, found := slices.BinarySearchFunc(list, i, byField)
	if found {
		c.fault(outcome.Structure, list[at].text)
	}
	return found
}

// flawed says whether the reader found something wrong with the name of field i.
func (c *checker) flawed(n *element.Node, i int) bool {
	if c.flaws == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(c.flaws[n], i, byField)
	return found
}

// byField: the reader finds the flaws of an object in the order of its fields.
func byField(f flaw, i int) int { return f.field - i }
