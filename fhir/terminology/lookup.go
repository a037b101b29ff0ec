package terminology

import (
	"context"
	"slices"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Lookup asks for what a code system says of a code (codesystem-operation-lookup.html).
type Lookup struct {
	Coding          Coding
	Properties      []string // which to give; all where there is none
	DisplayLanguage string
}

// Lookup gives the Parameters of the answer. The error is an *outcome.Error:
// not-found (422) where the code system is not installed or has no such code.
func (s *Service) Lookup(ctx context.Context, q Lookup) (*element.Node, error) {
	r, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	cs, err := r.system(q.Coding.System, q.Coding.Version)
	if err != nil {
		return nil, public(err)
	}
	c, i := cs.find(q.Coding.Code)
	if c == nil {
		return nil, outcome.New(outcome.Undefined, "the code system "+cs.canonical()+noSuchCode(cs))
	}
	wanted := func(name string) bool { return len(q.Properties) == 0 || slices.Contains(q.Properties, name) }
	p := &parameters{}
	name := cs.name
	if name == "" {
		name = cs.url
	}
	p.text("name", "valueString", name)
	p.text("version", "valueString", cs.version)
	display := c.display
	if q.DisplayLanguage != "" && !speaks(cs.language, q.DisplayLanguage) {
		if text := inLanguage(c.node.Get("designation").List(), q.DisplayLanguage); text != "" {
			display = text
		}
	}
	if display == "" { // required in the answer
		display = c.code
	}
	p.text("display", "valueString", display)
	if wanted("designation") {
		for _, d := range c.node.Get("designation").List() {
			part := &parameters{}
			part.text("language", "valueCode", d.Get("language").String())
			if use := d.Get("use"); use != nil {
				part.value("use", "valueCoding", use)
			}
			part.text("value", "valueString", d.Get("value").String())
			p.parts("designation", part)
		}
	}
	property := func(code string, kind string, v *element.Node, description string) {
		part := &parameters{}
		part.text("code", "valueCode", code)
		part.value("value", kind, v)
		part.text("description", "valueString", description)
		p.parts("property", part)
	}
	if d := c.node.Get("definition").String(); d != "" && wanted("definition") {
		property("definition", "valueString", element.NewString(d), "")
	}
	for _, x := range []struct {
		name string
		list []int32
	}{{"parent", cs.concepts[i].parents}, {"child", cs.concepts[i].children}} {
		if wanted(x.name) {
			for _, j := range x.list {
				property(x.name, "valueCode", element.NewString(cs.concepts[j].code), cs.concepts[j].display)
			}
		}
	}
	if wanted("inactive") {
		property("inactive", "valueBoolean", &element.Node{Kind: element.Bool, Text: boolean(c.inactive)}, "")
	}
	for _, x := range c.node.Get("property").List() {
		code := x.Get("code").String()
		if code == "parent" || code == "child" || code == "inactive" || !wanted(code) {
			continue
		}
		if kind, v := propertyNode(x); v != nil {
			property(code, kind, v, "")
		}
	}
	return p.resource(), nil
}

func noSuchCode(cs *codeSystem) string {
	if cs.complete() {
		return " has no such code"
	}
	return " is installed in part (content " + cs.content + "), and that part has no such code"
}

// parameters makes a Parameters resource, or the parts of one parameter.
type parameters struct{ items []*element.Node }

func (p *parameters) value(name, kind string, v *element.Node) {
	p.items = append(p.items, element.NewObject(element.Field{Name: "name", Value: element.NewString(name)}, element.Field{Name: kind, Value: v}))
}

func (p *parameters) text(name, kind, v string) {
	if v != "" {
		p.value(name, kind, element.NewString(v))
	}
}

func (p *parameters) flag(name string, b bool) {
	p.value(name, "valueBoolean", &element.Node{Kind: element.Bool, Text: boolean(b)})
}

func (p *parameters) parts(name string, parts *parameters) {
	p.value(name, "part", list(parts.items...))
}

func (p *parameters) resource() *element.Node {
	return element.NewObject(
		element.Field{Name: "resourceType", Value: element.NewString("Parameters")},
		element.Field{Name: "parameter", Value: list(p.items...)},
	)
}

// codingNode is a Coding.
func codingNode(c Coding) *element.Node {
	n := element.NewObject()
	for _, f := range []struct{ name, value string }{{"system", c.System}, {"version", c.Version}, {"code", c.Code}, {"display", c.Display}} {
		if f.value != "" {
			n.Set(f.name, element.NewString(f.value))
		}
	}
	return n
}
