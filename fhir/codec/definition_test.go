package codec

import (
	"reflect"
	"slices"
	"testing"

	"github.com/cloister-health/cloister/fhir"
)

func TestDefinitionOf(t *testing.T) {
	d, ok := DefinitionOf("Patient")
	if !ok || !d.Resource() || d.Name() != "Patient" {
		t.Fatal(d, ok)
	}
	for json, want := range map[string]Element{
		"deceasedDateTime": {Name: "deceased", JSON: "deceasedDateTime", Type: "dateTime", Primitive: true},
		"contact":          {Name: "contact", JSON: "contact", Type: "Patient.contact", List: true},
		"contained":        {Name: "contained", JSON: "contained", Type: "Resource", List: true},
		"id":               {Name: "id", JSON: "id", Type: "id", Primitive: true, Attribute: true},
	} {
		got, ok := d.Element(json)
		got.codes = nil
		if !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", json, got, want)
		}
	}
	if subject, _ := mustDefinition(t, "Observation").Element("subject"); !slices.Equal(subject.Targets(), []fhir.ResourceType{"Device", "Group", "Location", "Patient"}) {
		t.Errorf("the subject of an Observation is one of %v", subject.Targets())
	}
	gender, _ := d.Element("gender")
	if !gender.Bound() || !gender.Permits("female") || gender.Permits("x") || len(gender.Codes()) != 4 {
		t.Errorf("the codes of gender: %v", gender.Codes())
	}
	if name, _ := d.Element("name"); name.Bound() || name.Permits("") {
		t.Error("a name is no code")
	}
	if _, ok := d.Element("deceased[x]"); ok {
		t.Error("a choice has the names of its types")
	}
	for _, none := range []string{"", "string", "Patient.name", "patient"} {
		if _, ok := DefinitionOf(none); ok {
			t.Errorf("%q is a type", none)
		}
	}
	status, _ := mustDefinition(t, "Condition").Element("clinicalStatus")
	if system := "http://terminology.hl7.org/CodeSystem/condition-clinical"; !status.PermitsCoding(system, "active") || status.PermitsCoding("", "active") {
		t.Error("a bound concept has its codes by system")
	}
	if all := Definitions(); len(all) < 600 || !slices.IsSorted(all) {
		t.Errorf("%d types", len(all))
	}
	for _, name := range Definitions() {
		for _, e := range mustDefinition(t, name).Elements() {
			if _, ok := DefinitionOf(e.Type); !ok && !e.Primitive && e.Type != "Resource" || e.Type == "" {
				t.Errorf("%s.%s is of no type: %q", name, e.JSON, e.Type)
			}
		}
	}
}

func mustDefinition(t *testing.T, name string) Definition {
	t.Helper()
	d, ok := DefinitionOf(name)
	if !ok {
		t.Fatalf("no type %s", name)
	}
	return d
}
