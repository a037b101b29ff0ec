package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
)

const jsonPatch = "application/json-patch+json"

func identified(patient, value, more string) string {
	return observation(patient, `,"identifier":[{"system":"urn:x","value":"`+value+`"}]`+more)
}

// total counts what the caller finds.
func (c *clinic) total(t *testing.T, token, query string) string {
	t.Helper()
	_, r, _ := c.want(t, 200, call{method: "GET", path: "/fhir/" + query + "&_summary=count", token: token})
	return r.Root.Get("total").Text
}

func located(h http.Header) string {
	path, _, _ := strings.Cut(strings.TrimPrefix(h.Get("Location"), "https://clinic.example"), "/_history/")
	return path
}

// However many conditional writes come at the same moment, they make one resource.
func TestConditionalWritesAtTheSameMoment(t *testing.T) {
	c := newClinic(t)
	tx := func(method, u, more string) string {
		return `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":` + identified("Patient/anna", "tx", "") + `,"request":{"method":"` + method + `","url":"` + u + `"` + more + `}}]}`
	}
	for name, x := range map[string]struct {
		call
		query string
	}{
		"create":      {call{method: "POST", path: "/fhir/Observation", body: identified("Patient/anna", "create", ""), header: header("If-None-Exist", "identifier=urn:x|create")}, "create"},
		"update":      {call{method: "PUT", path: "/fhir/Observation?identifier=urn:x|update", body: identified("Patient/anna", "update", "")}, "update"},
		"transaction": {call{method: "POST", path: "/fhir", body: tx("POST", "Observation", `,"ifNoneExist":"identifier=urn:x|tx"`)}, "tx"},
	} {
		t.Run(name, func(t *testing.T) {
			var wait sync.WaitGroup
			codes := make([]int, 8)
			for i := range codes {
				wait.Go(func() {
					x := x.call
					x.token, x.header = "therapist", x.header.Clone()
					if x.header == nil {
						x.header = http.Header{}
					}
					x.header.Set("Content-Type", "application/fhir+json")
					codes[i] = c.do(t, x).Code
				})
			}
			wait.Wait()
			slices.Sort(codes)
			if first := codes[len(codes)-2]; first != 200 || codes[0] != 200 || name != "transaction" && codes[len(codes)-1] != 201 {
				t.Errorf("statuses %v", codes)
			}
			if n := c.total(t, "therapist", "Observation?identifier=urn:x|"+x.query); n != "1" {
				t.Errorf("%s resources", n)
			}
		})
	}
}

func TestConditionalUpdate(t *testing.T) {
	c := newClinic(t)
	put := func(status int, query, resource string, pairs ...string) (http.Header, *codec.Resource) {
		t.Helper()
		h, r, _ := c.want(t, status, call{method: "PUT", path: "/fhir/Observation?" + query, token: "therapist", body: resource, header: header(pairs...)})
		return h, r
	}
	h, _ := put(201, "identifier=urn:x|1", identified("Patient/anna", "1", ""))
	path := located(h)
	h, r := put(200, "identifier=urn:x|1", identified("Patient/anna", "1", `,"valueInteger":7`))
	if located(h) != path || h.Get("ETag") != `W/"2"` || r.Root.Get("valueInteger").Text != "7" {
		t.Errorf("%v", h)
	}
	id := path[strings.LastIndexByte(path, '/')+1:]
	put(200, "identifier=urn:x|1", identified("Patient/anna", "1", `,"id":"`+id+`"`), "If-Match", `W/"2"`)
	put(412, "identifier=urn:x|1", identified("Patient/anna", "1", ""), "If-Match", `W/"2"`)
	put(412, "identifier=urn:x|none", identified("Patient/anna", "none", ""), "If-Match", `W/"1"`)
	put(400, "identifier=urn:x|1", identified("Patient/anna", "1", `,"id":"another"`))
	put(405, "identifier=urn:x|2", identified("Patient/anna", "2", `,"id":"chosen"`))
	put(400, "_count=1", identified("Patient/anna", "1", ""))
	c.create(t, "therapist", identified("Patient/anna", "1", ""))
	put(412, "identifier=urn:x|1", identified("Patient/anna", "1", ""))
	// What the caller may not see meets no condition: the colleague makes her own.
	h, _, _ = c.want(t, 201, call{method: "PUT", path: "/fhir/Observation?identifier=urn:x|1", token: "colleague", body: identified("Patient/bert", "1", "")})
	if located(h) == path {
		t.Error("a hidden resource was met")
	}

	u := newClinic(t, func(c *Config) { c.Upsert = true })
	chosen := call{method: "PUT", path: "/fhir/Observation?identifier=urn:x|3", token: "therapist", body: identified("Patient/anna", "3", `,"id":"chosen"`)}
	if h, _, _ := u.want(t, 201, chosen); located(h) != "/fhir/Observation/chosen" {
		t.Errorf("%v", h)
	}
	u.want(t, 200, chosen)
	chosen.path = "/fhir/Observation?identifier=urn:x|4"
	u.want(t, 412, chosen) // the id is taken by what does not meet the condition
	chosen.token, chosen.body = "colleague", identified("Patient/bert", "4", `,"id":"chosen"`)
	u.want(t, 201, chosen) // and free to whom it is hidden from
	u.want(t, 412, call{method: "PUT", path: "/fhir/Observation/chosen", token: "therapist", body: identified("Patient/anna", "3", `,"id":"chosen"`), header: header("If-None-Match", "*")})
	u.want(t, 201, call{method: "PUT", path: "/fhir/Observation/other", token: "therapist", body: identified("Patient/anna", "3", `,"id":"other"`), header: header("If-None-Match", "*")})
}

func TestConditionalDelete(t *testing.T) {
	c := newClinic(t)
	del := func(c *clinic, status int, token, query string) http.Header {
		t.Helper()
		h, _, _ := c.want(t, status, call{method: "DELETE", path: "/fhir/Observation?" + query, token: token})
		return h
	}
	path := c.create(t, "therapist", identified("Patient/anna", "1", ""))
	del(c, 403, "therapist", "identifier=urn:x|1")
	if h := del(c, 204, "operator", "identifier=urn:x|none"); h.Get("ETag") != "" {
		t.Errorf("nothing was deleted: %v", h)
	}
	if h := del(c, 204, "operator", "identifier=urn:x|1"); h.Get("ETag") != `W/"2"` {
		t.Errorf("%v", h)
	}
	c.want(t, 410, call{method: "GET", path: path, token: "therapist"})
	for range 3 {
		c.create(t, "therapist", identified("Patient/anna", "2", ""))
	}
	del(c, 412, "operator", "identifier=urn:x|2")
	del(c, 400, "operator", "_count=1")
	if n := c.total(t, "therapist", "Observation?identifier=urn:x|2"); n != "3" {
		t.Errorf("%s are left", n)
	}
	m := newClinic(t, func(c *Config) { c.Several = true })
	for range 3 {
		m.create(t, "therapist", identified("Patient/anna", "2", ""))
	}
	other := m.create(t, "therapist", identified("Patient/anna", "3", ""))
	_, r, _ := m.want(t, 200, call{method: "DELETE", path: "/fhir/Observation?identifier=urn:x|2", token: "operator", header: header("Prefer", "return=OperationOutcome")})
	if !strings.Contains(string(r.Root.AppendJSON(nil)), "3") {
		t.Errorf("%s", r.Root.AppendJSON(nil))
	}
	if n := m.total(t, "therapist", "Observation?code=44261-6"); n != "1" {
		t.Errorf("%s are left", n)
	}
	m.want(t, 200, call{method: "GET", path: other, token: "therapist"})
}

func pathPatch(parts ...string) string {
	var ops []string
	for i := 0; i+3 < len(parts); i += 4 {
		ops = append(ops, fmt.Sprintf(`{"name":"operation","part":[{"name":"type","valueCode":%q},{"name":"path","valueString":%q},{"name":"name","valueString":%q},{"name":"value",%s}]}`, parts[i], parts[i+1], parts[i+2], parts[i+3]))
	}
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(ops, ",") + `]}`
}

func TestPatch(t *testing.T) {
	c := newClinic(t)
	path := c.create(t, "therapist", identified("Patient/anna", "1", `,"valueInteger":1`))
	patch := func(status int, path, body string, pairs ...string) (http.Header, *codec.Resource) {
		t.Helper()
		h, r, _ := c.want(t, status, call{method: "PATCH", path: path, token: "therapist", body: body, header: header(append([]string{"Content-Type", jsonPatch}, pairs...)...)})
		return h, r
	}
	h, r := patch(200, path, `[{"op":"test","path":"/valueInteger","value":1},{"op":"replace","path":"/valueInteger","value":2}]`)
	if h.Get("ETag") != `W/"2"` || r.Root.Get("valueInteger").Text != "2" {
		t.Errorf("%v %s", h, r.Root.AppendJSON(nil))
	}
	patch(422, path, `[{"op":"test","path":"/valueInteger","value":1},{"op":"replace","path":"/valueInteger","value":3}]`)
	patch(422, path, `[{"op":"remove","path":"/status"}]`)
	patch(422, path, `[{"op":"replace","path":"/subject/reference","value":"Patient/bert"}]`)
	patch(412, path, `[{"op":"replace","path":"/valueInteger","value":3}]`, "If-Match", `W/"1"`)
	patch(200, path, `[{"op":"replace","path":"/valueInteger","value":3}]`, "If-Match", `W/"2"`)
	_, r = patch(200, path, pathPatch("add", "Observation", "note", `"valueAnnotation":{"text":"seen"}`), "Content-Type", "application/fhir+json")
	if r.Root.Get("note").List()[0].Get("text").String() != "seen" {
		t.Errorf("%s", r.Root.AppendJSON(nil))
	}
	// By a condition.
	h, _ = patch(200, "/fhir/Observation?identifier=urn:x|1", `[{"op":"replace","path":"/valueInteger","value":4}]`)
	if located(h) != path {
		t.Errorf("%v", h)
	}
	patch(404, "/fhir/Observation?identifier=urn:x|none", `[{"op":"replace","path":"/valueInteger","value":4}]`)
	c.create(t, "therapist", identified("Patient/anna", "1", ""))
	patch(412, "/fhir/Observation?identifier=urn:x|1", `[{"op":"replace","path":"/valueInteger","value":4}]`)
	patch(404, "/fhir/Observation?identifier=urn:none|1&subject=Patient/bert", `[{"op":"test","path":"/status","value":"final"}]`)

	gone := c.create(t, "therapist", observation("Patient/anna", ""))
	c.want(t, 204, call{method: "DELETE", path: gone, token: "operator"})
	patch(410, gone, `[{"op":"test","path":"/status","value":"final"}]`)

	// Concurrent patches are all made, or say that they were not.
	var wait sync.WaitGroup
	codes := make([]int, 6)
	for i := range codes {
		wait.Go(func() {
			codes[i] = c.do(t, call{method: "PATCH", path: path, token: "therapist", header: header("Content-Type", jsonPatch),
				body: fmt.Sprintf(`[{"op":"add","path":"/note/-","value":{"text":"n%d"}}]`, i)}).Code
		})
	}
	wait.Wait()
	_, r, _ = c.want(t, 200, call{method: "GET", path: path, token: "therapist"})
	made := 0
	for _, code := range codes {
		switch code {
		case 200:
			made++
		case 409:
		default:
			t.Errorf("statuses %v", codes)
		}
	}
	if n := len(r.Root.Get("note").List()) - 1; n != made || made == 0 {
		t.Errorf("%d patches are made, and %d said so", n, made)
	}
}

func history(t *testing.T, c *clinic, token, path string) (out []string) {
	t.Helper()
	for next := path; next != ""; {
		_, r, _ := c.want(t, 200, call{method: "GET", path: next, token: token})
		if r.BundleType() != "history" {
			t.Fatal(r.BundleType())
		}
		for _, e := range r.Entries() {
			out = append(out, e.Method+" "+e.URL)
		}
		self := link(r, "self")
		c.want(t, 200, call{method: "GET", path: self, token: token})
		if next = link(r, "next"); next != "" {
			c.want(t, 400, call{method: "GET", path: next, token: "operator"})
			c.want(t, 400, call{method: "GET", path: next + "&_since=2020", token: token})
		}
		if len(out) > 50 {
			t.Fatal("the pages do not end")
		}
	}
	return out
}

func TestHistoryOfTypeAndSystem(t *testing.T) {
	c := newClinic(t, func(c *Config) { c.Upsert = true })
	one := c.create(t, "therapist", observation("Patient/anna", ""))
	id := strings.TrimPrefix(one, "/fhir/")
	c.create(t, "colleague", observation("Patient/bert", ""))
	h, _, _ := c.want(t, 201, call{method: "PUT", path: "/fhir/Observation/mine", token: "therapist", body: observation("Patient/anna", `,"id":"mine"`)})
	middle := h.Get("Last-Modified")
	c.want(t, 200, call{method: "PATCH", path: one, token: "therapist", body: `[{"op":"add","path":"/valueInteger","value":1}]`, header: header("Content-Type", jsonPatch)})
	c.want(t, 204, call{method: "DELETE", path: "/fhir/Observation/mine", token: "operator"})
	newest := []string{"DELETE Observation/mine", "PUT " + id, "PUT Observation/mine", "POST Observation"}
	for _, query := range []string{"", "?_count=1", "?_count=3", "?_sort=-_lastUpdated&_count=2", "?_sort=none"} {
		if got := history(t, c, "therapist", "/fhir/Observation/_history"+query); !slices.Equal(got, newest) {
			t.Errorf("%q: %v, want %v", query, got, newest)
		}
	}
	oldest := slices.Clone(newest)
	slices.Reverse(oldest)
	for _, query := range []string{"", "&_count=1", "&_count=3"} {
		if got := history(t, c, "therapist", "/fhir/Observation/_history?_sort=_lastUpdated"+query); !slices.Equal(got, oldest) {
			t.Errorf("%q: %v, want %v", query, got, oldest)
		}
	}
	at, err := http.ParseTime(middle)
	if err != nil {
		t.Fatal(err)
	}
	moment := url.QueryEscape(at.Format("2006-01-02T15:04:05Z"))
	if got := history(t, c, "therapist", "/fhir/Observation/_history?_since="+moment); !slices.Equal(got, newest[:3]) {
		t.Errorf("since: %v", got)
	}
	if got := history(t, c, "therapist", "/fhir/Observation/_history?_at="+moment); !slices.Equal(got, newest[2:]) {
		t.Errorf("at: %v", got)
	}
	if got := history(t, c, "therapist", one+"/_history?_since="+moment); !slices.Equal(got, newest[1:2]) {
		t.Errorf("since, of one: %v", got)
	}
	if got := history(t, c, "therapist", one+"/_history?_since=2100"); len(got) != 0 {
		t.Errorf("since, of one: %v", got)
	}
	c.want(t, 404, call{method: "GET", path: one + "/_history?_since=2100", token: "colleague"})
	all := history(t, c, "therapist", "/fhir/_history?_count=3")
	for _, x := range newest {
		if !slices.Contains(all, x) {
			t.Errorf("the history of everything lacks %s: %v", x, all)
		}
	}
	if slices.Contains(all, "PUT Patient/bert") || !slices.Contains(all, "PUT Patient/anna") || !slices.Contains(all, "PUT Practitioner/emil") {
		t.Errorf("the history of everything: %v", all)
	}
	if got := history(t, c, "colleague", "/fhir/Observation/_history"); !slices.Equal(got, []string{"POST Observation"}) {
		t.Errorf("of the colleague: %v", got)
	}
	c.want(t, 403, call{method: "GET", path: "/fhir/Observation/_history", token: "front-desk"})
	// A shorter form of each version.
	_, r, _ := c.want(t, 200, call{method: "GET", path: "/fhir/Observation/_history?_elements=status", token: "therapist"})
	if o := r.Entries()[1].Resource.Root; o.Get("subject") != nil || o.Get("status").String() != "final" {
		t.Errorf("%s", o.AppendJSON(nil))
	}
}

func TestIdempotencyKey(t *testing.T) {
	c := newClinic(t)
	send := func(token, method, path, body, key string, pairs ...string) (int, string) {
		t.Helper()
		h := header(append([]string{"Idempotency-Key", key}, pairs...)...)
		if h["Content-Type"] == nil {
			h.Set("Content-Type", "application/fhir+json")
		}
		w := c.do(t, call{method: method, path: path, token: token, body: body, header: h})
		return w.Code, answer(t, w)
	}
	same := func(status int, token, method, path, body, key string, pairs ...string) string {
		t.Helper()
		code, first := send(token, method, path, body, key, pairs...)
		_, again := send(token, method, path, body, key, pairs...)
		if code != status || first != again {
			t.Errorf("%s %s: the first answer is\n%s\nand the second\n%s", method, path, first, again)
		}
		return first
	}
	same(201, "therapist", "POST", "/fhir/Observation", identified("Patient/anna", "1", ""), `"one"`)
	if n := c.total(t, "therapist", "Observation?identifier=urn:x|1"); n != "1" {
		t.Fatalf("%s resources", n)
	}
	// Quotation marks are no part of the key; another request is.
	if code, _ := send("therapist", "POST", "/fhir/Observation", identified("Patient/anna", "1", ""), "one"); code != 201 {
		t.Errorf("the same key: %d", code)
	}
	for _, other := range [][3]string{{"POST", "/fhir/Observation", identified("Patient/anna", "2", "")}, {"DELETE", "/fhir/Observation/1", ""}, {"PUT", "/fhir/Observation?identifier=urn:x|1", identified("Patient/anna", "1", "")}} {
		if code, _ := send("therapist", other[0], other[1], other[2], "one"); code != 422 && code != 403 {
			t.Errorf("%s %s under a used key: %d", other[0], other[1], code)
		}
	}
	if n := c.total(t, "therapist", "Observation?code=44261-6"); n != "1" {
		t.Fatalf("%s resources", n)
	}
	// Another caller knows nothing of it.
	if code, _ := send("colleague", "POST", "/fhir/Observation", identified("Patient/bert", "1", ""), "one"); code != 201 {
		t.Errorf("another caller: %d", code)
	}
	first := same(200, "therapist", "PUT", "/fhir/Observation?identifier=urn:x|1", identified("Patient/anna", "1", `,"valueInteger":1`), "two")
	c.want(t, 200, call{method: "PUT", path: "/fhir/Observation?identifier=urn:x|1", token: "therapist", body: identified("Patient/anna", "1", `,"valueInteger":2`)})
	if _, late := send("therapist", "PUT", "/fhir/Observation?identifier=urn:x|1", identified("Patient/anna", "1", `,"valueInteger":1`), "two"); late != first {
		t.Errorf("after another change the first answer is\n%s\nand not\n%s", late, first)
	}
	same(200, "therapist", "PATCH", "/fhir/Observation?identifier=urn:x|1", `[{"op":"add","path":"/note","value":[{"text":"a"}]}]`, "three", "Content-Type", jsonPatch)
	same(204, "operator", "DELETE", "/fhir/Observation?identifier=urn:none|1", "", "four")
	same(422, "therapist", "POST", "/fhir/Observation", observation("Patient/bert", ""), "five")
	same(404, "operator", "DELETE", "/fhir/Observation/none", "", "six")
	entries := func(kind string) string {
		return `{"resourceType":"Bundle","type":"` + kind + `","entry":[` +
			`{"resource":` + identified("Patient/anna", kind, "") + `,"request":{"method":"POST","url":"Observation"}},` +
			`{"resource":` + identified("Patient/anna", kind, "") + `,"request":{"method":"POST","url":"Observation"}}]}`
	}
	for _, kind := range []string{"batch", "transaction"} {
		same(200, "therapist", "POST", "/fhir", entries(kind), kind)
		if n := c.total(t, "therapist", "Observation?identifier=urn:x|"+kind); n != "2" {
			t.Errorf("%s: %s resources", kind, n)
		}
	}
	// A batch keeps the answer of each of its entries.
	mixed := `{"resourceType":"Bundle","type":"batch","entry":[{"resource":` + identified("Patient/anna", "mixed", "") + `,"request":{"method":"POST","url":"Observation","ifNoneExist":"identifier=urn:x|mixed"}},` +
		`{"resource":` + identified("Patient/anna", "mixed", `,"derivedFrom":[{"reference":"Observation/later"}]`) + `,"request":{"method":"POST","url":"Observation"}}]}`
	before := same(200, "therapist", "POST", "/fhir", mixed, "mixed")
	c.want(t, 200, call{method: "GET", path: "/fhir/Patient/anna", token: "therapist"})
	if _, after := send("therapist", "POST", "/fhir", mixed, "mixed"); after != before {
		t.Errorf("%s\n%s", before, after)
	}

	// The same key many times at the same moment makes one resource.
	var wait sync.WaitGroup
	codes := make([]int, 6)
	for i := range codes {
		wait.Go(func() {
			codes[i] = c.do(t, call{method: "POST", path: "/fhir/Observation", token: "therapist", body: identified("Patient/anna", "race", ""),
				header: header("Content-Type", "application/fhir+json", "Idempotency-Key", "race")}).Code
		})
	}
	wait.Wait()
	for _, code := range codes {
		if code != 201 && code != 409 {
			t.Errorf("statuses %v", codes)
		}
	}
	if n := c.total(t, "therapist", "Observation?identifier=urn:x|race"); n != "1" {
		t.Errorf("%s resources", n)
	}
	// A key ends.
	c.tick.Add(25 * 60 * 60)
	if n, err := c.store.Forget(t.Context()); err != nil || n == 0 {
		t.Errorf("%d keys are forgotten: %v", n, err)
	}
	if code, _ := send("therapist", "POST", "/fhir/Observation", identified("Patient/anna", "2", ""), "one"); code != 201 {
		t.Errorf("an old key: %d", code)
	}
}

// Deleting what others refer to is refused as far as the caller may see them.
func TestReferentialIntegrity(t *testing.T) {
	c := newClinic(t)
	base := c.create(t, "therapist", observation("Patient/anna", ""))
	ref := strings.TrimPrefix(base, "/fhir/")
	derived := c.create(t, "therapist", observation("Patient/anna", `,"derivedFrom":[{"reference":"`+ref+`"}]`))
	_, _, body := c.want(t, 409, call{method: "DELETE", path: base, token: "operator"})
	if strings.Contains(body, strings.TrimPrefix(derived, "/fhir/Observation/")) {
		t.Errorf("the refusal names the referrer: %s", body)
	}
	// Both in one transaction.
	del := func(path string) string {
		return `{"request":{"method":"DELETE","url":"` + strings.TrimPrefix(path, "/fhir/") + `"}}`
	}
	c.want(t, 409, call{method: "POST", path: "/fhir", token: "operator", body: `{"resourceType":"Bundle","type":"transaction","entry":[` + del(base) + `]}`})
	c.want(t, 200, call{method: "POST", path: "/fhir", token: "operator", body: `{"resourceType":"Bundle","type":"transaction","entry":[` + del(base) + `,` + del(derived) + `]}`})

	// An update keeps a reference whose target has gone; it gets no new one.
	off := newClinic(t, func(c *Config) { c.Dangling = true })
	base = off.create(t, "therapist", observation("Patient/anna", ""))
	ref = strings.TrimPrefix(base, "/fhir/")
	from := `,"derivedFrom":[{"reference":"` + ref + `"}]`
	derived = off.create(t, "therapist", observation("Patient/anna", from))
	id := strings.TrimPrefix(derived, "/fhir/Observation/")
	off.want(t, 204, call{method: "DELETE", path: base, token: "operator"})
	off.want(t, 200, call{method: "PUT", path: derived, token: "therapist", body: observation("Patient/anna", from+`,"id":"`+id+`","valueInteger":1`)})
	off.want(t, 200, call{method: "PATCH", path: derived, token: "therapist", body: `[{"op":"replace","path":"/valueInteger","value":2}]`, header: header("Content-Type", jsonPatch)})
	off.want(t, 422, call{method: "POST", path: "/fhir/Observation", token: "therapist", body: observation("Patient/anna", from)})
	off.want(t, 422, call{method: "PUT", path: derived, token: "therapist", body: observation("Patient/anna", strings.Replace(from, ref, "Observation/none", 1)+`,"id":"`+id+`"`)})
}

func TestPartsOfAResource(t *testing.T) {
	c := newClinic(t)
	path := c.create(t, "therapist", observation("Patient/anna", `,"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},"contained":[{"resourceType":"Device","id":"d"}],"device":{"reference":"#d"},"valueInteger":1,"note":[{"text":"n"}]`))
	fields := func(query string) string {
		t.Helper()
		h, r, _ := c.want(t, 200, call{method: "GET", path: path + query, token: "therapist"})
		if h.Get("ETag") != `W/"1"` {
			t.Errorf("%v", h)
		}
		var names []string
		for _, f := range r.Root.Fields {
			names = append(names, f.Name)
		}
		slices.Sort(names)
		tag := r.Root.Get("meta").Get("tag").List()
		if subsetted := len(tag) == 1 && tag[0].Get("code").String() == "SUBSETTED"; subsetted != (query != "") {
			t.Errorf("%q is marked: %t", query, subsetted)
		}
		return strings.Join(names, " ")
	}
	for query, want := range map[string]string{
		"":                            "code contained device id meta note resourceType status subject text valueInteger",
		"?_elements=value,note":       "code id meta note resourceType status valueInteger",
		"?_elements=device":           "code contained device id meta resourceType status",
		"?_elements=Observation.note": "code id meta note resourceType status",
		"?_summary=text":              "code id meta resourceType status text",
		"?_summary=data":              "code contained device id meta note resourceType status subject valueInteger",
		"?_summary=true":              "code id meta resourceType status subject valueInteger",
	} {
		if got := fields(query); got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
	if got := fields("?_summary=data"); strings.Contains(got, "text") {
		t.Error(got)
	}
	plain := c.do(t, call{method: "GET", path: path, token: "therapist"}).Body.String()
	pretty := c.do(t, call{method: "GET", path: path + "?_pretty=true", token: "therapist"}).Body.String()
	if !strings.Contains(pretty, "\n  \"") || strings.Join(strings.Fields(pretty), "") != strings.Join(strings.Fields(plain), "") {
		t.Errorf("%s\n%s", plain, pretty)
	}
	one := c.do(t, call{method: "HEAD", path: path + "?_pretty=true", token: "therapist"}).Header().Get("Content-Length")
	if one != fmt.Sprint(len(pretty)) {
		t.Errorf("HEAD: %s, and the body has %d", one, len(pretty))
	}
}

func TestTransactionInteractions(t *testing.T) {
	c := newClinic(t, func(c *Config) { c.Upsert = true })
	tx := func(status int, token string, entries ...string) (*codec.Resource, string) {
		t.Helper()
		_, r, body := c.want(t, status, call{method: "POST", path: "/fhir", token: token, header: header("Prefer", "return=representation"),
			body: `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`})
		return r, body
	}
	entry := func(fullURL, method, u, resource, more string) string {
		if resource != "" {
			resource = `"resource":` + resource + `,`
		}
		if fullURL != "" {
			fullURL = `"fullUrl":"` + fullURL + `",`
		}
		return `{` + fullURL + resource + `"request":{"method":"` + method + `","url":"` + u + `"` + more + `}}`
	}
	kept := strings.TrimPrefix(c.create(t, "therapist", identified("Patient/anna", "kept", "")), "/fhir/")
	patched := strings.TrimPrefix(c.create(t, "therapist", identified("Patient/anna", "patched", `,"valueInteger":1`)), "/fhir/")
	also := strings.TrimPrefix(c.create(t, "therapist", identified("Patient/anna", "also", `,"valueInteger":1`)), "/fhir/")
	doomed := strings.TrimPrefix(c.create(t, "therapist", identified("Patient/anna", "doomed", "")), "/fhir/")
	binary := `{"resourceType":"Binary","contentType":"` + jsonPatch + `","data":"` + base64.StdEncoding.EncodeToString([]byte(`[{"op":"replace","path":"/valueInteger","value":2}]`)) + `"}`
	const urn3, urn4 = "urn:uuid:3c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "urn:uuid:4c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
	// The order of the entries is not the order of the changes.
	r, body := tx(200, "operator",
		entry("", "GET", "Observation?identifier=urn:x|doomed", "", ""),
		entry("", "HEAD", kept, "", ""),
		entry("", "PATCH", patched, binary, ""),
		entry("", "PATCH", "Observation?identifier=urn:x|also", pathPatch("add", "Observation", "derivedFrom", `"valueReference":{"reference":"`+urn2+`"}`), ""),
		entry(urn1, "PUT", "Observation?identifier=urn:x|kept", identified("Patient?identifier=urn:mrn|A1", "kept", `,"derivedFrom":[{"reference":"`+urn2+`/_history/1"},{"reference":"`+urn3+`"}]`), ""),
		entry(urn2, "POST", "Observation", identified("Patient/anna", "new", `,"derivedFrom":[{"reference":"`+urn1+`/_history/7"}]`), ""),
		entry(urn3, "POST", "Observation", identified("Patient/anna", "kept", ""), `,"ifNoneExist":"identifier=urn:x|patched"`),
		entry(urn4, "PUT", "Observation?identifier=urn:x|fresh", identified("Patient/anna", "fresh", `,"id":"fresh","derivedFrom":[{"reference":"`+urn3+`"}]`), ""),
		entry("", "DELETE", "Observation?identifier=urn:x|doomed", "", ""),
	)
	e := r.Entries()
	var statuses []string
	for _, x := range e {
		statuses = append(statuses, x.Node.Get("response").Get("status").String()[:3])
	}
	if got := strings.Join(statuses, " "); got != "200 200 200 200 200 201 200 201 204" {
		t.Fatalf("statuses %s\n%s", got, body)
	}
	if e[0].Resource.Root.Get("entry") != nil || e[1].Resource != nil || e[2].Resource.Root.Get("valueInteger").Text != "2" {
		t.Errorf("%s", body)
	}
	created := e[5].Resource.Ref().String()
	refs := func(i int) (out []string) {
		for _, l := range e[i].Resource.References()[1:] {
			out = append(out, l.Node.Text)
		}
		return out
	}
	for i, want := range map[int][]string{3: {created}, 4: {created + "/_history/1", patched}, 5: {kept + "/_history/2"}, 7: {patched}} {
		if got := refs(i); !slices.Equal(got, want) {
			t.Errorf("entry %d refers to %v, want %v", i, got, want)
		}
	}
	if e[4].Resource.Ref().String() != kept || e[6].Resource.Ref().String() != patched || e[4].Resource.References()[0].Node.Text != "Patient/anna" || e[7].Resource.Ref().String() != "Observation/fresh" {
		t.Errorf("%s", body)
	}
	c.want(t, 410, call{method: "GET", path: "/fhir/" + doomed, token: "therapist"})
	// One resource twice, by whatever name.
	for _, pair := range [][2]string{
		{entry("", "DELETE", kept, "", ""), entry("", "DELETE", "Observation?identifier=urn:x|kept", "", "")},
		{entry("", "PATCH", also, binary, ""), entry("", "PATCH", "Observation?identifier=urn:x|also", binary, "")},
		{entry("", "PUT", "Observation?identifier=urn:x|fresh", identified("Patient/anna", "fresh", ""), ""), entry("", "PATCH", "Observation/fresh", pathPatch("add", "Observation", "note", `"valueAnnotation":{"text":"x"}`), "")},
	} {
		tx(400, "operator", pair[0], pair[1])
	}
	// One that fails takes all with it.
	for _, bad := range []string{
		entry("", "PATCH", "Observation/none", binary, ""), entry("", "PATCH", also, binary, `,"ifMatch":"W/\"9\""`), entry("", "DELETE", "Observation?identifier=urn:x|also,urn:x|kept", "", ""),
	} {
		_, r, body := c.want(t, map[bool]int{true: 404, false: 412}[strings.Contains(bad, "none")], call{method: "POST", path: "/fhir", token: "operator", body: `{"resourceType":"Bundle","type":"transaction","entry":[` + entry("", "POST", "Observation", identified("Patient/anna", "lost", ""), "") + `,` + bad + `]}`})
		if path := r.Root.Get("issue").List()[0].Get("expression").List(); len(path) != 1 || !strings.HasPrefix(path[0].String(), "Bundle.entry[1]") {
			t.Errorf("%s", body)
		}
	}
	if n := c.total(t, "operator", "Observation?identifier=urn:x|lost"); n != "0" {
		t.Errorf("%s are left", n)
	}
}
