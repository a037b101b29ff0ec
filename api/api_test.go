package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/api/operation"
	"github.com/cloister-health/cloister/api/rest"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
	"github.com/cloister-health/cloister/fhir/signature"
)

// The tests here stop at the door of the store: noStore panics when it is
// asked for anything. What lies behind is tested with the real one.
type noStore struct{ Store }

func (noStore) Parameters(context.Context, authz.Restriction) (*search.Registry, error) {
	return nil, nil
}

// onePolicy lets therapists do everything with Patients and nothing with anything else.
type onePolicy struct{}

func (onePolicy) Asked() []label.Set { return nil }

func (onePolicy) Version() string { return "1" }

func (onePolicy) Permit(q authz.Question) ([]authz.Fact, error) {
	for _, r := range q.Roles {
		if r == "therapist" && q.Type == "Patient" {
			return []authz.Fact{0}, nil
		}
	}
	return nil, nil
}

type oneClass struct{}

func (oneClass) LabelClasses() map[int16]label.Set { return map[int16]label.Set{1: 0} }

type allScopes struct{}

func (allScopes) Allow(fhir.ResourceType, fhir.Interaction) []authz.Opening {
	return []authz.Opening{{}}
}

// tokens knows two tokens by heart.
type tokens struct{}

func (tokens) Authenticate(_ context.Context, token string) (authz.Principal, error) {
	p := authz.Principal{Tenant: 7, Subject: "issuer|" + token, Purpose: "TREAT", Scopes: allScopes{}}
	switch token {
	case "therapist", "biller":
		p.Roles = []string{token}
		return p, nil
	case "no-purpose":
		p.Roles, p.Purpose = []string{"therapist"}, ""
		return p, nil
	}
	return authz.Principal{}, errors.New("canary-token-error")
}

type events struct {
	mu   sync.Mutex
	list []audit.Event
}

func (e *events) Record(_ context.Context, ev audit.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
	return nil
}

type fixture struct {
	http.Handler
	server *server
	table  []route
	log    *bytes.Buffer
	events *events
	ready  error
}

// signingKeys is one key set for all tests.
var signingKeys = sync.OnceValue(func() *signature.Keys {
	set, err := signature.Generate()
	if err != nil {
		panic(err)
	}
	k, err := signature.Parse(set)
	if err != nil {
		panic(err)
	}
	return k
})

func clock() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{log: &bytes.Buffer{}, events: &events{}}
	engine := authz.NewEngine(onePolicy{}, oneClass{}, clock)
	c := Config{
		Base: "https://clinic.example/fhir", Engine: engine, Gate: record.NewGate(engine, f.events, clock).Signing(signingKeys()),
		Store: noStore{}, Authenticator: tokens{}, Ready: func(context.Context) error { return f.ready },
		SMART:   &SMART{Issuer: "https://id.example", TokenEndpoint: "https://id.example/token", GrantTypes: []string{"client_credentials"}},
		Version: "test", Released: clock(), Deadline: time.Minute, MaxBody: 4096, Origins: []string{"https://app.example"},
		Cursors: [32]byte{1}, Log: slog.New(slog.NewJSONHandler(f.log, nil)), Now: clock,
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	f.Handler = h
	f.server = &server{Config: c, rest: rest.New(c.Engine, c.Gate, c.Store, c.options())}
	f.server.operations = operation.New(c.Engine, c.Gate, c.Store, f.server.rest, operation.DefaultLimits)
	f.server.ceremony = operation.NewCeremony(f.server.operations, c.Store)
	if f.table, err = f.server.routes(); err != nil {
		t.Fatal(err)
	}
	return f
}

type call struct {
	method, path, token, body string
	header                    http.Header
}

func (f *fixture) do(t *testing.T, c call) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(c.method, "https://clinic.example/", strings.NewReader(c.body))
	if err := setTarget(r, c.path); err != nil {
		t.Fatal(err)
	}
	for k, v := range c.header {
		r.Header[k] = v
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func setTarget(r *http.Request, target string) error {
	u, err := r.URL.Parse("https://clinic.example")
	if err != nil {
		return err
	}
	parsed, err := http.NewRequest(http.MethodGet, "https://clinic.example"+target, nil)
	if err != nil {
		return err
	}
	*u = *parsed.URL
	r.URL, r.RequestURI = u, target
	return nil
}

// answer is all that a client can tell two answers apart by, but for the id of the request.
func answer(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	res := w.Result()
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	h := res.Header.Clone()
	if len(h["X-Request-Id"]) != 1 {
		t.Errorf("X-Request-Id is %q", h["X-Request-Id"])
	}
	h.Del("X-Request-Id")
	var b strings.Builder
	b.WriteString(res.Status + "\n")
	if err := h.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n" + string(body)
}

func example(path string) string {
	return strings.NewReplacer(":type", "Patient", ":id", "1", ":vid", "1", ":compartment", "Patient", ":owner", "1").Replace(path)
}

func TestNoRouteAnswersWithoutToken(t *testing.T) {
	f := newFixture(t)
	want := answer(t, f.do(t, call{method: "GET", path: "/fhir/Patient/1"}))
	if !strings.HasPrefix(want, "401 ") || !strings.Contains(want, "Www-Authenticate: Bearer\r\n") || !strings.Contains(want, `"code":"login"`) {
		t.Fatalf("the answer without a token is\n%s", want)
	}
	// Services of CDS Hooks say the same in their own words.
	hooks := answer(t, f.do(t, call{method: "GET", path: "/cds-services/nothing"}))
	if !strings.HasPrefix(hooks, "401 ") || !strings.Contains(hooks, "Www-Authenticate: Bearer\r\n") || !strings.HasSuffix(hooks, `{"error":"login","errorMessage":"a valid access token is required"}`) {
		t.Fatalf("the answer of CDS Hooks without a token is\n%s", hooks)
	}
	open := map[string]bool{
		"/fhir/metadata": true, "/fhir/.well-known/smart-configuration": true, "/fhir/.well-known/consent-jwks.json": true, "/health": true, "/health/live": true,
	}
	paths := []string{"/", "/fhir", "/fhir/", "/fhir/Nothing", "/nothing", "/fhir/Patient/1/$everything", "/metrics", "/debug/pprof/", "/fhir/%6detadata", "/FHIR/metadata", "/fhir/metadata/", "/fhir//metadata", "/health/"}
	for _, r := range f.table {
		paths = append(paths, example(r.path))
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
			got := answer(t, f.do(t, call{method: method, path: path}))
			if open[path] && method == "GET" {
				if !strings.HasPrefix(got, "200 ") {
					t.Errorf("%s %s: %s", method, path, got)
				}
				continue
			}
			want := want
			if strings.HasPrefix(path, "/cds-services") {
				want = hooks
			}
			if got != want {
				t.Errorf("%s %s without a token is\n%s\nand not\n%s", method, path, got, want)
			}
		}
	}
	if len(f.events.list) != 0 {
		t.Errorf("%d audit events without a caller", len(f.events.list))
	}
}

func TestTokenForms(t *testing.T) {
	f := newFixture(t)
	for name, fields := range map[string][]string{
		"unknown":    {"Bearer nobody"},
		"basic":      {"Basic dGhlcmFwaXN0"},
		"empty":      {"Bearer "},
		"bare":       {"therapist"},
		"two":        {"Bearer therapist", "Bearer therapist"},
		"two spaces": {"Bearer  therapist"},
		"comma":      {"Bearer therapist,Bearer biller"},
		"long":       {"Bearer " + strings.Repeat("a", 20<<10)},
	} {
		w := f.do(t, call{method: "GET", path: "/fhir/Patient/1", header: http.Header{"Authorization": fields}})
		if w.Code != 401 || w.Header().Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
			t.Errorf("%s: %d %s", name, w.Code, w.Header().Get("WWW-Authenticate"))
		}
		if strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%s: the verifier's words reached the client: %s", name, w.Body)
		}
	}
	w := f.do(t, call{method: "GET", path: "/fhir/Patient/1?access_token=therapist"})
	if w.Code != 401 {
		t.Errorf("a token in the query: %d", w.Code)
	}
}

// Every way of writing a path but one, and every path that leads nowhere, are the one 404.
func TestPathsThatLeadNowhere(t *testing.T) {
	f := newFixture(t)
	want := answer(t, f.do(t, call{method: "GET", path: "/fhir/Patient/no_id", token: "therapist"}))
	if !strings.HasPrefix(want, "404 ") {
		t.Fatalf("an id that cannot exist is\n%s", want)
	}
	for _, path := range []string{
		"/", "/nothing", "/fhir//", "/fhir%2F", "/%66hir/", "/fhir/Nothing", "/fhir/Nothing/1", "/fhir/patient/1", "/FHIR/Patient/1", "/fhir/PATIENT/1",
		"/fhir//Patient/1", "/fhir/Patient//1", "/fhir/Patient/1/", "/fhir/./Patient/1", "/fhir/x/../Patient/1", "/fhir/Patient/.", "/fhir/Patient/..",
		"/fhir/%50atient/1", "/fhir/Patient/%31", "/fhir/Patient%2f1", "/fhir/Patient/%2e", "/fhir/Patient/1;v=1", "/fhir/Patient;x/1",
		"/fhir/$export", "/fhir/%24export", "/fhir/Patient/$everything", "/fhir/Patient/%24everything", "/fhir/Practitioner/1/$everything",
		"/fhir/Nothing/_history", "/fhir/Patient/_search", "/fhir/Patient/1/_history/0", "/fhir/Patient/1/_history/01",
		"/fhir/Patient/1/_history/x", "/fhir/Patient/1/_history/99999999999", "/fhir/Organization/1/Patient", "/fhir/Patient/no_id/Patient", "/fhir/Patient/1/Nothing", "/fhir/Patient/1/Observation/2", "/fhir/Patient/" + strings.Repeat("a", 65),
		"/fhir/Patient/caf%C3%A9", "/fhir/Patient/1/_History", "/fhir/.well-known/", "/fhir/metadata/x", "/health/x", "/fhir/Patient/1%00",
	} {
		if got := answer(t, f.do(t, call{method: "GET", path: path, token: "therapist"})); got != want {
			t.Errorf("GET %s is\n%s\nand not\n%s", path, got, want)
		}
		head := answer(t, f.do(t, call{method: "HEAD", path: path, token: "therapist"}))
		if i := strings.Index(want, "\r\n\n{"); head != want[:i+3] {
			t.Errorf("HEAD %s is\n%s", path, head)
		}
	}
}

// Clients that put a slash between the base and the rest of a URL leave it there when there is no rest.
func TestBaseMayEndInASlash(t *testing.T) {
	f := newFixture(t)
	bundle := `{"resourceType":"Bundle","type":"batch"}`
	for _, method := range []string{"GET", "POST", "PUT", "OPTIONS"} {
		rq := call{method: method, path: "/fhir", token: "therapist", body: bundle, header: http.Header{"Content-Type": {"application/fhir+json"}}}
		want := answer(t, f.do(t, rq))
		rq.path = "/fhir/"
		if got := answer(t, f.do(t, rq)); got != want || method == "POST" && !strings.HasPrefix(got, "200 ") {
			t.Errorf("%s /fhir/ is\n%s\nand not\n%s", method, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	fhirJSON := http.Header{"Content-Type": {"application/fhir+json"}}
	with := func(h http.Header, k, v string) http.Header { h = h.Clone(); h.Set(k, v); return h }
	patient := `{"resourceType":"Patient"}`
	for _, c := range []struct {
		name string
		call
		status int
		code   string
	}{
		{"role without the type", call{method: "GET", path: "/fhir/Observation/1", token: "therapist"}, 403, "forbidden"},
		{"role without anything", call{method: "GET", path: "/fhir/Patient/1", token: "biller"}, 403, "forbidden"},
		{"permission comes before the id", call{method: "GET", path: "/fhir/Patient/no_id", token: "biller"}, 403, "forbidden"},
		{"no purpose", call{method: "GET", path: "/fhir/Patient/1", token: "no-purpose"}, 403, "forbidden"},
		{"search refused", call{method: "GET", path: "/fhir/Observation?code=x", token: "therapist"}, 403, "forbidden"},
		{"unknown type", call{method: "GET", path: "/fhir/Nothing?code=x", token: "biller"}, 404, "not-found"},
		{"patch without a type", call{method: "PATCH", path: "/fhir/Patient/1", token: "therapist"}, 415, "not-supported"},
		{"patch that is none", call{method: "PATCH", path: "/fhir/Patient/1", token: "therapist", body: "{}", header: http.Header{"Content-Type": {"application/json-patch+json"}}}, 400, "invalid"},
		{"delete a type", call{method: "DELETE", path: "/fhir/Patient", token: "therapist"}, 400, "invalid"},
		{"delete by nothing", call{method: "DELETE", path: "/fhir/Patient?_count=5", token: "therapist"}, 400, "invalid"},
		{"update by nothing", call{method: "PUT", path: "/fhir/Patient", token: "therapist", body: patient, header: fhirJSON}, 400, "invalid"},
		{"update by an unknown parameter", call{method: "PUT", path: "/fhir/Patient?colour=red", token: "therapist", body: patient, header: fhirJSON}, 400, "invalid"},
		{"summary of no kind", call{method: "GET", path: "/fhir/Patient/1?_summary=most", token: "therapist"}, 400, "invalid"},
		{"a key of no form", call{method: "DELETE", path: "/fhir/Patient/1", token: "therapist", header: http.Header{"Idempotency-Key": {"a b"}}}, 400, "invalid"},
		{"two keys", call{method: "DELETE", path: "/fhir/Patient/1", token: "therapist", header: http.Header{"Idempotency-Key": {"a", "b"}}}, 400, "invalid"},
		{"options", call{method: "OPTIONS", path: "/fhir/Patient/1", token: "therapist"}, 405, "not-supported"},
		{"xml", call{method: "GET", path: "/fhir/Patient/1", token: "therapist", header: http.Header{"Accept": {"application/fhir+xml"}}}, 406, "not-supported"},
		{"_format xml", call{method: "GET", path: "/fhir/Patient/1?_format=xml", token: "therapist"}, 406, "not-supported"},
		{"form _format", call{method: "POST", path: "/fhir/Patient/_search", token: "therapist", body: "_format=ttl", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}, 406, "not-supported"},
		{"bad query", call{method: "GET", path: "/fhir/Patient?a=%zz", token: "therapist"}, 400, "invalid"},
		{"unknown parameter", call{method: "GET", path: "/fhir/Patient?colour=red", token: "therapist"}, 400, "invalid"},
		{"foreign page", call{method: "GET", path: "/fhir/Patient?_page=AAAA", token: "therapist"}, 400, "invalid"},
		{"history count", call{method: "GET", path: "/fhir/Patient/1/_history?_count=0", token: "therapist"}, 400, "invalid"},
		{"history since", call{method: "GET", path: "/fhir/Patient/1/_history?_since=yesterday", token: "therapist"}, 400, "invalid"},
		{"no content type", call{method: "POST", path: "/fhir/Patient", token: "therapist", body: patient}, 415, "not-supported"},
		{"xml body", call{method: "POST", path: "/fhir/Patient", token: "therapist", body: "<Patient/>", header: http.Header{"Content-Type": {"application/fhir+xml"}}}, 415, "not-supported"},
		{"latin-1", call{method: "POST", path: "/fhir/Patient", token: "therapist", body: patient, header: http.Header{"Content-Type": {"application/fhir+json; charset=iso-8859-1"}}}, 415, "not-supported"},
		{"gzip", call{method: "POST", path: "/fhir/Patient", token: "therapist", body: patient, header: with(fhirJSON, "Content-Encoding", "gzip")}, 415, "not-supported"},
		{"search with a resource", call{method: "POST", path: "/fhir/Patient/_search", token: "therapist", body: patient, header: fhirJSON}, 415, "not-supported"},
		{"too long", call{method: "POST", path: "/fhir/Patient", token: "therapist", body: strings.Repeat(" ", 5000), header: fhirJSON}, 413, "too-long"},
		{"no JSON", call{method: "POST", path: "/fhir/Patient", token: "therapist", body: "{", header: fhirJSON}, 400, "structure"},
		{"another type", call{method: "POST", path: "/fhir/Patient", token: "therapist", body: `{"resourceType":"Basic","code":{"text":"x"}}`, header: fhirJSON}, 400, "invalid"},
		{"another id", call{method: "PUT", path: "/fhir/Patient/1", token: "therapist", body: `{"resourceType":"Patient","id":"2"}`, header: fhirJSON}, 400, "invalid"},
		{"no id", call{method: "PUT", path: "/fhir/Patient/1", token: "therapist", body: patient, header: fhirJSON}, 400, "invalid"},
		{"If-Match", call{method: "DELETE", path: "/fhir/Patient/1", token: "therapist", header: http.Header{"If-Match": {"7"}}}, 412, "conflict"},
		{"If-Match twice", call{method: "DELETE", path: "/fhir/Patient/1", token: "therapist", header: http.Header{"If-Match": {`W/"1"`, `W/"2"`}}}, 400, "invalid"},
		{"If-None-Exist empty", call{method: "POST", path: "/fhir/Patient", token: "therapist", body: patient, header: with(fhirJSON, "If-None-Exist", "_count=2")}, 400, "invalid"},
		{"conditional reference", call{method: "POST", path: "/fhir/Patient", token: "therapist", header: fhirJSON,
			body: `{"resourceType":"Patient","generalPractitioner":[{"reference":"Practitioner?identifier=x"}]}`}, 422, "processing"},
		{"create by a search", call{method: "POST", path: "/fhir/Patient?identifier=x", token: "therapist", body: patient, header: fhirJSON}, 400, "invalid"},
		{"update of one by a search", call{method: "PUT", path: "/fhir/Patient/1?identifier=x", token: "therapist", body: `{"resourceType":"Patient","id":"1"}`, header: fhirJSON}, 400, "invalid"},
		{"patch of one by a search", call{method: "PATCH", path: "/fhir/Patient/1?identifier=x", token: "therapist", body: `[{"op":"remove","path":"/active"}]`, header: http.Header{"Content-Type": {"application/json-patch+json"}}}, 400, "invalid"},
		{"delete of one by a search", call{method: "DELETE", path: "/fhir/Patient/1?identifier=x", token: "therapist"}, 400, "invalid"},
		{"what a summary left", call{method: "PUT", path: "/fhir/Patient/1", token: "therapist", header: fhirJSON,
			body: `{"resourceType":"Patient","id":"1","meta":{"tag":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}]}}`}, 422, "processing"},
		{"base without Bundle", call{method: "POST", path: "/fhir", token: "therapist", body: patient, header: fhirJSON}, 400, "invalid"},
		{"collection", call{method: "POST", path: "/fhir", token: "therapist", body: `{"resourceType":"Bundle","type":"collection"}`, header: fhirJSON}, 400, "invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(f.events.list)
			w := f.do(t, c.call)
			if w.Code != c.status || !strings.Contains(w.Body.String(), `"code":"`+c.code+`"`) {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/fhir+json; charset=utf-8" {
				t.Errorf("headers: %v", w.Header())
			}
			recorded := 0
			if change := c.method == "POST" && !strings.HasSuffix(c.path, "_search") && c.path != "/fhir" || c.method == "PUT" || c.method == "PATCH" || c.method == "DELETE"; c.status == 403 || c.status == 404 || change && !strings.Contains(c.name, "If-Match twice") {
				recorded = 1
			}
			got := f.events.list[before:]
			if len(got) != recorded {
				t.Fatalf("%d audit events, want %d", len(got), recorded)
			}
			for _, ev := range got {
				if ev.Outcome != audit.Refused || ev.Caller.Tenant != 7 || len(ev.Entities) != 0 || ev.Interaction == "" || ev.Caller.RequestID != w.Header().Get("X-Request-Id") {
					t.Errorf("audit event %+v", ev)
				}
			}
		})
	}
}

// TestEveryRefusalOfARoleIsTheSame: channels of leaks L38.
func TestEveryRefusalOfARoleIsTheSame(t *testing.T) {
	f := newFixture(t)
	want := answer(t, f.do(t, call{method: "GET", path: "/fhir/Patient/1", token: "biller"}))
	hooks := answer(t, f.do(t, call{method: "GET", path: "/cds-services", token: "biller"}))
	if !strings.HasPrefix(hooks, "403 ") || !strings.HasSuffix(hooks, `{"error":"forbidden","errorMessage":"this request is not permitted"}`) {
		t.Fatalf("the refusal of CDS Hooks is\n%s", hooks)
	}
	for _, r := range f.table {
		want := want
		if r.foreign {
			want = hooks
		}
		if r.open || r.async || r.reads == bundle || authz.OnSystem(r.interaction) || r.operation != "" && r.needs == "" {
			continue
		}
		for _, id := range []string{"1", "2", "no_id"} {
			path := strings.NewReplacer(":type", "Patient", ":id", id, ":vid", "1", ":compartment", "Patient", ":owner", id).Replace(r.path)
			if got := answer(t, f.do(t, call{method: r.method, path: path, token: "biller"})); got != want {
				t.Errorf("%s %s is\n%s", r.method, path, got)
			}
		}
	}
}

// TestPanicSaysNothing: channels of leaks L38.
func TestPanicSaysNothing(t *testing.T) {
	f := newFixture(t)
	w := f.do(t, call{method: "GET", path: "/fhir/Patient/canary-id?canary-name=canary-value", token: "therapist"})
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"code":"exception"`) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if s := f.log.String(); !strings.Contains(s, "panic of type") || !strings.Contains(s, `"route":"/fhir/:type/:id"`) || !strings.Contains(s, "stack") {
		t.Errorf("the log says %s", s)
	}
	for _, s := range []string{f.log.String(), w.Body.String()} {
		if strings.Contains(s, "canary") {
			t.Errorf("the request is quoted in %s", s)
		}
	}
}

func TestAccessLog(t *testing.T) {
	f := newFixture(t)
	f.do(t, call{method: "GET", path: "/fhir/Patient/no_canary?name=canary", token: "therapist"})
	f.do(t, call{method: "CANARY", path: "/canary?canary"})
	f.do(t, call{method: "GET", path: "/fhir/canary", token: "therapist"})
	s := f.log.String()
	if strings.Count(s, "\n") != 3 || strings.Contains(strings.ToLower(s), "canary") {
		t.Errorf("the log says\n%s", s)
	}
	if !strings.Contains(s, `"practice":7`) || !strings.Contains(s, `"method":"other","route":"-","status":401`) {
		t.Errorf("the log says\n%s", s)
	}
}

func TestCORS(t *testing.T) {
	f := newFixture(t)
	ask := func(origin string, token string, method string) *httptest.ResponseRecorder {
		return f.do(t, call{method: method, path: "/fhir/Patient/no_id", token: token, header: http.Header{
			"Origin": {origin}, "Access-Control-Request-Method": {"GET"}}})
	}
	w := ask("https://app.example", "", "OPTIONS")
	if w.Code != 204 || w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" || !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("preflight: %d %v", w.Code, w.Header())
	}
	if w.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Error("credentials are allowed")
	}
	if w := ask("https://evil.example", "", "OPTIONS"); w.Code != 401 || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("foreign preflight: %d %v", w.Code, w.Header())
	}
	if w := ask("https://app.example", "therapist", "GET"); w.Code != 404 || w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Errorf("request: %d %v", w.Code, w.Header())
	}
	if w := ask("https://app.example", "", "GET"); w.Code != 401 {
		t.Errorf("a request header of preflights opens GET: %d", w.Code)
	}
}

func TestMethodOverrideIsIgnored(t *testing.T) {
	f := newFixture(t)
	w := f.do(t, call{method: "GET", path: "/fhir/Patient/no_id", token: "therapist", header: http.Header{"X-Http-Method-Override": {"DELETE"}, "X-Http-Method": {"DELETE"}}})
	if w.Code != 404 || f.events.list[0].Interaction != fhir.Read {
		t.Errorf("%d %v", w.Code, f.events.list)
	}
}

func TestOpenDocuments(t *testing.T) {
	f := newFixture(t)
	w := f.do(t, call{method: "GET", path: "/fhir/metadata"})
	if w.Code != 200 || w.Header().Get("Cache-Control") != "public, max-age=300" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	r, err := codec.Parse(w.Body.Bytes())
	if err != nil {
		t.Fatalf("the capability statement is not valid: %v", err)
	}
	one := r.Root.Get("rest").List()[0]
	if n := len(one.Get("resource").List()); n != len(fhir.ResourceTypes()) {
		t.Errorf("%d resource types", n)
	}
	listed := map[string]bool{}
	for _, n := range append(one.Get("interaction").List(), one.Get("resource").List()[0].Get("interaction").List()...) {
		listed[n.Get("code").String()] = true
	}
	served := map[string]bool{}
	for _, row := range f.table {
		if row.interaction != "" && row.interaction != fhir.Capabilities && row.operation == "" && !row.async && !row.foreign {
			served[string(row.interaction)] = true
		}
	}
	if diff := cmp.Diff(served, listed); diff != "" {
		t.Errorf("served (-) and listed (+): %s", diff)
	}
	operations := map[string]bool{}
	for _, x := range append(one.Get("resource").List(), one) {
		for _, n := range x.Get("operation").List() {
			operations[n.Get("definition").String()] = true
		}
	}
	for _, row := range f.table {
		if row.operation != "" && !operations[row.operation] {
			t.Errorf("%s is served and not listed", row.path)
		}
	}
	head := f.do(t, call{method: "HEAD", path: "/fhir/metadata"})
	if head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("Content-Length") != w.Header().Get("Content-Length") {
		t.Errorf("HEAD: %d, %d bytes, %v", head.Code, head.Body.Len(), head.Header())
	}
	if w := f.do(t, call{method: "GET", path: "/fhir/metadata", header: http.Header{"Accept": {"text/html"}}}); w.Code != 406 {
		t.Errorf("html: %d", w.Code)
	}
	w = f.do(t, call{method: "GET", path: "/fhir/.well-known/smart-configuration"})
	if got := w.Body.String(); got != `{"issuer":"https://id.example","token_endpoint":"https://id.example/token","grant_types_supported":["client_credentials"],"capabilities":[]}` {
		t.Errorf("SMART configuration: %s", got)
	}
}

func TestHealth(t *testing.T) {
	f := newFixture(t)
	f.ready = errors.New("canary: the password is wrong")
	w := f.do(t, call{method: "GET", path: "/health"})
	if w.Code != 503 || w.Body.String() != `{"status":"down"}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := f.do(t, call{method: "GET", path: "/health/live"}); w.Code != 200 {
		t.Errorf("live: %d", w.Code)
	}
	f.ready = nil // within the same second nobody asks again
	if w := f.do(t, call{method: "GET", path: "/health"}); w.Code != 503 {
		t.Errorf("asked again: %d", w.Code)
	}
}

func TestConfigIsChecked(t *testing.T) {
	f := newFixture(t)
	for name, spoil := range map[string]func(*Config){
		"Base":          func(c *Config) { c.Base = "clinic.example/fhir" },
		"Base/":         func(c *Config) { c.Base = "https://clinic.example/fhir/" },
		"Engine":        func(c *Config) { c.Engine = nil },
		"Authenticator": func(c *Config) { c.Authenticator = nil },
		"Cursors":       func(c *Config) { c.Cursors = [32]byte{} },
		"Deadline":      func(c *Config) { c.Deadline = 0 },
		"MaxBody":       func(c *Config) { c.MaxBody = -1 },
		"Origins":       func(c *Config) { c.Origins = []string{"https://app.example/"} },
		"SMART":         func(c *Config) { c.SMART = &SMART{} },
	} {
		c := f.server.Config
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(name, "/")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
