package searchtest

import (
	"context"
	"math/rand/v2"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

var material = Material{
	IDs:     map[fhir.ResourceType][]fhir.ID{"Patient": {"p1", "p2"}, "Observation": {"o1"}},
	Codings: []search.Coding{{System: "http://loinc.org", Code: "44261-6"}, {Code: "phq"}, {System: "urn:odd", Code: `a|b,c$d\e`}},
	Words:   []string{"Zoë", "a,b", `c\d$`, "plain words", `quo"ted`},
	Dates:   []string{"2024", "2024-02", "2024-02-29", "2024-02-29T10:00:00Z", "2024-02-29T10:00:00.5+01:00"},
	Numbers: []string{"0", "100", "5.40", "-3.2e-3", "1e2"},
	Units:   []search.Coding{{System: "http://unitsofmeasure.org", Code: "mg"}, {System: "urn:units", Code: "tablet"}},
	URLs:    []string{"http://example.org/a", "http://example.org/a|1.0", "http://example.org/a,b"},

	ValueSets:  []string{"http://example.org/ValueSet/a"},
	Subsumable: true,
}

// terminology knows one code of each system.
type terminology struct{}

func (terminology) Codes(context.Context, string) ([]search.Coding, error) {
	return []search.Coding{{System: "urn:x", Code: "y"}}, nil
}

func (terminology) Descendants(_ context.Context, _, code string) ([]string, error) {
	return []string{code}, nil
}

func (terminology) Ancestors(_ context.Context, _, code string) ([]string, error) {
	return []string{code}, nil
}

// TestRandomSearchesAreReadAndReadAgain: nearly all are accepted, and the self
// link of each gives the same search again.
func TestRandomSearchesAreReadAndReadAgain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	types := append(fhir.ResourceTypes(), "", "Observation", "Patient", "Condition", "Encounter", "MedicationRequest")
	opt := search.Options{Terminology: terminology{}}
	refused, all := 0, 6000
	used := map[string]int{}
	for range all {
		rt := one(r, types)
		v := Random(r, rt, material)
		for name := range v {
			code, _, _ := strings.Cut(name, ":")
			used[code]++
			for _, m := range modifiers {
				if strings.HasSuffix(name, m) {
					used[m]++
				}
			}
			if strings.Contains(name, ".") {
				used["chain"]++
			}
		}
		parse := func(v url.Values) (search.Query, error) {
			if rt == "" {
				q, _, err := search.ParseSystem(v, opt)
				return q, err
			}
			q, _, err := search.Parse(rt, v, opt)
			return q, err
		}
		q, err := parse(v)
		if err != nil {
			if refused++; refused < 20 {
				t.Logf("%s?%s: %v", rt, v.Encode(), err)
			}
			continue
		}
		again, err := parse(q.Self())
		if err != nil || !reflect.DeepEqual(again, q) {
			t.Fatalf("%s?%s\nself %s: %v\n%s", rt, v.Encode(), q.Self().Encode(), err, cmp.Diff(q, again))
		}
	}
	if refused*20 > all {
		t.Errorf("%d of %d searches were refused", refused, all)
	}
	for _, name := range append(modifiers, "_filter", "_has", "_include", "_revinclude", "_sort", "_type", "_list", "_text", "_content", "_id", "chain", "code", "subject") {
		if used[name] < 5 {
			t.Errorf("%s was used %d times", name, used[name])
		}
	}
}

var modifiers = []string{
	":missing", ":exact", ":contains", ":not", ":text", ":in", ":not-in", ":above", ":below", ":of-type", ":identifier", ":Patient", ":iterate",
}

func TestSameSequenceSameSearch(t *testing.T) {
	a, b := rand.New(rand.NewPCG(7, 7)), rand.New(rand.NewPCG(7, 7))
	for range 200 {
		if x, y := Random(a, "Observation", material), Random(b, "Observation", material); !reflect.DeepEqual(x, y) {
			t.Fatalf("%v and %v", x, y)
		}
	}
}
