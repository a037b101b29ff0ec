package export_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// manifests are all manifests of an export, as far as they are linked.
func (h *house) manifests(id string) (out []export.Status) {
	h.T.Helper()
	for page := 1; page > 0; page = out[len(out)-1].Next {
		s, err := h.Status(context.Background(), h.Grant(h.exchange()), id, page)
		if err != nil {
			h.T.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// What a manifest has shown is in it for good, and so is what is in its files; in the end all is in one of them.
func TestPartialManifests(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := h.exchange()
	// So that consents are explained in several steps, after others that were shown.
	h.Load(strings.ReplaceAll(consent("cb", "part2-specific", "active"), "anna", "bert"))
	id := h.accept(p, export.Request{Partial: true, Types: []fhir.ResourceType{"Condition", "Encounter", "Observation", "Patient"}})
	shown, bytes := map[int]string{}, map[string]string{}
	early := 0
	for done := false; !done; {
		for i, m := range h.manifests(id) {
			done = m.State == export.Done
			files := fmt.Sprint(m.Files)
			if was, there := shown[i]; there && was != files && was != "[]" {
				t.Fatalf("manifest %d was %s, and is %s", i+1, was, files)
			}
			shown[i] = files
			for _, f := range m.Files {
				text, err := h.fetch(p, id, f.Name)
				if err != nil || strings.Count(text, "\n") != f.Lines {
					t.Fatalf("%s, which is shown: %v %q", f.Name, err, text)
				}
				if was, there := bytes[f.Name]; there && was != text {
					t.Fatalf("%s was altered", f.Name)
				}
				if bytes[f.Name] = text; !done {
					early++
				}
			}
		}
		if _, err := h.fetch(p, id, "99.ndjson"); status(err) != 404 {
			t.Fatal(err)
		}
		if _, err := h.Step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if early == 0 || len(shown) < 2 {
		t.Errorf("%d files early, %d manifests", early, len(shown))
	}
	whole := h.export(p, export.Request{Types: []fhir.ResourceType{"Condition", "Encounter", "Observation", "Patient"}})
	var want, got []string
	for _, lines := range whole {
		want = append(want, lines...)
	}
	for _, text := range bytes {
		got = append(got, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("%d lines, want %d", len(got), len(want))
	}
	if _, err := h.Status(ctx, h.Grant(p), id, len(shown)+1); status(err) != 404 {
		t.Errorf("a manifest that there is not: %v", err)
	}
	// Without the parameter nothing is shown early.
	id = h.accept(p, export.Request{Types: []fhir.ResourceType{"Condition", "Patient"}})
	for s := h.status(p, id); s.State != export.Done; s = h.status(p, id) {
		if _, err := h.fetch(p, id, "1.ndjson"); s.Files != nil || status(err) != 404 {
			t.Fatalf("%+v %v", s, err)
		}
		if _, err := h.Step(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// A client that asks again and again is throttled, for longer each time, until it is patient.
func TestPolling(t *testing.T) {
	h := newHouse(t, func(c *export.Config) { c.Haste = 0 })
	ctx := context.Background()
	p := h.exchange()
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient"}})
	poll := func() (time.Duration, error) {
		s, err := h.Status(ctx, h.Grant(p), id, 1)
		if err != nil {
			return outcome.Of(err).Wait(), err
		}
		return s.Wait, nil
	}
	for range 50 { // patience is never punished
		wait, err := poll()
		if err != nil || wait < 2*time.Second || wait > time.Minute {
			t.Fatal(wait, err)
		}
		h.Clock.Add(wait.Milliseconds())
	}
	var waits []time.Duration
	for range 30 {
		h.Clock.Add(10)
		if wait, err := poll(); status(err) == 429 {
			waits = append(waits, wait)
		}
	}
	if len(waits) != 21 || // the first is not too early, and eight are let pass
		waits[0] < 4*time.Second || !slices.IsSorted(waits) || waits[len(waits)-1] != 5*time.Minute {
		t.Errorf("%v", waits)
	}
	for range 60 {
		h.Clock.Add(60_000)
		_, _ = poll()
	}
	if _, err := poll(); err != nil {
		t.Errorf("it has been patient: %v", err)
	}
	h.Clock.Store(h.Clock.Load() - 60_000)
	h.finish()
	for range 50 { // and how often it asks for what is done is up to it
		if _, err := poll(); err != nil {
			t.Fatal(err)
		}
	}
}

func prov(id, recorded string, targets ...string) string {
	var refs []string
	for _, x := range targets {
		refs = append(refs, `{"reference":"`+x+`"}`)
	}
	return `{"resourceType":"Provenance","id":"` + id + `","target":[` + strings.Join(refs, ",") + `],"recorded":"` + recorded + `","agent":[{"who":{"reference":"Practitioner/dora"}}]}`
}

// Provenance of what is exported, of all of it or the last of each (includeAssociatedData).
func TestAssociatedProvenance(t *testing.T) {
	h := newHouse(t, func(c *export.Config) { c.Page = 2 })
	p := h.exchange()
	for _, x := range []string{
		prov("p1", "2026-01-01T00:00:00Z", "Observation/o00"),
		prov("p2", "2026-01-03T00:00:00Z", "Observation/o00", "Observation/o01"),
		prov("p3", "2026-01-02T00:00:00Z", "Observation/o00", "Observation/o02"),
		prov("p4", "2026-01-02T00:00:00Z", "Encounter/ec"),
		prov("p5", "2026-01-02T00:00:00Z", "Observation/o01"),
		prov("p6", "2026-01-02T00:00:00Z", "Patient/bert"),
		prov("p7", "2026-01-05T00:00:00Z", "Condition/k1"),
	} {
		h.Load(x)
	}
	since := h.Now().Add(-2500 * time.Millisecond).Format("2006-01-02T15:04:05.000Z")
	obs := []fhir.ResourceType{"Observation"}
	for _, c := range []struct {
		what string
		r    export.Request
		want string
	}{
		{"as a type", export.Request{Types: []fhir.ResourceType{"Observation", "Provenance"}}, "p1 p2 p3 p4 p5 p6 p7"},
		{"not at all", export.Request{Types: obs}, ""},
		{"all of it", export.Request{Types: obs, Provenance: export.RelevantProvenance}, "p1 p2 p3 p5"},
		{"the last", export.Request{Types: obs, Provenance: export.LatestProvenance}, "p2 p3"},
		{"the last of some", export.Request{Types: obs, Provenance: export.LatestProvenance, Filters: []string{"Observation?_id=o02,o03"}}, "p3"},
		{"of two types", export.Request{Types: []fhir.ResourceType{"Observation", "Encounter"}, Provenance: export.LatestProvenance}, "p2 p3 p4"},
		{"of some patients", export.Request{Level: export.Patient, Types: obs, Patients: []fhir.ID{"cleo"}, Provenance: export.RelevantProvenance}, "p3"},
		{"of nothing that changed since", export.Request{Types: obs, Since: since, Provenance: export.RelevantProvenance}, ""},
		{"in a compartment", export.Request{Level: export.Patient, Types: []fhir.ResourceType{"Observation", "Provenance"}, Patients: []fhir.ID{"bert"}}, "p2 p5 p6"},
		{"of itself", export.Request{Types: []fhir.ResourceType{"Provenance"}, Provenance: export.RelevantProvenance}, ""},
	} {
		if got := ids(h.export(p, c.r)["output Provenance"]); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
