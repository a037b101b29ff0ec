package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// newBulk is a clinic that exports.
func newBulk(t *testing.T) (*clinic, *export.Service) {
	t.Helper()
	c := newClinic(t)
	sink, err := export.OpenDisk(filepath.Join(t.TempDir(), "exports"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	s, err := export.New(export.Config{
		Base: c.cfg.Base, Engine: c.cfg.Engine, Gate: c.cfg.Gate, Records: c.store, Consents: c.store, Jobs: c.store.Exports(), Sink: sink,
		Keys: envelopetest.Keys(), Log: c.cfg.Log, Now: c.now, Settle: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.cfg.Exports = s
	if c.Handler, err = New(c.cfg); err != nil {
		t.Fatal(err)
	}
	return c, s
}

func work(t *testing.T, s *export.Service) {
	t.Helper()
	for busy := true; busy; {
		var err error
		if busy, err = s.Step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func ask(t *testing.T, c *clinic, method, path, token, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	h := header(headers...)
	if body != "" {
		h.Set("Content-Type", "application/fhir+json")
	}
	return c.do(t, call{method: method, path: path, token: token, body: body, header: h})
}

func below(t *testing.T, url string) string {
	t.Helper()
	path, ok := strings.CutPrefix(url, "https://clinic.example")
	if !ok {
		t.Fatalf("%q is elsewhere", url)
	}
	return path
}

type manifest struct {
	TransactionTime     string `json:"transactionTime"`
	Request             string `json:"request"`
	RequiresAccessToken bool   `json:"requiresAccessToken"`
	Output              []entry
	Deleted             []entry
	Error               []entry
	Link                []struct{ Relation, URL string }
}

type entry struct {
	Type, URL string
	Count     int
}

// The steps of Bulk Data Access 2.0, in the words of its section "Request Flow".
func TestBulkFlow(t *testing.T) {
	c, s := newBulk(t)
	kick := func(path, body string, headers ...string) *httptest.ResponseRecorder {
		method := "GET"
		if body != "" {
			method = "POST"
		}
		return ask(t, c, method, path, "exchange", body, append(headers, "Accept", "application/fhir+json", "Prefer", "respond-async")...)
	}
	w := kick("/fhir/$export?_type=Patient,Practitioner", "")
	if w.Code != 202 || w.Body.Len() != 0 {
		t.Fatalf("kick-off: %d %s", w.Code, w.Body)
	}
	place := below(t, w.Header().Get("Content-Location"))
	w = ask(t, c, "GET", place, "exchange", "")
	if w.Code != 202 || w.Header().Get("X-Progress") == "" || w.Header().Get("Retry-After") == "" {
		t.Errorf("in progress: %d %v", w.Code, w.Header())
	}
	if w := ask(t, c, "GET", place+"/1.ndjson", "exchange", ""); w.Code != 404 {
		t.Errorf("a file of what is not done: %d", w.Code)
	}
	work(t, s)
	w = ask(t, c, "GET", place, "exchange", "", "Accept", "application/json")
	var m manifest
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Expires") == "" {
		t.Fatalf("complete: %d %v %v %s", w.Code, err, w.Header(), w.Body)
	}
	if !m.RequiresAccessToken || m.Request != "https://clinic.example/fhir/$export?_type=Patient,Practitioner" || m.Error == nil || m.Deleted == nil ||
		!regexp.MustCompile(`^2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`).MatchString(m.TransactionTime) {
		t.Errorf("%+v", m)
	}
	if len(m.Output) != 2 || m.Output[0].Type != "Patient" || m.Output[0].Count != 2 || m.Output[1].Type != "Practitioner" || m.Output[1].Count != 2 {
		t.Fatalf("%+v", m.Output)
	}
	file := below(t, m.Output[0].URL)
	w = ask(t, c, "GET", file, "exchange", "", "Accept", "application/fhir+ndjson")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/fhir+ndjson" || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Encoding") != "" {
		t.Errorf("file: %d %v", w.Code, w.Header())
	}
	plain := w.Body.String()
	if strings.Count(plain, "\n") != 2 || !strings.Contains(plain, `"Anna"`) {
		t.Errorf("%q", plain)
	}
	for l := range strings.Lines(plain) {
		if !json.Valid([]byte(l)) {
			t.Errorf("%q", l)
		}
	}
	w = ask(t, c, "GET", file, "exchange", "", "Accept-Encoding", "br, gzip;q=0.5")
	zip, err := gzip.NewReader(w.Body)
	if err != nil || w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("gzip: %v %v", err, w.Header())
	}
	if text, err := io.ReadAll(zip); err != nil || string(text) != plain {
		t.Errorf("gzip: %q %v", text, err)
	}
	if w := ask(t, c, "HEAD", file, "exchange", ""); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "application/fhir+ndjson" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	if w := ask(t, c, "GET", file, "", ""); w.Code != 401 {
		t.Errorf("without a token: %d", w.Code)
	}

	// Another client's, and one that never was: the same answer, byte for byte.
	for _, x := range []struct{ method, path, absent string }{
		{"GET", place, "/fhir/_export/0b7f4e9c-0000-4000-8000-000000000000"}, {"DELETE", place, "/fhir/_export/0b7f4e9c-0000-4000-8000-000000000000"},
		{"GET", file, "/fhir/_export/0b7f4e9c-0000-4000-8000-000000000000/1.ndjson"}, {"GET", file, "/fhir/_export/x/1.ndjson"}, {"GET", place, "/fhir/_export/$"},
	} {
		var got [2]string
		for i, p := range []string{x.path, x.absent} {
			w := ask(t, c, x.method, p, "other-exchange", "")
			w.Header().Del("X-Request-Id")
			var b bytes.Buffer
			_ = w.Header().Write(&b)
			got[i] = http.StatusText(w.Code) + b.String() + w.Body.String()
		}
		if got[0] != got[1] || !strings.HasPrefix(got[0], "Not Found") {
			t.Errorf("%s %s\n%s\n%s", x.method, x.path, got[0], got[1])
		}
	}

	w = ask(t, c, "DELETE", place, "exchange", "")
	if w.Code != 202 {
		t.Errorf("cancel: %d %s", w.Code, w.Body)
	}
	for _, p := range []string{place, file} {
		if w := ask(t, c, "GET", p, "exchange", ""); w.Code != 404 {
			t.Errorf("after it was cancelled: %d", w.Code)
		}
	}

	// The other kick-offs.
	body := `{"resourceType":"Parameters","parameter":[{"name":"_type","valueString":"Patient,Observation"},{"name":"patient","valueReference":{"reference":"Patient/bert"}},{"name":"_since","valueInstant":"2020-01-01T00:00:00Z"}]}`
	w = kick("/fhir/Patient/$export", body)
	if w.Code != 202 {
		t.Fatalf("POST: %d %s", w.Code, w.Body)
	}
	work(t, s)
	w = ask(t, c, "GET", below(t, w.Header().Get("Content-Location")), "exchange", "")
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || m.Request != "https://clinic.example/fhir/Patient/$export" || len(m.Output) != 1 || m.Output[0].Count != 1 {
		t.Errorf("POST: %v %s", err, w.Body)
	}
}

func TestBulkRefusals(t *testing.T) {
	c, _ := newBulk(t)
	async := []string{"Prefer", "respond-async"}
	lenient := []string{"Prefer", "respond-async, handling=lenient"}
	for _, x := range []struct {
		path, token, body string
		headers           []string
		want              int
	}{
		{"/fhir/$export", "exchange", "", nil, 400},
		{"/fhir/$export?_unknown=1", "exchange", "", async, 400},
		{"/fhir/$export?_unknown=1", "exchange", "", lenient, 202},
		{"/fhir/$export?_outputFormat=application/fhir%2Bndjson", "exchange", "", async, 202},
		{"/fhir/$export?_outputFormat=ndjson", "exchange", "", async, 202},
		{"/fhir/$export?_outputFormat=application/fhir%2Bparquet", "exchange", "", async, 400},
		{"/fhir/$export?_type=Patient&includeAssociatedData=LatestProvenanceResources,_own", "exchange", "", async, 400},
		{"/fhir/$export?_type=Patient&includeAssociatedData=LatestProvenanceResources,_own", "exchange", "", lenient, 202},
		{"/fhir/$export?_type=Patient&includeAssociatedData=RelevantProvenanceResources&includeAssociatedData=LatestProvenanceResources", "exchange", "", async, 202},
		{"/fhir/$export?allowPartialManifests=perhaps", "exchange", "", async, 400},
		{"/fhir/$export?allowPartialManifests=false", "exchange", "", async, 202},
		{"/fhir/$export?organizeOutputBy=Patient", "exchange", "", async, 202},
		{"/fhir/$export?organizeOutputBy=Observation", "exchange", "", async, 400},
		{"/fhir/$export?organizeOutputBy=", "exchange", "", async, 400},
		{"/fhir/$export?organizeOutputBy=Observation", "exchange", "", lenient, 202},
		{"/fhir/$export?organizeOutputBy=Patient&organizeOutputBy=Patient", "exchange", "", async, 400},
		{"/fhir/$export?organizeOutputBy=Patient&_type=Organization", "exchange", "", async, 400},
		{"/fhir/$export?organizeOutputBy=Patient&_type=Patient&includeAssociatedData=LatestProvenanceResources", "exchange", "", async, 400},
		{"/fhir/$export?_outputFormat=text/csv", "exchange", "", async, 400},
		{"/fhir/$export?_outputFormat=application/vnd.apache.parquet", "exchange", "", lenient, 400},
		{"/fhir/$export?_since=x", "exchange", "", async, 400},
		{"/fhir/$export?_since=2026-01-01T00:00:00Z&_since=2026-01-02T00:00:00Z", "exchange", "", async, 400},
		{"/fhir/Patient/$export?patient=Patient/anna", "exchange", "", async, 400},
		{"/fhir/$export?_type=Consent", "exchange", "", async, 403},
		{"/fhir/Group/1/$export", "exchange", "", async, 404},
		{"/fhir/$export", "therapist", "", async, 403},
		{"/fhir/$export", "operator", "", async, 403},
		{"/fhir/$export", "exchange", `{"resourceType":"Patient"}`, async, 400},
		{"/fhir/Patient/$export", "exchange", `{"resourceType":"Parameters","parameter":[{"name":"patient","valueReference":{"reference":"Group/1"}}]}`, async, 400},
		{"/fhir/$export", "", "", async, 401},
		{"/fhir/Observation/$export", "exchange", "", async, 404},
	} {
		method := "GET"
		if x.body != "" {
			method = "POST"
		}
		w := ask(t, c, method, x.path, x.token, x.body, x.headers...)
		if w.Code != x.want {
			t.Errorf("%s %s as %q %v: %d, want %d\n%s", method, x.path, x.token, x.headers, w.Code, x.want, w.Body)
		}
		if w.Code == 202 {
			ask(t, c, "DELETE", below(t, w.Header().Get("Content-Location")), x.token, "")
		}
	}
	// Without exports there is no such operation.
	c.cfg.Exports = nil
	h, err := New(c.cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Handler = h
	if w := ask(t, c, "GET", "/fhir/$export", "exchange", "", async...); w.Code != 404 {
		t.Errorf("without exports: %d", w.Code)
	}
}

// Manifests that link to each other, of an export that is under way and of one that is done.
func TestBulkPartialManifests(t *testing.T) {
	c, s := newBulk(t)
	body := `{"resourceType":"Parameters","parameter":[{"name":"allowPartialManifests","valueBoolean":true},{"name":"_type","valueString":"Patient"},{"name":"_type","valueString":"Practitioner"}]}`
	w := ask(t, c, "POST", "/fhir/$export", "exchange", body, "Prefer", "respond-async")
	place := below(t, w.Header().Get("Content-Location"))
	if w := ask(t, c, "GET", place, "exchange", ""); w.Code != 202 || w.Body.Len() != 0 {
		t.Errorf("at its beginning: %d %s", w.Code, w.Body)
	}
	if _, err := s.Step(context.Background()); err != nil {
		t.Fatal(err)
	}
	w = ask(t, c, "GET", place, "exchange", "")
	var first, again, next manifest
	if err := json.Unmarshal(w.Body.Bytes(), &first); err != nil || w.Code != 202 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Retry-After") == "" || w.Header().Get("X-Progress") == "" {
		t.Fatalf("%d %v %v %s", w.Code, err, w.Header(), w.Body)
	}
	if len(first.Output) != 1 || first.Output[0].Type != "Patient" || first.Link != nil {
		t.Fatalf("%+v", first)
	}
	if w := ask(t, c, "GET", below(t, first.Output[0].URL), "exchange", ""); w.Code != 200 {
		t.Errorf("a file that is shown: %d", w.Code)
	}
	if w := ask(t, c, "GET", place+"?page=2", "exchange", ""); w.Code != 404 {
		t.Errorf("a manifest that there is not: %d", w.Code)
	}
	work(t, s)
	w = ask(t, c, "GET", place, "exchange", "")
	if err := json.Unmarshal(w.Body.Bytes(), &again); err != nil || w.Code != 200 || len(again.Output) != 1 || again.Output[0] != first.Output[0] || len(again.Link) != 1 || again.Link[0].Relation != "next" {
		t.Fatalf("%d %v %s", w.Code, err, w.Body)
	}
	w = ask(t, c, "GET", below(t, again.Link[0].URL), "exchange", "")
	if err := json.Unmarshal(w.Body.Bytes(), &next); err != nil || w.Code != 200 || len(next.Output) != 1 || next.Output[0].Type != "Practitioner" || next.Link != nil || next.TransactionTime != first.TransactionTime || next.Request != first.Request {
		t.Errorf("%d %v %s", w.Code, err, w.Body)
	}
}

// A client that asks too often is told when to come back.
func TestBulkPollingTooOften(t *testing.T) {
	c, _ := newBulk(t)
	w := ask(t, c, "GET", "/fhir/$export?_type=Patient", "exchange", "", "Prefer", "respond-async")
	place := below(t, w.Header().Get("Content-Location"))
	for range 40 {
		w = ask(t, c, "GET", place, "exchange", "")
	}
	if w.Code != 429 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"throttled"`) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	for range 3 {
		ask(t, c, "GET", "/fhir/$export?_type=Patient", "exchange", "", "Prefer", "respond-async")
	}
	w = ask(t, c, "GET", "/fhir/$export?_type=Patient", "exchange", "", "Prefer", "respond-async")
	if w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a fifth export: %d %v", w.Code, w.Header())
	}
}

// A file that cannot be read to its end does not look as if it were whole: on the wire, the
// connection ends.
func TestABrokenFileBreaksOff(t *testing.T) {
	c, s := newBulk(t)
	for range 40 {
		c.create(t, "colleague", observation("Patient/bert", `,"note":[{"text":"`+strings.Repeat("long ", 4000)+`"}]`))
	}
	w := ask(t, c, "GET", "/fhir/$export?_type=Observation", "exchange", "", "Prefer", "respond-async")
	work(t, s)
	place := below(t, w.Header().Get("Content-Location"))
	c.exec(t, "UPDATE export.part SET lengths[lines] = lengths[lines] + 1")
	server := httptest.NewServer(c.Handler)
	defer server.Close()
	rq, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+place+"/1.ndjson", nil)
	if err != nil {
		t.Fatal(err)
	}
	rq.Header.Set("Authorization", "Bearer exchange")
	rq.Header.Set("Accept-Encoding", "identity") // else it all fits into the first buffer
	res, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK || len(text) == 0 || err == nil {
		t.Errorf("%d, %d bytes, %v", res.StatusCode, len(text), err)
	}
	// What fails before the first byte is an error like any other.
	c.exec(t, "UPDATE export.part SET name = gen_random_uuid()")
	if w := ask(t, c, "GET", place+"/1.ndjson", "exchange", ""); w.Code != 500 || strings.Contains(w.Body.String(), os.TempDir()) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Files of blocks are of no one type, and the manifest says by what they are organized.
func TestBulkOrganizedByPatient(t *testing.T) {
	c, s := newBulk(t)
	c.change(t, fhir.Update, diagnosis("k1", "bert", "R51.9"))
	w := ask(t, c, "GET", "/fhir/Patient/$export?_type=Patient,Condition&organizeOutputBy=Patient", "exchange", "", "Prefer", "respond-async")
	work(t, s)
	w = ask(t, c, "GET", below(t, w.Header().Get("Content-Location")), "exchange", "")
	var m struct {
		OutputOrganizedBy string
		Output            []map[string]any
	}
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || m.OutputOrganizedBy != "Patient" || len(m.Output) != 1 || m.Output[0]["type"] != nil || m.Output[0]["count"] != 5.0 {
		t.Fatalf("%v %s", err, w.Body)
	}
	url, _ := m.Output[0]["url"].(string)
	w = ask(t, c, "GET", below(t, url), "exchange", "")
	var got []string
	for l := range strings.Lines(w.Body.String()) {
		got = append(got, regexp.MustCompile(`"resourceType": ?"(\w+)"`).FindStringSubmatch(l)[1])
	}
	const first = `{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/anna"}}]}` + "\n"
	if strings.Join(got, " ") != "Parameters Patient Parameters Patient Condition" || !strings.HasPrefix(w.Body.String(), first) {
		t.Errorf("%v\n%s", got, w.Body)
	}
}

// What is ignored under handling=lenient is told in the list error, and in no other.
func TestBulkLenientHandlingIsTold(t *testing.T) {
	c, s := newBulk(t)
	w := ask(t, c, "GET", "/fhir/$export?_type=Patient,Consent&_own=1&organizeOutputBy=Group&includeAssociatedData=_own", "exchange", "", "Prefer", "respond-async, handling=lenient")
	work(t, s)
	w = ask(t, c, "GET", below(t, w.Header().Get("Content-Location")), "exchange", "")
	var m manifest
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || len(m.Output) != 1 || m.Output[0].Type != "Patient" || len(m.Error) != 1 || m.Error[0].Type != "OperationOutcome" || m.Error[0].Count != 4 {
		t.Fatalf("%v %s", err, w.Body)
	}
	w = ask(t, c, "GET", below(t, m.Error[0].URL), "exchange", "")
	for _, what := range []string{"_own: ", "Consent: ", "organizeOutputBy: ", "includeAssociatedData: "} {
		if !strings.Contains(w.Body.String(), what) || strings.Count(w.Body.String(), "\n") != 4 {
			t.Errorf("%s is not told: %s", what, w.Body)
		}
	}
}
