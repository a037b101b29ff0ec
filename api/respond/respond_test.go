package respond

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// page stands for a released resource: only the gate makes real ones.
type page struct {
	ref              fhir.Ref
	version          fhir.VersionID
	deleted, created bool
	foreign          bool
	body             string
	scopes           []obligation.Scope
	outside          bool // the recipient gets labels unasked
	labels           label.Set
}

var moment = time.Date(2026, 3, 1, 12, 30, 5, 678e6, time.FixedZone("", 3600))

func (p page) Ref() fhir.Ref           { return p.ref }
func (p page) Version() fhir.VersionID { return p.version }
func (p page) Updated() time.Time      { return moment }
func (p page) Deleted() bool           { return p.deleted }
func (p page) Created() bool           { return p.created }
func (p page) Posted() bool            { return p.created }
func (p page) HeldBy(authz.Grant) bool { return !p.foreign }
func (p page) Render(w io.Writer, f record.Form) error {
	if f.Labels != obligation.Obliged {
		return writeAll(w, strings.TrimSuffix(p.body, "}")+`,"labelled":true}`)
	}
	return writeAll(w, p.body)
}

func writeAll(w io.Writer, s string) error {
	_, err := io.WriteString(w, s)
	return err
}

func (p page) Scopes() []obligation.Scope { return p.scopes }

func (p page) Confidentiality(f record.Form) label.Confidentiality {
	if f.Labels == obligation.Obliged && !p.outside {
		return 0
	}
	return p.labels.Confidentiality()
}

func patient(id fhir.ID, v fhir.VersionID) page {
	return page{ref: fhir.Ref{Type: "Patient", ID: id}, version: v, created: v == 1, body: `{"resourceType":"Patient","id":"` + string(id) + `"}`}
}

func request() *Request { return &Request{Base: "https://h.example/fhir", Type: "Patient", ID: "a"} }

// exchange sends and gives back status line, the headers that differ between answers, and the body.
func exchange(t *testing.T, rq *Request, resp Response, err error, head Head) string {
	t.Helper()
	w := httptest.NewRecorder()
	Send(w, &head, rq, resp, err)
	var b strings.Builder
	b.WriteString(w.Result().Status + "\n")
	for _, name := range []string{"Location", "Etag", "Last-Modified", "Content-Type", "Www-Authenticate", "Redisclosure-Notice", "Link"} {
		for _, v := range w.Header()[name] {
			b.WriteString(name + ": " + v + "\n")
		}
	}
	b.WriteString("\n" + w.Body.String())
	return b.String()
}

const notFoundBody = `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found","diagnostics":"there is no such resource, or this caller may not see it"}]}`

func TestExactBytes(t *testing.T) {
	receipt := func(created bool) record.Receipt {
		return record.Receipt{Ref: fhir.Ref{Type: "Patient", ID: "a"}, Version: 2, Updated: moment, Created: created}
	}
	prefer := func(r Return) *Request { rq := request(); rq.Prefer.Return = r; return rq }
	const stamp = "Etag: W/\"2\"\nLast-Modified: Sun, 01 Mar 2026 11:30:05 GMT\n"
	const location = "Location: https://h.example/fhir/Patient/a/_history/2\n"
	const jsonType = "Content-Type: application/fhir+json; charset=utf-8\n"
	for _, c := range []struct {
		name string
		rq   *Request
		resp Response
		err  error
		head Head
		want string
	}{
		{"read", request(), resource[page]{patient("a", 2)}, nil, Head{},
			"200 OK\n" + stamp + jsonType + "\n" + `{"resourceType":"Patient","id":"a"}`},
		{"head", request(), resource[page]{patient("a", 2)}, nil, Head{NoBody: true},
			"200 OK\n" + stamp + jsonType + "\n"},
		{"plain json", request(), resource[page]{patient("a", 2)}, nil, Head{MediaType: PlainJSON},
			"200 OK\n" + stamp + "Content-Type: application/json; charset=utf-8\n\n" + `{"resourceType":"Patient","id":"a"}`},
		{"not modified", &Request{Conditions: Conditions{IfNoneMatch: `W/"1", W/"2"`}}, resource[page]{patient("a", 2)}, nil, Head{},
			"304 Not Modified\n" + stamp + "\n"},
		{"tombstone", request(), resource[page]{page{deleted: true, version: 3}}, nil, Head{},
			"410 Gone\n" + jsonType + "\n" + `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"deleted","diagnostics":"the resource was deleted"}]}`},
		{"foreign", request(), resource[page]{page{foreign: true, body: "secret"}}, nil, Head{},
			"500 Internal Server Error\n" + jsonType + "\n" + `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception","diagnostics":"the server failed; its log says why"}]}`},
		{"created", prefer(Minimal), written[page]{rc: receipt(true)}, nil, Head{}, "201 Created\n" + location + stamp + "\n"},
		{"updated", prefer(Representation), written[page]{receipt(false), []page{patient("a", 2)}}, nil, Head{},
			"200 OK\n" + location + stamp + jsonType + "\n" + `{"resourceType":"Patient","id":"a"}`},
		{"representation not asked for", prefer(Minimal), written[page]{receipt(false), []page{patient("a", 2)}}, nil, Head{},
			"200 OK\n" + location + stamp + "\n"},
		{"outcome", prefer(OperationOutcome), written[page]{rc: receipt(true)}, nil, Head{},
			"201 Created\n" + location + stamp + jsonType + "\n" + `{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","diagnostics":"the resource is stored"}]}`},
		{"deleted", prefer(Minimal), Deleted(receipt(false)), nil, Head{}, "204 No Content\n" + stamp + "\n"},
		{"deleted with outcome", prefer(OperationOutcome), Deleted(receipt(false)), nil, Head{},
			"200 OK\n" + stamp + jsonType + "\n" + `{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","diagnostics":"the resource is deleted"}]}`},
		{"not found", request(), nil, outcome.New(outcome.NotFound, "Patient/a is hidden"), Head{},
			"404 Not Found\n" + jsonType + "\n" + notFoundBody},
		{"not found before a request", nil, nil, outcome.New(outcome.NotFound, ""), Head{},
			"404 Not Found\n" + jsonType + "\n" + notFoundBody},
		{"private error", request(), nil, errors.New("canary"), Head{},
			"500 Internal Server Error\n" + jsonType + "\n" + `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception","diagnostics":"the server failed; its log says why"}]}`},
		{"no response", request(), nil, nil, Head{},
			"500 Internal Server Error\n" + jsonType + "\n" + `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception","diagnostics":"the server failed; its log says why"}]}`},
		{"login", nil, nil, outcome.New(outcome.Login, "expired"), Head{Challenge: `Bearer error="invalid_token"`},
			"401 Unauthorized\n" + jsonType + "Www-Authenticate: Bearer error=\"invalid_token\"\n\n" + `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"login","diagnostics":"a valid access token is required"}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := exchange(t, c.rq, c.resp, c.err, c.head)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestContentLengthIsThatOfTheBody(t *testing.T) {
	for _, rq := range []*Request{request(), {Conditions: Conditions{IfNoneMatch: "*"}}} {
		for _, noBody := range []bool{false, true} {
			w := httptest.NewRecorder()
			sent := Send(w, &Head{NoBody: noBody}, rq, resource[page]{patient("a", 2)}, nil)
			want := "35"
			if rq.IfNoneMatch != "" {
				want = ""
			}
			if got := w.Header().Get("Content-Length"); got != want || (noBody && w.Body.Len() != 0) {
				t.Errorf("Content-Length %q, want %q; body %q", got, want, w.Body)
			}
			if sent.Err != nil {
				t.Error(sent.Err)
			}
		}
	}
}

func TestSearchset(t *testing.T) {
	x := listing[page]{kind: "searchset", entries: []page{patient("a", 1), patient("b", 2)}, total: 2,
		links: Links{Self: `https://h.example/fhir/Patient?name="x"`, Next: "https://h.example/fhir/Patient?_page=t"}}
	want := `{"resourceType":"Bundle","type":"searchset","total":2,"link":[{"relation":"self","url":"https://h.example/fhir/Patient?name=\"x\""},{"relation":"next","url":"https://h.example/fhir/Patient?_page=t"}],` +
		`"entry":[{"fullUrl":"https://h.example/fhir/Patient/a","resource":{"resourceType":"Patient","id":"a"},"search":{"mode":"match"}},` +
		`{"fullUrl":"https://h.example/fhir/Patient/b","resource":{"resourceType":"Patient","id":"b"},"search":{"mode":"match"}}]}`
	if diff := cmp.Diff(want, body(t, x)); diff != "" {
		t.Error(diff)
	}
	x = listing[page]{kind: "searchset", total: -1, links: Links{Self: "https://h.example/fhir/Patient"}}
	want = `{"resourceType":"Bundle","type":"searchset","link":[{"relation":"self","url":"https://h.example/fhir/Patient"}]}`
	if diff := cmp.Diff(want, body(t, x)); diff != "" {
		t.Error(diff)
	}
	x.warnings = []outcome.Issue{{Category: outcome.Invalid, Warning: true, Text: "w"}}
	want = strings.TrimSuffix(want, "}") + `,"entry":[{"fullUrl":"urn:uuid:601a3492-9cbf-8fd2-9679-f0d22f4d7c88","resource":{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"invalid","diagnostics":"w"}]},"search":{"mode":"outcome"}}]}`
	if diff := cmp.Diff(want, body(t, x)); diff != "" {
		t.Error(diff)
	}
	x = listing[page]{kind: "searchset", entries: []page{patient("a", 1)}, included: []page{patient("b", 2)}, total: -1, links: Links{Self: "s", First: "f", Previous: "p", Next: "n"}}
	want = `{"resourceType":"Bundle","type":"searchset","link":[{"relation":"self","url":"s"},{"relation":"first","url":"f"},{"relation":"previous","url":"p"},{"relation":"next","url":"n"}],` +
		`"entry":[{"fullUrl":"https://h.example/fhir/Patient/a","resource":{"resourceType":"Patient","id":"a"},"search":{"mode":"match"}},` +
		`{"fullUrl":"https://h.example/fhir/Patient/b","resource":{"resourceType":"Patient","id":"b"},"search":{"mode":"include"}}]}`
	if diff := cmp.Diff(want, body(t, x)); diff != "" {
		t.Error(diff)
	}
	x.included = []page{{foreign: true, body: "secret"}}
	if w := httptest.NewRecorder(); Send(w, &Head{}, request(), x, nil).Status != 500 || strings.Contains(w.Body.String(), "Patient") {
		t.Errorf("a page that includes a foreign resource: %d %s", w.Code, w.Body)
	}
	x.entries = []page{patient("a", 1), {foreign: true, body: "secret"}}
	w := httptest.NewRecorder()
	if Send(w, &Head{}, request(), x, nil); w.Code != 500 || strings.Contains(w.Body.String(), "Patient") {
		t.Errorf("a page with a foreign resource: %d %s", w.Code, w.Body)
	}
}

func body(t *testing.T, x Response) string {
	t.Helper()
	w := httptest.NewRecorder()
	if s := Send(w, &Head{}, request(), x, nil); s.Err != nil || s.Status != http.StatusOK {
		t.Fatalf("%d %v", s.Status, s.Err)
	}
	return w.Body.String()
}

func TestHistory(t *testing.T) {
	gone := patient("a", 3)
	gone.deleted = true
	x := listing[page]{kind: "history", entries: []page{gone, patient("a", 2), patient("a", 1)}, total: -1, links: Links{Self: "https://h.example/s"}}
	want := `{"resourceType":"Bundle","type":"history","link":[{"relation":"self","url":"https://h.example/s"}],"entry":[` +
		`{"fullUrl":"https://h.example/fhir/Patient/a","request":{"method":"DELETE","url":"Patient/a"},"response":{"status":"204 No Content","etag":"W/\"3\"","lastModified":"2026-03-01T11:30:05.678Z"}},` +
		`{"fullUrl":"https://h.example/fhir/Patient/a","resource":{"resourceType":"Patient","id":"a"},"request":{"method":"PUT","url":"Patient/a"},"response":{"status":"200 OK","etag":"W/\"2\"","lastModified":"2026-03-01T11:30:05.678Z"}},` +
		`{"fullUrl":"https://h.example/fhir/Patient/a","resource":{"resourceType":"Patient","id":"a"},"request":{"method":"POST","url":"Patient"},"response":{"status":"201 Created","etag":"W/\"1\"","lastModified":"2026-03-01T11:30:05.678Z"}}]}`
	if diff := cmp.Diff(want, body(t, x)); diff != "" {
		t.Error(diff)
	}
}

// held is a grant that a real engine issued: entries of a Bundle must hold it.
func held(t *testing.T) authz.Grant {
	t.Helper()
	e := authz.NewEngine(nothing{}, nil, time.Now)
	g := e.Refused(authz.Principal{Tenant: 1, Subject: "s"}, fhir.Batch)
	if !g.Valid() {
		t.Fatal("no grant")
	}
	return g
}

type nothing struct{}

func (nothing) Asked() []label.Set { return nil }

func (nothing) Version() string                             { return "" }
func (nothing) Permit(authz.Question) ([]authz.Fact, error) { return nil, nil }

func TestBundle(t *testing.T) {
	rq := request()
	rq.Grant = held(t)
	sub := *rq
	x := Bundle(fhir.Batch, []Entry{
		{Request: &sub, Response: written[page]{rc: record.Receipt{Ref: fhir.Ref{Type: "Patient", ID: "a"}, Version: 1, Updated: moment, Created: true}}},
		{Request: &sub, Response: resource[page]{patient("b", 2)}},
		{Request: &sub, Err: outcome.New(outcome.NotFound, "hidden")},
		{Request: &sub, Err: errors.New("canary")},
		{Request: &sub, Response: resource[page]{page{foreign: true, body: "secret"}}},
		{Request: &sub, Response: Deleted(record.Receipt{Version: 3, Updated: moment})},
	})
	fail := func(status, code, text string) string {
		return `{"response":{"status":"` + status + `","outcome":{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"` + code + `","diagnostics":"` + text + `"}]}}}`
	}
	want := `{"resourceType":"Bundle","type":"batch-response","entry":[` +
		`{"fullUrl":"https://h.example/fhir/Patient/a","response":{"status":"201 Created","location":"https://h.example/fhir/Patient/a/_history/1","etag":"W/\"1\"","lastModified":"2026-03-01T11:30:05.678Z"}},` +
		`{"fullUrl":"https://h.example/fhir/Patient/b","resource":{"resourceType":"Patient","id":"b"},"response":{"status":"200 OK","etag":"W/\"2\"","lastModified":"2026-03-01T11:30:05.678Z"}},` +
		fail("404 Not Found", "not-found", "there is no such resource, or this caller may not see it") + `,` +
		fail("500 Internal Server Error", "exception", "the server failed; its log says why") + `,` +
		fail("500 Internal Server Error", "exception", "the server failed; its log says why") + `,` +
		`{"response":{"status":"204 No Content","etag":"W/\"3\"","lastModified":"2026-03-01T11:30:05.678Z"}}]}`
	w := httptest.NewRecorder()
	s := Send(w, &Head{}, rq, x, nil)
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Error(diff)
	}
	if s.Err == nil || !strings.Contains(s.Err.Error(), "canary") {
		t.Errorf("the log would say %v", s.Err)
	}
	// An entry that another request holds fails everything.
	other := sub
	other.Grant = held(t)
	w = httptest.NewRecorder()
	if Send(w, &Head{}, rq, Bundle(fhir.Batch, []Entry{{Request: &other, Response: resource[page]{patient("b", 2)}}}), nil); w.Code != 500 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// No two entries of a Bundle may name the same version of the same resource (R4 bundle.html, bdl-7).
func TestBundleNamesEachVersionOnce(t *testing.T) {
	rq := request()
	rq.Grant = held(t)
	sub := *rq
	read := func(v fhir.VersionID) Entry { return Entry{Request: &sub, Response: resource[page]{patient("a", v)}} }
	w := httptest.NewRecorder()
	if s := Send(w, &Head{}, rq, Bundle(fhir.Batch, []Entry{read(2), read(2), read(1)}), nil); s.Err != nil {
		t.Fatal(s.Err)
	}
	var b struct {
		Entry []struct{ FullURL string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	if len(b.Entry) != 3 || b.Entry[0].FullURL == "" || b.Entry[1].FullURL != "" || b.Entry[2].FullURL == "" {
		t.Errorf("%+v", b)
	}
}

func TestErrorTable(t *testing.T) {
	for c := outcome.Internal; c <= outcome.Timeout; c++ {
		w := httptest.NewRecorder()
		Send(w, &Head{}, request(), nil, outcome.New(c, "text").Because(errors.New("canary")))
		if w.Code != c.Status() || c.Status() < 400 || !strings.Contains(w.Body.String(), `"code":"`+c.Code()+`"`) || strings.Contains(w.Body.String(), "canary") {
			t.Errorf("category %d: %d %s", c, w.Code, w.Body)
		}
		said := strings.Contains(w.Body.String(), `"diagnostics":"text"`)
		if _, same := uniform[c]; said == same {
			t.Errorf("category %d: %s", c, w.Body)
		}
	}
}

func TestFailureKeepsNothingOfTheResponse(t *testing.T) {
	w := httptest.NewRecorder()
	Send(w, &Head{}, request(), listing[page]{kind: "searchset", entries: []page{patient("a", 1), {ref: fhir.Ref{Type: "Patient", ID: "b"}, body: "panic"}}, total: -1}, nil)
	if w.Code != 200 {
		t.Fatalf("%d", w.Code)
	}
	w = httptest.NewRecorder()
	Send(w, &Head{}, request(), breaks{}, nil)
	if w.Code != 500 || w.Header().Get("ETag") != "" || w.Header().Get("Location") != "" || strings.Contains(w.Body.String(), "half") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// breaks fails halfway.
type breaks struct{}

func (breaks) build(m *message, _ *Request) error {
	m.status, m.location, m.etag = 200, "x", "y"
	m.str("half")
	panic("half")
}

func BenchmarkRead(b *testing.B) {
	r := resource[page]{patient("a", 2)}
	r.r.body = strings.Repeat("x", 2000)
	rq := request()
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		Send(w, &Head{RequestID: "r"}, rq, r, nil)
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
