package intake_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/egress"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/intake"
	"github.com/cloister-health/cloister/fhir/record/postgres/practicetest"
)

const base = "https://clinic.example/fhir"

// canary is in everything that the client may not see, and in what it sends amiss.
const canary = practicetest.Canary

var status = practicetest.Status

// writes lets an exchange send what is general, as a practice's own policy may.
const writes = "\np, hie, TREAT, read|create|update, Patient|Practitioner|Organization|Encounter|Observation|Condition|DocumentReference, general, -, allow, exchange-sends\n"

var filled = practicetest.Template("intake", writes,
	`{"resourceType":"Organization","id":"sud","name":"Program","type":[{"coding":[{"system":"`+fhir.OrganizationKind+`","code":"part2-program"}]}]}`,
	`{"resourceType":"Organization","id":"hie","name":"Exchange"}`,
	`{"resourceType":"Practitioner","id":"dora","identifier":[{"system":"urn:npi","value":"1"}]}`,
	`{"resourceType":"Patient","id":"anna","name":[{"family":"Anna"}]}`,
	`{"resourceType":"Encounter","id":"hidden","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/anna"},"serviceProvider":{"reference":"Organization/sud"}}`,
	`{"resourceType":"Observation","id":"secret","status":"final","code":{"text":"`+canary+`"},"subject":{"reference":"Patient/anna"},"encounter":{"reference":"Encounter/hidden"}}`,
	`{"resourceType":"Practitioner","id":"eve","identifier":[{"system":"urn:npi","value":"2"}],"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]}}`,
	`{"resourceType":"Encounter","id":"seen","status":"finished","class":{"code":"AMB"},"identifier":[{"system":"urn:visit","value":"1"}],"subject":{"reference":"Patient/anna"}}`,
	`{"resourceType":"Encounter","id":"unseen","status":"finished","class":{"code":"AMB"},"identifier":[{"system":"urn:visit","value":"1"},{"system":"urn:visit","value":"2"}],"subject":{"reference":"Patient/anna"},"serviceProvider":{"reference":"Organization/sud"}}`,
	`{"resourceType":"Observation","id":"open","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/anna"}}`,
)

// house is a practice with a server that imports.
type house struct {
	*practicetest.Practice
	dir string // of the sink
	cfg intake.Config
	*intake.Service
}

func open(dsn string) (*house, error) {
	p, err := practicetest.Open(dsn, writes)
	return &house{Practice: p}, err
}

// newHouse starts on a copy of the world; set changes the configuration.
func newHouse(t *testing.T, set ...func(*intake.Config)) *house {
	t.Helper()
	h := &house{Practice: practicetest.New(t, filled, writes), dir: filepath.Join(t.TempDir(), "intake")}
	sink, err := export.OpenDisk(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	h.cfg = h.config(sink, nil, slog.New(slog.NewTextHandler(t.Output(), nil)))
	for _, f := range set {
		f(&h.cfg)
	}
	if h.Service, err = intake.NewService(h.cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) config(sink intake.Sink, out *egress.Guard, log *slog.Logger) intake.Config {
	return intake.Config{
		Base: base, Engine: h.Engine, Gate: h.Gate, Finder: h.Store, Jobs: h.Store.Imports(), Sink: sink, Keys: envelopetest.Keys(), Egress: out, Log: log, Now: h.Now,
	}
}

// exchange is a backend service of an exchange.
func (h *house) exchange() authz.Principal { return h.Exchange("system/*.cruds") }

func (h *house) upload(p authz.Principal, dry bool, lines ...string) string {
	h.T.Helper()
	id, err := h.Upload(context.Background(), h.Grant(p), intake.Request{URL: base + "/$import", Dry: dry}, strings.NewReader(strings.Join(lines, "\n")), false)
	if err != nil {
		h.T.Fatalf("%v (%v)", err, errors.Unwrap(outcome.Of(err)))
	}
	return id
}

// finish works until nothing waits.
func (h *house) finish() { h.T.Helper(); h.Finish(h.Step) }

func (h *house) status(p authz.Principal, id string) intake.Status {
	h.T.Helper()
	s, err := h.Status(context.Background(), h.Grant(p), id)
	if err != nil {
		h.T.Fatal(err)
	}
	return s
}

// report is the whole report.
func (h *house) report(p authz.Principal, id string) string {
	h.T.Helper()
	g := h.Grant(p)
	s, err := h.Report(context.Background(), g, id, 0)
	if err != nil {
		h.T.Fatal(err)
	}
	if !s.HeldBy(g) {
		h.T.Fatal("a stream for nobody")
	}
	var b bytes.Buffer
	if err := s.Copy(&b); err != nil {
		h.T.Fatal(err)
	}
	return b.String()
}

var counts = regexp.MustCompile(`"diagnostics":"([^"]*)"`)

// counted is the first sentence of the report.
func (h *house) counted(p authz.Principal, id string) string {
	h.T.Helper()
	if s := h.status(p, id); s.State != intake.Done {
		h.T.Fatalf("the import is %s %s", s.State, s.Reason)
	}
	return counts.FindStringSubmatch(h.report(p, id))[1]
}

// objects is how many there are in the sink.
func (h *house) objects() int {
	h.T.Helper()
	list, err := os.ReadDir(h.dir)
	if err != nil {
		h.T.Fatal(err)
	}
	return len(list)
}

func observation(id, more string) string {
	return `{"resourceType":"Observation","id":"` + id + `","status":"final","code":{"text":"x"}` + more + `}`
}

// files is a server of files, and a guard that lets the house reach it.
func files(t *testing.T, h http.HandlerFunc) (string, func(*intake.Config)) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	g, err := egress.New(egress.Config{Local: true})
	if err != nil {
		t.Fatal(err)
	}
	return s.URL, func(c *intake.Config) { c.Egress = g }
}
