package export_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/postgres/practicetest"
)

const base = "https://clinic.example/fhir"

// canary is in everything that an exchange may not see.
const canary = practicetest.Canary

var consent, note, observation, status = practicetest.Consent, practicetest.Note, practicetest.Observation, practicetest.Status

func encounter(id, patient, provider string) string {
	return practicetest.Encounter(id, patient, provider, "finished")
}

// world is two patients of the practice: anna, who also is a patient of a Part 2 program and
// consented to its exchange, and bert, who is one and consented to nothing.
func world() []string {
	out := []string{
		`{"resourceType":"Organization","id":"sud","name":"Program","type":[{"coding":[{"system":"` + fhir.OrganizationKind + `","code":"part2-program"}]}]}`,
		`{"resourceType":"Organization","id":"general","name":"General"}`,
		`{"resourceType":"Organization","id":"hie","name":"Exchange"}`,
		`{"resourceType":"Practitioner","id":"dora","name":[{"family":"Dora"}]}`,
		`{"resourceType":"Patient","id":"anna","name":[{"family":"Anna"}],"birthDate":"1990-02-03"}`,
		`{"resourceType":"Patient","id":"bert","name":[{"family":"Bert"}]}`,
		`{"resourceType":"Patient","id":"cleo","name":[{"family":"Cleo"}]}`,
		`{"resourceType":"CareTeam","id":"team","status":"active","subject":{"reference":"Patient/anna"},"participant":[{"member":{"reference":"Practitioner/dora"}}]}`,
		`{"resourceType":"Group","id":"panel","type":"person","actual":true,"managingEntity":{"reference":"Organization/hie"},"member":[{"entity":{"reference":"Patient/anna"}},{"entity":{"reference":"Patient/cleo"}}]}`,
		consent("c", "part2-specific", "active"),
		encounter("ea", "anna", "sud"), encounter("eb", "bert", "sud"), encounter("ec", "anna", "general"),
		observation("sa", "anna", `,"encounter":{"reference":"Encounter/ea"}`),
		observation("sb", "bert", `,"encounter":{"reference":"Encounter/eb"},"note":[{"text":"`+canary+`"}]`),
		`{"resourceType":"Condition","id":"k1","subject":{"reference":"Patient/anna"},"code":{"text":"headache"}}`,
		`{"resourceType":"Condition","id":"k2","subject":{"reference":"Patient/bert"},"code":{"text":"cough"},"encounter":{"reference":"Encounter/eb"},"note":[{"text":"` + canary + `"}]}`,
		note("psy", "psychotherapy-note"), note("plain", "progress-note"),
		consent("p", "hipaa-psychotherapy", "active"),
	}
	for i := range 12 {
		out = append(out, observation(fmt.Sprintf("o%02d", i), []string{"anna", "bert", "cleo"}[i%3], fmt.Sprintf(`,"valueInteger":%d`, i)))
	}
	// Groups that the exchange may not see: what another organization manages, and what tells of a program's patient.
	return append(out,
		`{"resourceType":"Group","id":"others","type":"person","actual":true,"managingEntity":{"reference":"Organization/general"},"member":[{"entity":{"reference":"Patient/anna"}}],"name":"`+canary+`"}`,
		`{"resourceType":"Patient","id":"dan","managingOrganization":{"reference":"Organization/sud"},"name":[{"family":"`+canary+`"}]}`,
		`{"resourceType":"Group","id":"program","type":"person","actual":true,"managingEntity":{"reference":"Organization/hie"},"member":[{"entity":{"reference":"Patient/anna"}},{"entity":{"reference":"Patient/dan","display":"`+canary+`"}}]}`,
	)
}

// operations lets an exchange make releases of what is unlabelled for operations, as a practice's own policy may.
const operations = "\np, hie, HOPERAT, read, demographics|clinical, general, -, allow, exchange-operations\n"

var filled = practicetest.Template("export", operations, world()...)

// house is a practice with a server that exports.
type house struct {
	*practicetest.Practice
	sink *export.Disk
	dir  string // of the sink
	cfg  export.Config
	*export.Service
}

func open(dsn string) (*house, error) {
	p, err := practicetest.Open(dsn, operations)
	return &house{Practice: p}, err
}

// newHouse starts on a copy of the world; set changes the configuration.
func newHouse(t *testing.T, set ...func(*export.Config)) *house {
	t.Helper()
	h := &house{Practice: practicetest.New(t, filled, operations), dir: filepath.Join(t.TempDir(), "exports")}
	var err error
	if h.sink, err = export.OpenDisk(h.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.sink.Close() })
	h.cfg = h.config(h.sink, h.Now, slog.New(slog.NewTextHandler(t.Output(), nil)))
	for _, f := range set {
		f(&h.cfg)
	}
	if h.Service, err = export.New(h.cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

// config is that of a server of the house.
func (h *house) config(sink export.Sink, now func() time.Time, log *slog.Logger) export.Config {
	return export.Config{
		Base: base, Engine: h.Engine, Gate: h.Gate, Records: h.Store, Consents: h.Store, Jobs: h.Store.Exports(), Sink: sink, Keys: envelopetest.Keys(),
		Log: log, Now: now, Page: 3, Settle: -1, Haste: 1 << 20,
	}
}

func (h *house) remove(ref string) {
	r, _ := fhir.ParseRef(ref)
	h.Remove(map[fhir.ResourceType]string{"Observation": observation(string(r.ID), "anna", "")}[r.Type])
}

// exchange is a backend service of an exchange, therapist one that works for dora.
func (h *house) exchange() authz.Principal { return h.Exchange("system/*.rs") }

func (h *house) therapist() authz.Principal {
	return authz.Principal{Tenant: h.Tenant, Subject: "iss|scribe", Client: "scribe", Roles: []string{"therapist"}, Purpose: "TREAT", User: fhir.Ref{Type: "Practitioner", ID: "dora"}, Organizations: []fhir.ID{"general"}, Scopes: smart.Parse("system/*.rs")}
}

func (h *house) accept(p authz.Principal, r export.Request) string {
	h.T.Helper()
	if r.Level == "" {
		r.Level = export.System
	}
	if r.URL == "" {
		r.URL = base + "/$export"
	}
	id, err := h.Accept(context.Background(), h.Grant(p), r)
	if err != nil {
		h.T.Fatalf("%v (%v)", err, errors.Unwrap(outcome.Of(err)))
	}
	return id
}

// finish works until nothing waits.
func (h *house) finish() { h.T.Helper(); h.Finish(h.Step) }

func (h *house) status(p authz.Principal, id string) export.Status {
	h.T.Helper()
	s, err := h.Status(context.Background(), h.Grant(p), id, 1)
	if err != nil {
		h.T.Fatal(err)
	}
	return s
}

func (h *house) fetch(p authz.Principal, id, name string) (string, error) {
	ctx := context.Background()
	g := h.Grant(p)
	s, err := h.Fetch(ctx, g, id, name)
	if err != nil {
		return "", err
	}
	if !s.HeldBy(g) {
		h.T.Fatal("a stream for nobody")
	}
	var b bytes.Buffer
	err = s.Copy(&b)
	return b.String(), err
}

// fetched is all that an export that is done lets out, by kind and type, each file under its name.
func (h *house) fetched(p authz.Principal, id string) map[string][]string {
	h.T.Helper()
	s := h.status(p, id)
	if s.State != export.Done {
		h.T.Fatalf("the export is %s %s", s.State, s.Reason)
	}
	out := map[string][]string{}
	for _, f := range s.Files {
		text, err := h.fetch(p, id, f.Name)
		if err != nil {
			h.T.Fatalf("%v (%v)", err, errors.Unwrap(outcome.Of(err)))
		}
		var lines []string
		for l := range strings.Lines(text) {
			lines = append(lines, strings.TrimSuffix(l, "\n"))
		}
		k := string(f.Kind) + " " + string(f.Type)
		out[k] = append(out[k], lines...)
	}
	return out
}

var idOf = regexp.MustCompile(`"id":\s*"([^"]*)"`)

// ids are those of the resources in lines.
func ids(lines []string) string {
	var out []string
	for _, l := range lines {
		out = append(out, idOf.FindStringSubmatch(l)[1])
	}
	return strings.Join(out, " ")
}

// wrapped is a sink whose calls a test sees.
type wrapped struct {
	export.Sink
	call func(string) error
}

func (w wrapped) Create(ctx context.Context, name string) (io.WriteCloser, error) {
	if err := w.call("create"); err != nil {
		return nil, err
	}
	return w.Sink.Create(ctx, name)
}

func sorted(m map[string][]string) []string {
	var out []string
	for k, lines := range m {
		for _, l := range lines {
			out = append(out, k+" "+l)
		}
	}
	slices.Sort(out)
	return out
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

// export is what an export lets out when it is done.
func (h *house) export(p authz.Principal, r export.Request) map[string][]string {
	h.T.Helper()
	id := h.accept(p, r)
	h.finish()
	return h.fetched(p, id)
}
