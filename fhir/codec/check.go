package codec

import (
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// checker walks one tree along the table and collects every fault, in document
// order; what is missing from an object is reported after what stands in it.
type checker struct {
	issues   []outcome.Issue
	more     bool
	flaws    map[*element.Node][]flaw
	entry    int                    // entry of the outermost Bundle in whose resource we are, or -1
	perEntry map[int]*outcome.Error // nil: faults of entries are faults of the whole
	trail    trail
	scope    *scope
	fullURLs map[string]fhir.ResourceType
}

// scope is one resource with its contained ones: what #references can name.
type scope struct {
	contained []containedRef
	byID      map[string]int // the first of that id
	inside    bool           // we are in a contained resource
}

type containedRef struct {
	id   string
	typ  fhir.ResourceType
	used bool
}

func (c *checker) fault(cat outcome.Category, text string) {
	issue := outcome.Issue{Category: cat, Text: text}
	if c.entry >= 0 && c.perEntry != nil {
		e := c.perEntry[c.entry]
		if e == nil {
			e = &outcome.Error{}
			c.perEntry[c.entry] = e
		}
		if n := len(e.Issues); n < MaxIssues {
			issue.Path = c.trail.String()
			e.Issues = append(e.Issues, issue)
		} else if n == MaxIssues {
			e.Issues = append(e.Issues, moreIssues)
		}
		return
	}
	if len(c.issues) >= MaxIssues {
		c.more = true
		return
	}
	issue.Path = c.trail.String()
	c.issues = append(c.issues, issue)
}

var moreIssues = outcome.Issue{Category: outcome.Unprocessable, Text: "there are more faults than are listed here"}

// full says that no further fault would be listed, so that looking for more is
// wasted on whoever sent this.
func (c *checker) full() bool {
	if c.entry >= 0 && c.perEntry != nil {
		e := c.perEntry[c.entry]
		return e != nil && len(e.Issues) > MaxIssues
	}
	return c.more
}

// faultAt is fault for an element below the one where the walk stands.
func (c *checker) faultAt(name string, cat outcome.Category, text string) {
	c.trail.push(name, -1)
	c.fault(cat, text)
	c.trail.pop()
}

func (c *checker) err() error {
	if len(c.issues) == 0 {
		return nil
	}
	if c.more {
		c.issues = append(c.issues, moreIssues)
	}
	return &outcome.Error{Issues: c.issues}
}

func (c *checker) root(n *element.Node) *Resource {
	if n == nil || n.Kind != element.Object {
		c.fault(outcome.Structure, "the body is not a JSON object")
		return nil
	}
	c.trail.segs = make([]step, 0, 24)
	d := c.resourceType(n)
	name := "Resource"
	if d != nil {
		name = d.name
	}
	c.trail.push(name, -1)
	defer c.trail.pop()
	c.resourceOf(d, n)
	if d == nil {
		return nil
	}
	return &Resource{Type: fhir.ResourceType(d.name), Root: n}
}

// resourceType finds the definition of the resource n, or nil; resourceOf then
// says why.
func (c *checker) resourceType(n *element.Node) *typeDef {
	if d := types()[n.Get("resourceType").String()]; d != nil && d.resource {
		return d
	}
	return nil
}

// resource checks n, a resource inside another one.
func (c *checker) resource(n *element.Node) {
	if n.Kind != element.Object {
		c.fault(outcome.Value, "a resource is expected here")
		return
	}
	c.resourceOf(c.resourceType(n), n)
}

func (c *checker) resourceOf(d *typeDef, n *element.Node) {
	if d == nil {
		rt := n.Get("resourceType")
		switch {
		case rt == nil:
			c.faultAt("resourceType", outcome.Structure, "resourceType is missing")
		case rt.Kind != element.String:
			c.faultAt("resourceType", outcome.Structure, "resourceType is not a string")
		default:
			c.faultAt("resourceType", outcome.Structure, "resourceType is not a resource type of R4")
		}
		c.shape(n, true)
		return
	}
	outer := c.scope
	if outer == nil || !outer.inside {
		s := &scope{byID: map[string]int{}}
		for i, x := range n.Get("contained").List() {
			if i >= maxContained {
				break
			}
			own := x.Get("id").String()
			if _, again := s.byID[own]; !again {
				s.byID[own] = i
			}
			s.contained = append(s.contained, containedRef{id: own, typ: fhir.ResourceType(x.Get("resourceType").String())})
		}
		c.scope = s
	}
	urls := c.fullURLs
	if d.name == "Bundle" {
		c.fullURLs = bundleURLs(n)
	}
	c.object(d, n)
	if c.scope != outer {
		c.unused(n)
	}
	c.scope, c.fullURLs = outer, urls
}

// maxContained bounds the contained resources of one resource: every reference
// is looked up among them.
const maxContained = 1000

func bundleURLs(n *element.Node) map[string]fhir.ResourceType {
	m := map[string]fhir.ResourceType{}
	for _, e := range n.Get("entry").List() {
		if u := e.Get("fullUrl").String(); u != "" {
			m[u] = fhir.ResourceType(e.Get("resource").Get("resourceType").String())
		}
	}
	return m
}

// unused applies dom-3: a contained resource that nothing refers to has no meaning.
func (c *checker) unused(n *element.Node) {
	for i, x := range c.scope.contained {
		if x.id != "" && !x.used && c.scope.byID[x.id] == i {
			c.trail.push("contained", i)
			c.fault(outcome.BusinessRule, "nothing in the resource refers to this contained resource (dom-3)")
			c.trail.pop()
		}
	}
}

// object checks n as a value of the type d; the trail stands on it.
func (c *checker) object(d *typeDef, n *element.Node) {
	if n.Kind != element.Object {
		if n.Kind == element.Array || n.Kind == element.Null || n.Kind == element.String && n.Text == "" {
			c.shape(n, false)
		}
		if n.Kind != element.Null {
			c.fault(outcome.Value, "an object is expected here")
		}
		return
	}
	if len(n.Fields) == 0 {
		c.fault(outcome.Structure, "an empty object is not allowed; leave the element out")
		return
	}
	under := false
	for i := range n.Fields {
		if name := n.Fields[i].Name; name != "" && name[0] == '_' {
			under = true
			break
		}
	}
	var seen [maxSlots]*fieldDef
	for i := range n.Fields {
		if c.full() {
			return
		}
		f := &n.Fields[i]
		if d.resource && f.Name == "resourceType" && !c.flawed(n, i) {
			continue
		}
		c.field(d, n, i, under, &seen)
	}
	for i := range d.slots {
		if s := &d.slots[i]; s.required && seen[i] == nil {
			c.faultAt(s.name, outcome.Required, "this element is required")
		}
	}
	c.rules(d, n)
}

// field checks field i of n.
func (c *checker) field(d *typeDef, n *element.Node, i int, under bool, seen *[maxSlots]*fieldDef) {
	f := &n.Fields[i]
	e := d.fields[f.Name]
	extension := false // f is the _name half of a primitive
	if e == nil && under {
		if name, ok := strings.CutPrefix(f.Name, "_"); ok {
			if e = d.fields[name]; e != nil && (e.prim == noPrimitive || e.attribute) {
				e = nil
			}
			extension = e != nil
		}
	}
	if e == nil || e.forbidden {
		c.unknown(d, n, i)
		return
	}
	if c.flaws != nil && c.flawed(n, i) {
		c.trail.push(e.name, -1)
		c.nameFlaw(n, i)
		c.trail.pop()
		return
	}
	if e.slot >= 0 {
		if other := seen[e.slot]; other != nil && other != e {
			c.faultAt(e.name, outcome.Value, "only one type of this element may be there")
		}
		seen[e.slot] = e
	}
	v := f.Value
	var companion *element.Node // the other half of a primitive
	if e.prim != noPrimitive && under {
		if extension {
			if companion = n.Get(e.json); companion != nil {
				return // checked with the value, where that stands
			}
			c.primitives(e, nil, v)
			return
		}
		companion = n.Get("_" + e.json)
		if e.attribute {
			companion = nil
		}
	}
	if e.prim != noPrimitive {
		c.primitives(e, v, companion)
		return
	}
	if !e.list {
		c.trail.push(e.name, -1)
		c.one(e, v)
		c.trail.pop()
		return
	}
	if !c.isList(e, v) {
		return
	}
	for j, x := range v.Items {
		c.trail.push(e.name, j)
		c.one(e, x)
		c.trail.pop()
	}
}

func (c *checker) isList(e *fieldDef, v *element.Node) bool {
	switch {
	case v.Kind == element.Null:
		c.faultAt(e.name, outcome.Structure, "null is not allowed here; leave the element out")
	case v.Kind != element.Array:
		c.faultAt(e.name, outcome.Value, "this element repeats: an array is expected here")
	case len(v.Items) == 0:
		c.faultAt(e.name, outcome.Structure, "an empty array is not allowed; leave the element out")
	default:
		return true
	}
	return false
}

// one checks one value that is no primitive.
func (c *checker) one(e *fieldDef, v *element.Node) {
	if v.Kind == element.Array {
		c.fault(outcome.Value, "this element does not repeat: no array is allowed here")
		return
	}
	if v.Kind == element.Null {
		c.fault(outcome.Structure, "null is not allowed here; leave the element out")
		return
	}
	if e.any {
		c.nested(e, v)
		return
	}
	c.object(e.typ, v)
	switch e.typ.meaning {
	case isReference:
		c.reference(e, v)
	case isCoding, isConcept:
		if e.codes != nil {
			c.concept(e, v)
		}
	}
}

// unknown reports a name that the type does not have, and then what can be
// said of its content anyway.
func (c *checker) unknown(d *typeDef, n *element.Node, i int) {
	f := &n.Fields[i]
	c.trail.push(segment(f.Name), -1)
	defer c.trail.pop()
	if c.nameFlaw(n, i) {
		return
	}
	bare := strings.TrimPrefix(f.Name, "_")
	if _, exact := d.fields[bare]; !exact {
		for known := range d.fields {
			if strings.EqualFold(known, bare) {
				c.fault(outcome.Structure, "this name differs from an element of "+d.name+" only in upper and lower case")
				return
			}
		}
	}
	c.fault(outcome.Unprocessable, d.name+" has no element of this name")
	c.shape(f.Value, false)
}

// primitives checks a primitive element: its values, its extensions, or both.
func (c *checker) primitives(e *fieldDef, v, ext *element.Node) {
	if !e.list {
		c.trail.push(e.name, -1)
		defer c.trail.pop()
		if v != nil {
			c.primitive(e, v)
		}
		if ext != nil {
			c.companion(ext, v != nil)
		}
		return
	}
	if v != nil && !c.isList(e, v) || ext != nil && !c.isList(e, ext) {
		return
	}
	var values, exts []*element.Node
	if v != nil {
		values = v.Items
	}
	if ext != nil {
		exts = ext.Items
	}
	if v != nil && ext != nil && len(values) != len(exts) {
		c.faultAt(e.name, outcome.Structure, "the array of values and the array of extensions differ in length; pad with null")
	}
	for i := range max(len(values), len(exts)) {
		c.trail.push(e.name, i)
		x, y := item(values, i), item(exts, i)
		if x == nil && y == nil {
			c.fault(outcome.Structure, "null is not allowed here without an extension")
		}
		if x != nil {
			c.primitive(e, x)
		}
		if y != nil {
			c.companion(y, x != nil)
		}
		c.trail.pop()
	}
}

// item is items[i], or nil if that is absent or null.
func item(items []*element.Node, i int) *element.Node {
	if i >= len(items) || items[i].Kind == element.Null {
		return nil
	}
	return items[i]
}

func (c *checker) primitive(e *fieldDef, n *element.Node) {
	switch {
	case n.Kind == element.Array:
		c.fault(outcome.Value, "this element does not repeat: no array is allowed here")
		return
	case n.Kind == element.Null:
		c.fault(outcome.Structure, "null is not allowed here; leave the element out")
		return
	case n.Kind == element.String && n.Text == "":
		c.fault(outcome.Structure, "an empty string is not allowed; leave the element out")
		return
	}
	if c.flaws != nil {
		if f := c.flaws[n]; len(f) > 0 && n.Kind == element.String {
			c.fault(outcome.Structure, f[0].text)
			return
		}
	}
	if wrong := e.prim.wrong(n); wrong != "" {
		c.fault(outcome.Value, "the value "+wrong)
		return
	}
	switch e.prim {
	case code:
		if e.codes != nil && !e.codes.has(n.Text) {
			c.fault(outcome.CodeInvalid, "the code is not one of those that R4 requires here")
		}
	case uri, url, canonical:
		if n.Text[0] == '#' {
			c.use(n.Text[1:])
		}
	}
}

// companion checks the extension half of a primitive; beside a value it may be
// no more than an id.
func (c *checker) companion(n *element.Node, valued bool) {
	if valued {
		c.object(besideValue(), n)
		return
	}
	c.object(types()["Element"], n)
}

var besideValue = sync.OnceValue(func() *typeDef {
	d := *types()["Element"]
	d.meaning = isCompanion
	return &d
})
