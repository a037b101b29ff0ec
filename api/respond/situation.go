package respond

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record"
)

// parametersOf answers an operation with a Parameters resource that holds
// nothing of a stored resource.
type parametersOf struct{ list []*element.Node }

func (x parametersOf) build(m *message, _ *Request) error {
	n := element.NewObject(element.Field{Name: "resourceType", Value: element.NewString("Parameters")})
	if len(x.list) > 0 {
		n.Set("parameter", &element.Node{Kind: element.Array, Items: x.list})
	}
	m.status = http.StatusOK
	m.body = n.AppendJSON(m.body)
	return nil
}

// Done answers an operation that has nothing to say but that it is done.
func Done() Response { return parametersOf{} }

// Emergency answers $break-glass: the session and its end.
func Emergency(e record.Emergency) Response {
	return parametersOf{[]*element.Node{value("session", "valueString", e.ID), value("start", "valueInstant", stamp(e.Starts)), value("end", "valueInstant", stamp(e.Ends))}}
}

// Emergencies answers $emergencies, with what 42 CFR 2.51(c) has documented.
func Emergencies(list []record.Emergency) Response {
	var x parametersOf
	for _, e := range list {
		x.list = append(x.list, parts("emergency",
			value("session", "valueString", e.ID), value("start", "valueInstant", stamp(e.Starts)), value("end", "valueInstant", stamp(e.Ends)),
			value("declaredBy", "valueString", e.Member.String()), value("reason", "valueCode", e.Reason), value("recipient", "valueString", e.Recipient),
			value("facility", "valueString", e.Facility), value("discloser", "valueString", e.Discloser),
			optional("patient", reference("Patient", string(e.Patient))), optional("nature", e.Nature)))
	}
	return x
}

// Exceptions answers $document-exception and $exceptions.
func Exceptions(list []record.Exception) Response {
	var x parametersOf
	for _, e := range list {
		var more []*element.Node
		for _, p := range e.Purposes {
			more = append(more, value("purpose", "valueCode", p))
		}
		names := make([]string, 0, len(e.Documentation))
		for name := range e.Documentation {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			more = append(more, value("documentation."+name, "valueString", e.Documentation[name]))
		}
		x.list = append(x.list, parts("exception", append([]*element.Node{
			value("id", "valueString", e.ID), value("kind", "valueCode", e.Kind), value("start", "valueInstant", stamp(e.Starts)), value("end", "valueInstant", stamp(e.Ends)),
			value("recipient", "valueString", e.Recipient.String()), value("documentedBy", "valueString", e.By.String()),
			optional("originator", e.Originator.String()), optional("patient", reference("Patient", string(e.Patient))), optional("program", reference("Organization", string(e.Program))),
			optional("records", count(len(e.Records))),
		}, more...)...))
	}
	return x
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func reference(t, id string) string {
	if id == "" {
		return ""
	}
	return t + "/" + id
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func value(name, kind, text string) *element.Node {
	return element.NewObject(element.Field{Name: "name", Value: element.NewString(name)}, element.Field{Name: kind, Value: element.NewString(text)})
}

// optional is a part that is left out where there is nothing to say.
func optional(name, text string) *element.Node {
	if text == "" {
		return nil
	}
	return value(name, "valueString", text)
}

func parts(name string, list ...*element.Node) *element.Node {
	list = slices.DeleteFunc(list, func(n *element.Node) bool { return n == nil })
	return element.NewObject(element.Field{Name: "name", Value: element.NewString(name)}, element.Field{Name: "part", Value: &element.Node{Kind: element.Array, Items: list}})
}
