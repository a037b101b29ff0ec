package compartment

import (
	"slices"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/search"
)

type node = element.Node

func o(fields ...element.Field) *node { return element.NewObject(fields...) }
func f(name string, v *node) element.Field {
	return element.Field{Name: name, Value: v}
}
func s(name, v string) element.Field { return f(name, element.NewString(v)) }
func list(items ...*node) *node      { return &node{Kind: element.Array, Items: items} }
func ref(v string) *node             { return o(s("reference", v)) }

func TestPatients(t *testing.T) {
	tests := []struct {
		name string
		t    fhir.ResourceType
		root *node
		want []fhir.ID
	}{
		{"subject", "Observation", o(f("subject", ref("Patient/a"))), []fhir.ID{"a"}},
		{"versioned", "Observation", o(f("subject", ref("Patient/a/_history/2"))), []fhir.ID{"a"}},
		{"performer too", "Observation", o(f("subject", ref("Patient/b")), f("performer", list(ref("Patient/a"), ref("Practitioner/x"), ref("Patient/b")))), []fhir.ID{"a", "b"}},
		{"focus never", "Observation", o(f("focus", list(ref("Patient/a")))), nil},
		{"group", "Observation", o(f("subject", ref("Group/a"))), nil},
		{"elsewhere", "Observation", o(f("subject", ref("http://else.example/fhir/Patient/a"))), nil},
		{"urn", "Observation", o(f("subject", ref("urn:uuid:1"))), nil},
		{"contained", "Observation", o(f("subject", ref("#p")), f("contained", list(o(s("resourceType", "Patient"), s("id", "p"))))), nil},
		{"inside contained", "Observation", o(f("contained", list(o(s("resourceType", "Observation"), f("subject", ref("Patient/a")))))), nil},
		{"by identifier", "Observation", o(f("subject", o(s("type", "Patient"), f("identifier", o(s("value", "a")))))), nil},
		{"in an extension", "Observation", o(f("extension", list(o(s("url", "x"), f("valueReference", ref("Patient/a")))))), nil},
		{"patient itself", "Patient", o(s("id", "a")), []fhir.ID{"a"}},
		{"patient and link", "Patient", o(s("id", "b"), f("link", list(o(f("other", ref("Patient/a"))), o(f("other", ref("RelatedPerson/c")))))), []fhir.ID{"a", "b"}},
		{"patient without an id", "Patient", o(), nil},
		{"related person", "RelatedPerson", o(f("patient", ref("Patient/a"))), []fhir.ID{"a"}},
		{"appointment", "Appointment", o(f("participant", list(o(f("actor", ref("Practitioner/x"))), o(f("actor", ref("Patient/a")))))), []fhir.ID{"a"}},
		{"audit event", "AuditEvent", o(f("agent", list(o(f("who", ref("Patient/a"))))), f("entity", list(o(f("what", ref("Patient/b"))), o(f("what", ref("Group/c")))))), []fhir.ID{"a", "b"}},
		{"coverage payor", "Coverage", o(f("payor", list(ref("Patient/a"))), f("beneficiary", ref("Patient/b"))), []fhir.ID{"a", "b"}},
		{"questionnaire response", "QuestionnaireResponse", o(f("author", ref("Patient/a")), f("source", ref("Patient/b"))), []fhir.ID{"a"}},
		{"document context is not of the definition", "DocumentReference", o(f("context", o(f("sourcePatientInfo", ref("Patient/a"))))), nil},
		{"consent", "Consent", o(f("patient", ref("Patient/a")), f("performer", list(ref("Patient/b")))), []fhir.ID{"a"}},
		{"never in a compartment", "Organization", o(f("subject", ref("Patient/a")), f("patient", ref("Patient/a"))), nil},
		{"task is not of the definition", "Task", o(f("for", ref("Patient/a"))), nil},
		{"nothing", "Observation", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Patients(tt.t, tt.root); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTypes(t *testing.T) {
	in := 0
	for _, rt := range fhir.ResourceTypes() {
		if InPatientCompartment(rt) {
			in++
		}
		for _, code := range Parameters(rt) {
			p, ok := search.Lookup(rt, code)
			if !ok || p.Targets != nil && !slices.Contains(p.Targets, "Patient") {
				t.Errorf("%s.%s cannot point to a patient", rt, code)
			}
		}
	}
	if in != 66 {
		t.Errorf("%d types can be in the compartment of a patient, R4 has 66", in)
	}
	for rt, want := range map[fhir.ResourceType]bool{
		"Patient": true, "Observation": true, "Consent": true, "Group": true, "Organization": false, "Practitioner": false,
		"Task": false, "Binary": false, "Bundle": false, "Questionnaire": false, "Nonsense": false, "": false,
	} {
		if InPatientCompartment(rt) != want {
			t.Errorf("%s: want %v", rt, want)
		}
	}
}

func TestMembership(t *testing.T) {
	members := map[fhir.ResourceType]int{"Device": 32, "Encounter": 24, "Patient": 66, "Practitioner": 58, "RelatedPerson": 31}
	for of, want := range members {
		got := 0
		for _, rt := range fhir.ResourceTypes() {
			codes := Membership(of, rt)
			if len(codes) > 0 {
				got++
			}
			for _, code := range codes {
				p, ok := search.Lookup(rt, code)
				if !ok || p.Targets != nil && !slices.Contains(p.Targets, of) {
					t.Errorf("%s.%s cannot point to %s", rt, code, of)
				}
			}
		}
		if got != want {
			t.Errorf("%d types can be in the compartment of %s, R4 has %d", got, of, want)
		}
	}
	for _, tt := range []struct {
		of, member fhir.ResourceType
		want       []string
	}{
		{"Encounter", "Observation", []string{"encounter"}},
		{"Practitioner", "Observation", []string{"performer"}},
		{"Patient", "Observation", []string{"subject", "performer"}},
		{"Encounter", "Encounter", nil}, // itself, and no other
		{"Observation", "Patient", nil},
		{"Organization", "Encounter", nil},
		{"", "", nil},
	} {
		if got := Membership(tt.of, tt.member); !slices.Equal(got, tt.want) {
			t.Errorf("%s in %s: %v, want %v", tt.member, tt.of, got, tt.want)
		}
	}
	Membership("Patient", "Observation")[0] = "changed"
	if Membership("Patient", "Observation")[0] != "subject" {
		t.Error("the caller holds the table itself")
	}
}
