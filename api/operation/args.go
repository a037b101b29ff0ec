package operation

import (
	"net/url"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// args are the in-parameters of one invocation, from the query of a GET or the
// Parameters of a POST (http://hl7.org/fhir/R4/operations.html#executing). A
// POST may bring both.
type args struct {
	texts map[string][]string
	nodes map[string][]*element.Node // the value or the resource of a parameter
	parts map[string]map[string]string
}

var (
	errQuery      = outcome.New(outcome.Invalid, "the query is not well-formed: escape reserved characters")
	errParameters = outcome.New(outcome.Invalid, "the body of an operation is a Parameters resource")
)

// arguments reads what rq brings. An argument that is not in known is refused,
// because leaving it out could change what the operation means; the ones of
// every request (_format, _pretty) are passed over.
func arguments(rq *respond.Request, known ...string) (args, error) {
	a := args{map[string][]string{}, map[string][]*element.Node{}, map[string]map[string]string{}}
	query, err := url.ParseQuery(rq.Query)
	if err != nil {
		return a, errQuery
	}
	for name, values := range query {
		if name != "_format" && name != "_pretty" {
			a.texts[name] = append(a.texts[name], values...)
		}
	}
	if rq.Content != nil {
		if rq.Content.Type != "Parameters" {
			return a, errParameters
		}
		for _, p := range rq.Content.Root.Get("parameter").List() {
			name := p.Get("name").String()
			if _, there := a.texts[name]; !there {
				a.texts[name] = nil
			}
			for _, part := range p.Get("part").List() {
				a.part(name, part)
			}
			for _, f := range p.Fields {
				if f.Name == "resource" || len(f.Name) > len("value") && f.Name[:len("value")] == "value" {
					a.add(name, f.Value)
				}
			}
		}
	}
	for name := range a.texts {
		if !slices.Contains(known, name) {
			return a, outcome.New(outcome.Invalid, "the operation has no parameter of one of these names; it takes "+list(known))
		}
	}
	return a, nil
}

// part reads one part of a parameter. Of parts of the same name none counts.
func (a *args) part(name string, part *element.Node) {
	if a.parts[name] == nil {
		a.parts[name] = map[string]string{}
	}
	key := part.Get("name").String()
	_, twice := a.parts[name][key]
	for _, f := range part.Fields {
		if strings.HasPrefix(f.Name, "value") && f.Value.Kind != element.Object {
			a.parts[name][key] = f.Value.Text
		}
	}
	if twice {
		a.parts[name][key] = ""
	}
}

func (a *args) add(name string, n *element.Node) {
	a.nodes[name] = append(a.nodes[name], n)
	switch {
	case n.Kind != element.Object:
		a.texts[name] = append(a.texts[name], n.Text)
	case n.Get("reference") != nil:
		a.texts[name] = append(a.texts[name], n.Get("reference").String())
	case n.Get("coding") != nil:
		for _, c := range n.Get("coding").List() {
			a.texts[name] = append(a.texts[name], c.Get("system").String()+"|"+c.Get("code").String())
		}
	case n.Get("code") != nil:
		a.texts[name] = append(a.texts[name], n.Get("system").String()+"|"+n.Get("code").String())
	case n.Get("value") != nil:
		a.texts[name] = append(a.texts[name], n.Get("system").String()+"|"+n.Get("value").String())
	}
}

// text is the one value of an argument, "" if it is absent.
func (a args) text(name string) (string, error) {
	switch v := a.texts[name]; len(v) {
	case 0:
		return "", nil
	case 1:
		return v[0], nil
	default:
		return "", outcome.New(outcome.Invalid, "the parameter "+name+" may stand once")
	}
}

func list(names []string) string {
	out := ""
	for i, n := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			out += " and "
		default:
			out += ", "
		}
		out += n
	}
	if out == "" {
		return "none"
	}
	return out
}
