package audit

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

const (
	systemDICOM      = "http://dicom.nema.org/resources/ontology/DCM"
	systemLifecycle  = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
	systemEntityType = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
	systemObjectRole = "http://terminology.hl7.org/CodeSystem/object-role"
	systemResources  = "http://hl7.org/fhir/resource-types"
)

// Disclosure is one entry of an accounting of disclosures (42 CFR 2.25, 45 CFR
// 164.528(b)(2)): when, to whom, what in brief, and on what basis. It says nothing that whoever
// asked for the accounting may not know.
type Disclosure struct {
	ID          string // of the event
	At          time.Time
	Interaction fhir.Interaction
	Purpose     string // v3-ActReason
	Patient     fhir.ID
	Client      string
	Recipients  []Party
	Resources   map[fhir.ResourceType]int // how many of each type
	Consents    []fhir.ID                 // with which it was made
}

// Party is one recipient.
type Party struct {
	Ref     fhir.Ref
	Name    string
	Address *element.Node // an R4 Address, as far as it is known (45 CFR 164.528(b)(2)(ii)); else nil
}

// RecipientAddress is the extension of AuditEvent.agent with the address of a recipient.
const RecipientAddress = fhir.Canonical + "/StructureDefinition/recipient-address"

// postal is where a letter goes, of what an Address says.
func postal(address *element.Node) *element.Node {
	out := element.NewObject()
	for _, name := range []string{"text", "line", "city", "district", "state", "postalCode", "country"} {
		if v := address.Get(name); v != nil {
			out.Set(name, v)
		}
	}
	if len(out.Fields) == 0 {
		return nil
	}
	return out
}

// Describe is the brief description of what was disclosed: types and counts.
func (d Disclosure) Describe() string {
	out := make([]string, 0, len(d.Resources))
	for t, n := range d.Resources {
		out = append(out, string(t)+" ("+strconv.Itoa(n)+")")
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// RenderDisclosure gives the R4 AuditEvent of an entry, in the coding of IHE's
// Basic Audit Log Patterns (Privacy Disclosure, at the source). The network addresses that the
// profile asks for are not recorded.
func RenderDisclosure(d Disclosure) *element.Node {
	basis := "without consent, for the purpose named (45 CFR 164.528)"
	if len(d.Consents) > 0 {
		basis = "with the patient's consent (42 CFR 2.33)"
	}
	entities := []*element.Node{
		entity("Patient/"+string(d.Patient), coding(systemEntityType, "1"), field("role", coding(systemObjectRole, "1"))),
		entity("", coding(systemEntityType, "2"), field("role", coding(systemObjectRole, "4")), str("name", d.Describe()), str("description", basis)),
	}
	for _, c := range d.Consents {
		entities = append(entities, entity("Consent/"+string(c), coding(systemResources, "Consent")))
	}
	return element.NewObject(
		str("resourceType", "AuditEvent"),
		str("id", d.ID),
		field("type", coding(systemDICOM, "110106")),
		field("subtype", list(coding(systemLifecycle, "disclose"), coding(systemInteraction, string(d.Interaction)))),
		str("action", "R"),
		str("recorded", d.At.UTC().Format(time.RFC3339Nano)),
		str("outcome", string(Success)),
		field("purposeOfEvent", list(element.NewObject(field("coding", list(coding(systemPurpose, d.Purpose)))))),
		field("agent", list(append(recipients(d), agent("110153", element.NewObject(str("display", observer)), false))...)),
		field("source", element.NewObject(field("observer", element.NewObject(str("display", observer))))),
		field("entity", list(entities...)),
	)
}

// observer is this software, as the source of what it records.
const observer = "Cloister"

// recipients are the agents that received: by name where it may be known, else by their client.
func recipients(d Disclosure) (out []*element.Node) {
	for _, p := range d.Recipients {
		who := element.NewObject(str("reference", p.Ref.String()))
		if p.Name != "" {
			who.Set("display", element.NewString(p.Name))
		}
		a := agent("110152", who, len(out) == 0)
		if at := postal(p.Address); at != nil {
			a.Fields = append([]element.Field{field("extension", list(element.NewObject(str("url", RecipientAddress), field("valueAddress", at))))}, a.Fields...)
		}
		out = append(out, a)
	}
	if out == nil {
		out = append(out, agent("110152", element.NewObject(str("display", d.Client)), true))
	}
	if d.Client != "" {
		out[0].Set("altId", element.NewString(d.Client))
	}
	return out
}

func agent(role string, who *element.Node, requestor bool) *element.Node {
	return element.NewObject(
		field("type", element.NewObject(field("coding", list(coding(systemDICOM, role))))),
		field("who", who),
		field("requestor", &element.Node{Kind: element.Bool, Text: strconv.FormatBool(requestor)}),
	)
}

func entity(what string, typ *element.Node, more ...element.Field) *element.Node {
	n := element.NewObject()
	if what != "" {
		n.Fields = append(n.Fields, field("what", element.NewObject(str("reference", what))))
	}
	n.Fields = append(append(n.Fields, field("type", typ)), more...)
	return n
}
