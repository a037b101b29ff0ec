package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/search"
)

// twins is a persona's full database and the one from which everything that
// she may not see is physically absent.
type twins struct {
	full, twin *house
	persona    clinic.Persona
	fresh      map[string]string // ids that writes made, by the order in which they came up
}

func newTwins(t *testing.T, p clinic.Persona, wrap func(*server.Core) api.Store) *twins {
	t.Helper()
	w := newClones(t, p, wrap)
	w.excise(t)
	return w
}

// newClones is two full databases, of which excise makes twins.
func newClones(t *testing.T, p clinic.Persona, wrap func(*server.Core) api.Store) *twins {
	t.Helper()
	w := &twins{
		full: newHouse(t, cluster.NewDatabase(t, seeded), wrap), twin: newHouse(t, cluster.NewDatabase(t, seeded), wrap),
		persona: p, fresh: map[string]string{},
	}
	for _, h := range []*house{w.full, w.twin} {
		h.callers[p.Name] = p
		h.situate(p)
	}
	return w
}

// excise removes from the one database what the persona may not see by now.
func (w *twins) excise(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	who, err := principal(w.twin.core.Store, w.persona)
	if err != nil {
		t.Fatal(err)
	}
	sees := map[fhir.ResourceType]authz.Restriction{}
	for _, rt := range fhir.ResourceTypes() {
		g, err := w.twin.core.Engine.Authorize(ctx, who, fhir.Read, rt)
		if err != nil {
			continue
		}
		if sees[rt], err = w.twin.core.Engine.Plan(ctx, g, fhir.Read, rt); err != nil {
			t.Fatal(err)
		}
	}
	if err := postgres.Excise(ctx, w.twin.owner(), sees); err != nil {
		t.Fatal(err)
	}
}

var (
	uuids   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	pages   = regexp.MustCompile(`_page=[A-Za-z0-9_-]+`)
	ignored = map[string]bool{"X-Request-Id": true, "Date": true}
)

// normal is the answer as it is compared: whole, but for the request's own id,
// and with the random (version 4) ids that the server gives replaced by one mark. The sample clinic's
// own ids are of version 8 and stay.
func normal(a answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", a.status)
	names := make([]string, 0, len(a.header))
	for k := range a.header {
		if !ignored[k] {
			names = append(names, k)
		}
	}
	sort.Strings(names)
	for _, k := range names {
		fmt.Fprintf(&b, "%s: %s\n", k, strings.Join(a.header[k], ", "))
	}
	b.WriteString("\n" + a.body)
	s := uuids.ReplaceAllString(b.String(), "<new>")
	if strings.Contains(s, "<new>") {
		s = pages.ReplaceAllString(s, "_page=<new>") // a place after a new id
	}
	return s
}

// compare runs one request on both and reports whether the answers are the same.
func (w *twins) compare(c call) (same bool, full, twin answer) {
	full, twin = w.full.do(w.persona.Name, c), w.twin.do(w.persona.Name, c)
	return normal(full) == normal(twin), full, twin
}

func (w *twins) check(t *testing.T, c call) answer {
	t.Helper()
	same, full, twin := w.compare(c)
	if !same {
		t.Errorf("as %s: %s %s %v\n%.300s\n--- full\n%.1500s\n--- twin\n%.1500s", w.persona.Name, c.method, c.path, c.header, c.body, normal(full), normal(twin))
	}
	if full.status >= 500 {
		t.Errorf("as %s: %s %s: %d\n%s", w.persona.Name, c.method, c.path, full.status, full.body)
		t.Log(w.full.log.String()[max(0, w.full.log.Len()-2000):])
	}
	return full
}

// fixed lists requests over every route: each type searched, and a number of its
// resources, hidden ones among them, read in every way.
func (m *material) fixed(r *rand.Rand, each int) []call {
	var out []call
	for _, rt := range m.types {
		t := "/" + string(rt)
		out = append(out,
			get(t+"?_total=accurate&_count=1000"), get(t+"?_summary=count"), get(t+"?_sort=_lastUpdated&_count=7&_total=accurate"),
			get(t+"?_lastUpdated=ge2026-01-01&_count=3"), get(t+"?_security=PSYTHPN"),
			call{method: "HEAD", path: "/fhir" + t + "?_count=2"},
			call{method: "POST", path: "/fhir" + t + "/_search", body: "_count=5&_total=accurate", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}})
		for _, id := range append([]string{string(sample.Absent()), "x"}, sampled(r, m.ids[rt], each)...) {
			at := t + "/" + id
			out = append(out, get(at), get(at+"/_history/1"), get(at+"/_history/2"), get(at+"/_history?_count=1"), get(t+"?_id="+id),
				call{method: "HEAD", path: "/fhir" + at},
				call{method: "OPTIONS", path: "/fhir" + at},
				call{method: "GET", path: "/fhir" + at + "/"},
				call{method: "GET", path: "/fhir" + at, header: map[string]string{"If-None-Match": `W/"1"`}},
				call{method: "GET", path: "/fhir" + at, header: map[string]string{"If-Modified-Since": "Tue, 03 Mar 2026 00:00:00 GMT"}},
				call{method: "GET", path: "/fhir" + at, header: map[string]string{"Accept": "application/fhir+xml"}})
		}
	}
	batch := `{"resourceType":"Bundle","type":"batch","entry":[`
	for i, rt := range m.types {
		if i > 0 {
			batch += ","
		}
		batch += fmt.Sprintf(`{"request":{"method":"GET","url":"%s/%s"}},{"request":{"method":"GET","url":"%s?_count=2&_total=accurate"}}`, rt, pick(r, m.ids[rt]), rt)
	}
	return append(out, call{method: "POST", path: "/fhir", body: batch + `]}`})
}

var nextLink = regexp.MustCompile(`"relation":\s*"next",\s*"url":\s*"([^"]+)"`)

// follow compares all further pages of an answer.
func (w *twins) follow(t *testing.T, a answer) {
	t.Helper()
	for range rounds(t, "CLOISTER_TWIN_PAGES", 4) {
		m := nextLink.FindStringSubmatch(a.body)
		if m == nil || t.Failed() {
			return
		}
		u, err := url.Parse(strings.ReplaceAll(m[1], `\u0026`, "&"))
		if err != nil {
			t.Fatal(err)
		}
		a = w.check(t, call{method: "GET", path: u.RequestURI()})
	}
}

// writes lists changes that touch what is hidden: by id, by reference, by
// condition. They come after all reads, because they change both databases.
func (m *material) writes(r *rand.Rand) []call {
	var out []call
	patient := pick(r, m.patients)
	for _, rt := range []fhir.ResourceType{"DocumentReference", "Encounter", "Condition", "Appointment", "Consent", "CareTeam", "Observation", "Patient"} {
		for _, id := range sampled(r, m.ids[rt], 3) {
			at := "/fhir/" + string(rt) + "/" + id
			body := fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%s"},"focus":[{"reference":"%s/%s"}]}`, id, pick(r, m.patients), rt, id)
			out = append(out,
				call{method: "POST", path: "/fhir/Observation", body: strings.Replace(body, `"id":"`+id+`",`, "", 1)},
				call{method: "PUT", path: "/fhir/Observation/" + id, body: body},
				call{method: "PUT", path: "/fhir/Observation/" + id, body: body, header: map[string]string{"If-Match": `W/"1"`}},
				call{method: "DELETE", path: at},
				call{method: "PATCH", path: at, body: `[{"op":"test","path":"/status","value":"final"}]`})
		}
		patient = pick(r, m.patients)
		out = append(out,
			call{method: "POST", path: "/fhir/Observation", body: fmt.Sprintf(`{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%s"}}`, patient), header: map[string]string{"If-None-Exist": "patient=" + patient}},
			call{method: "POST", path: "/fhir", body: fmt.Sprintf(`{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:6c2b1f3e-0000-4000-8000-000000000001","resource":{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient?_id=%s"}},"request":{"method":"POST","url":"Observation"}},{"request":{"method":"GET","url":"%s?_total=accurate&_count=1"}}]}`, patient, rt)})
	}
	return append(out, get("/Observation?_total=accurate&_count=1000"), get("/Observation?patient="+patient+"&_count=1000"))
}

func rounds(t *testing.T, name string, short int) int {
	t.Helper()
	if v := os.Getenv(name); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	return short
}

// late reports that the time that go test gives to the package runs out. A slow
// machine then makes fewer requests, rather than none of what comes after; a longer
// -timeout gives time for all.
func late(t *testing.T) bool {
	t.Helper()
	d, ok := t.Deadline()
	return ok && time.Until(d) < 5*time.Minute
}

// TestTwin is the promise of the whole server: for any caller the answer is the
// same as on a database without what she may not see. For a long run
// CLOISTER_TWIN_QUERIES sets the number of generated requests per persona,
// CLOISTER_TWIN_EACH the records of each type that are read in every way,
// CLOISTER_TWIN_PAGES how many pages of an answer are followed, and
// CLOISTER_TWIN_SEED other requests than the last time.
// Channels of leaks: L1, L5, L6, L7, L8, L9, L10, L11, L12, L13, L14, L15, L16, L18, L27, L54.
func TestTwin(t *testing.T) {
	queries, each, seed := rounds(t, "CLOISTER_TWIN_QUERIES", 20), rounds(t, "CLOISTER_TWIN_EACH", 1), rounds(t, "CLOISTER_TWIN_SEED", 1)
	for i, p := range append(clinic.Personas(sample), supervisorAlone(), granularTherapist()) {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			w := newTwins(t, p, nil)
			m := gather(p.Practice)
			r := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
			n := 0
			fixed := m.fixed(r, each)
			if each == 1 { // a run that fits into every build: the batch, and some of the others
				fixed = fixed[len(fixed)-1:]
				more := m.fixed(r, each)
				for range 120 {
					fixed = append(fixed, pick(r, more))
				}
			}
			for _, c := range fixed {
				if n >= 30 && late(t) {
					break
				}
				w.follow(t, w.check(t, c))
				n++
			}
			for _, rq := range p.Requests {
				if rq.Method == http.MethodGet && !strings.HasPrefix(rq.Path, clinic.Made) {
					w.check(t, get(rq.Path))
				}
			}
			full, signs := 0, queries/4
			for range queries - signs {
				if late(t) {
					break
				}
				a := w.check(t, m.request(r))
				if strings.Contains(a.body, `"fullUrl"`) {
					full++
				}
				w.follow(t, a)
				n++
				if t.Failed() {
					return
				}
			}
			writes := m.writes(r)
			if p.Name == granularTherapist().Name {
				for _, c := range asksBeyond(r, m, 2*each) {
					w.follow(t, w.check(t, c))
					n++
				}
				writes = append(writes, writesWithin(r, m)...)
			}
			for _, c := range writes {
				w.check(t, c)
				n++
			}
			for range signs {
				w.attest(t, m.ceremony(r, pick(r, m.patients)))
				n++
			}
			w.ceremonies(t)
			t.Logf("%d requests without a difference; %d of %d generated ones found something", n, full, queries)
		})
	}
}

// leaky is a store with one leg broken on purpose.
type leaky struct {
	api.Store
	core *server.Core
	leg  string
}

func (l leaky) everything(ctx context.Context, r authz.Restriction, i fhir.Interaction) authz.Restriction {
	g, err := l.core.Engine.Authorize(ctx, server.Operator(r.Grant().Caller().Tenant, "leak"), i, r.Type())
	if err != nil {
		return r
	}
	all, err := l.core.Engine.Plan(ctx, g, i, r.Type())
	if err != nil {
		return r
	}
	return all
}

func (l leaky) all(ctx context.Context, r authz.Reach, q search.Query) authz.Reach {
	g, err := l.core.Engine.Authorize(ctx, server.Operator(r.Grant().Caller().Tenant, "leak"), fhir.SearchType, q.Legs[0].Type)
	if err != nil {
		return r
	}
	all, err := l.core.Engine.Reach(ctx, g, fhir.SearchType, q.Types()...)
	if err != nil {
		return r
	}
	return all
}

func (l leaky) Search(ctx context.Context, r authz.Reach, q search.Query) (record.Page, error) {
	p, err := l.Store.Search(ctx, r, q)
	if err != nil || r.Of(q.Type()).Empty() {
		return p, err
	}
	all, err := l.Store.Search(ctx, l.all(ctx, r, q), q)
	if err != nil {
		return p, err
	}
	switch l.leg {
	case "total":
		p.Total = all.Total
	case "paging":
		p.More = all.More
	}
	return p, nil
}

// wide is a decision point that lets conditions meet everything.
type wide struct{ *authz.Engine }

func (w wide) Plan(ctx context.Context, g authz.Grant, i fhir.Interaction, t fhir.ResourceType) (authz.Restriction, error) {
	if i == fhir.SearchType {
		if o, err := w.Authorize(ctx, server.Operator(g.Caller().Tenant, "leak"), i, t); err == nil {
			g = o
		}
	}
	return w.Engine.Plan(ctx, g, i, t)
}

func (l leaky) Read(ctx context.Context, r authz.Restriction, id fhir.ID) (record.Sealed, error) {
	s, err := l.Store.Read(ctx, r, id)
	if err != nil && l.leg == "read" {
		return l.Store.Read(ctx, l.everything(ctx, r, fhir.Read), id)
	}
	return s, err
}

// A harness that cannot fail proves nothing: each broken leg must show.
func TestTwinFindsABrokenLeg(t *testing.T) {
	p, _ := persona("colleague")
	for _, leg := range []string{"total", "paging", "condition", "read"} {
		t.Run(leg, func(t *testing.T) {
			t.Parallel()
			w := newTwins(t, p, func(c *server.Core) api.Store {
				if leg == "condition" {
					c.Gate = record.NewGate(wide{c.Engine}, c.Store, time.Now).Explaining(c.Store)
				}
				return leaky{c.Store, c, leg}
			})
			m := gather(p.Practice)
			r := rand.New(rand.NewPCG(2, 2))
			calls := append(m.fixed(r, 3), m.writes(r)...)
			for _, c := range calls {
				if same, full, twin := w.compare(c); !same {
					t.Logf("found by %s %s: %d against %d", c.method, c.path, full.status, twin.status)
					return
				}
			}
			t.Fatal("the harness does not notice that this leg is broken")
		})
	}
}

// No answer to a caller carries a text that her twin database does not hold.
// Channels of leaks: L22.
func TestNoCanaryWithoutRight(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	for _, c := range []call{get("/Patient"), get("/Observation"), get("/metadata"), {method: "GET", path: "/health"}, {method: "POST", path: "/fhir", body: "{}"}} {
		a := h.do("", c)
		if found := clinic.FindCanaries([]byte(normal(a))); len(found) > 0 {
			t.Errorf("%s %s without a token: %v", c.method, c.path, found)
		}
		if open := a.status == http.StatusOK; open != (c.path == "/fhir/metadata" || c.path == "/health") {
			t.Errorf("%s %s without a token: %d", c.method, c.path, a.status)
		}
	}
}
