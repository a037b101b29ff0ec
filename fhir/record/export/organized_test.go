package export_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// blocks reads the files of an export that is organized by patient: of each patient, what is in the block. Every file begins with a
// header, and no patient has two.
func (h *house) blocks(p authz.Principal, id string) map[string][]string {
	h.T.Helper()
	out := map[string][]string{}
	s := h.status(p, id)
	if s.State != export.Done || !s.Organized {
		h.T.Fatalf("%+v", s)
	}
	for _, f := range s.Files {
		if f.Kind != export.Output {
			continue
		}
		text, err := h.fetch(p, id, f.Name)
		if err != nil {
			h.T.Fatal(err)
		}
		patient := ""
		for l := range strings.Lines(text) {
			var r struct {
				ResourceType, ID string
				Parameter        []struct {
					Name           string
					ValueReference struct{ Reference string }
				}
			}
			if err := json.Unmarshal([]byte(l), &r); err != nil {
				h.T.Fatal(err)
			}
			if r.ResourceType != "Parameters" {
				if patient == "" {
					h.T.Errorf("%s does not begin with a header: %s", f.Name, l)
				}
				out[patient] = append(out[patient], r.ResourceType+"/"+r.ID)
				continue
			}
			if len(r.Parameter) != 1 || r.Parameter[0].Name != "header" || r.ID != "" {
				h.T.Fatalf("%s", l)
			}
			if patient = r.Parameter[0].ValueReference.Reference; out[patient] != nil {
				h.T.Errorf("two blocks of %s", patient)
			}
			out[patient] = []string{}
		}
	}
	return out
}

var clinical = []fhir.ResourceType{"Observation", "Patient", "Condition", "Encounter"}

func TestOrganizedByPatient(t *testing.T) {
	of := strings.Fields
	anna := of("Patient/anna Condition/k1 Encounter/ea Encounter/ec Observation/o00 Observation/o03 Observation/o06 Observation/o09 Observation/sa")
	bert := of("Patient/bert Observation/o01 Observation/o04 Observation/o07 Observation/o10")
	cleo := of("Patient/cleo Observation/o02 Observation/o05 Observation/o08 Observation/o11")
	h := newHouse(t, func(c *export.Config) { c.Longest = 6 })
	p := h.exchange()
	same := func(what string, got, want map[string][]string) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\n%v\nwant\n%v", what, got, want)
		}
	}
	all := map[string][]string{"Patient/anna": anna, "Patient/bert": bert, "Patient/cleo": cleo}
	for _, x := range []struct {
		what string
		r    export.Request
		want map[string][]string
	}{
		{"all patients", export.Request{Level: export.Patient, Types: clinical}, all},
		{"the system", export.Request{Level: export.System, Types: clinical}, all},
		{"a group", export.Request{Level: export.Group, Group: "panel", Types: clinical}, map[string][]string{"Patient/anna": anna, "Patient/cleo": cleo}},
		{"some patients", export.Request{Level: export.Patient, Patients: []fhir.ID{"bert", "dan", "nobody"}, Types: clinical}, map[string][]string{"Patient/bert": bert}},
		{"without the type itself, and of whom there is something", export.Request{Level: export.Patient, Types: of2("Condition")}, map[string][]string{"Patient/anna": {"Condition/k1"}}},
		{"what is in the compartments of two", export.Request{Level: export.Group, Group: "panel", Types: of2("Group")}, map[string][]string{"Patient/anna": {"Group/panel"}, "Patient/cleo": {"Group/panel"}}},
		{"_since", export.Request{Level: export.Patient, Types: clinical, Since: "2026-03-01T12:00:29Z"}, map[string][]string{"Patient/anna": {"Observation/o09"}, "Patient/bert": {"Observation/o10"}, "Patient/cleo": {"Observation/o11"}}},
	} {
		x.r.Organized = true
		id := h.accept(p, x.r)
		h.finish()
		same(x.what, h.blocks(p, id), x.want)
	}

	// A block is in one file, also where it takes more lines than a file should have.
	id := h.accept(p, export.Request{Level: export.Patient, Types: clinical, Organized: true, Partial: true})
	h.finish()
	s := h.status(p, id)
	var lines []int
	for _, f := range s.Files {
		if f.Kind == export.Output {
			lines = append(lines, f.Lines)
		}
	}
	slices.Sort(lines)
	if fmt.Sprint(lines) != "[6 6 10]" {
		t.Errorf("files of %v lines", lines)
	}

	// What may not be seen any more is in no block when it is fetched, and of a patient who may not be there is none.
	h.Load(consent("c", "part2-specific", "inactive"))
	less := slices.DeleteFunc(slices.Clone(anna), func(x string) bool { return x == "Encounter/ea" || x == "Observation/sa" })
	same("the consent is revoked", h.blocks(p, id), map[string][]string{"Patient/anna": less, "Patient/bert": bert, "Patient/cleo": cleo})
	hidden := strings.NewReplacer(`"type":"permit"`, `"type":"deny"`, `"provision":{`, `"provision":{"class":[{"system":"http://hl7.org/fhir/resource-types","code":"Patient"}],`).Replace(consent("q", "restriction", "active"))
	h.Load(hidden)
	same("the patient is hidden, and not what is about her", h.blocks(p, id), map[string][]string{"Patient/bert": bert, "Patient/cleo": cleo})

	for what, x := range map[string]struct {
		p    authz.Principal
		r    export.Request
		want int
	}{
		"with provenance":                   {p, export.Request{Level: export.Patient, Provenance: export.LatestProvenance}, 400},
		"a type of no patient":              {p, export.Request{Level: export.System, Types: of2("Organization")}, 400},
		"a client that sees no patient":     {narrowed(p), export.Request{Level: export.System, Types: of2("Observation")}, 403},
		"a de-identified release (no such)": {p, export.Request{Level: export.System, Released: true, Profile: "safe-harbor"}, 400},
	} {
		x.r.Organized = true
		if _, err := h.Accept(context.Background(), h.Grant(x.p), x.r); status(err) != x.want {
			t.Errorf("%s: %v, want %d", what, err, x.want)
		}
	}
}

// narrowed is a client of narrower scopes.
func narrowed(p authz.Principal) authz.Principal {
	p.Scopes = smart.Parse("system/Observation.rs")
	return p
}

func of2(names ...fhir.ResourceType) []fhir.ResourceType { return names }

// A worker that fails again and again writes the same blocks.
func TestOrganizedBlocksResume(t *testing.T) {
	calls := 0
	h := newHouse(t, func(c *export.Config) {
		c.Page = 2
		c.Sink = wrapped{c.Sink, func(string) error {
			if calls++; calls%3 == 0 {
				return errors.New("no room")
			}
			return nil
		}}
	})
	p := h.exchange()
	r := export.Request{Level: export.Patient, Types: clinical, Organized: true}
	id := h.accept(p, r)
	failed := 0
	for range 200 {
		busy, err := h.Step(context.Background())
		if err != nil {
			failed++
			h.Clock.Add(10_000)
		}
		if !busy && err == nil {
			break
		}
	}
	calls = -1 << 30
	again := h.accept(p, r)
	for busy := true; busy; busy, _ = h.Step(context.Background()) {
		calls = 0
	}
	if got, want := fmt.Sprint(h.blocks(p, id)), fmt.Sprint(h.blocks(p, again)); got != want || failed < 3 || !strings.Contains(got, "Observation/sa") {
		t.Errorf("after %d failures\n%s\nwithout\n%s", failed, got, want)
	}
}

// What a lenient client's request is without is told in the list error.
func TestIgnoredIsTold(t *testing.T) {
	h := newHouse(t)
	p := h.exchange()
	r := export.Request{Types: []fhir.ResourceType{"Patient", "Consent", "Nothing"}, Filters: []string{"Observation?status=final"}, Lenient: true}
	r.Ignore("_own", "an export has no such parameter here")
	got := h.export(p, r)
	lines := got["error OperationOutcome"]
	for _, what := range []string{"_own: ", "Consent: _type", "Nothing: _type", "Observation: _typeFilter"} {
		if !slices.ContainsFunc(lines, func(l string) bool {
			return json.Valid([]byte(l)) && strings.Contains(l, `"severity":"information"`) && strings.Contains(l, what)
		}) {
			t.Errorf("%s is not told: %v", what, lines)
		}
	}
	if len(lines) != 4 || ids(got["output Patient"]) != "anna bert cleo" {
		t.Errorf("%v", got)
	}
	// A type of which nothing is in a compartment is told also where nobody is lenient: clients ask for the same types at every level.
	for _, lenient := range []bool{false, true} {
		got := h.export(p, export.Request{Level: export.Patient, Types: []fhir.ResourceType{"Patient", "Organization"}, Lenient: lenient})
		if lines := got["error OperationOutcome"]; len(lines) != 1 || !strings.Contains(lines[0], "Organization: nothing of this type") || got["output Organization"] != nil || ids(got["output Patient"]) != "anna bert cleo" {
			t.Errorf("%v", got)
		}
	}
	if got := h.export(p, export.Request{Types: []fhir.ResourceType{"Patient"}, Lenient: true}); got["error OperationOutcome"] != nil {
		t.Errorf("%v", got)
	}
}
