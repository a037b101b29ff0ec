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

// Action is AuditEvent.action of an interaction.
func Action(i fhir.Interaction) string { return actions[i] }

// Render gives the R4 AuditEvent of all that e holds. Its entities name records: whoever may
// read it must be permitted to know that they exist; [Told] is what one reader may.
func Render(e Event) *element.Node { return Told{Event: e, ID: e.ID}.Render() }

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

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
