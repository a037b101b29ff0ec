package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/terminology"
)

// From here on the store and the policy are the real ones.

var migrated = cluster.Template{Name: "api", Prepare: func(ctx context.Context, dsn string) error {
	_, err := postgres.Migrate(ctx, dsn)
	return err
}}

// people are the callers of these tests: token, role, purpose, fhirUser.
var people = map[string][3]string{
	"therapist":      {"therapist", "TREAT", "Practitioner/dora"},
	"colleague":      {"therapist", "TREAT", "Practitioner/emil"},
	"front-desk":     {"front-desk", "HOPERAT", ""},
	"practice-admin": {"practice-admin", "HOPERAT", ""},
	"operator":       {"operator", "HSYSADMIN", ""},

	"emergency":       {"therapist", "ETREAT", "Practitioner/emil"},
	"privacy-officer": {"privacy-officer", "HOPERAT", "Practitioner/omar"},
	"patient":         {"patient", "PATRQT", "Patient/anna"},
	"exchange":        {"hie", "TREAT", ""},
	"other-exchange":  {"hie", "TREAT", ""},
	"sender":          {"hie", "TREAT", ""},
	"registry":        {"hie", "HOPERAT", ""},
	"analytics":       {"hie", "HOPERAT", ""}, // registered with a release profile
}

// clinic is a server with two patients, of whom dora treats anna and emil treats bert.
type clinic struct {
	fixture
	store  *postgres.Store
	dsn    string
	cfg    Config
	tenant int32
	tick   atomic.Int64
}

func (c *clinic) now() time.Time { return clock().Add(time.Duration(c.tick.Add(1)) * time.Second) }

func (c *clinic) Authenticate(_ context.Context, token string) (authz.Principal, error) {
	who, ok := people[token]
	if !ok {
		return authz.Principal{}, outcome.New(outcome.Login, "")
	}
	p := authz.Principal{Tenant: c.tenant, Subject: "test|" + token, Roles: []string{who[0]}, Purpose: who[1], Scopes: smart.Parse("user/*.cruds")}
	if who[0] == "hie" { // a backend service
		p.Client, p.Scopes = token, smart.Parse("system/*.rs system/Subscription.cud")
	}
	if token == "sender" {
		p.Scopes = smart.Parse("system/*.crs")
	}
	if token == "analytics" {
		p.Profile = "safe-harbor"
	}
	p.User, _ = fhir.ParseRef(who[2])
	p.SignedIn = c.now()
	return p, nil
}

func newClinic(t testing.TB, set ...func(*Config)) *clinic {
	t.Helper()
	ctx := context.Background()
	c := &clinic{}
	var err error
	c.dsn = cluster.NewDatabase(t, migrated)
	if c.store, err = postgres.Open(ctx, postgres.Options{URL: c.dsn, Now: c.now, Keys: envelopetest.Keys()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.store.Close)
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	engine := authz.NewEngine(policy, c.store, c.now)
	gate := record.NewGate(engine, c.store, c.now).Explaining(c.store).Accounting(c.store)
	if c.tenant, err = c.store.EnsureTenant(ctx, "harbor", "Harbor"); err != nil {
		t.Fatal(err)
	}
	terms, err := definition.Load(filepath.Join("..", "cmd", "cloister", "internal", "vocabulary"), definition.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Terminology: terminology.New(definition.NewSet(terms), terminology.Options{Now: c.now}),
		Base:        "https://clinic.example/fhir", Engine: engine, Gate: gate, Store: c.store, Authenticator: c, Ready: c.store.Ping,
		Version: "test", Released: clock(), Deadline: time.Minute, MaxBody: 1 << 20, Cursors: [32]byte{1}, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})), Now: c.now,
	}
	for _, f := range set {
		f(&cfg)
	}
	c.cfg = cfg
	if c.Handler, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	operator, _ := c.Authenticate(ctx, "operator")
	for _, text := range []string{
		`{"resourceType":"Patient","id":"anna","name":[{"family":"Anna"}],"identifier":[{"system":"urn:mrn","value":"A1"}]}`,
		`{"resourceType":"Patient","id":"bert","name":[{"family":"Bert"}],"identifier":[{"system":"urn:mrn","value":"B1"}]}`,
		`{"resourceType":"Practitioner","id":"dora","name":[{"family":"Dora"}]}`,
		`{"resourceType":"Practitioner","id":"emil","name":[{"family":"Emil"}]}`,
		`{"resourceType":"CareTeam","id":"one","status":"active","subject":{"reference":"Patient/anna"},"participant":[{"member":{"reference":"Practitioner/dora"}}]}`,
		`{"resourceType":"CareTeam","id":"two","status":"active","subject":{"reference":"Patient/bert"},"participant":[{"member":{"reference":"Practitioner/emil"}}]}`,
	} {
		r, err := codec.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		g, err := engine.Authorize(ctx, operator, fhir.Update, r.Type)
		if err != nil {
			t.Fatal(err)
		}
		cleared, err := gate.Admit(ctx, g, record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r, Upsert: true, Import: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.store.Commit(ctx, []record.Cleared{cleared}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// newHandler is another server on the same database.
func newHandler(t *testing.T, c *clinic, set func(*Config)) *clinic {
	t.Helper()
	cfg := c.cfg
	set(&cfg)
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	other := &clinic{store: c.store, tenant: c.tenant, cfg: cfg}
	other.Handler = h
	return other
}

// exec changes the database behind the server's back.
func (c *clinic) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func observation(patient, extra string) string {
	return `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"44261-6"}]},"subject":{"reference":"` + patient + `"}` + extra + `}`
}

// want sends and expects a status; it gives back header and body.
func (c *clinic) want(t *testing.T, status int, x call) (http.Header, *codec.Resource, string) {
	t.Helper()
	if x.body != "" && x.header == nil {
		x.header = http.Header{}
	}
	if x.body != "" && x.header["Content-Type"] == nil {
		x.header.Set("Content-Type", "application/fhir+json")
	}
	w := c.do(t, x)
	if w.Code != status {
		t.Fatalf("%s %s as %s: %d, want %d\n%s", x.method, x.path, x.token, w.Code, status, w.Body)
	}
	var r *codec.Resource
	if w.Body.Len() > 0 && x.method != "HEAD" {
		var err error
		if r, err = codec.Parse(w.Body.Bytes()); err != nil {
			t.Fatalf("%s %s: the answer is no valid resource: %v\n%s", x.method, x.path, err, w.Body)
		}
	}
	return w.Header(), r, w.Body.String()
}

func (c *clinic) create(t *testing.T, token, resource string) string {
	t.Helper()
	h, _, _ := c.want(t, 201, call{method: "POST", path: "/fhir/" + typeOf(t, resource), token: token, body: resource})
	path, here := strings.CutPrefix(h.Get("Location"), "https://clinic.example")
	path, first := strings.CutSuffix(path, "/_history/1")
	if !here || !first {
		t.Fatalf("Location: %s", h.Get("Location"))
	}
	return path
}

func typeOf(t *testing.T, resource string) string {
	t.Helper()
	r, err := codec.Parse([]byte(resource))
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Type)
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func TestLifeOfAResource(t *testing.T) {
	c := newClinic(t)
	path := c.create(t, "therapist", observation("https://clinic.example/fhir/Patient/anna", `,"id":"mine","valueInteger":12`))
	h, r, body := c.want(t, 200, call{method: "GET", path: path, token: "therapist"})
	if h.Get("ETag") != `W/"1"` || h.Get("Last-Modified") == "" || strings.Contains(body, "mine") {
		t.Errorf("%v %s", h, body)
	}
	if got := r.References()[0].Node.Text; got != "Patient/anna" {
		t.Errorf("the reference is %s", got)
	}
	hh, _, none := c.want(t, 200, call{method: "HEAD", path: path, token: "therapist"})
	if none != "" || hh.Get("ETag") != `W/"1"` || hh.Get("Content-Length") != h.Get("Content-Length") {
		t.Errorf("HEAD: %v %q", hh, none)
	}
	c.want(t, 304, call{method: "GET", path: path, token: "therapist", header: header("If-None-Match", `W/"1"`)})
	c.want(t, 304, call{method: "GET", path: path, token: "therapist", header: header("If-Modified-Since", h.Get("Last-Modified"))})

	id := path[strings.LastIndexByte(path, '/')+1:]
	second := observation("Patient/anna", `,"id":"`+id+`","valueInteger":9`)
	h, r, _ = c.want(t, 200, call{method: "PUT", path: path, token: "therapist", body: second, header: header("If-Match", `W/"1"`, "Prefer", "return=representation")})
	if h.Get("ETag") != `W/"2"` || r == nil || r.Root.Get("valueInteger").Text != "9" || r.Root.Get("meta").Get("versionId").String() != "2" {
		t.Errorf("%v %v", h, r)
	}
	c.want(t, 412, call{method: "PUT", path: path, token: "therapist", body: second, header: header("If-Match", `W/"1"`)})
	_, r, _ = c.want(t, 200, call{method: "GET", path: path + "/_history/1", token: "therapist"})
	if r.Root.Get("valueInteger").Text != "12" {
		t.Error("version 1 has changed")
	}

	c.want(t, 403, call{method: "DELETE", path: path, token: "therapist"})
	c.want(t, 412, call{method: "DELETE", path: path, token: "operator", header: header("If-Match", `W/"1"`)})
	h, _, _ = c.want(t, 204, call{method: "DELETE", path: path, token: "operator", header: header("If-Match", `W/"2"`)})
	if h.Get("ETag") != `W/"3"` {
		t.Errorf("%v", h)
	}
	c.want(t, 204, call{method: "DELETE", path: path, token: "operator"})
	c.want(t, 410, call{method: "GET", path: path, token: "therapist"})
	c.want(t, 410, call{method: "GET", path: path + "/_history/3", token: "therapist"})

	var seen []string
	for next := path + "/_history?_count=2"; next != ""; {
		_, r, _ = c.want(t, 200, call{method: "GET", path: next, token: "therapist"})
		for _, e := range r.Entries() {
			seen = append(seen, e.Method)
		}
		next = link(r, "next")
	}
	if !slices.Equal(seen, []string{"DELETE", "PUT", "POST"}) {
		t.Errorf("history: %v", seen)
	}
}

func link(r *codec.Resource, relation string) string {
	for _, l := range r.Root.Get("link").List() {
		if l.Get("relation").String() == relation {
			return strings.TrimPrefix(l.Get("url").String(), "https://clinic.example")
		}
	}
	return ""
}

// What is hidden from the colleague is, for her, what never was.
func TestHiddenIsAbsent(t *testing.T) {
	c := newClinic(t)
	path := c.create(t, "therapist", observation("Patient/anna", `,"identifier":[{"system":"urn:x","value":"1"}]`))
	gone := c.create(t, "therapist", observation("Patient/anna", ""))
	c.want(t, 204, call{method: "DELETE", path: gone, token: "operator"})
	absent := "/fhir/Observation/00000000-0000-4000-8000-000000000000"
	put := func(path string) string {
		return observation("Patient/bert", `,"id":"`+path[strings.LastIndexByte(path, '/')+1:]+`"`)
	}
	for name, ask := range map[string]func(path string) call{
		"read":       func(p string) call { return call{method: "GET", path: p} },
		"head":       func(p string) call { return call{method: "HEAD", path: p} },
		"vread":      func(p string) call { return call{method: "GET", path: p + "/_history/1"} },
		"no version": func(p string) call { return call{method: "GET", path: p + "/_history/9"} },
		"history":    func(p string) call { return call{method: "GET", path: p + "/_history"} },
		"older":      func(p string) call { return call{method: "GET", path: p + "/_history?_since=2020&_sort=_lastUpdated"} },
		"subset":     func(p string) call { return call{method: "GET", path: p + "?_elements=status"} },
		"patch": func(p string) call {
			return call{method: "PATCH", path: p, body: `[{"op":"test","path":"/status","value":"final"}]`, header: header("Content-Type", "application/json-patch+json")}
		},
		"patch that fails": func(p string) call {
			return call{method: "PATCH", path: p, body: `[{"op":"test","path":"/status","value":"draft"}]`, header: header("Content-Type", "application/json-patch+json", "If-Match", `W/"9"`)}
		},
		"path patch": func(p string) call {
			return call{method: "PATCH", path: p, body: `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"delete"},{"name":"path","valueString":"Observation.code"}]}]}`}
		},
		"unchanged": func(p string) call { return call{method: "GET", path: p, header: header("If-None-Match", "*")} },
		"since": func(p string) call {
			return call{method: "GET", path: p, header: header("If-Modified-Since", "Fri, 31 Dec 2100 23:59:59 GMT")}
		},
		"update": func(p string) call { return call{method: "PUT", path: p, body: put(p)} },
		"stale update": func(p string) call {
			return call{method: "PUT", path: p, body: put(p), header: header("If-Match", `W/"7"`)}
		},
		"delete": func(p string) call { return call{method: "DELETE", path: p} },
	} {
		t.Run(name, func(t *testing.T) {
			send := func(p string) string {
				x := ask(p)
				x.token = "colleague"
				if x.body != "" {
					if x.header == nil {
						x.header = http.Header{}
					}
					if x.header["Content-Type"] == nil {
						x.header.Set("Content-Type", "application/fhir+json")
					}
				}
				return answer(t, c.do(t, x))
			}
			want := send(absent)
			for _, p := range []string{path, gone} {
				if got := send(p); got != want {
					t.Errorf("%s: hidden is\n%s\nand absent\n%s", p, got, want)
				}
			}
			if name != "delete" && !strings.HasPrefix(want, "404 ") {
				t.Errorf("absent is\n%s", want)
			}
		})
	}
	// A reference to what is hidden does not resolve, in the words for what never was.
	refer := func(ref string) string {
		return answer(t, c.do(t, call{method: "POST", path: "/fhir/Observation", token: "colleague", header: header("Content-Type", "application/fhir+json"),
			body: observation("Patient/bert", `,"derivedFrom":[{"reference":"`+ref+`"}]`)}))
	}
	hidden, never := refer(strings.TrimPrefix(path, "/fhir/")), refer(strings.TrimPrefix(absent, "/fhir/"))
	if hidden != never || !strings.HasPrefix(hidden, "422 ") {
		t.Errorf("a reference to what is hidden is\n%s\nand to what never was\n%s", hidden, never)
	}
	// Nor does it meet a condition.
	conditional := call{method: "POST", path: "/fhir/Observation", token: "colleague", body: observation("Patient/bert", `,"identifier":[{"system":"urn:x","value":"1"}]`), header: header("If-None-Exist", "identifier=urn:x|1")}
	h, _, _ := c.want(t, 201, conditional)
	again, _, _ := c.want(t, 200, conditional)
	if h.Get("Location") == "" || h.Get("Location") != again.Get("Location") || again.Get("ETag") != `W/"1"` {
		t.Errorf("%v\n%v", h, again)
	}
	c.want(t, 412, call{method: "POST", path: "/fhir/Observation", token: "operator", body: conditional.body, header: header("If-None-Exist", "identifier=urn:x|1")})
}

func TestSearchPages(t *testing.T) {
	c := newClinic(t)
	var all []string
	for i := range 7 {
		all = append(all, strings.TrimPrefix(c.create(t, "therapist", observation("Patient/anna", fmt.Sprintf(`,"valueInteger":%d`, i))), "/fhir/"))
		c.create(t, "colleague", observation("Patient/bert", ""))
	}
	slices.Reverse(all)
	var seen []string
	query := "/fhir/Observation?code=http://loinc.org|44261-6&_count=3&_total=accurate"
	for next, pages := query, 0; next != ""; pages++ {
		_, r, _ := c.want(t, 200, call{method: "GET", path: next, token: "therapist"})
		if r.Root.Get("total").Text != "7" || pages > 3 {
			t.Fatalf("page %d: total %s", pages, r.Root.Get("total").Text)
		}
		for _, e := range r.Entries() {
			if e.FullURL != "https://clinic.example/fhir/"+e.Resource.Ref().String() || e.Node.Get("search").Get("mode").String() != "match" {
				t.Errorf("entry %s", e.FullURL)
			}
			seen = append(seen, e.Resource.Ref().String())
		}
		self := link(r, "self")
		c.want(t, 200, call{method: "GET", path: self, token: "therapist"})
		if next = link(r, "next"); next != "" {
			c.want(t, 400, call{method: "GET", path: next, token: "colleague"})
			c.want(t, 400, call{method: "GET", path: next + "&status=final", token: "therapist"})
		}
	}
	if !slices.Equal(seen, all) {
		t.Errorf("pages hold\n%v\nand not\n%v", seen, all)
	}
	form := url.Values{"code": {"44261-6"}, "_summary": {"count"}}.Encode()
	_, r, _ := c.want(t, 200, call{method: "POST", path: "/fhir/Observation/_search", token: "therapist", body: form, header: header("Content-Type", "application/x-www-form-urlencoded")})
	if r.Root.Get("total").Text != "7" || len(r.Entries()) != 0 {
		t.Errorf("count: %s", r.Root.AppendJSON(nil))
	}
	_, r, _ = c.want(t, 200, call{method: "GET", path: "/fhir/Observation?colour=red&_count=1", token: "therapist", header: header("Prefer", "handling=lenient")})
	if n := r.Entries(); len(n) != 2 || n[1].Resource.Type != "OperationOutcome" || strings.Contains(link(r, "self"), "colour") {
		t.Errorf("lenient: %s", r.Root.AppendJSON(nil))
	}
}

func TestBatchEndToEnd(t *testing.T) {
	c := newClinic(t)
	entry := func(method, u, resource string) string {
		if resource != "" {
			resource = `"resource":` + resource + `,`
		}
		return `{` + resource + `"request":{"method":"` + method + `","url":"` + u + `"}}`
	}
	_, r, body := c.want(t, 200, call{method: "POST", path: "/fhir", token: "therapist", body: `{"resourceType":"Bundle","type":"batch","entry":[` + strings.Join([]string{
		entry("GET", "Patient/anna", ""),
		entry("GET", "Patient/bert", ""),
		entry("GET", "Patient/nobody", ""),
		entry("GET", "Patient?_summary=count", ""),
		entry("POST", "Observation", observation("Patient/anna", "")),
		entry("POST", "Observation", observation("Patient/bert", "")),
		entry("POST", "Observation", observation("Patient/nobody", "")),
		entry("POST", "Observation", observation("Patient?identifier=urn:mrn|A1", "")),
		entry("GET", "Claim/1", ""),
		entry("DELETE", "Patient/anna", ""),
		entry("GET", "Nothing/1", ""),
		entry("PATCH", "Patient/anna", ""),
	}, ",") + `]}`})
	var got []string
	for _, e := range r.Root.Get("entry").List() {
		got = append(got, e.Get("response").Get("status").String()[:3])
	}
	if want := strings.Fields("200 404 404 200 201 422 422 422 403 403 404 400"); !slices.Equal(got, want) {
		t.Errorf("statuses\n%v, want\n%v\n%s", got, want, body)
	}
	items := r.Root.Get("entry").List()
	for _, pair := range [][2]int{{1, 2}, {5, 6}, {8, 9}} {
		if a, b := string(items[pair[0]].AppendJSON(nil)), string(items[pair[1]].AppendJSON(nil)); a != b {
			t.Errorf("%s\nis not\n%s", a, b)
		}
	}
	// In a batch one entry with faults does not harm the others.
	_, r, _ = c.want(t, 200, call{method: "POST", path: "/fhir", token: "therapist", body: `{"resourceType":"Bundle","type":"batch","entry":[` +
		entry("POST", "Observation", `{"resourceType":"Observation"}`) + `,` + entry("GET", "Patient/anna", "") + `]}`})
	if s := r.Root.Get("entry").List(); s[0].Get("response").Get("status").String() != "422 Unprocessable Entity" || s[1].Get("response").Get("status").String() != "200 OK" {
		t.Errorf("%s", r.Root.AppendJSON(nil))
	}
}

const (
	urn1 = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
	urn2 = "urn:uuid:2c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
)

func TestTransactionEndToEnd(t *testing.T) {
	c := newClinic(t)
	tx := func(entries ...string) string {
		return `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`
	}
	post := func(fullURL, resource, more string) string {
		return `{"fullUrl":"` + fullURL + `","resource":` + resource + `,"request":{"method":"POST","url":"` + typeOf(t, resource) + `"` + more + `}}`
	}
	count := func() string {
		_, r, _ := c.want(t, 200, call{method: "GET", path: "/fhir/Observation?_summary=count", token: "therapist"})
		return r.Root.Get("total").Text
	}
	_, r, body := c.want(t, 200, call{method: "POST", path: "/fhir", token: "therapist", header: header("Prefer", "return=representation"), body: tx(
		`{"request":{"method":"GET","url":"Observation?_summary=count"}}`,
		post(urn2, observation("Patient?identifier=urn:mrn|A1", `,"derivedFrom":[{"reference":"`+urn1+`"}]`), ""),
		post(urn1, observation("Patient/anna", `,"identifier":[{"system":"urn:x","value":"1"}]`), ""),
	)})
	e := r.Entries()
	if len(e) != 3 || e[0].Resource.Root.Get("total").Text != "2" {
		t.Fatalf("reads see the changes: %s", body)
	}
	if refs := e[1].Resource.References(); refs[0].Node.Text != "Patient/anna" || refs[1].Node.Text != e[2].Resource.Ref().String() {
		t.Errorf("references: %s", body)
	}
	// A conditional create that is met, and a reference to it.
	_, r, body = c.want(t, 200, call{method: "POST", path: "/fhir", token: "therapist", header: header("Prefer", "return=representation"), body: tx(
		post(urn1, observation("Patient/anna", `,"identifier":[{"system":"urn:x","value":"1"}]`), `,"ifNoneExist":"identifier=urn:x|1"`),
		post(urn2, observation("Patient/anna", `,"derivedFrom":[{"reference":"`+urn1+`"}]`), ""),
	)})
	met := r.Entries()
	if got := met[1].Resource.References()[1].Node.Text; met[0].Resource.Ref() != e[2].Resource.Ref() || got != e[2].Resource.Ref().String() || met[0].Node.Get("response").Get("status").String() != "200 OK" {
		t.Errorf("met: %s", body)
	}
	if count() != "3" {
		t.Errorf("%s observations", count())
	}
	// Nothing of a transaction that fails is stored, and the path says where it failed.
	good := post(urn1, observation("Patient/anna", ""), "")
	for name, x := range map[string]struct {
		bad    string
		status int
		path   string
	}{
		"hidden subject":    {post(urn2, observation("Patient/bert", ""), ""), 422, "Bundle.entry[1].resource.subject"},
		"absent subject":    {post(urn2, observation("Patient/nobody", ""), ""), 422, "Bundle.entry[1].resource.subject"},
		"hidden condition":  {post(urn2, observation("Patient?identifier=urn:mrn|B1", ""), ""), 412, "Bundle.entry[1].resource.subject.reference"},
		"absent condition":  {post(urn2, observation("Patient?identifier=urn:mrn|C1", ""), ""), 412, "Bundle.entry[1].resource.subject.reference"},
		"urn of nobody":     {post(urn2, observation("urn:uuid:9c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", ""), ""), 422, "Bundle.entry[1]"},
		"hidden update":     {`{"resource":{"resourceType":"Patient","id":"bert"},"request":{"method":"PUT","url":"Patient/bert"}}`, 404, "Bundle.entry[1]"},
		"absent update":     {`{"resource":{"resourceType":"Patient","id":"carl"},"request":{"method":"PUT","url":"Patient/carl"}}`, 404, "Bundle.entry[1]"},
		"stale update":      {`{"resource":{"resourceType":"Patient","id":"anna"},"request":{"method":"PUT","url":"Patient/anna","ifMatch":"W/\"9\""}}`, 412, "Bundle.entry[1]"},
		"not permitted":     {`{"request":{"method":"DELETE","url":"Patient/anna"}}`, 403, "Bundle.entry[1]"},
		"content":           {`{"resource":{"resourceType":"Observation"},"request":{"method":"POST","url":"Observation"}}`, 422, "Bundle.entry[1].resource"},
		"several meetings":  {post(urn2, observation("Patient/anna", ""), `,"ifNoneExist":"code=44261-6"`), 412, "Bundle.entry[1]"},
		"unknown condition": {post(urn2, observation("Patient/anna", ""), `,"ifNoneExist":"colour=red"`), 400, "Bundle.entry[1]"},
	} {
		_, r, body := c.want(t, x.status, call{method: "POST", path: "/fhir", token: "therapist", body: tx(good, x.bad)})
		path := r.Root.Get("issue").List()[0].Get("expression").List()
		if len(path) != 1 || !strings.HasPrefix(path[0].String(), x.path) {
			t.Errorf("%s: %s", name, body)
		}
		if count() != "3" {
			t.Fatalf("%s left something behind", name)
		}
	}
	for _, pair := range [][2]string{{"Patient/bert", "Patient/nobody"}, {"Patient?identifier=urn:mrn|B1", "Patient?identifier=urn:mrn|C1"}} {
		ask := func(ref string) string {
			return answer(t, c.do(t, call{method: "POST", path: "/fhir", token: "therapist", header: header("Content-Type", "application/fhir+json"), body: tx(post(urn2, observation(ref, ""), ""))}))
		}
		if a, b := ask(pair[0]), ask(pair[1]); a != b {
			t.Errorf("hidden is\n%s\nand absent\n%s", a, b)
		}
	}
}

// The requests of the pages do what the pages say.
func TestDocumentationRuns(t *testing.T) {
	c := newClinic(t)
	for _, e := range docExamples(t) {
		x := call{method: e.method, path: strings.ReplaceAll(e.target, "{Patient}", "anna"), token: e.persona, header: e.header, body: strings.ReplaceAll(e.body, "{Patient}", "anna")}
		if w := c.do(t, x); w.Code != e.status {
			t.Errorf("%s: %s %s as %s is %d, and the page says %d\n%s", e.page, e.method, e.target, e.persona, w.Code, e.status, w.Body)
		}
	}
}
