package postgres_test

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

func TestSearchParameters(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Observation','id':'o1','status':'final','code':{'coding':[{'system':'http://loinc.org','code':'1-1'}]},'category':[{'coding':[{'code':'vital-signs'}]}],'subject':{'reference':'Patient/anna'},'effectiveDateTime':'2026-02-01T10:00:00Z'}")
	h.load("{'resourceType':'Observation','id':'o2','status':'amended','code':{'coding':[{'system':'http://loinc.org','code':'2-2'}]},'subject':{'reference':'Patient/anna'},'effectiveDateTime':'2026-02'}")
	h.load("{'resourceType':'Observation','id':'o3','status':'final','code':{'coding':[{'system':'urn:x','code':'1-1'}]},'subject':{'reference':'Patient/bert'},'effectivePeriod':{'start':'2026-01-15','end':'2026-03-15'}}")
	all := h.operator()
	for _, c := range []struct {
		t     fhir.ResourceType
		query string
		want  string
	}{
		{"Observation", "", "o1 o2 o3"},
		{"Observation", "code=1-1", "o1 o3"},
		{"Observation", "code=http://loinc.org|1-1", "o1"},
		{"Observation", "code=http://loinc.org|", "o1 o2"},
		{"Observation", "code=|1-1", ""},
		{"Observation", "code=1-1,2-2", "o1 o2 o3"},
		{"Observation", "code=1-1&status=final&category=vital-signs", "o1"},
		{"Observation", "patient=anna", "o1 o2"},
		{"Observation", "subject=Patient/bert", "o3"},
		{"Observation", "patient=anna,bert&status=final", "o1 o3"},
		{"Observation", "patient=nobody", ""},
		{"Observation", "_id=o1,o3,o9", "o1 o3"},
		{"Observation", "date=2026-02-01", "o1"},
		{"Observation", "date=2026-02", "o1 o2"},
		{"Observation", "date=ne2026-02", "o3"},
		{"Observation", "date=gt2026-02-15", "o2 o3"},
		{"Observation", "date=lt2026-02-01", "o3"},
		{"Observation", "date=ge2026-02-01T10:00:00Z", "o1 o2 o3"},
		{"Observation", "date=sa2026-02-01", ""},
		{"Observation", "date=eb2026-02-02", "o1"},
		{"Observation", "date=ap2026-03-10", "o3"},
		{"Observation", "date=ge2026-01-01&date=le2026-12-31", "o1 o2 o3"},
		{"Observation", "_lastUpdated=2026-03-01", "o1 o2 o3"},
		{"Observation", "_lastUpdated=lt2026-03-01", ""},
		{"Patient", "family=anna", ""},
		{"Patient", "given=anna", "anna"},
		{"Patient", "name=müll", "anna"},
		{"Patient", "name=MULL", "anna"},
		{"Patient", "name=ller", ""},
		{"Patient", "name:contains=ller", "anna"},
		{"Patient", "name:exact=Müller", "anna"},
		{"Patient", "name:exact=müller", ""},
		{"Patient", "name=a,b", "anna bert"},
		{"Patient", "name=%25", ""},
		{"Patient", "name=_nna", ""},
		{"Patient", "identifier=urn:mrn|A1", "anna"},
		{"Patient", "birthdate=1990", "anna"},
		{"Patient", "birthdate=gt1990-02-03", ""},
	} {
		found, err := h.search(all, c.t, c.query)
		if err != nil {
			t.Errorf("%s?%s: %v", c.t, c.query, err)
			continue
		}
		if got := ids(found); got != c.want {
			t.Errorf("%s?%s: got %q, want %q", c.t, c.query, got, c.want)
		}
	}
}

// ids lists the ids of bodies, sorted.
func ids(bodies []string) string {
	var out []string
	for _, b := range bodies {
		_, rest, _ := strings.Cut(b, `"id": "`)
		id, _, _ := strings.Cut(rest, `"`)
		out = append(out, id)
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func TestPagesAreStableUnderWrites(t *testing.T) {
	h := clinic(t)
	for i := range 10 {
		h.load(strings.Replace(observation(""), "{", fmt.Sprintf("{'id':'p%d',", i), 1))
	}
	p := h.as("therapist", "TREAT", "Practitioner/dora")
	for _, ascending := range []bool{false, true} {
		var got []string
		q, err := parseQuery("Observation", "_count=3&_total=accurate&_id=p0,p1,p2,p3,p4,p5,p6,p7,p8,p9")
		if err != nil {
			t.Fatal(err)
		}
		if ascending {
			q.Sort = []search.Sort{{Param: "_lastUpdated", Type: search.Date}}
		}
		for {
			g, r, err := h.plan(p, fhir.SearchType, "Observation")
			if err != nil {
				t.Fatal(err)
			}
			page, err := h.store.Search(context.Background(), authz.ReachOf(r), q)
			if err != nil {
				t.Fatal(err)
			}
			if page.Total != 10 {
				t.Fatalf("total %d", page.Total)
			}
			out, err := h.gate.Release(context.Background(), g, "Observation", page.Entries...)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range out {
				got = append(got, string(x.Ref().ID))
			}
			if !page.More {
				break
			}
			q.After = &page.Last
			// What comes in between neither repeats nor hides what was there.
			h.mustCreate(p, observation(""))
		}
		if len(got) != 10 {
			t.Fatalf("ascending %v: %v", ascending, got)
		}
		sorted := sort.SliceIsSorted(got, func(i, j int) bool { return (got[i] < got[j]) == ascending })
		if !sorted {
			t.Fatalf("ascending %v: out of order: %v", ascending, got)
		}
	}
}

// TestTotalsCountTheVisible: channels of leaks L7.
func TestTotalsCountTheVisible(t *testing.T) {
	h := clinic(t)
	for i := range 4 {
		who := "anna"
		if i%2 == 1 {
			who = "bert"
		}
		h.load(strings.Replace(strings.Replace(observation(""), "{", fmt.Sprintf("{'id':'p%d',", i), 1), "anna", who, 1))
	}
	_, r, err := h.plan(h.as("therapist", "TREAT", "Practitioner/dora"), fhir.SearchType, "Observation")
	if err != nil {
		t.Fatal(err)
	}
	q, err := parseQuery("Observation", "_summary=count")
	if err != nil {
		t.Fatal(err)
	}
	page, err := h.store.Search(context.Background(), authz.ReachOf(r), q)
	if err != nil || page.Total != 2 || len(page.Entries) != 0 {
		t.Fatalf("total %d, %d entries, %v", page.Total, len(page.Entries), err)
	}
}
