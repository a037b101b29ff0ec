package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// sorts are searches in every kind of order: by columns, by index rows and by
// what only the body holds; with resources that have no value and with ties.
var sorts = []string{
	"Observation?",
	"Observation?_sort=_lastUpdated",
	"Observation?_sort=-_id",
	"Observation?_sort=date",
	"Observation?_sort=-date",
	"Observation?_sort=-date&date=ge2026-01-01",
	"Observation?_sort=date&date=gt2025&date=lt2026-02",
	"Observation?_sort=date&date:missing=true",
	"Observation?_sort=code",
	"Observation?_sort=-code",
	"Observation?_sort=code,-date",
	"Observation?_sort=-date,code",
	"Observation?_sort=status,-value-quantity,date",
	"Observation?_sort=-value-quantity",
	"Observation?_sort=value-quantity",
	"Observation?_sort=performer",
	"Encounter?_sort=-date",
	"Patient?_sort=-name",
	"Patient?_sort=birthdate",
	"?_type=Encounter,List,Observation",
	"?_type=Encounter,List,Observation&_sort=_id",
	"?_type=Encounter,List,Observation&_sort=-_id",
	"?_type=Encounter,Observation&_sort=-date",
	"?_type=Encounter,Observation&_sort=date",
}

// A walk through the pages, there and back, finds what one large page shows.
func TestPagesThereAndBack(t *testing.T) {
	h := ward(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	for _, text := range sorts {
		for name, p := range map[string]struct{ role, user string }{"operator": {}, "dora": {role: "therapist"}} {
			who := h.operator()
			if p.role != "" {
				who = dora
			}
			whole := query(t, text)
			whole.Count = search.MaxCount
			page, names := h.find(who, whole)
			want := strings.Fields(strings.TrimSuffix(names, "+"))
			if page.More || page.Less || len(want) == 0 {
				t.Fatalf("%s, %s: %v %v %q", name, text, page.More, page.Less, names)
			}
			for _, count := range []int{1, 2, 3} {
				if got := h.walk(who, text, count, len(want)); !slices.Equal(got, want) {
					t.Errorf("%s, %s by %d: %v, want %v", name, text, count, got, want)
				}
			}
		}
	}
}

// walk reads all pages forwards and then backwards, and gives what both found.
func (h *house) walk(p authz.Principal, text string, count, total int) []string {
	h.t.Helper()
	q := query(h.t, text)
	q.Count = count
	q.Total = search.Accurate
	var there, back []string
	for n := 0; ; n++ {
		page, names := h.find(p, q)
		here := strings.Fields(strings.TrimSuffix(names, "+"))
		if page.Total != total || page.Less != (n > 0) || len(here) == 0 || len(here) > count {
			h.t.Fatalf("%s: page %d has %v of %d, less %v", text, n, here, page.Total, page.Less)
		}
		there = append(there, here...)
		if !page.More {
			first := page.First
			q.After = &first
			back = slices.Clone(here)
			break
		}
		last := page.Last
		q.After = &last
	}
	for q.After.Backward = true; ; {
		page, names := h.find(p, q)
		here := strings.Fields(strings.TrimSuffix(names, "+"))
		if len(here) == 0 && !page.Less && len(back) == total {
			break // there was one page only
		}
		if !page.More || len(here) == 0 {
			h.t.Fatalf("%s: back at %v: more %v", text, here, page.More)
		}
		back = append(here, back...)
		if !page.Less {
			break
		}
		first := page.First
		first.Backward = true
		q.After = &first
	}
	if !slices.Equal(there, back) {
		h.t.Fatalf("%s by %d: there %v, back %v", text, count, there, back)
	}
	return there
}

// What is written between two pages neither repeats nor hides what was there.
// Channels of leaks: L9.
func TestSortedPagesUnderWrites(t *testing.T) {
	h := ward(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	for n, sort := range []string{"date", "-date", "code", "-value-quantity", "_lastUpdated", "-_lastUpdated"} {
		q := query(t, "Observation?_id=o1,o2,o3,o4,o5&_sort="+sort)
		_, names := h.find(dora, q)
		want := strings.Fields(strings.TrimSuffix(names, "+"))
		q.Count = 2
		q.Legs[0].Where[0].Any = append(q.Legs[0].Where[0].Any, search.Value{ID: "n0"}, search.Value{ID: "n1"}, search.Value{ID: "n2"})
		var got []string
		for i := 0; ; i++ {
			page, names := h.find(dora, q)
			for _, id := range strings.Fields(strings.TrimSuffix(names, "+")) {
				if id[0] != 'n' {
					got = append(got, id)
				}
			}
			if !page.More {
				break
			}
			last := page.Last
			q.After = &last
			h.load(measured(fmt.Sprintf("n%d", i%3), []string{"anna", "bert"}[i%2], "w", fmt.Sprintf("2026-01-0%d", 1+(n+3*i)%9), "5", ""))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", sort, got, want)
		}
	}
}

// A cursor that another order made is refused, and alike whoever asks.
// Channels of leaks: L8.
func TestForeignCursor(t *testing.T) {
	h := ward(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	place := search.Cursor{Type: "Observation", ID: "o1"}
	for name, keys := range map[string][]search.Key{
		"too few":       {},
		"too many":      {{Text: "a"}, {Text: "b"}},
		"no date":       {{Text: "soon"}},
		"never null":    {{Null: true}},
		"time and more": {{Text: "2026-01-01T00:00:00Zx"}},
	} {
		q := query(t, "Observation?")
		at := place
		at.Keys = keys
		q.After = &at
		_, err := h.store.Search(context.Background(), h.reach(dora, q), q)
		if err == nil || outcome.Of(err).Status() != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The estimate counts so far and no further.
func TestEstimate(t *testing.T) {
	h := ward(t)
	q := query(t, "Observation?_count=2&_total=estimate")
	if page, _ := h.find(h.operator(), q); page.Total != 8 {
		t.Fatalf("total %d", page.Total)
	}
	q.Total = search.NoTotal
	if page, _ := h.find(h.operator(), q); page.Total != -1 {
		t.Fatalf("total %d without asking", page.Total)
	}
}

// Two resources can bear one id, where a client chose the id of one that is hidden from it.
// Whoever sees both finds both, wherever pages end.
func TestPagesEndBetweenRowsOfOneID(t *testing.T) {
	h := clinic(t)
	h.load(strings.NewReplacer("'team'", "'team2'", "anna", "bert", "dora", "emil").Replace(team))
	anna := func(id string) string { return strings.Replace(observation(""), "{", "{'id':'"+id+"',", 1) }
	bert := func(id string) string {
		return strings.NewReplacer("anna", "bert", "'valueInteger':12", "'valueInteger':3").Replace(anna(id))
	}
	emil := h.as("therapist", "TREAT", "Practitioner/emil")
	for _, id := range []string{"a", "b", "c"} {
		h.load(anna(id))
	}
	for _, id := range []string{"b", "c"} {
		if _, err := h.update(emil, bert(id), upsert); err != nil {
			t.Fatal(err)
		}
	}
	// So that they have all sort keys in common.
	if err := h.row("WITH u AS (UPDATE record.resource SET updated = '2026-03-01T12:00:00Z' WHERE id IN ('a', 'b', 'c') RETURNING pk) SELECT count(*) FROM u", new(int)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"Observation?_sort=_id&_id=a,b,c", "Observation?_sort=-_id&_id=a,b,c", "Observation?_id=a,b,c", "Observation?_sort=date&_id=a,b,c", "Observation?_sort=code&_id=a,b,c", "Observation?_sort=status,_lastUpdated&_id=a,b,c", "?_type=Observation,Encounter&_id=a,b,c"} {
		for _, count := range []int{1, 2, 3, 4} {
			if got := h.walk(h.operator(), text, count, 5); len(got) != 5 || strings.Count(strings.Join(got, ""), "b") != 2 || strings.Count(strings.Join(got, ""), "c") != 2 {
				t.Errorf("%s by %d: %v", text, count, got)
			}
			bodies := map[string]bool{}
			q := query(t, text)
			for q.Count = count; ; {
				reach := h.reach(h.operator(), q)
				page, err := h.store.Search(context.Background(), reach, q)
				if err != nil {
					t.Fatal(err)
				}
				out, err := h.release(reach.Grant(), q.Type(), page.Entries...)
				if err != nil {
					t.Fatal(err)
				}
				for _, body := range out {
					bodies[body] = true
				}
				if !page.More {
					break
				}
				last := page.Last
				q.After = &last
			}
			if len(bodies) != 5 {
				t.Errorf("%s by %d: %d different ones", text, count, len(bodies))
			}
		}
	}
}
