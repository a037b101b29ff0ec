package codec

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
)

func TestTableHasEveryResourceType(t *testing.T) {
	var got []fhir.ResourceType
	for name, d := range types() {
		if d.resource {
			got = append(got, fhir.ResourceType(name))
		}
		for json, e := range d.fields {
			if e.typ == nil && e.prim == noPrimitive && !e.any {
				t.Errorf("%s.%s has no type", name, json)
			}
			if e.slot >= len(d.slots) {
				t.Errorf("%s.%s has a slot that the type does not have", name, json)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, fhir.ResourceTypes()) {
		t.Errorf("resource types of the table: %v", got)
	}
	for path, want := range map[string]primitive{"Patient.birthDate": date, "Patient.id": id, "Narrative.div": xhtml, "Extension.url": uri, "Observation.issued": instant, "HumanName.given": str} {
		typ, name, _ := strings.Cut(path, ".")
		if got := types()[typ].fields[name].prim; got != want {
			t.Errorf("%s is primitive %d, want %d", path, got, want)
		}
	}
	if e := types()["Questionnaire.item"].fields["item"]; e.typ != types()["Questionnaire.item"] || !e.list {
		t.Error("Questionnaire.item.item does not lead back to Questionnaire.item")
	}
	if got := types()["CodeableConcept"].fields["coding"].typ.meaning; got != isCoding {
		t.Errorf("CodeableConcept.coding means %d", got)
	}
}

func TestBrokenTablesAreRefused(t *testing.T) {
	for _, s := range []string{
		"id\t0..1\tstring", ":T\tNone\tdatatype", ":T\t", ":T\t\tdatatype\nx\t0..1", ":T\t\tdatatype\nx\t1\tstring",
		":T\t\tdatatype\nx\t0..1\tNone", ":T\t\tdatatype\nx\t0..1\tcode\tnone", ":T\t\tdatatype\n" + strings.Repeat("x\t1..1\tstring\n", maxSlots+1),
	} {
		if _, err := loadTable(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}
