package export_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/export"
)

var endOf = regexp.MustCompile(`^\{"resourceType":"Bundle","type":"transaction","entry":\[\{"request":\{"method":"DELETE","url":"([A-Za-z]+/[^"]+)"\}\}\]\}$`)

// ends are the resources of whose ends lines tell.
func ends(t *testing.T, lines []string) string {
	t.Helper()
	var out []string
	for _, l := range lines {
		m := endOf.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("%q", l)
		}
		out = append(out, m[1])
	}
	return strings.Join(out, " ")
}

func TestDeleted(t *testing.T) {
	h := newHouse(t, func(c *export.Config) { c.Page = 1 })
	p := h.exchange()
	h.Load(`{"resourceType":"Patient","id":"dina","name":[{"family":"Dina"}]}`)
	h.Load(`{"resourceType":"Patient","id":"emma","name":[{"family":"Emma"}]}`)
	since := h.Now().Add(500 * 1e6).Format("2006-01-02T15:04:05.000Z")
	for _, ref := range []string{"o00", "o01", "o02", "o03", "sb", "o06"} { // sb is hidden: nobody learns of its end
		h.remove("Observation/" + ref)
	}
	h.Load(observation("o06", "anna", "")) // it is there again
	for _, id := range []string{"dina", "emma"} {
		if err := h.Write(fhir.Delete, `{"resourceType":"Patient","id":"`+id+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	h.Clock.Add(1000)
	types := []fhir.ResourceType{"Observation", "Patient"}
	for _, c := range []struct {
		what string
		r    export.Request
		want string
	}{
		{"the system", export.Request{}, "Observation/o00 Observation/o01 Observation/o02 Observation/o03 Patient/dina Patient/emma"},
		{"all patients", export.Request{Level: export.Patient}, "Observation/o00 Observation/o01 Observation/o02 Observation/o03 Patient/dina Patient/emma"},
		{"some patients", export.Request{Level: export.Patient, Patients: []fhir.ID{"bert", "emma", "nobody"}}, "Observation/o01 Patient/emma"},
		{"a group", export.Request{Level: export.Group, Group: "panel"}, "Observation/o00 Observation/o02 Observation/o03"},
		{"some of a group", export.Request{Level: export.Group, Group: "panel", Patients: []fhir.ID{"bert", "cleo"}}, "Observation/o02"},
	} {
		c.r.Types, c.r.Since = types, since
		got := h.export(p, c.r)
		if ends(t, got["deleted Bundle"]) != c.want {
			t.Errorf("%s: %q, want %q", c.what, ends(t, got["deleted Bundle"]), c.want)
		}
		for _, ref := range strings.Fields(c.want) {
			if _, id, _ := strings.Cut(ref, "/"); strings.Contains(ids(got["output Observation"]), id) {
				t.Errorf("%s: %s was deleted, and is in the output", c.what, id)
			}
		}
	}
}

// What is deleted while an export is under way is in the next one.
func TestDeletedMeanwhile(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := h.exchange()
	since := h.Now().Format("2006-01-02T15:04:05.000Z")
	h.Clock.Add(1000)
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Observation"}, Since: "2026-01-01T00:00:00Z"})
	for h.status(p, id).Lines == 0 {
		if _, err := h.Step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	h.remove("Observation/o00") // its page is written
	h.remove("Observation/o11")
	h.finish()
	got := h.fetched(p, id)
	if x := ids(got["output Observation"]); !strings.HasSuffix(x, "o09 o10 sa") || ends(t, got["deleted Bundle"]) != "" {
		t.Errorf("%q %v", x, got["deleted Bundle"])
	}
	h.Clock.Add(1000)
	if next := h.export(p, export.Request{Types: []fhir.ResourceType{"Observation"}, Since: since}); ends(t, next["deleted Bundle"]) != "Observation/o00 Observation/o11" {
		t.Errorf("the next one: %v", next)
	}
}
