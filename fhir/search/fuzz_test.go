package search

import (
	"context"
	neturl "net/url"
	"reflect"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// fewCodes is a terminology of one value set and one hierarchy.
type fewCodes struct{}

func (fewCodes) Codes(_ context.Context, valueSet string) ([]Coding, error) {
	switch valueSet {
	case "http://x.example/vs":
		return []Coding{{"urn:s", "a"}, {"urn:s", "b"}}, nil
	case "http://x.example/empty":
		return nil, nil
	case "http://x.example/broken":
		return nil, context.DeadlineExceeded
	case "http://x.example/vast":
		return make([]Coding, MaxCodes+1), nil
	}
	return nil, outcome.New(outcome.Unprocessable, "canary "+valueSet)
}

func (fewCodes) Descendants(_ context.Context, system, code string) ([]string, error) {
	if system != "urn:s" {
		return nil, outcome.New(outcome.Unprocessable, "canary "+system)
	}
	return []string{code, code + "1", code + "2"}, nil
}

func (fewCodes) Ancestors(_ context.Context, _, code string) ([]string, error) {
	return []string{"root", code}, nil
}

// sound checks what every store relies on.
func sound(t *testing.T, where []Criterion, depth int) {
	t.Helper()
	if depth > 2*maxNesting {
		t.Fatal("criteria without end")
	}
	for _, c := range where {
		switch c.Op {
		case Match:
			if len(c.Any) == 0 || c.Param == "" || c.Type == 0 {
				t.Fatalf("criterion %+v matches nothing", c)
			}
		case Like:
			if len(c.Any) == 0 || len(c.Paths) == 0 {
				t.Fatalf("criterion %+v compares nothing", c)
			}
		case Words:
			if len(c.Any) == 0 || c.Param != "_text" && c.Param != "_content" {
				t.Fatalf("criterion %+v looks for nothing", c)
			}
		case Present:
			if len(c.Paths) == 0 {
				t.Fatalf("criterion %+v selects nothing", c)
			}
		case Chain, Has:
			if len(c.Hops) == 0 || c.Op == Chain && c.Param == "" {
				t.Fatalf("criterion %+v goes nowhere", c)
			}
			for _, h := range c.Hops {
				if !h.Type.Valid() || len(h.Where) == 0 || (h.Via == "") == (c.Op == Has) {
					t.Fatalf("hop %+v", h)
				}
				sound(t, h.Where, depth+1)
			}
		case Either:
			if len(c.Groups) == 0 {
				t.Fatal("one of none")
			}
			for _, g := range c.Groups {
				if len(g) == 0 {
					t.Fatal("a group that always holds")
				}
				sound(t, g, depth+1)
			}
		}
		for _, v := range c.Any {
			soundValue(t, c, v)
		}
	}
}

func soundValue(t *testing.T, c Criterion, v Value) {
	t.Helper()
	kind := c.Type
	if kind == Composite && v.Part != 0 {
		kind = v.Part
		if v.Key == 0 {
			t.Fatalf("a composite without a key: %+v", v)
		}
	}
	switch {
	case c.Op != Match:
	case kind == Date && !v.Lo.Before(v.Hi):
		t.Fatalf("empty range %v %v", v.Lo, v.Hi)
	case (kind == Number || kind == Quantity) && !(v.Low <= v.At && v.At <= v.High):
		t.Fatalf("number %v outside of [%v, %v)", v.At, v.Low, v.High)
	case kind == String && (v.Text == "" || v.Match != Exact && Normalise(v.Text) != v.Text):
		t.Fatalf("text %q is not normalised", v.Text)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"code=http://loinc.org|1&date=ge2024&_count=5", `value-string=a\,b&subject:Patient=1`, "_id=a,b&_sort=_lastUpdated",
		"_lastUpdated=ap2024-01-01T00:00:00.123456789-14:00", "focus=urn:uuid:1&_total=accurate", `identifier=\||\,`, "a=b;c=%zz&%ff=\xff", "_has:x=1",
		"_has:Observation:patient:_has:AuditEvent:entity:agent=1&subject.organization.name:contains=x",
		"value-quantity=lt5.40e-3|http://unitsofmeasure.org|mg&value-quantity=5||mg&code-value-quantity=a|b$gt5", "code:in=http://x.example/vs&code:below=urn:s|a&code:not=x",
		"_include:iterate=Observation:subject:Patient&_revinclude=*&_summary=true&_elements=a,b&_sort=-date,code", "_type=Patient,Observation&_text=a b&_list=1",
		"identifier:of-type=a|b|c&subject:identifier=a|b&code:text=x&code:missing=true&_profile:below=http://x",
		`_filter=not(code eq a|b and (date gt 2024 or subject.name co "x")) or subject[gender ne male].birthdate po 1990`,
	} {
		f.Add(s, false, byte(0))
		f.Add(s, true, byte(1))
		f.Add(s, false, byte(2))
	}
	f.Fuzz(func(t *testing.T, query string, lenient bool, door byte) {
		v, err := neturl.ParseQuery(query)
		if err != nil {
			return
		}
		opt := Options{Base: "http://h/fhir", Lenient: lenient, Now: time.Unix(1.7e9, 0), Terminology: noneEmpty{}, Membership: subjects}
		parse := func(v neturl.Values) (Query, []outcome.Issue, error) { return Parse("Observation", v, opt) }
		switch door % 3 {
		case 1:
			parse = func(v neturl.Values) (Query, []outcome.Issue, error) { return ParseSystem(v, opt) }
		case 2:
			parse = func(v neturl.Values) (Query, []outcome.Issue, error) {
				return ParseCompartment(fhir.Ref{Type: "Patient", ID: "1"}, Every, v, opt)
			}
		}
		q, _, err := parse(v)
		if err != nil {
			if o := outcome.Of(err); o.Status() != 400 {
				t.Fatalf("status %d: %v", o.Status(), err)
			}
			return
		}
		if q.Count < 0 || q.Count > MaxCount || q.Count == 0 && q.Total == NoTotal || len(q.Legs) == 0 {
			t.Fatalf("count %d, total %d, legs %d", q.Count, q.Total, len(q.Legs))
		}
		for _, l := range q.Legs {
			sound(t, l.Where, 0)
		}
		again, _, err := parse(q.Self())
		if err != nil || !reflect.DeepEqual(q, again) {
			t.Fatalf("self link of %q differs: %v", query, err)
		}
	})
}

// noneEmpty is fewCodes without what fails in other ways than by a 400.
type noneEmpty struct{ fewCodes }

func (noneEmpty) Codes(ctx context.Context, _ string) ([]Coding, error) {
	return fewCodes{}.Codes(ctx, "http://x.example/vs")
}

func subjects(of, t fhir.ResourceType) []string {
	if of == "Patient" && (t == "Observation" || t == "Condition") {
		return []string{"subject"}
	}
	return nil
}
