package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

const base = "https://h.example/fhir"

func parse(t interface{ Fatal(...any) }, body string) *codec.Resource {
	r, err := codec.Parse([]byte(body))
	if err != nil {
		t.Fatal(err, body)
	}
	return r
}

func ids() func() string {
	n := 0
	return func() string { n++; return fmt.Sprintf("new-%d", n) }
}

func bundleOf(entries ...string) string {
	return `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`
}

const (
	urnA = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
	urnB = "urn:uuid:2c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
	urnC = "urn:uuid:3c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
)

func obs(ref string) string {
	return `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"` + ref + `"}}`
}

func post(fullURL, url, resource string) string {
	if fullURL != "" {
		fullURL = `"fullUrl":"` + fullURL + `",`
	}
	return `{` + fullURL + `"resource":` + resource + `,"request":{"method":"POST","url":"` + url + `"}}`
}

func TestTransactionOrderAndReferences(t *testing.T) {
	r := parse(t, bundleOf(
		`{"request":{"method":"GET","url":"Patient?name=x"}}`,
		`{"fullUrl":"`+urnC+`","resource":{"resourceType":"Patient","id":"c"},"request":{"method":"PUT","url":"Patient/c"}}`,
		post(urnB, "Observation", obs(urnA)),
		post("", "Observation", obs(urnC)),
		post(urnA, "Patient", `{"resourceType":"Patient","id":"old","link":[{"other":{"reference":"`+urnC+`"},"type":"seealso"}],`+
			`"identifier":[{"system":"urn:ietf:rfc:3986","value":"`+urnB+`"}],`+
			`"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><a href=\"`+urnB+`\">x</a> `+urnB+`</div>"}}`),
		`{"request":{"method":"DELETE","url":"Patient/d"}}`,
		post("", "Observation", obs("Patient?identifier=x|y")),
		post("", "Observation", obs("Patient/elsewhere")),
	))
	entries := r.Entries()
	p, err := newPlan(entries, nil, nil, base, ids())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, st := range p.steps {
		got = append(got, fmt.Sprintf("%d %s %s", st.at, st.interaction, st.ref))
	}
	want := []string{"5 delete Patient/d", "2 create Observation/new-1", "3 create Observation/new-2", "4 create Patient/new-3",
		"6 create Observation/new-4", "7 create Observation/new-5", "1 update Patient/c", "0 search-type Patient/"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	refs := map[int][]string{}
	for i, e := range entries {
		if e.Resource == nil {
			continue
		}
		for _, u := range p.link(e.Resource, e.FullURL) {
			refs[i] = append(refs[i], "left "+u.below())
		}
		for _, l := range e.Resource.References() {
			refs[i] = append(refs[i], l.Node.Text)
		}
	}
	wantRefs := map[int][]string{
		2: {"Patient/new-3"}, 3: {"Patient/c"}, 4: {"Patient/c"},
		6: {"left .subject.reference", "Patient?identifier=x|y"}, 7: {"Patient/elsewhere"},
	}
	if diff := cmp.Diff(wantRefs, refs); diff != "" {
		t.Error(diff)
	}
	pat := entries[4].Resource.Root
	if got := pat.Get("identifier").List()[0].Get("value").String(); got != urnB {
		t.Errorf("an identifier was taken for a link: %s", got)
	}
	if got := pat.Get("text").Get("div").String(); !strings.Contains(got, `<a href="Observation/new-1">x</a> `+urnB) {
		t.Errorf("narrative: %s", got)
	}
}

// References between entries that came from another server keep their meaning
// (R4 bundle.html, "resolving references in bundles").
func TestTransactionFromAnotherServer(t *testing.T) {
	const other = "http://other.example/r4"
	entries := parse(t, bundleOf(
		post(other+"/Patient/1", "Patient", `{"resourceType":"Patient","id":"1"}`),
		post(other+"/Observation/1", "Observation", obs("Patient/1")),
		post(other+"/Observation/2", "Observation", obs(other+"/Patient/1")),
		post(other+"/Observation/3", "Observation", obs(other+"/Patient/1/_history/4")),
		post("http://third.example/Observation/4", "Observation", obs("Patient/1")),
		post(urnA, "Observation", obs("Patient/1")),
	)).Entries()
	p, err := newPlan(entries, nil, nil, base, ids())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Patient/new-1", "Patient/new-1", "Patient/new-1/_history/new", "Patient/1", "Patient/1"}
	for i, w := range want {
		e := entries[i+1]
		p.link(e.Resource, e.FullURL)
		if got := e.Resource.References()[0].Node.Text; got != w {
			t.Errorf("entry %d refers to %s, want %s", i+1, got, w)
		}
	}
}

func TestTransactionFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []string
		want    []string
	}{
		{"twice the same", []string{`{"request":{"method":"DELETE","url":"Patient/d"}}`, `{"resource":{"resourceType":"Patient","id":"d"},"request":{"method":"PUT","url":"Patient/d"}}`},
			[]string{"Bundle.entry[1] 400"}},
		{"id", []string{`{"resource":{"resourceType":"Patient","id":"x"},"request":{"method":"PUT","url":"Patient/d"}}`}, []string{"Bundle.entry[0].resource.id 400"}},
		{"type", []string{post("", "Patient", obs("Patient/1"))}, []string{"Bundle.entry[0].resource 400"}},
		{"nothing to create", []string{`{"request":{"method":"POST","url":"Patient"}}`}, []string{"Bundle.entry[0].resource 422"}},
		{"id and query", []string{`{"request":{"method":"DELETE","url":"Patient/1?identifier=x"}}`}, []string{"Bundle.entry[0].request 405"}},
		{"patch without a patch", []string{`{"request":{"method":"PATCH","url":"Patient/1"}}`}, []string{"Bundle.entry[0].resource 422"}},
		{"foreign url", []string{`{"request":{"method":"GET","url":"https://evil.example/Patient/1"}}`}, []string{"Bundle.entry[0].request 400"}},
		{"all at once", []string{`{"request":{"method":"PATCH","url":"Patient/1"}}`, `{"request":{"method":"DELETE","url":"Patient/no_id"}}`},
			[]string{"Bundle.entry[0].resource 422", "Bundle.entry[1].request.url 404"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newPlan(parse(t, bundleOf(c.entries...)).Entries(), nil, nil, base, ids())
			var e *outcome.Error
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			var got []string
			for _, i := range e.Issues {
				got = append(got, fmt.Sprintf("%s %d", i.Path, i.Category.Status()))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// For any shuffle of entries that refer to one another, every reference ends
// at the resource of the entry that it named, and deletes come before creates
// before updates before reads.
func TestTransactionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "n")
		var entries []string
		links := make([]int, n)
		for i := range n {
			links[i] = rapid.IntRange(0, n-1).Draw(t, "link")
			urn := fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012d", i)
			to := fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012d", links[i])
			res := `"resource":{"resourceType":"Basic","id":"p` + fmt.Sprint(i) + `","code":{"text":"x"},"subject":{"reference":"` + to + `"}}`
			req := `"request":{"method":"POST","url":"Basic"}`
			if rapid.Bool().Draw(t, "put") {
				req = `"request":{"method":"PUT","url":"Basic/p` + fmt.Sprint(i) + `"}`
			}
			entries = append(entries, `{"fullUrl":"`+urn+`",`+res+`,`+req+`}`)
		}
		all := parse(t, bundleOf(entries...)).Entries()
		p, err := newPlan(all, nil, nil, base, ids())
		if err != nil {
			t.Fatal(err)
		}
		refs := make([]fhir.Ref, n)
		last := 0
		for _, st := range p.steps {
			refs[st.at] = st.ref
			if o := order(st); o < last {
				t.Fatalf("out of order: %d after %d", o, last)
			} else {
				last = o
			}
		}
		for i, e := range all {
			if rest := p.link(e.Resource, e.FullURL); len(rest) != 0 {
				t.Fatalf("entry %d: %d references left", i, len(rest))
			}
			if got := e.Resource.References()[0].Node.Text; got != refs[links[i]].String() {
				t.Fatalf("entry %d refers to %s, want %s", i, got, refs[links[i]])
			}
		}
	})
}

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		method, url string
		want        string
	}{
		{"GET", "Patient/1", "read Patient/1"},
		{"GET", base + "/Patient/1", "read Patient/1"},
		{"GET", "Patient/1/_history", "history-instance Patient/1"},
		{"GET", "Patient/1/_history/3", "vread Patient/1 v3"},
		{"GET", "Patient/1/_history/x", "vread Patient/1 unknown"},
		{"GET", "Patient?name=a%20b", "search-type Patient/ ?name=a%20b"},
		{"GET", "Patient", "search-type Patient/"},
		{"GET", "Nothing/1", "read  unknown"},
		{"GET", "patient/1", "read  unknown"},
		{"GET", "Patient/no_id", "read Patient/ unknown"},
		{"GET", "Patient/%31", "read Patient/ unknown"},
		{"GET", "Patient//1", "read Patient/ unknown"},
		{"GET", "Patient/1/", "read Patient/1 unknown"},
		{"GET", "Patient/1/_history/3/4", "read Patient/1 unknown"},
		{"GET", "Patient/1/$everything", "read Patient/1 unknown"},
		{"GET", "../Patient/1", "read  unknown"},
		{"POST", "Patient", "create Patient/"},
		{"PUT", "Patient/1", "update Patient/1"},
		{"DELETE", "Patient/1", "delete Patient/1"},
		{"POST", "Patient/_search", "405"},
		{"POST", "Patient?x=y", "405"},
		{"PUT", "Patient?x=y", "update Patient/ ?x=y"},
		{"DELETE", "Patient?x=y", "delete Patient/ ?x=y"},
		{"PATCH", "Patient?x=y", "patch Patient/ ?x=y"},
		{"PATCH", "Patient/1", "patch Patient/1"},
		{"PUT", "Patient", "405"},
		{"DELETE", "Patient", "405"},
		{"PATCH", "Patient/1?x=y", "405"},
		{"HEAD", "Patient/1", "read Patient/1"},
		{"HEAD", "Patient?x=y", "search-type Patient/ ?x=y"},
		{"GET", "_history?_count=1", "history-system  ?_count=1"},
		{"GET", "Patient/_history", "history-type Patient/"},
		{"GET", "Nothing/_history", "history-type  unknown"},
		{"PUT", "_history", "405"},
		{"", "Patient/1", "405"},
		{"GET", "", "400"},
		{"GET", "/Patient/1", "400"},
		{"GET", "https://evil.example/Patient/1", "400"},
		{"GET", "urn:uuid:x", "400"},
	} {
		var got string
		x, err := parseTarget(c.method, c.url, base)
		if err != nil {
			got = fmt.Sprint(outcome.Of(err).Status())
		} else {
			got = string(x.interaction) + " " + fhir.Ref{Type: x.typ, ID: x.id}.String()
			if x.version != 0 {
				got += " v" + x.version.String()
			}
			if x.query != "" {
				got += " ?" + x.query
			}
			if x.unknown {
				got += " unknown"
			}
		}
		if got != c.want {
			t.Errorf("%s %s is %q, want %q", c.method, c.url, got, c.want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"Patient/1", base + "/Patient/1/_history/2", "Patient?x=y", "//", "a:b", "Patient/1/_history/2/3"} {
		f.Add("GET", s)
		f.Add("PUT", s)
	}
	f.Fuzz(func(t *testing.T, method, url string) {
		x, err := parseTarget(method, url, base)
		if err != nil {
			return
		}
		if x.typ != "" && !x.typ.Valid() || x.id != "" && !x.id.Valid() || x.typ == "" && !x.unknown && x.interaction != fhir.HistorySystem {
			t.Fatalf("%s %s: %+v", method, url, x)
		}
		switch x.interaction {
		case fhir.Update, fhir.Delete, fhir.Patch:
			if x.id == "" && !x.unknown && !strings.Contains(url, "?") {
				t.Fatalf("%s %s: neither id nor query: %+v", method, url, x)
			}
		case fhir.Read, fhir.HistoryInstance, fhir.VRead:
			if x.id == "" && !x.unknown {
				t.Fatalf("%s %s: no id: %+v", method, url, x)
			}
		case fhir.Create, fhir.SearchType, fhir.HistoryType, fhir.HistorySystem:
		default:
			t.Fatalf("%s %s: %+v", method, url, x)
		}
	})
}

func TestLinksShowLists(t *testing.T) {
	q := url.Values{"_type": {"Patient,Observation"}, "name": {`a\,b&c`, "d"}}
	text := encoded(q)
	if want := `_type=Patient,Observation&name=a%5C,b%26c&name=d`; text != want {
		t.Errorf("%s, want %s", text, want)
	}
	if back, err := url.ParseQuery(text); err != nil || !reflect.DeepEqual(back, q) {
		t.Errorf("%v, %v", back, err)
	}
}

// The HAPI client sends the whole URL of the search in If-None-Exist.
func TestCriteriaOfIfNoneExist(t *testing.T) {
	for text, want := range map[string]string{
		"identifier=x|y": "identifier=x|y", "Patient?identifier=x": "identifier=x", base + "/Patient?identifier=x": "identifier=x",
		"Observation?code=x": "Observation?code=x", "https://elsewhere.example/fhir/Patient?identifier=x": "https://elsewhere.example/fhir/Patient?identifier=x",
	} {
		if got := criteria("Patient", text, base); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestCondition(t *testing.T) {
	for q, ok := range map[string]bool{
		"identifier=x|y": true, "identifier=x%7Cy&name=z": true, "": false, "_count=1": false, "identifier=x&_count=1": false,
		"identifier=x&_page=a": false, "identifier=x&_total=accurate": false, "colour=red": false, "identifier=x&colour=red": false, "%zz": false,
	} {
		got, err := condition("Patient", q, search.Options{Base: base})
		if ok != (err == nil) {
			t.Errorf("%q: %v", q, err)
		}
		if err == nil && (got.Count != 2 || len(got.Legs[0].Where) == 0) {
			t.Errorf("%q: %+v", q, got)
		}
		if err != nil && outcome.Of(err).Status() != http.StatusBadRequest {
			t.Errorf("%q: %v", q, err)
		}
	}
}

// A page link is bound to all of its caller and its search: no two different
// lists of parts may give the same bytes.
func TestBindingTellsApart(t *testing.T) {
	c := authz.Caller{Tenant: 1, Subject: "s", Client: "c", Roles: []string{"a", "b"}, Purpose: "TREAT", User: fhir.Ref{Type: "Practitioner", ID: "1"},
		Organizations: []string{"o"}, PolicyVersion: "1"}
	seen := map[string]string{}
	add := func(name string, c authz.Caller, typ fhir.ResourceType, q string) {
		b := string(binding(c, string(typ), q))
		if other, twice := seen[b]; twice {
			t.Errorf("%s and %s are bound alike", name, other)
		}
		seen[b] = name
	}
	add("plain", c, "Patient", "name=x")
	for name, change := range map[string]func(*authz.Caller){
		"tenant": func(c *authz.Caller) { c.Tenant = 2 }, "subject": func(c *authz.Caller) { c.Subject = "t" },
		"client": func(c *authz.Caller) { c.Client = "d" }, "role": func(c *authz.Caller) { c.Roles = []string{"a"} },
		"roles": func(c *authz.Caller) { c.Roles = []string{"ab"} }, "purpose": func(c *authz.Caller) { c.Purpose = "HPAYMT" },
		"user": func(c *authz.Caller) { c.User.ID = "2" }, "organization": func(c *authz.Caller) { c.Organizations = nil },
		"moved":  func(c *authz.Caller) { c.Roles, c.Organizations = []string{"a"}, []string{"b", "o"} },
		"policy": func(c *authz.Caller) { c.PolicyVersion = "2" },
	} {
		d := c
		change(&d)
		add(name, d, "Patient", "name=x")
	}
	add("type", c, "Person", "name=x")
	add("query", c, "Patient", "name=y")
}

func TestHistoryParams(t *testing.T) {
	for q, want := range map[string]string{
		"": "_count=20", "_count=5": "_count=5", "_count=5000": "_count=1000", "_page=abc": "_count=20 after abc", "_count=2&_format=json&_pretty=true": "_count=2",
		"_since=2020": "_count=20&_since=2020 since 2020-01-01", "_at=2020-05-01": "_at=2020-05-01&_count=20 at 2020-05-01 to 2020-05-02",
		"_sort=_lastUpdated": "_count=20&_sort=_lastUpdated oldest", "_sort=-_lastUpdated": "_count=20&_sort=-_lastUpdated", "_sort=none": "_count=20&_sort=none",
		"_elements=name": "_count=20&_elements=name",
		"_count=0":       "400", "_count=x": "400", "_count=-1": "400", "_count=1&_count=2": "400", "_page=": "400", "_since=yesterday": "400", "_at=": "400",
		"_sort=date": "400", "_summary=count": "400", "_elements=name&_summary=true": "400", "_list=1": "400", "colour=red": "400", "%zz": "400",
	} {
		got := "400"
		if a, err := historyParams(&respond.Request{Query: q}); err == nil {
			got = a.self
			if a.token != "" {
				got += " after " + a.token
			}
			if !a.Since.IsZero() {
				got += " since " + a.Since.Format(time.DateOnly)
			}
			if !a.From.IsZero() {
				got += " at " + a.From.Format(time.DateOnly) + " to " + a.To.Format(time.DateOnly)
			}
			if a.Oldest {
				got += " oldest"
			}
		} else if outcome.Of(err).Status() != 400 {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", q, got, want)
		}
	}
	a, err := historyParams(&respond.Request{Query: "colour=red", Prefer: respond.Prefer{Lenient: true}})
	if err != nil || a.self != "_count=20" {
		t.Errorf("lenient: %q, %v", a.self, err)
	}
	if _, err := historyParams(&respond.Request{Query: "_list=1", Prefer: respond.Prefer{Lenient: true}}); err == nil {
		t.Error("a filter is dropped in silence")
	}
}

func TestWithinKeepsTheCause(t *testing.T) {
	secret := errors.New("secret")
	err := within("Bundle.entry[3]", outcome.At(outcome.Value, "Patient.name[0]", "wrong").Because(secret))
	e := outcome.Of(err)
	if e.Issues[0].Path != "Bundle.entry[3].resource.name[0]" || !errors.Is(err, secret) || strings.Contains(e.Error(), "secret") {
		t.Errorf("%v", e)
	}
}
