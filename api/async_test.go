package api

import (
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/codec"
)

// fetch polls until the result is there.
func (c *clinic) fetch(t *testing.T, token, path string) *codec.Resource {
	t.Helper()
	for range 3000 { // a minute
		w := c.do(t, call{method: "GET", path: path, token: token})
		switch w.Code {
		case 202:
			if w.Header().Get("Retry-After") == "" || w.Header().Get("X-Progress") == "" || w.Body.Len() > 0 {
				t.Fatalf("%v %s", w.Header(), w.Body)
			}
			time.Sleep(20 * time.Millisecond)
		case 200:
			r, err := codec.Parse(w.Body.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			return r
		default:
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	t.Fatal("the result does not come")
	return nil
}

func (c *clinic) putOff(t *testing.T, x call) string {
	t.Helper()
	if x.header == nil {
		x.header = header("Content-Type", "application/fhir+json")
	}
	x.header.Set("Prefer", "respond-async")
	w := c.do(t, x)
	if w.Code != 202 || w.Body.Len() > 0 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return strings.TrimPrefix(w.Header().Get("Content-Location"), "https://clinic.example")
}

func TestRespondAsync(t *testing.T) {
	c := newClinic(t)
	c.create(t, "therapist", observation("Patient/anna", ""))
	c.create(t, "colleague", observation("Patient/bert", ""))
	for name, x := range map[string]call{
		"search":         {method: "GET", path: "/fhir/Observation?code=44261-6&_total=accurate", token: "therapist"},
		"search by form": {method: "POST", path: "/fhir/Observation/_search", token: "therapist", body: "code=44261-6&_total=accurate", header: header("Content-Type", "application/x-www-form-urlencoded")},
		"history":        {method: "GET", path: "/fhir/_history?_count=1000", token: "therapist"},
	} {
		t.Run(name, func(t *testing.T) {
			path := c.putOff(t, x)
			r := c.fetch(t, "therapist", path)
			e := r.Entries()
			if r.BundleType() != "batch-response" || len(e) != 1 || e[0].Node.Get("response").Get("status").String() != "200 OK" {
				t.Fatalf("%s", r.Root.AppendJSON(nil))
			}
			inner := e[0].Resource
			if name == "history" && inner.BundleType() != "history" || name != "history" && inner.Root.Get("total").Text != "1" {
				t.Errorf("%s", inner.Root.AppendJSON(nil))
			}
			absent := answer(t, c.do(t, call{method: "GET", path: "/fhir/_async/00000000-0000-4000-8000-000000000000", token: "colleague"}))
			for _, method := range []string{"GET", "DELETE"} {
				if got := answer(t, c.do(t, call{method: method, path: path, token: "colleague"})); got != absent || !strings.HasPrefix(got, "404 ") {
					t.Errorf("%s of another's is\n%s\nand of none\n%s", method, got, absent)
				}
			}
			c.want(t, 202, call{method: "DELETE", path: path, token: "therapist"})
			c.want(t, 404, call{method: "GET", path: path, token: "therapist"})
		})
	}
	wrong := c.fetch(t, "therapist", c.putOff(t, call{method: "GET", path: "/fhir/Observation?colour=red", token: "therapist"}))
	if s := wrong.Entries()[0].Node.Get("response").Get("status").String(); s != "400 Bad Request" {
		t.Errorf("a wrong search: %s", s)
	}
	c.want(t, 403, call{method: "GET", path: "/fhir/Claim?status=active", token: "front-desk", header: header("Prefer", "respond-async")})

	// A batch is carried out once, however often its result is fetched.
	batch := `{"resourceType":"Bundle","type":"batch","entry":[{"resource":` + identified("Patient/anna", "late", "") + `,"request":{"method":"POST","url":"Observation"}},{"request":{"method":"GET","url":"Observation?identifier=urn:x|late"}},{"request":{"method":"GET","url":"Patient/bert"}}]}`
	path := c.putOff(t, call{method: "POST", path: "/fhir", token: "therapist", body: batch})
	for range 2 {
		r := c.fetch(t, "therapist", path)
		var statuses []string
		for _, e := range r.Entries() {
			statuses = append(statuses, e.Node.Get("response").Get("status").String()[:3])
		}
		if r.BundleType() != "batch-response" || strings.Join(statuses, " ") != "201 200 404" {
			t.Errorf("%s", r.Root.AppendJSON(nil))
		}
	}
	if n := c.total(t, "therapist", "Observation?identifier=urn:x|late"); n != "1" {
		t.Errorf("%s resources", n)
	}
	// What has been hidden since then is hidden in the result.
	late := c.putOff(t, call{method: "GET", path: "/fhir/Observation?code=44261-6&_total=accurate", token: "colleague"})
	c.want(t, 200, call{method: "PUT", path: "/fhir/CareTeam/two", token: "practice-admin", body: `{"resourceType":"CareTeam","id":"two","status":"active","subject":{"reference":"Patient/bert"}}`})
	if r := c.fetch(t, "colleague", late); r.Entries()[0].Resource.Root.Get("total").Text != "0" {
		t.Errorf("%s", r.Root.AppendJSON(nil))
	}
	// A caller has so many at a time, and they end.
	for range 6 {
		c.putOff(t, call{method: "GET", path: "/fhir/Observation", token: "therapist"})
	}
	c.want(t, 429, call{method: "GET", path: "/fhir/Observation", token: "therapist", header: header("Prefer", "respond-async")})
	c.putOff(t, call{method: "GET", path: "/fhir/Observation", token: "colleague"})
	c.tick.Add(25 * 60 * 60)
	c.want(t, 404, call{method: "GET", path: path, token: "therapist"})
	c.putOff(t, call{method: "GET", path: "/fhir/Observation", token: "therapist"})
}

// Another process on the same database gives the same result; one with another
// key cannot, and says so.
func TestRespondAsyncAfterARestart(t *testing.T) {
	c := newClinic(t)
	batch := `{"resourceType":"Bundle","type":"batch","entry":[{"resource":` + identified("Patient/anna", "late", "") + `,"request":{"method":"POST","url":"Observation"}}]}`
	path := c.putOff(t, call{method: "POST", path: "/fhir", token: "therapist", body: batch})
	again := newHandler(t, c, func(*Config) {})
	again.fetch(t, "therapist", path)
	c.fetch(t, "therapist", path)
	if n := c.total(t, "therapist", "Observation?identifier=urn:x|late"); n != "1" {
		t.Errorf("%s resources", n)
	}
	other := newHandler(t, c, func(c *Config) { c.Cursors = [32]byte{2} })
	_, r, _ := other.want(t, 422, call{method: "GET", path: path, token: "therapist"})
	if !strings.Contains(string(r.Root.AppendJSON(nil)), "send it again") {
		t.Errorf("%s", r.Root.AppendJSON(nil))
	}
	// A worker that ended in the middle: its lease runs out, and the next poll goes on.
	path = c.putOff(t, call{method: "POST", path: "/fhir", token: "therapist", body: strings.ReplaceAll(batch, "late", "later")})
	c.fetch(t, "therapist", path)
	id := path[strings.LastIndexByte(path, '/')+1:]
	c.exec(t, "UPDATE record.job SET ready = false, worker = NULL, lease = '2000-01-01' WHERE id = $1", id)
	c.fetch(t, "therapist", path)
	if n := c.total(t, "therapist", "Observation?identifier=urn:x|later"); n != "1" {
		t.Errorf("%s resources", n)
	}
}
