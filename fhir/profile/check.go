package profile

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// maxProfileDepth bounds how many profiles are checked inside one another: one may name itself.
const maxProfileDepth = 24

// profile checks v against the profile of that canonical.
func (c *check) profile(canonical string, v fhirpath.Value, f frame) {
	if c.stopped() || canonical == "" {
		return
	}
	p, err := c.find(c.ctx, c.revision, canonical)
	if err != nil {
		c.err = err
		return
	}
	switch name := shown(canonical); {
	case p == nil:
		if typeOfCanonical(canonical) == "" && !coreType(canonical) { // the types of R4 are checked without
			c.unusable(f.at, "the profile "+name+" is not installed here: it was not checked")
		}
		return
	case p.root == nil:
		c.unusable(f.at, "the profile "+name+" was not checked: "+p.problem)
		return
	case p.problem != "":
		c.warn(f.at, outcome.Unprocessable, "the profile "+name+" was not checked in full: "+p.problem)
	}
	if !v.Is(p.typ) {
		c.fault(f.at, outcome.Unprocessable, "the profile "+shown(canonical)+" is for another type")
		return
	}
	if c.depth >= maxProfileDepth {
		return
	}
	c.depth++
	c.element(p.root, v, f)
	c.depth--
}

func (c *check) unusable(at *trail, text string) {
	if c.enforce {
		c.fault(at, outcome.Unprocessable, text)
	} else {
		c.warn(at, outcome.Unprocessable, text)
	}
}

// shown is a canonical as an answer may repeat it: it can come from a stored resource, and be no canonical at all.
func shown(canonical string) string {
	if len(canonical) > 200 || strings.ContainsAny(canonical, " \t\r\n<>\"") {
		return "that is named here"
	}
	return canonical
}

// coreType says that a canonical names a type of R4 that is no resource, such as SimpleQuantity.
func coreType(canonical string) bool {
	name, ok := strings.CutPrefix(canonical, "http://hl7.org/fhir/StructureDefinition/")
	return ok && (fhirpath.IsA(name, "Element") || name == "SimpleQuantity" || name == "MoneyQuantity")
}

// element checks v against everything that e says of one value, and of what stands below it.
func (c *check) element(e *elem, v fhirpath.Value, f frame) {
	if c.stopped() {
		return
	}
	if e.fixed != nil && !same(e.fixed, v.Node()) {
		c.fault(f.at, outcome.Value, "the value is not the one that the profile fixes")
	}
	if e.pattern != nil && !covers(e.pattern, v.Node()) {
		c.fault(f.at, outcome.Value, "the value does not have all that the profile fixes in a pattern")
	}
	if e.maxLength > 0 && utf8.RuneCountInString(v.Text()) > e.maxLength {
		c.fault(f.at, outcome.Value, "the value is longer than "+strconv.Itoa(e.maxLength)+" characters")
	}
	c.types(e, v, f)
	c.binding(e, v, f)
	c.hold(e.invariants, v, f)
	below := e
	for range 8 { // a contentReference may lead to another one
		if below.ref == nil || len(below.children) > 0 {
			break
		}
		below = below.ref
	}
	c.children(below, v, f)
}

// children checks the elements below v.
func (c *check) children(e *elem, v fhirpath.Value, f frame) {
	for _, child := range e.children {
		if c.stopped() {
			return
		}
		if v.Kind() != fhirpath.Complex && child.name == "value" {
			continue // the value of a primitive is its text, which codec checks
		}
		values := v.Child(child.name)
		if n := len(values); n < child.min || child.max >= 0 && n > child.max {
			c.count(child, n, f.below(child.name, -1))
		}
		for _, x := range values {
			c.element(child, x, inside(f, child.name, x))
		}
		if len(child.slices) > 0 {
			c.sliced(child, values, f)
		}
	}
}

// inside is the frame of a value below f.
func inside(f frame, name string, x fhirpath.Value) frame {
	g := f.below(name, x.Place().Index)
	if x.Is("Resource") {
		g.resource = x.Node()
		if name != "contained" {
			g.root = x.Node()
		}
	}
	return g
}

// count reports a number of values outside the bounds of e.
func (c *check) count(e *elem, n int, f frame) {
	what := "the element"
	if e.slice != "" {
		what = "the slice " + e.slice
	}
	switch {
	case n < e.min && n == 0:
		c.fault(f.at, outcome.Required, what+" is required by the profile")
	case n < e.min:
		c.fault(f.at, outcome.Value, what+" is there less than "+strconv.Itoa(e.min)+" times")
	case e.max == 0:
		c.fault(f.at, outcome.Value, what+" is not allowed by the profile")
	default:
		c.fault(f.at, outcome.Value, what+" is there more than "+times(e.max))
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

// types checks that v is of one of the types of e, with its profiles and targets.
func (c *check) types(e *elem, v fhirpath.Value, f frame) {
	if len(e.types) == 0 {
		return
	}
	var fits []typeRef
	for _, t := range e.types {
		if t.code == "Resource" || t.code == "Element" || v.Is(t.code) {
			fits = append(fits, t)
		}
	}
	if fits == nil {
		c.fault(f.at, outcome.Value, "a value of this type is not allowed by the profile")
		return
	}
	var profiles, targets []string
	for _, t := range fits {
		if len(t.profiles) == 0 {
			profiles = nil
			break
		}
		profiles = append(profiles, t.profiles...)
	}
	for _, t := range fits {
		targets = append(targets, t.targets...)
	}
	if len(targets) > 0 && v.Is("Reference") {
		c.target(targets, v, f)
	}
	switch len(profiles) {
	case 0:
	case 1:
		c.profile(profiles[0], v, f)
	default:
		for _, p := range profiles {
			if c.silently(func() { c.profile(p, v, f) }) == 0 {
				return
			}
		}
		if c.err == nil {
			c.fault(f.at, outcome.Value, "the value meets none of the profiles that are allowed here")
		}
	}
}

// target checks the type of what a Reference names, as far as its text tells.
func (c *check) target(targets []string, v fhirpath.Value, f frame) {
	t := c.targetType(v, f)
	if t == "" {
		return
	}
	for _, p := range targets {
		if ok, err := c.profileOf(p, t); err != nil {
			c.err = err
			return
		} else if ok {
			return
		}
	}
	c.fault(f.below("reference", -1).at, outcome.Value, "a resource of this type cannot be referred to here by the profile")
}

// profileOf says whether a profile is for resources of type t; of one that is not installed nothing can be said.
func (c *check) profileOf(canonical string, t fhir.ResourceType) (bool, error) {
	if want := typeOfCanonical(canonical); want != "" {
		return fhirpath.IsA(string(t), string(want)), nil
	}
	p, err := c.find(c.ctx, c.revision, canonical)
	if err != nil || p == nil {
		return true, err
	}
	return fhirpath.IsA(string(t), p.typ), nil
}

// targetType is the type that a Reference names, or "". Nothing is looked up but what is contained.
func (c *check) targetType(v fhirpath.Value, f frame) fhir.ResourceType {
	ref := v.Node().Get("reference").String()
	if id, ok := strings.CutPrefix(ref, "#"); ok && id != "" {
		for _, x := range f.root.Get("contained").List() {
			if x.Get("id").String() == id {
				return fhir.ResourceType(x.Get("resourceType").String())
			}
		}
		return ""
	}
	if t, _ := fhir.ReferenceType(ref); t != "" {
		return t
	}
	if t := fhir.ResourceType(v.Node().Get("type").String()); t.Valid() {
		return t
	}
	return ""
}

// binding checks the binding of e (terminologies.html#strength).
func (c *check) binding(e *elem, v fhirpath.Value, f frame) {
	if e.strength != "required" && e.strength != "extensible" {
		return
	}
	var codings [][2]string
	switch {
	case v.Kind() == fhirpath.String:
		if v.Text() == "" {
			return
		}
		codings = [][2]string{{"", v.Text()}}
	case v.Is("CodeableConcept"):
		for _, x := range v.Node().Get("coding").List() {
			codings = append(codings, [2]string{x.Get("system").String(), x.Get("code").String()})
		}
	case v.Is("Coding"), v.Is("Quantity"):
		codings = [][2]string{{v.Node().Get("system").String(), v.Node().Get("code").String()}}
	default:
		return
	}
	unknown := false
	for _, x := range codings {
		if x[1] == "" {
			continue
		}
		in, known, err := c.terms.Member(c.ctx, e.valueSet, x[0], x[1])
		if err != nil {
			c.err = err
			return
		}
		if in && known {
			return
		}
		unknown = unknown || !known
	}
	set := shown(e.valueSet)
	switch {
	case unknown:
		if e.strength == "required" {
			c.warn(f.at, outcome.Unprocessable, "the value set "+set+" is not known here: the code was not checked")
		}
	case e.strength == "required" && len(codings) == 0 && excused(v.Node()):
	case e.strength == "required":
		c.fault(f.at, outcome.CodeInvalid, "no code is from the value set "+set+", which the profile requires")
	case len(codings) > 0:
		c.warn(f.at, outcome.CodeInvalid, "no code is from the value set "+set+"; others should stand only where it has none that fits")
	}
}

// excused says that a concept without codings has an extension instead, such as a data-absent-reason, or is absent.
func excused(n *element.Node) bool { return n == nil || n.Get("extension") != nil }

// same is deep equality as fixed[x] means it: everything, and nothing else.
func same(a, b *element.Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Kind != b.Kind || len(a.Fields) != len(b.Fields) || len(a.Items) != len(b.Items) || a.Text != b.Text {
		return false
	}
	for _, f := range a.Fields {
		if !same(f.Value, b.Get(f.Name)) {
			return false
		}
	}
	for i := range a.Items {
		if !same(a.Items[i], b.Items[i]) {
			return false
		}
	}
	return true
}

// covers is what pattern[x] means: all that is in the pattern is in n, items of arrays in any order.
func covers(pattern, n *element.Node) bool {
	if n == nil || pattern.Kind != n.Kind {
		return false
	}
	switch pattern.Kind {
	case element.Object:
		for _, f := range pattern.Fields {
			if !covers(f.Value, n.Get(f.Name)) {
				return false
			}
		}
		return true
	case element.Array:
		for _, want := range pattern.Items {
			found := false
			for _, x := range n.Items {
				if found = covers(want, x); found {
					break
				}
			}
			if !found {
				return false
			}
		}
		return true
	default:
		return pattern.Text == n.Text
	}
}
