package audit

import (
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

const (
	systemPurpose     = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	systemEventType   = "http://terminology.hl7.org/CodeSystem/audit-event-type"
	systemInteraction = "http://hl7.org/fhir/restful-interaction"
)

// actions maps interactions to AuditEvent.action (http://hl7.org/fhir/audit-event-action).
var actions = map[fhir.Interaction]string{
	fhir.Create: "C", fhir.Read: "R", fhir.VRead: "R", fhir.HistoryInstance: "R", fhir.HistoryType: "R", fhir.HistorySystem: "R", fhir.Update: "U", fhir.Patch: "U", fhir.Delete: "D",
	fhir.SearchType: "E", fhir.SearchSystem: "E", fhir.Operation: "E", fhir.Batch: "E", fhir.Transaction: "E",
	fhir.PrepareConsent: "C", fhir.SignConsent: "U", fhir.RevokeConsent: "U", fhir.WitnessConsent: "U",
}

// Render gives the R4 AuditEvent of e. Its entities name records: whoever may
// read it must be permitted to know that they exist.
func Render(e Event) *element.Node {
	agent := element.NewObject(
		field("who", element.NewObject(field("identifier", element.NewObject(str("value", e.Caller.Subject))))),
		str("altId", e.Caller.Client),
		field("requestor", &element.Node{Kind: element.Bool, Text: "true"}),
	)
	if u := e.Caller.User.String(); u != "" {
		agent.Get("who").Set("reference", element.NewString(u))
	}
	if e.Caller.Client == "" {
		agent.Delete("altId")
	}
	if len(e.Caller.Roles) > 0 {
		var roles []*element.Node
		for _, r := range e.Caller.Roles {
			roles = append(roles, element.NewObject(str("text", r)))
		}
		agent.Set("role", list(roles...))
	}
	if e.Caller.PolicyVersion != "" {
		agent.Set("policy", list(element.NewString("urn:cloister:policy:"+e.Caller.PolicyVersion)))
	}
	n := element.NewObject(
		str("resourceType", "AuditEvent"),
		str("id", e.ID),
		field("type", coding(systemEventType, "rest")),
		field("subtype", list(coding(systemInteraction, subtype(e.Interaction)))),
		str("action", actions[e.Interaction]),
		str("recorded", e.At.UTC().Format(time.RFC3339Nano)),
		str("outcome", string(e.Outcome)),
		field("purposeOfEvent", list(element.NewObject(field("coding", list(coding(systemPurpose, e.Caller.Purpose)))))),
		field("agent", list(agent)),
		field("source", element.NewObject(field("observer", element.NewObject(str("display", observer))))),
	)
	var entities []*element.Node
	for _, x := range e.Entities {
		what := x.Ref.String()
		if x.Version > 0 {
			what += "/_history/" + x.Version.String()
		}
		entity := element.NewObject(field("what", element.NewObject(str("reference", what))))
		if x.Session != "" {
			entity.Set("detail", list(act("emergency", x.Session)))
		}
		entities = append(entities, entity)
	}
	for _, id := range e.Acts {
		kind := "exception"
		if e.Type == "Patient" { // exceptions are those of a practice, emergencies of a patient
			kind = "emergency"
		}
		entities = append(entities, element.NewObject(field("detail", list(act(kind, id)))))
	}
	if entities != nil {
		n.Set("entity", list(entities...))
	}
	return n
}

// act is the detail of an entity that names an emergency or an exception, neither of which is a resource.
func act(kind, id string) *element.Node {
	return element.NewObject(str("type", kind), str("valueString", id))
}

// subtype is the code of an interaction: an operation is an operation, whatever its name.
func subtype(i fhir.Interaction) string {
	if strings.HasPrefix(string(i), "$") {
		return string(fhir.Operation)
	}
	return string(i)
}

func field(name string, v *element.Node) element.Field { return element.Field{Name: name, Value: v} }

func str(name, s string) element.Field { return field(name, element.NewString(s)) }

func list(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

func coding(system, code string) *element.Node {
	return element.NewObject(str("system", system), str("code", code))
}
