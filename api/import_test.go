package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/egress"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

// newImports is a clinic whose exchanges may send what is general; host serves files to it.
func newImports(t *testing.T, host string) (*clinic, *intake.Service) {
	t.Helper()
	c := newClinic(t)
	sink, err := export.OpenDisk(filepath.Join(t.TempDir(), "imports"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	src := pdp.Embedded()
	src.Policy += "\np, hie, TREAT, read|create|update, Patient|Observation, general, -, allow, exchange-sends\n"
	policy, err := pdp.New(src)
	if err != nil {
		t.Fatal(err)
	}
	c.cfg.Engine = authz.NewEngine(policy, c.store, c.now)
	c.cfg.Gate = record.NewGate(c.cfg.Engine, c.store, c.now).Explaining(c.store).Accounting(c.store)
	g, err := egress.New(egress.Config{Hosts: []string{host}, Local: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := intake.NewService(intake.Config{
		Base: c.cfg.Base, Engine: c.cfg.Engine, Gate: c.cfg.Gate, Finder: c.store, Jobs: c.store.Imports(), Sink: sink,
		Keys: envelopetest.Keys(), Egress: g, Log: c.cfg.Log, Now: c.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.cfg.Imports = s
	c.cfg.Authenticator = sends{c}
	if c.Handler, err = New(c.cfg); err != nil {
		t.Fatal(err)
	}
	return c, s
}

// sends gives exchanges the scopes to write.
type sends struct{ *clinic }

func (s sends) Authenticate(ctx context.Context, token string) (authz.Principal, error) {
	p, err := s.clinic.Authenticate(ctx, token)
	if p.Client != "" {
		p.Scopes = smart.Parse("system/*.cruds")
	}
	return p, err
}

func takeIn(t *testing.T, s *intake.Service) {
	t.Helper()
	for busy := true; busy; {
		var err error
		if busy, err = s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// send posts the body of an import.
func send(t *testing.T, c *clinic, path, token, contentType, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	h := header(append(headers, "Content-Type", contentType)...)
	return c.do(t, call{method: "POST", path: path, token: token, body: body, header: h})
}

type importManifest struct {
	TransactionTime, Request string
	RequiresAccessToken      bool
	Output, Error            []struct {
		Type, InputURL, URL string
		Count               int
	}
	Extension map[string]any
}

const ndjson = "application/fhir+ndjson"

// The steps of the Bulk Data Import Proposal, in the words of its section "Request Flow".
func TestImportFlow(t *testing.T) {
	from := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a token was sent elsewhere")
		}
		switch r.URL.Path {
		case "/patients.ndjson":
			_, _ = io.WriteString(w, `{"resourceType":"Patient","id":"carl"}`+"\n"+`{"resourceType":"Patient","id":"dina","gender":"CANARY"}`+"\n")
		case "/observations.ndjson":
			_, _ = io.WriteString(w, strings.Replace(observation("Patient/carl", ""), `{`, `{"id":"o1",`, 1)+"\n")
		}
	}))
	defer from.Close()
	c, s := newImports(t, strings.TrimPrefix(from.URL, "http://"))
	async := []string{"Prefer", "respond-async", "Accept", "application/fhir+json"}
	body := `{"inputFormat":"application/fhir+ndjson","inputSource":"https://other.example","storageDetail":{"type":"https"},"input":[{"type":"Observation","url":"` + from.URL + `/observations.ndjson?sig=1"},{"type":"Patient","url":"` + from.URL + `/patients.ndjson"}]}`
	w := send(t, c, "/fhir/$import", "exchange", "application/json", body, async...)
	if w.Code != 202 || w.Body.Len() != 0 {
		t.Fatalf("kick-off: %d %s", w.Code, w.Body)
	}
	place := below(t, w.Header().Get("Content-Location"))
	if w = ask(t, c, "GET", place, "exchange", ""); w.Code != 202 || w.Header().Get("X-Progress") == "" || len(w.Header().Get("X-Progress")) >= 100 || w.Header().Get("Retry-After") == "" {
		t.Errorf("in progress: %d %v", w.Code, w.Header())
	}
	if w := ask(t, c, "GET", place+"/report.ndjson", "exchange", ""); w.Code != 404 {
		t.Errorf("a report of what is not done: %d", w.Code)
	}
	takeIn(t, s)
	w = ask(t, c, "GET", place, "exchange", "", "Accept", "application/json")
	var m importManifest
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Expires") == "" {
		t.Fatalf("complete: %d %v %v %s", w.Code, err, w.Header(), w.Body)
	}
	if m.Request != "https://clinic.example/fhir/$import" || !m.RequiresAccessToken || !regexp.MustCompile(`^2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`).MatchString(m.TransactionTime) {
		t.Errorf("%+v", m)
	}
	if len(m.Output) != 2 || m.Output[0].InputURL != from.URL+"/observations.ndjson?sig=1" || m.Output[0].Count != 1 || m.Output[1].Count != 1 || len(m.Error) != 1 || m.Error[0].InputURL != from.URL+"/patients.ndjson" || m.Error[0].Count != 1 || m.Extension["mode"] != "store" || m.Extension["new"] != 2.0 {
		t.Errorf("%s", w.Body)
	}
	file := below(t, m.Error[0].URL)
	w = ask(t, c, "GET", file, "exchange", "", "Accept", ndjson)
	if w.Code != 200 || w.Header().Get("Content-Type") != ndjson || strings.Count(w.Body.String(), "\n") != 1 || !strings.Contains(w.Body.String(), `"expression":["Patient.gender"]`) || strings.Contains(w.Body.String(), "CANARY") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	place2, _ := m.Extension["report"].(string)
	report := below(t, place2)
	if w = ask(t, c, "GET", report, "exchange", ""); w.Code != 200 || strings.Count(w.Body.String(), "\n") != 2 || !strings.Contains(strings.SplitN(w.Body.String(), "\n", 2)[0], "2 new, 0 changed, 0 same, 1 refused") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	_, r, _ := c.want(t, 200, call{method: "GET", path: "/fhir/Patient/carl", token: "exchange"})
	if r.Root.Get("meta").Get("source").String() != "https://other.example" {
		t.Error("meta.source is not there")
	}
	for _, p := range []string{"/2.json", "/0.ndjson", "/3.ndjson", "/02.ndjson", "/x"} {
		if w := ask(t, c, "GET", place+p, "exchange", ""); w.Code != 404 {
			t.Errorf("%s: %d", p, w.Code)
		}
	}
	if w := ask(t, c, "GET", file, "", ""); w.Code != 401 {
		t.Errorf("without a token: %d", w.Code)
	}

	// Another client's, and one that never was: the same answer, byte for byte.
	const absent = "/fhir/_import/0b7f4e9c-0000-4000-8000-000000000000"
	for _, x := range []struct{ method, path, absent string }{
		{"GET", place, absent}, {"DELETE", place, absent}, {"GET", file, absent + "/2.ndjson"}, {"GET", report, absent + "/report.ndjson"},
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
	if w = ask(t, c, "DELETE", place, "exchange", ""); w.Code != 202 {
		t.Errorf("cancel: %d %s", w.Code, w.Body)
	}
	for _, p := range []string{place, file} {
		if w := ask(t, c, "GET", p, "exchange", ""); w.Code != 404 {
			t.Errorf("after it was cancelled: %d", w.Code)
		}
	}

	// The same as Parameters, rehearsed.
	parameters := `{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueCode":"application/fhir+ndjson"},{"name":"inputSource","valueUri":"https://other.example"},{"name":"mode","valueCode":"dry-run"},
{"name":"storageDetail","part":[{"name":"type","valueCode":"https"}]},{"name":"input","part":[{"name":"type","valueCode":"Patient"},{"name":"url","valueUrl":"` + from.URL + `/patients.ndjson"}]}]}`
	w = send(t, c, "/fhir/$import", "exchange", "application/fhir+json", parameters, async...)
	takeIn(t, s)
	w = ask(t, c, "GET", below(t, w.Header().Get("Content-Location")), "exchange", "")
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || m.Extension["mode"] != "dry-run" || m.Extension["same"] != 1.0 || len(m.Output) != 1 {
		t.Errorf("Parameters: %v %s", err, w.Body)
	}

	// Uploaded, packed, longer than other bodies may be; what was begun and is given up stores nothing.
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = io.WriteString(zip, `{"resourceType":"Patient","id":"emma","name":[`+strings.Repeat(`{"text":"`+strings.Repeat("long ", 100_000)+`"},`, 4)+`{"family":"Emma"}]}`)
	_ = zip.Close()
	w = send(t, c, "/fhir/$import?mode=store", "exchange", ndjson, packed.String(), append(async, "Content-Encoding", "gzip")...)
	if w.Code != 202 {
		t.Fatalf("upload: %d %s", w.Code, w.Body)
	}
	given := send(t, c, "/fhir/$import", "exchange", ndjson, `{"resourceType":"Patient","id":"given-up"}`, async...)
	if w := ask(t, c, "DELETE", below(t, given.Header().Get("Content-Location")), "exchange", ""); w.Code != 202 {
		t.Errorf("cancel: %d", w.Code)
	}
	takeIn(t, s)
	c.want(t, 200, call{method: "GET", path: "/fhir/Patient/emma", token: "exchange"})
	c.want(t, 404, call{method: "GET", path: "/fhir/Patient/given-up", token: "exchange"})
	// And it is in the CapabilityStatement.
	if _, _, text := c.want(t, 200, call{method: "GET", path: "/fhir/metadata"}); !strings.Contains(text, `/OperationDefinition/import"`) {
		t.Error("the CapabilityStatement does not speak of it")
	}
}

func TestImportRefusals(t *testing.T) {
	c, _ := newImports(t, "files.example")
	async := []string{"Prefer", "respond-async"}
	const patient = `{"resourceType":"Patient","id":"x"}`
	manifest := func(more, input string) string {
		return `{"inputFormat":"application/fhir+ndjson","inputSource":"https://other.example"` + more + `,"input":` + input + `}`
	}
	const fine = `[{"type":"Patient","url":"https://files.example/a"}]`
	for _, x := range []struct {
		name, path, token, contentType, body string
		headers                              []string
		want                                 int
		path2                                string // FHIRPath of the fault
	}{
		{"not async", "", "exchange", ndjson, patient, nil, 400, ""},
		{"no token", "", "", ndjson, patient, async, 401, ""},
		{"a user", "", "therapist", ndjson, patient, async, 403, ""},
		{"the operator's role", "", "operator", ndjson, patient, async, 403, ""},
		{"nothing", "", "exchange", ndjson, "", async, 400, ""},
		{"another type", "", "exchange", "text/plain", patient, async, 415, ""},
		{"another encoding", "", "exchange", ndjson, patient, append(async, "Content-Encoding", "br"), 415, ""},
		{"not packed", "", "exchange", ndjson, patient, append(async, "Content-Encoding", "gzip"), 400, ""},
		{"a parameter", "?x=1", "exchange", ndjson, patient, async, 400, ""},
		{"a mode", "?mode=x", "exchange", ndjson, patient, async, 400, "mode"},
		{"another format", "", "exchange", "application/json", `{"inputFormat":"application/json","input":` + fine + `}`, async, 400, "inputFormat"},
		{"no input", "", "exchange", "application/json", manifest("", `[]`), async, 400, "input"},
		{"no type", "", "exchange", "application/json", manifest("", `[{"url":"https://files.example/a"}]`), async, 400, "input[0].type"},
		{"an unknown type", "", "exchange", "application/json", manifest("", `[{"type":"Observations","url":"https://files.example/a"}]`), async, 400, "input[0].type"},
		{"a type that it may not write", "", "exchange", "application/json", manifest("", `[{"type":"Consent","url":"https://files.example/a"}]`), async, 403, ""},
		{"another host", "", "exchange", "application/json", manifest("", `[{"type":"Patient","url":"https://files.example/a"},{"type":"Patient","url":"https://evil.example/a"}]`), async, 400, "input[1].url"},
		{"plain http", "", "exchange", "application/json", manifest("", `[{"type":"Patient","url":"http://files.example/a"}]`), async, 400, "input[0].url"},
		{"metadata", "", "exchange", "application/json", manifest("", `[{"type":"Patient","url":"http://169.254.169.254/a"}]`), async, 400, "input[0].url"},
		{"twice", "", "exchange", "application/json", manifest("", `[{"type":"Patient","url":"https://files.example/a"},{"type":"Patient","url":"https://files.example/a"}]`), async, 400, "input[1].url"},
		{"a bucket", "", "exchange", "application/json", manifest(`,"storageDetail":{"type":"aws-s3"}`, fine), async, 400, "storageDetail"},
		{"a field", "", "exchange", "application/json", manifest(`,"other":1`, fine), async, 400, ""},
		{"no JSON", "", "exchange", "application/json", "{", async, 400, ""},
		{"fine", "", "exchange", "application/json", manifest("", fine), async, 202, ""},
	} {
		w := send(t, c, "/fhir/$import"+x.path, x.token, x.contentType, x.body, x.headers...)
		if w.Code != x.want || x.path2 != "" && !strings.Contains(w.Body.String(), `"expression":["`+x.path2+`"]`) {
			t.Errorf("%s: %d, want %d %s\n%s", x.name, w.Code, x.want, x.path2, w.Body)
		}
	}
	c.cfg.Imports = nil
	h, err := New(c.cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Handler = h
	if w := send(t, c, "/fhir/$import", "exchange", ndjson, patient, async...); w.Code != 404 && w.Code != 405 {
		t.Errorf("without imports: %d", w.Code)
	}
}
