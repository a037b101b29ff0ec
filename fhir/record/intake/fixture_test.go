package intake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
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
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/egress"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/intake"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

const base = "https://clinic.example/fhir"

// canary is in everything that the client may not see, and in what it sends amiss.
const canary = "CANARYwombat"

// writes lets an exchange send what is general, as a practice's own policy may.
const writes = "\np, hie, TREAT, read|create|update, Patient|Practitioner|Organization|Encounter|Observation|Condition|DocumentReference, general, -, allow, exchange-sends\n"

var filled = cluster.Template{Name: "intake", Prepare: func(ctx context.Context, dsn string) error {
	if _, err := postgres.Migrate(ctx, dsn); err != nil {
		return err
	}
	h, err := open(dsn)
	if err != nil {
		return err
	}
	defer h.store.Close()
	for _, text := range []string{
		`{"resourceType":"Organization","id":"sud","name":"Program","type":[{"coding":[{"system":"` + fhir.OrganizationKind + `","code":"part2-program"}]}]}`,
		`{"resourceType":"Organization","id":"hie","name":"Exchange"}`,
		`{"resourceType":"Practitioner","id":"dora","identifier":[{"system":"urn:npi","value":"1"}]}`,
		`{"resourceType":"Patient","id":"anna","name":[{"family":"Anna"}]}`,
		`{"resourceType":"Encounter","id":"hidden","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/anna"},"serviceProvider":{"reference":"Organization/sud"}}`,
		`{"resourceType":"Observation","id":"secret","status":"final","code":{"text":"` + canary + `"},"subject":{"reference":"Patient/anna"},"encounter":{"reference":"Encounter/hidden"}}`,
		`{"resourceType":"Practitioner","id":"eve","identifier":[{"system":"urn:npi","value":"2"}],"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]}}`,
		`{"resourceType":"Encounter","id":"seen","status":"finished","class":{"code":"AMB"},"identifier":[{"system":"urn:visit","value":"1"}],"subject":{"reference":"Patient/anna"}}`,
		`{"resourceType":"Encounter","id":"unseen","status":"finished","class":{"code":"AMB"},"identifier":[{"system":"urn:visit","value":"1"},{"system":"urn:visit","value":"2"}],"subject":{"reference":"Patient/anna"},"serviceProvider":{"reference":"Organization/sud"}}`,
		`{"resourceType":"Observation","id":"open","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/anna"}}`,
	} {
		if err := h.write(text); err != nil {
			return fmt.Errorf("%w in %s", err, text)
		}
	}
	return nil
}}

// house is a practice with a server that imports, on a database of its own.
type house struct {
	t      *testing.T
	dsn    string
	store  *postgres.Store
	engine *authz.Engine
	gate   *record.Gate
	clock  atomic.Int64     // milliseconds since the epoch
	moving func() time.Time // in place of it, or nil
	tenant int32
	dir    string // of the sink
	cfg    intake.Config
	*intake.Service
}

func open(dsn string) (*house, error) {
	h := &house{dsn: dsn}
	h.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	ctx := context.Background()
	var err error
	if h.store, err = postgres.Open(ctx, postgres.Options{URL: dsn, Now: h.now, Keys: envelopetest.Keys(), MaxConns: 4}); err != nil {
		return nil, err
	}
	src := pdp.Embedded()
	src.Policy += writes
	policy, err := pdp.New(src)
	if err != nil {
		return nil, err
	}
	h.engine = authz.NewEngine(policy, h.store, h.now)
	h.gate = record.NewGate(h.engine, h.store, h.now).Explaining(h.store).Accounting(h.store).Masking(h.store)
	h.tenant, err = h.store.EnsureTenant(ctx, "harbor", "Harbor")
	return h, err
}

// newHouse starts on a copy of the world; set changes the configuration.
func newHouse(t *testing.T, set ...func(*intake.Config)) *house {
	t.Helper()
	h, err := open(cluster.NewDatabase(t, filled))
	if err != nil {
		t.Fatal(err)
	}
	h.t = t
	t.Cleanup(h.store.Close)
	h.clock.Add(60_000)
	h.dir = filepath.Join(t.TempDir(), "intake")
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
		Base: base, Engine: h.engine, Gate: h.gate, Finder: h.store, Jobs: h.store.Imports(), Sink: sink, Keys: envelopetest.Keys(), Egress: out, Log: log, Now: h.now,
	}
}

func (h *house) now() time.Time {
	if h.moving != nil {
		return h.moving()
	}
	return time.UnixMilli(h.clock.Load()).UTC()
}

// write stores as the operator does.
func (h *house) write(text string) error {
	ctx := context.Background()
	h.clock.Add(1000)
	r, err := codec.Parse([]byte(text))
	if err != nil {
		return err
	}
	operator := authz.Principal{Tenant: h.tenant, Subject: "test|operator", Roles: []string{"operator"}, Purpose: "HSYSADMIN", Scopes: smart.Parse("system/*.cruds")}
	g, err := h.engine.Authorize(ctx, operator, fhir.Update, r.Type)
	if err != nil {
		return err
	}
	x, err := h.gate.Admit(ctx, g, record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r, Upsert: true, Import: true})
	if err == nil {
		_, err = h.store.Commit(ctx, []record.Cleared{x})
	}
	return err
}

// exchange is a backend service of an exchange.
func (h *house) exchange() authz.Principal {
	return authz.Principal{Tenant: h.tenant, Subject: "iss|exchange", Client: "exchange", Roles: []string{"hie"}, Purpose: "TREAT", Organizations: []fhir.ID{"hie"}, Scopes: smart.Parse("system/*.cruds")}
}

func (h *house) grant(p authz.Principal) authz.Grant {
	h.t.Helper()
	g, err := h.engine.Authorize(context.Background(), p, fhir.Operation, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return g
}

func (h *house) upload(p authz.Principal, dry bool, lines ...string) string {
	h.t.Helper()
	id, err := h.Upload(context.Background(), h.grant(p), intake.Request{URL: base + "/$import", Dry: dry}, strings.NewReader(strings.Join(lines, "\n")), false)
	if err != nil {
		h.t.Fatalf("%v (%v)", err, errors.Unwrap(outcome.Of(err)))
	}
	return id
}

// finish works until nothing waits.
func (h *house) finish() {
	h.t.Helper()
	for range 1000 {
		busy, err := h.Step(context.Background())
		if err != nil {
			h.t.Fatalf("%v (%v)", err, errors.Unwrap(outcome.Of(err)))
		}
		if !busy {
			return
		}
	}
	h.t.Fatal("the work does not end")
}

func (h *house) status(p authz.Principal, id string) intake.Status {
	h.t.Helper()
	s, err := h.Status(context.Background(), h.grant(p), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// report is the whole report.
func (h *house) report(p authz.Principal, id string) string {
	h.t.Helper()
	g := h.grant(p)
	s, err := h.Report(context.Background(), g, id, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	if !s.HeldBy(g) {
		h.t.Fatal("a stream for nobody")
	}
	var b bytes.Buffer
	if err := s.Copy(&b); err != nil {
		h.t.Fatal(err)
	}
	return b.String()
}

var counts = regexp.MustCompile(`"diagnostics":"([^"]*)"`)

// counted is the first sentence of the report.
func (h *house) counted(p authz.Principal, id string) string {
	h.t.Helper()
	if s := h.status(p, id); s.State != intake.Done {
		h.t.Fatalf("the import is %s %s", s.State, s.Reason)
	}
	return counts.FindStringSubmatch(h.report(p, id))[1]
}

func (h *house) sql(query string, args ...any) string {
	h.t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	rows, err := c.Query(ctx, query, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Join(out, " ")
}

// objects is how many there are in the sink.
func (h *house) objects() int {
	h.t.Helper()
	list, err := os.ReadDir(h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	return len(list)
}

func status(err error) int {
	if err == nil {
		return 200
	}
	return outcome.Of(err).Status()
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
