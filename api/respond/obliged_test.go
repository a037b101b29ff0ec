package respond

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// under is a Part 2 record that is disclosed with these consents.
func under(id fhir.ID, consents ...fhir.ID) page {
	p := patient(id, 2)
	p.labels = label.Part2
	for _, c := range consents {
		p.scopes = append(p.scopes, obligation.Scope{Consent: c, Kind: "part2-specific", Recipients: []string{"Organization/x"}, Purposes: []string{"TREAT"}, Whole: true})
	}
	return p
}

const (
	explained = "The patient's written consent for the purposes that it names (42 CFR 2.33(a)(1)): the records of the program, to Organization/x, for TREAT, until it is revoked"
	noticed   = "42 CFR part 2 prohibits unauthorized use or disclosure of these records."
)

func link(c string) string {
	return `<https://h.example/fhir/Consent/` + c + `>; rel="https://cloister.health/fhir/link-relation/disclosed-under"; title="` + explained + `"`
}

func outcomeOf(consents ...string) string {
	issues := make([]string, len(consents))
	for i, c := range consents {
		issues[i] = `{"severity":"information","code":"informational","details":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NORDSCLCD"}],"text":"` + noticed + `"},"diagnostics":"https://h.example/fhir/Consent/` + c + ` - ` + explained + `"}`
	}
	return `{"resourceType":"OperationOutcome","issue":[` + strings.Join(issues, ",") + `]}`
}

// answer is what is sent: the notice, the links and the body.
func answer(t *testing.T, rq *Request, x Response, head Head) (notice string, links []string, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	if s := Send(w, &head, rq, x, nil); s.Err != nil {
		t.Fatal(s.Err)
	}
	if !json.Valid(w.Body.Bytes()) && w.Body.Len() > 0 {
		t.Fatalf("no JSON: %s", w.Body)
	}
	return strings.Join(w.Header()["Redisclosure-Notice"], "|"), w.Header()["Link"], w.Body.String()
}

func TestS19_2_32_NoticeOnOneResource(t *testing.T) {
	for name, c := range map[string]struct {
		x    Response
		rq   *Request
		want []string
	}{
		"read":           {resource[page]{under("a", "c")}, request(), []string{link("c")}},
		"two consents":   {resource[page]{under("a", "c", "d")}, request(), []string{link("c"), link("d")}},
		"written":        {written[page]{record.Receipt{Ref: fhir.Ref{Type: "Patient", ID: "a"}, Version: 2}, []page{under("a", "c")}}, request(), []string{link("c")}},
		"meta":           {meta[page]{under("a", "c")}, request(), []string{link("c")}},
		"validated":      {validated[page]{nil, []page{under("a", "c")}}, request(), []string{link("c")}},
		"document":       {assembled[page]{[]page{{ref: fhir.Ref{Type: "Composition", ID: "a"}, body: "{}"}, under("b", "c"), under("d", "c")}, moment}, request(), []string{link("c")}},
		"no consent":     {resource[page]{patient("a", 2)}, request(), nil},
		"not modified":   {resource[page]{under("a", "c")}, &Request{Base: "https://h.example/fhir", Conditions: Conditions{IfNoneMatch: `W/"2"`}}, nil},
		"minimal answer": {written[page]{record.Receipt{Ref: fhir.Ref{Type: "Patient", ID: "a"}, Version: 2}, []page{under("a", "c")}}, &Request{Prefer: Prefer{Return: Minimal}}, nil},
	} {
		got, links, _ := answer(t, c.rq, c.x, Head{})
		if want := map[bool]string{true: noticed}[c.want != nil]; got != want {
			t.Errorf("%s: notice %q, want %q", name, got, want)
		}
		if diff := cmp.Diff(c.want, links); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got, links, body := answer(t, request(), resource[page]{under("a", "c")}, Head{NoBody: true}); got != noticed || len(links) != 1 || body != "" {
		t.Errorf("HEAD: %q %v %q", got, links, body)
	}
}

func TestS19_L55_NothingOfItWithAnError(t *testing.T) {
	w := httptest.NewRecorder()
	Send(w, &Head{}, request(), listing[page]{kind: "searchset", entries: []page{under("a", "c"), {foreign: true}}, total: -1}, nil)
	if w.Code != 500 || w.Header()["Redisclosure-Notice"] != nil || w.Header()["Link"] != nil || strings.Contains(w.Body.String(), "Consent") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	gone := under("a", "c")
	gone.deleted = true
	w = httptest.NewRecorder()
	Send(w, &Head{}, request(), resource[page]{gone}, nil)
	if w.Code != 410 || w.Header()["Redisclosure-Notice"] != nil {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestS19_NoticeInASearchset(t *testing.T) {
	x := listing[page]{kind: "searchset", entries: []page{patient("a", 1), under("b", "c")}, included: []page{under("d", "c"), under("e", "f")}, total: 2}
	got, links, body := answer(t, request(), x, Head{})
	if got != noticed || links != nil {
		t.Errorf("%q %v", got, links)
	}
	var b struct {
		Total int
		Entry []struct {
			FullURL  string
			Resource json.RawMessage
			Search   struct{ Mode string }
		}
	}
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatal(err)
	}
	if b.Total != 2 || len(b.Entry) != 6 {
		t.Fatalf("%s", body)
	}
	for i, want := range []string{outcomeOf("c"), outcomeOf("f")} {
		e := b.Entry[4+i]
		if e.Search.Mode != "outcome" || string(e.Resource) != want || !strings.HasPrefix(e.FullURL, "urn:uuid:") {
			t.Errorf("%+v %s", e, e.Resource)
		}
	}
	if got, _, body := answer(t, request(), listing[page]{kind: "searchset", entries: []page{patient("a", 1)}, total: 1}, Head{}); got != "" || strings.Contains(body, "outcome") {
		t.Errorf("without such a record: %q %s", got, body)
	}
}

func TestS19_NoticeInAHistory(t *testing.T) {
	gone := under("a", "c")
	gone.deleted = true
	got, links, body := answer(t, request(), listing[page]{kind: "history", entries: []page{patient("x", 1), gone, under("a", "c"), under("a", "d", "e")}, total: -1}, Head{})
	if got != noticed || links != nil {
		t.Errorf("%q %v", got, links)
	}
	var b struct {
		Entry []struct {
			Response struct{ Outcome json.RawMessage }
			Search   json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", outcomeOf("c"), "", outcomeOf("d", "e")} {
		if string(b.Entry[i].Response.Outcome) != want || b.Entry[i].Search != nil {
			t.Errorf("%d: %s", i, b.Entry[i].Response.Outcome)
		}
	}
}

func TestS19_NoticeInABatch(t *testing.T) {
	rq := request()
	rq.Grant = held(t)
	found := listing[page]{kind: "searchset", entries: []page{under("b", "d")}, total: 1}
	got, links, body := answer(t, rq, Bundle(fhir.Batch, []Entry{
		{Request: rq, Response: resource[page]{patient("x", 1)}}, {Request: rq, Response: resource[page]{under("a", "c")}}, {Request: rq, Response: found}, {Request: rq, Err: outcome.New(outcome.NotFound, "")},
	}), Head{})
	if got != noticed || links != nil {
		t.Errorf("%q %v", got, links)
	}
	var b struct {
		Entry []struct {
			Resource json.RawMessage
			Response struct{ Outcome json.RawMessage }
		}
	}
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatal(err)
	}
	if b.Entry[0].Response.Outcome != nil || string(b.Entry[1].Response.Outcome) != outcomeOf("c") || b.Entry[2].Response.Outcome != nil || !strings.Contains(string(b.Entry[2].Resource), outcomeOf("d")) || strings.Contains(string(b.Entry[3].Response.Outcome), "NORDSCLCD") {
		t.Errorf("%s", body)
	}
	if got, _, _ := answer(t, rq, Bundle(fhir.Batch, []Entry{{Request: rq, Response: resource[page]{patient("x", 1)}}}), Head{}); got != "" {
		t.Errorf("without such a record: %q", got)
	}
}

// Bundle.meta has the highest confidentiality of what is in the Bundle, for those who get labels, and nothing else.
func TestL25_HighWaterMarkOfWhatIsReleased(t *testing.T) {
	as := func(outside bool, s ...label.Set) (out []page) {
		for i, x := range s {
			p := under(fhir.ID(rune('a'+i)), "c")
			p.labels, p.outside = x, outside
			out = append(out, p)
		}
		return out
	}
	rq := request()
	rq.Grant = held(t)
	asking := *rq
	asking.Prefer.Labels = obligation.Labels
	mark := func(c string) string {
		return `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"` + c + `"}]}}`
	}
	set := func(kind string, p []page) Response { return listing[page]{kind: kind, entries: p, total: -1} }
	gone := as(true, 0, label.Part2)
	gone[1].deleted = true
	for name, c := range map[string]struct {
		rq   *Request
		x    Response
		want string
	}{
		"none by default":           {rq, set("searchset", as(false, label.Part2)), ""},
		"to an outsider":            {rq, set("searchset", as(true, 0, label.Part2, label.MH)), mark("R")},
		"normal":                    {rq, set("searchset", as(true, 0)), mark("N")},
		"asked for":                 {&asking, set("history", as(false, label.PsychNote, 0)), mark("V")},
		"nothing found":             {&asking, set("searchset", nil), ""},
		"what is gone is not in it": {rq, set("history", gone), mark("N")},
		"batch":                     {rq, Bundle(fhir.Batch, []Entry{{Request: rq, Response: resource[page]{as(true, label.SUD)[0]}}, {Request: rq, Response: set("searchset", as(true, 0))}}), mark("R")},
		"document":                  {rq, assembled[page]{append([]page{{ref: fhir.Ref{Type: "Composition", ID: "c"}, body: "{}"}}, as(true, label.MH)...), moment}, mark("R")},
	} {
		_, _, body := answer(t, c.rq, c.x, Head{})
		tail := ""
		if i := strings.LastIndex(body, `"meta":`); i >= 0 {
			tail = body[i:]
		}
		if tail != c.want {
			t.Errorf("%s: %s\nwant %s", name, body, c.want)
		}
	}
	if _, _, body := answer(t, &asking, resource[page]{patient("a", 1)}, Head{}); !strings.Contains(body, `"labelled":true`) {
		t.Errorf("Prefer is not passed on: %s", body)
	}
}
