package server_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// both loads a resource into both databases of clones.
func (w *twins) both(t *testing.T, text string) fhir.Ref {
	t.Helper()
	var ref fhir.Ref
	for _, h := range []*house{w.full, w.twin} {
		res, err := codec.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		ref = res.Ref()
		if err := h.load(w.persona.Practice, res); err != nil {
			t.Fatal(err)
		}
	}
	return ref
}

// sees checks that somebody else reads a record which the persona of the twins does not:
// without that, its absence would show nothing.
func (w *twins) sees(t *testing.T, token string, ref fhir.Ref, text string) {
	t.Helper()
	if a := w.full.do(token, get("/"+ref.String())); a.status != http.StatusOK || !strings.Contains(a.body, text) {
		t.Errorf("%s reads %s: %d %.300s", token, ref, a.status, a.body)
	}
}

func clonesOf(t *testing.T, name string) *twins {
	t.Helper()
	p, ok := persona(name)
	if !ok {
		t.Fatal(name)
	}
	return newClones(t, p, nil)
}

// marks are what tells that something was left out.
var marks = regexp.MustCompile(`(?i)SUBSETTED|REDACT|MASKED|withheld|hidden|data-absent-reason|"total":\s*null|\[\s*null|\{\s*\}|\[\s*\]`)

// A record that mentions what is hidden is not found by it, and nothing says that there was a
// mention: no mark, no empty element, no number too many.
func TestL17_L45_MaskedElementsAreNeitherSearchedNorMarked(t *testing.T) {
	t.Parallel()
	w := clonesOf(t, "third-therapist")
	w.excise(t)
	mentioning, masked := shared()
	fuller := 0
	for _, path := range masked {
		for _, more := range []string{"_total=accurate", "_summary=count", "_sort=-_lastUpdated&_count=1"} {
			q := get(path + "&" + more)
			n := total(w.check(t, q))
			if m := total(w.full.do("sud-counselor", q)); m > max(n, 0) {
				fuller++
			}
		}
	}
	if fuller == 0 {
		t.Error("nobody finds more by what is masked: this is no test")
	}
	seen := 0
	for _, ref := range mentioning {
		for _, path := range []string{"/" + ref.String(), "/" + ref.String() + "?_summary=true", "/" + ref.String() + "/_history", "/" + string(ref.Type) + "?_id=" + string(ref.ID) + "&_include=*"} {
			a := w.check(t, get(path))
			if a.status != http.StatusOK {
				continue
			}
			seen++
			if m := marks.FindString(a.body); m != "" && !strings.Contains(path, "_summary") {
				t.Errorf("%s tells that something is left out: %q\n%.600s", path, m, a.body)
			}
		}
	}
	if seen == 0 {
		t.Error("the persona sees no record that mentions anything")
	}
}

// An operation that this server does not have answers as one that nobody has: alike for a hidden
// record, an absent one, and one of the caller's own. So do GraphQL, bulk export and the operations of subscriptions.
func TestL20_L28_L29_UnsupportedOperationsAnswerAlike(t *testing.T) {
	t.Parallel()
	w := clonesOf(t, "colleague")
	w.excise(t)
	hidden, own := found(t, "Nora", "Patient").ref.ID, found(t, "Alba", "Patient").ref.ID
	if a := w.full.do("colleague", get("/Patient/"+string(own))); a.status != http.StatusOK {
		t.Fatalf("his own patient: %d", a.status)
	}
	if a := w.full.do("colleague", get("/Patient/"+string(hidden))); a.status != http.StatusNotFound {
		t.Fatalf("another's patient: %d", a.status)
	}
	graph := `{"query":"{ PatientList(_count: 3) { id ObservationList(_reference: patient) { id } } __schema { types { name } } }"}`
	async := map[string]string{"Prefer": "respond-async", "Accept": "application/fhir+json"}
	for _, op := range []string{"$graphql", "$export", "$export-poll-status", "$status", "$events", "$get-ws-binding-token", "$stats", "$de-identify", "$apply", "$diff", "$process-message"} {
		for _, at := range []string{"", "/Patient", "/Group", "/Subscription", "/Measure"} {
			for _, id := range []string{"", string(hidden), string(own), string(sample.Absent())} {
				if id != "" {
					if at == "" {
						continue
					}
					id = "/" + id
				}
				for _, c := range []call{
					{method: "GET", path: "/fhir" + at + id + "/OP?query=%7BPatientList%7Bid%7D%7D&_since=2026-01-01T00:00:00Z&_type=Patient", header: async},
					{method: "POST", path: "/fhir" + at + id + "/OP", body: graph, header: map[string]string{"Content-Type": "application/json"}},
				} {
					unknown, asked := c, c
					unknown.path, asked.path = strings.Replace(c.path, "OP", "$no-such-operation", 1), strings.Replace(c.path, "OP", op, 1)
					a, b := w.check(t, asked), w.full.do("colleague", unknown)
					if normal(a) != normal(b) {
						t.Errorf("%s %s answers otherwise than an operation that nobody has:\n%s\n---\n%s", asked.method, asked.path, normal(a), normal(b))
					}
					if a.status < 400 || a.status >= 500 || a.header.Get("Content-Location") != "" {
						t.Errorf("%s %s: %d %v", asked.method, asked.path, a.status, a.header)
					}
				}
			}
		}
		if t.Failed() {
			return
		}
	}
	// A subscription to what is hidden is refused as any other one, and so is a look at it.
	subscription := func(criteria string) call {
		return call{method: "POST", path: "/fhir/Subscription", body: `{"resourceType":"Subscription","status":"requested","reason":"x","criteria":"` + criteria + `","channel":{"type":"rest-hook","endpoint":"https://example.org/hook"}}`}
	}
	one := w.check(t, subscription("Observation?patient="+string(hidden)))
	for _, c := range []call{subscription("Observation?patient=" + string(own)), subscription("Observation?patient=" + string(sample.Absent()))} {
		if a := w.check(t, c); normal(a) != normal(one) || a.status != http.StatusForbidden {
			t.Errorf("a subscription is answered by what it is about: %d\n%s\n---\n%s", a.status, normal(a), normal(one))
		}
	}
	// A request that was put off is its sender's: to anybody else it never was.
	put := w.full.do("therapist", call{method: "GET", path: "/fhir/Condition", header: async})
	at := strings.TrimPrefix(put.header.Get("Content-Location"), "http://localhost")
	if put.status != http.StatusAccepted || at == "" {
		t.Fatalf("a request was not put off: %d %v", put.status, put.header)
	}
	for _, method := range []string{"GET", "DELETE"} {
		theirs, none := w.full.do("colleague", call{method: method, path: at}), w.full.do("colleague", call{method: method, path: "/fhir/_async/2a3c0f0e-0000-4000-8000-00000000000a"})
		if normal(theirs) != normal(none) || theirs.status != http.StatusNotFound {
			t.Errorf("%s of another's request: %d\n%s\n---\n%s", method, theirs.status, normal(theirs), normal(none))
		}
	}
	if a := w.full.do("therapist", call{method: "GET", path: at}); a.status != http.StatusOK {
		t.Errorf("the sender's own request: %d", a.status)
	}
}

// What is contained in a record, or said in its extensions, protects it as a whole: neither is a
// search by it, nor a reference within it, a way to what it says.
func TestL23_L24_ContainedResourcesAndExtensionsProtectTheWhole(t *testing.T) {
	t.Parallel()
	w := clonesOf(t, "hie")
	nora := found(t, "Nora", "Patient").ref
	observation := func(id, more string) string {
		return `{"resourceType":"Observation","id":"` + id + `","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"` + nora.String() + `"}` + more + `}`
	}
	coding := func(code string) string {
		return `{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"` + code + `","display":"canary-` + code + `"}]}`
	}
	contained := func(code string) string {
		return `,"contained":[{"resourceType":"Condition","id":"c","code":` + coding(code) + `,"subject":{"reference":"` + nora.String() + `"}}],"focus":[{"reference":"#c"}]`
	}
	plain := w.both(t, observation("with-ordinary", contained("F41.1")))
	var secret []fhir.Ref
	for id, more := range map[string]string{
		"with-contained":   contained("B20"),
		"with-extension":   `,"extension":[{"url":"https://example.org/x","valueCodeableConcept":` + coding("B20") + `}]`,
		"within-extension": `,"extension":[{"url":"https://example.org/x","extension":[{"url":"y","valueCoding":{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}}]}]`,
		"with-primitive":   `,"_status":{"extension":[{"url":"https://example.org/x","valueCodeableConcept":` + coding("B20") + `}]}`,
		"with-modifier":    `,"modifierExtension":[{"url":"https://example.org/x","valueCodeableConcept":` + coding("B20") + `}]`,
		"with-tag":         `,"meta":{"tag":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}],"profile":["https://example.org/hiv"],"source":"https://example.org/clinic"}`,
	} {
		secret = append(secret, w.both(t, observation(id, more)))
	}
	w.excise(t)
	if a := w.check(t, get("/"+plain.String())); a.status != http.StatusOK || !strings.Contains(a.body, `"contained"`) {
		t.Errorf("a record that contains nothing protected: %d %.300s", a.status, a.body)
	}
	for _, ref := range secret {
		w.sees(t, "therapist", ref, "B20")
		at := "/" + ref.String()
		for _, path := range []string{at, at + "/_history/1", at + "/_history", at + "?_elements=contained", "/Observation?_id=" + string(ref.ID) + "&_total=accurate", at + "/$meta"} {
			if a := w.check(t, get(path)); strings.Contains(a.body, "B20") {
				t.Errorf("%s tells of what is contained:\n%s", path, a.body)
			}
		}
	}
	for _, q := range []string{
		"?_contained=true", "?_contained=both&_containedType=contained", "?focus=%23c", "?focus:Condition.code=B20", "?focus=Condition/c", "?_tag=B20", "?_tag=http://hl7.org/fhir/sid/icd-10-cm|B20",
		"?_profile=https://example.org/hiv", "?_source=https://example.org/clinic", "?_has:Observation:focus:code=8867-4", "?code=8867-4&_total=accurate", "?code=8867-4&_summary=count", "?_content=canary-B20", "?_text=B20",
		"?code=8867-4&_include=*&_sort=_id", "?subject=" + nora.String() + "&_lastUpdated=ge2026-03-02T12:00:00Z",
	} {
		w.check(t, get("/Observation"+q))
	}
	w.check(t, get("/Condition?_id=c"))
	w.check(t, get("/Condition/c"))
}

var versionFour = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// Neither an id nor a version number of one record says how many others there are.
func TestL24_IdsAndVersionsTellNothingOfOthers(t *testing.T) {
	t.Parallel()
	w := clonesOf(t, "colleague")
	w.excise(t)
	alba := found(t, "Alba", "Patient").ref
	create := call{method: "POST", path: "/fhir/Observation", body: `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"` + alba.String() + `"}}`, header: map[string]string{"Prefer": "return=representation"}}
	place := regexp.MustCompile(`/Observation/([^/]+)/_history/(\d+)$`)
	made := map[string]bool{}
	var last string
	for range 8 {
		// What another does meanwhile, in the one database alone, shows in nothing.
		other := found(t, "Nora", "Condition")
		for i := range 2 {
			if a := w.full.do("therapist", call{method: "PUT", path: "/fhir/" + other.ref.String(), body: with(t, other.json, "language", fmt.Sprint("en-x-", len(made), i))}); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			w.twin.clock.Add(1)
		}
		a := w.check(t, create)
		m := place.FindStringSubmatch(a.header.Get("Location"))
		if len(m) != 3 || m[2] != "1" || !versionFour.MatchString(m[1]) || made[m[1]] {
			t.Fatalf("%d: Location %q", a.status, a.header.Get("Location"))
		}
		if last != "" && m[1][:8] == last[:8] {
			t.Errorf("ids in a row share their beginning: %s, %s", last, m[1])
		}
		made[m[1]], last = true, m[1]
	}
	w.check(t, get("/Observation?patient="+string(alba.ID)+"&_summary=count"))
	w.check(t, get("/Condition/_history?_count=5"))
}

// Nobody compresses an answer, and no error repeats a value that was sent: there is nothing that
// a size could tell of a secret beside it.
func TestL40_SizesTellOfTheVisibleAlone(t *testing.T) {
	t.Parallel()
	w := clonesOf(t, "colleague")
	w.excise(t)
	const guess = "Zq8guess7Kx"
	nora := string(found(t, "Nora", "Patient").ref.ID)
	for _, c := range []call{
		get("/Patient?_count=1000&_total=accurate"), get("/Condition?_count=1000"), get("/Patient/" + nora), get("/Patient/" + nora + "/$everything"), get("/metadata"),
		get("/Patient/" + guess), get("/" + guess), get("/Patient?birthdate=" + guess), get("/Patient?_count=" + guess), get("/Observation?subject=" + guess + "/1"),
		get("/Patient?_sort=" + guess), get("/Patient/x/_history/" + guess), {method: "POST", path: "/fhir/Observation", body: `{"resourceType":"` + guess + `"}`},
		{method: "POST", path: "/fhir/Observation", body: `{"resourceType":"Observation","status":"` + guess + `","code":{}}`}, {method: "POST", path: "/fhir/Observation", body: guess},
		{method: "PATCH", path: "/fhir/Patient/" + nora, body: `[{"op":"test","path":"/` + guess + `","value":"` + guess + `"}]`, header: map[string]string{"Content-Type": "application/json-patch+json"}},
	} {
		header := map[string]string{"Accept-Encoding": "gzip, br, deflate, zstd", "X-Request-Id": guess, "Referer": "https://example.org/" + guess, "Cookie": "x=" + guess, "traceparent": guess}
		for k, v := range c.header {
			header[k] = v
		}
		c.header = header
		a := w.check(t, c)
		if a.header.Get("Content-Encoding") != "" || a.header.Get("Transfer-Encoding") != "" {
			t.Errorf("%s is compressed: %v", c.path, a.header)
		}
		if n := a.header.Get("Content-Length"); n != "" && n != fmt.Sprint(len(a.body)) {
			t.Errorf("%s: Content-Length %s of %d bytes", c.path, n, len(a.body))
		}
		if a.status >= 400 && strings.Contains(normal(a), guess) {
			t.Errorf("%s %s repeats what was sent:\n%s", c.method, c.path, normal(a))
		}
	}
}

// No cache may keep an answer, and none in the process gives one caller what another asked for.
func TestL41_NothingIsCachedAcrossCallers(t *testing.T) {
	t.Parallel()
	shared, alone := newHouse(t, cluster.NewDatabase(t, seeded), nil), newHouse(t, cluster.NewDatabase(t, seeded), nil)
	condition, nora := found(t, "Nora", "Condition").ref, string(found(t, "Nora", "Patient").ref.ID)
	note := found(t, "Nora", "DocumentReference", "psychotherapy-note").ref
	theirs := shared.do("therapist", get("/"+condition.String()))
	if theirs.status != http.StatusOK || theirs.header.Get("ETag") == "" {
		t.Fatalf("%d %v", theirs.status, theirs.header)
	}
	conditional := func(name, value string) call {
		return call{method: "GET", path: "/fhir/" + condition.String(), header: map[string]string{name: value}}
	}
	seen := map[int]int{}
	for _, c := range []call{
		get("/" + condition.String()), get("/" + note.String()), get("/Condition?patient=" + nora), get("/Condition?_count=1000&_total=accurate"), get("/Patient?_summary=count"), get("/Patient/" + nora + "/$everything"),
		get("/Condition/_history?_count=5"), get("/Encounter?patient=" + nora + "&_include=*&_revinclude=*"), conditional("If-None-Match", theirs.header.Get("ETag")), conditional("If-Modified-Since", theirs.header.Get("Last-Modified")),
		{method: "POST", path: "/fhir", body: `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Condition?patient=` + nora + `"}}]}`},
	} {
		for _, name := range []string{"therapist", "colleague", "hie", "front-desk", "third-therapist"} {
			want := alone.do(name, c)
			for _, before := range []string{"therapist", ""} {
				shared.do(before, c)
				if a := shared.do(name, c); normal(a) != normal(want) {
					t.Fatalf("%s asks %s after %q: %d\n%.600s\n--- alone\n%.600s", name, c.path, before, a.status, normal(a), normal(want))
				}
			}
			if v := want.header.Get("Cache-Control"); !strings.Contains(v, "no-store") {
				t.Errorf("%s %s: Cache-Control %q", name, c.path, v)
			}
			seen[want.status]++
		}
	}
	if seen[http.StatusOK] < 10 || seen[http.StatusNotFound] < 4 || seen[http.StatusNotModified] == 0 {
		t.Errorf("the answers show too little: %v", seen)
	}
	for _, c := range []call{get("/Condition?nothing=1"), get("/nothing"), {method: "POST", path: "/fhir/Condition", body: "x"}, {method: "PUT", path: "/fhir"}} {
		for _, token := range []string{"therapist", ""} {
			if a := shared.do(token, c); !strings.Contains(a.header.Get("Cache-Control"), "no-store") {
				t.Errorf("%s %s: %d, Cache-Control %q", c.method, c.path, a.status, a.header.Get("Cache-Control"))
			}
		}
	}
}

// The log says which kind of request was made and how it ended, and nothing of a record; what
// operators look at otherwise is not here, and no counter goes with an answer.
func TestL42_LogsHealthAndMetricsTellOfNoRecord(t *testing.T) {
	t.Parallel()
	w := clonesOf(t, "colleague")
	w.excise(t)
	hidden, note := found(t, "Nora", "Patient"), found(t, "Nora", "DocumentReference", "psychotherapy-note")
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/debug/requests", "/stats", "/actuator", "/status", "/admin", "/swagger.json"} {
		none := w.full.do("colleague", call{method: "GET", path: "/nothing"})
		if a := w.check(t, call{method: "GET", path: path}); normal(a) != normal(none) || a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, path := range []string{"/health", "/health/live"} {
		if a := w.check(t, call{method: "GET", path: path}); a.status != http.StatusOK || len(a.body) > 40 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	words := []string{string(hidden.ref.ID), string(note.ref.ID), hidden.family, "Bergstrom", "?", "birthdate", "F41", "psychotherapy"}
	w.full.log.Reset()
	w.twin.log.Reset()
	for _, c := range []call{
		get("/Patient/" + string(hidden.ref.ID)), get("/" + note.ref.String() + "/_history/1"), get("/Patient?family=Bergstrom&birthdate=1990-01-01"), get("/Condition?code=F41.1"), get("/DocumentReference?type=psychotherapy-note"),
		{method: "POST", path: "/fhir/Patient/_search", body: "family=Bergstrom", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}},
		{method: "PUT", path: "/fhir/Patient/" + string(hidden.ref.ID), body: hidden.json}, {method: "POST", path: "/fhir/Condition", body: `{"resourceType":"Condition","code":{"text":"Bergstrom F41"}`},
		{method: "DELETE", path: "/fhir/Patient/" + string(hidden.ref.ID)}, get("/Patient?_page=" + string(hidden.ref.ID)), get("/" + string(hidden.ref.ID)), {method: "GET", path: "/Bergstrom"},
	} {
		a := w.check(t, c)
		for k := range a.header {
			if strings.Contains(strings.ToLower(k), "ratelimit") || strings.EqualFold(k, "Retry-After") || strings.EqualFold(k, "Server-Timing") || strings.EqualFold(k, "Server") {
				t.Errorf("%s %s: a header %s", c.method, c.path, k)
			}
		}
	}
	full, twin := w.full.log.String(), w.twin.log.String()
	if strings.Count(full, "\n") < 10 || !strings.Contains(full, "/fhir/:type/:id") {
		t.Errorf("the log says too little to be a test:\n%s", full)
	}
	for _, x := range words {
		if strings.Contains(full, x) {
			t.Errorf("the log tells of %q:\n%s", x, full)
		}
	}
	if found := clinic.FindCanaries([]byte(full)); len(found) > 0 {
		t.Errorf("the log has the texts of records: %v", found)
	}
	varies := regexp.MustCompile(`(time|duration|took|elapsed|request|request_id|ms|id|bytes)=\S+`)
	if a, b := varies.ReplaceAllString(full, ""), varies.ReplaceAllString(twin, ""); a != b {
		t.Errorf("the log differs:\n%s\n--- twin\n%s", a, b)
	}
}
