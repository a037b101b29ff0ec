package fhirpath_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/fhirpath"
)

const stay = `{"resourceType":"Encounter","id":"stay","contained":[{"resourceType":"ServiceRequest","id":"o","status":"active","intent":"order","subject":{"reference":"Patient/p1"}}],"status":"finished","class":{"code":"AMB"},
 "subject":{"reference":"Patient/p1/_history/2"},"basedOn":[{"reference":"#o"},{"reference":"http://other/fhir/ServiceRequest/9"},{"reference":"ServiceRequest/8"}],
 "length":{"value":1.50,"unit":"h"},
 "period":{"start":"2024-02","end":"2024-02-29T10:15:00-05:00"}}`

func TestViewFunctions(t *testing.T) {
	for _, c := range []struct{ expression, want string }{
		{"getResourceKey()", "stay"},
		{"Encounter.getResourceKey() & '!'", "stay!"},
		{"subject.getReferenceKey()", "p1"},
		{"subject.getReferenceKey(Patient)", "p1"},
		{"subject.getReferenceKey(FHIR.Patient)", "p1"},
		{"subject.getReferenceKey(Group)", ""},
		{"basedOn.getReferenceKey(ServiceRequest)", "8"},
		{"episodeOfCare.getReferenceKey(EpisodeOfCare)", ""},
	} {
		e, err := fhirpath.CompileView(c.expression)
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
			continue
		}
		out, err := e.Eval(context.Background(), value(t, stay), fhirpath.Options{})
		if got := show(out); err != nil || got != c.want {
			t.Errorf("%s = %q, %v, want %q", c.expression, got, err, c.want)
		}
		if _, err := fhirpath.Compile(c.expression); err == nil {
			t.Errorf("%s is an expression outside of a view, too", c.expression)
		}
	}
	for _, x := range []string{"status.getResourceKey()", "status.getReferenceKey()"} {
		e, err := fhirpath.CompileView(x)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Eval(context.Background(), value(t, stay), fhirpath.Options{}); !errors.Is(err, fhirpath.ErrType) {
			t.Errorf("%s: %v", x, err)
		}
	}
	for _, x := range []string{"getResourceKey(Patient)", "subject.getReferenceKey(Nothing)", "subject.getReferenceKey(1)"} {
		if _, err := fhirpath.CompileView(x); err == nil {
			t.Errorf("%s compiles", x)
		}
	}
}

func TestBoundaries(t *testing.T) {
	for _, c := range []struct{ expression, low, high string }{
		{"1.0", "0.95", "1.05"},
		{"length.value", "1.495", "1.505"},
		{"7", "7", "7"},
		{"@2023", "2023-01-01", "2023-12-31"},
		{"@2023-02", "2023-02-01", "2023-02-28"},
		{"@2024-02-10", "2024-02-10", "2024-02-10"},
		{"@2023T", "2023-01-01T00:00:00.000+14:00", "2023-12-31T23:59:59.999-12:00"},
		{"@2024-02-10T09:30", "2024-02-10T09:30:00.000+14:00", "2024-02-10T09:30:59.999-12:00"},
		{"@2024-02-10T09:30:05Z", "2024-02-10T09:30:05.000Z", "2024-02-10T09:30:05.999Z"},
		{"@2024-02-10T09:30:05.2+02:00", "2024-02-10T09:30:05.200+02:00", "2024-02-10T09:30:05.299+02:00"},
		{"@2024-02-10T09:30:05.25678Z", "2024-02-10T09:30:05.25678Z", "2024-02-10T09:30:05.25678Z"},
		{"@T12:34", "12:34:00.000", "12:34:59.999"},
		{"@T12", "12:00:00.000", "12:59:59.999"},
		{"period", "2024-02-01T00:00:00.000+14:00", "2024-02-29T10:15:00.999-05:00"},
		{"{}", "", ""},
	} {
		for suffix, want := range map[string]string{".lowBoundary()": c.low, ".highBoundary()": c.high} {
			e, err := fhirpath.Compile("(" + c.expression + ")" + suffix)
			if err != nil {
				t.Fatal(err)
			}
			out, err := e.Eval(context.Background(), value(t, stay), fhirpath.Options{})
			if got := show(out); err != nil || got != want {
				t.Errorf("%s = %q, %v, want %q", e, got, err, want)
			}
		}
	}
}

func TestExternal(t *testing.T) {
	e, err := fhirpath.CompileView("name.where(use = %kind and %loinc != %other[%n]).first() is HumanName and %resource.exists(id = %kind)")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(e.External(), " "); got != "kind n other" {
		t.Errorf("its variables are %s", got)
	}
}
