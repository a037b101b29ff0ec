package postgres_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/search"
	"github.com/cloister-health/cloister/fhir/search/searchtest"
)

// wardMaterial is what the ward's records hold.
var wardMaterial = searchtest.Material{
	Types: []fhir.ResourceType{"Encounter", "List", "Observation", "Patient", "Practitioner", "Questionnaire", "QuestionnaireResponse", "RiskAssessment"},
	IDs: map[fhir.ResourceType][]fhir.ID{
		"Encounter": {"e1", "e2"}, "List": {"l1", "l2"}, "Observation": {"o1", "o2", "o3", "o4", "o5", "h1", "h2", "h3"}, "Patient": {"anna", "bert"},
		"Practitioner": {"dora", "emil"}, "Questionnaire": {"q1", "q2"}, "QuestionnaireResponse": {"qr1", "qr2"}, "RiskAssessment": {"r1", "r2", "r3"},
	},
	Codings: []search.Coding{{System: "http://loinc.org", Code: "w"}, {Code: "h"}, {Code: "z"}, {Code: "final"}, {Code: "IMP"}, {Code: "AMB"}, {Code: "planned"}, {Code: "completed"}, {Code: "a"}},
	Words:   []string{"Mood", "sleep", "night", "Bauer", "Müller", "anna", "dora", "w"},
	Dates:   []string{"2026", "2026-01", "2026-01-05", "2026-01-06T10:00:00Z", "2025-12-31", "2026-02-01"},
	Numbers: []string{"70", "71.5", "0.5", "1", "900", "0.7"},
	Units:   []search.Coding{{System: "http://unitsofmeasure.org", Code: "kg"}, {System: "http://unitsofmeasure.org", Code: "g"}},
	URLs:    []string{"http://example.org/sheets/mood", "http://example.org/sheets/mood|2", "http://example.org/sheets"},
}

// TestRandomSearchesDoNotSeeTheHidden asks the same random searches with the
// hidden rows there and with them destroyed, and once more with every chain
// asked of each row instead of looked up beforehand.
// Channels of leaks: L10, L11, L12, L13, L14, L15.
func TestRandomSearchesDoNotSeeTheHidden(t *testing.T) {
	h := ward(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	const many = 240
	met := 0
	answers := func() map[int]string {
		out := map[int]string{}
		for n := range many {
			r := rand.New(rand.NewPCG(uint64(n), 7))
			rt := wardMaterial.Types[n%len(wardMaterial.Types)]
			if n%9 == 0 {
				rt = ""
			}
			v := searchtest.Random(r, rt, wardMaterial)
			if v.Get("_count") == "" && n%3 == 0 {
				v.Set("_count", "2")
			}
			var q search.Query
			var err error
			if rt == "" {
				q, _, err = search.ParseSystem(v, search.Options{})
			} else {
				q, _, err = search.Parse(rt, v, search.Options{})
			}
			if err != nil {
				continue
			}
			s := ""
			for range 3 {
				reach := h.reach(dora, q)
				page, err := h.store.Search(context.Background(), reach, q)
				if err != nil {
					t.Fatalf("%s?%s: %v (%v)", rt, v.Encode(), err, errors.Unwrap(outcome.Of(err)))
				}
				names := h.names(reach.Grant(), q.Type(), page.Entries) + " + " + h.names(reach.Grant(), q.Type(), page.Included)
				met += len(page.Entries)
				s += said(page) + ": " + names + "\n"
				if !page.More {
					break
				}
				last := page.Last
				q.After = &last
			}
			out[n] = string(rt) + "?" + v.Encode() + "\n" + s
		}
		return out
	}
	full := answers()
	if len(full) < many*9/10 {
		t.Errorf("only %d of %d searches were read", len(full), many)
	}
	if met < many/5 {
		t.Errorf("%d searches met only %d resources", many, met)
	}
	same := func(stage string, other map[int]string) {
		t.Helper()
		for n, a := range full {
			if other[n] != a {
				t.Errorf("%s:\n%s\nwith all there:\n%s", stage, other[n], a)
			}
		}
	}
	t.Run("each row asked", func(t *testing.T) {
		postgres.WithoutProbes(t)
		same("each row asked", answers())
	})
	h.excise(dora)
	same("the hidden gone", answers())
	t.Run("each row asked, the hidden gone", func(t *testing.T) {
		postgres.WithoutProbes(t)
		same("each row asked, the hidden gone", answers())
	})
}
