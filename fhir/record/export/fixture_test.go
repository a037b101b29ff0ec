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
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

const base = "https://clinic.example/fhir"

// canary is in everything that an exchange may not see.
const canary = "CANARYwombat"

func consent(id, kind, status string) string {
	return `{"resourceType":"Consent","id":"` + id + `","status":"` + status + `","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
"category":[{"coding":[{"system":"` + fhir.ConsentKind + `","code":"` + kind + `"}]}],"patient":{"reference":"Patient/anna"},"dateTime":"2025-06-01","performer":[{"reference":"Patient/anna"}],
"organization":[{"reference":"Organization/sud"}],"sourceAttachment":{"title":"signed form"},"policyRule":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"OPTIN"}]},
"provision":{"type":"permit","period":{"end":"2027-01-01"},"actor":[{"role":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}]},"reference":{"reference":"Organization/hie"}}],
"purpose":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}]}}`
}

func note(id, kind string) string {
	return `{"resourceType":"DocumentReference","id":"` + id + `","status":"current","type":{"coding":[{"system":"` + fhir.NoteKind + `","code":"` + kind + `"}]},"subject":{"reference":"Patient/anna"},
"author":[{"reference":"Practitioner/dora"}],"description":"` + canary + `","content":[{"attachment":{"contentType":"text/plain","data":"c2VjcmV0"}}]}`
}

func observation(id, patient, more string) string {
	return `{"resourceType":"Observation","id":"` + id + `","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"44261-6"}]},"subject":{"reference":"Patient/` + patient + `"},"effectiveDateTime":"2026-02-01"` + more + `}`
}

func encounter(id, patient, provider string) string {
	return `{"resourceType":"Encounter","id":"` + id + `","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/` + patient + `"},"serviceProvider":{"reference":"Organization/` + provider + `"}}`
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

var filled = cluster.Template{Name: "export", Prepare: func(ctx context.Context, dsn string) error {
	if _, err := postgres.Migrate(ctx, dsn); err != nil {
		return err
	}
	h, err := open(dsn)
	if err != nil {
		return err
	}
	defer h.store.Close()
	for _, text := range world() {
		if err := h.write(fhir.Update, text); err != nil {
			return fmt.Errorf("%w in %s", err, text)
		}
	}
	return nil
}}

// house is a practice with a server that exports, on a database of its own.
type house struct {
	t      *testing.T
	dsn    string
	store  *postgres.Store
	engine *authz.Engine
	gate   *record.Gate
	clock  atomic.Int64     // milliseconds since the epoch
	moving func() time.Time // in place of it, or nil
	tenant int32
	sink   *export.Disk
	dir    string // of the sink
	cfg    export.Config
	*export.Service
}

// operations lets an exchange make releases of what is unlabelled for operations, as a practice's own policy may.
const operations = "\np, hie, HOPERAT, read, demographics|clinical, general, -, allow, exchange-operations\n"

func open(dsn string) (*house, error) {
	h := &house{dsn: dsn}
	h.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	ctx := context.Background()
	var err error
	if h.store, err = postgres.Open(ctx, postgres.Options{URL: dsn, Now: h.now, Keys: envelopetest.Keys(), MaxConns: 4}); err != nil {
		return nil, err
	}
	src := pdp.Embedded()
	src.Policy += operations
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
func newHouse(t *testing.T, set ...func(*export.Config)) *house {
	t.Helper()
	h, err := open(cluster.NewDatabase(t, filled))
	if err != nil {
		t.Fatal(err)
	}
	h.t = t
	t.Cleanup(h.store.Close)
	h.clock.Add(60_000)
	h.dir = filepath.Join(t.TempDir(), "exports")
	if h.sink, err = export.OpenDisk(h.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.sink.Close() })
	h.cfg = h.config(h.sink, h.now, slog.New(slog.NewTextHandler(t.Output(), nil)))
	for _, f := range set {
		f(&h.cfg)
	}
	if h.Service, err = export.New(h.cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) now() time.Time {
	if h.moving != nil {
		return h.moving().Truncate(time.Millisecond)
	}
	return time.UnixMilli(h.clock.Load()).UTC()
}

// config is that of a server of the house.
func (h *house) config(sink export.Sink, now func() time.Time, log *slog.Logger) export.Config {
	return export.Config{
		Base: base, Engine: h.engine, Gate: h.gate, Records: h.store, Consents: h.store, Jobs: h.store.Exports(), Sink: sink, Keys: envelopetest.Keys(),
		Log: log, Now: now, Page: 3, Settle: -1, Haste: 1 << 20,
	}
}

func (h *house) write(i fhir.Interaction, text string, who ...authz.Principal) error {
	ctx := context.Background()
	h.clock.Add(1000)
	r, err := codec.Parse([]byte(text))
	if err != nil {
		return err
	}
	p := authz.Principal{Tenant: h.tenant, Subject: "test|operator", Roles: []string{"operator"}, Purpose: "HSYSADMIN", Scopes: smart.Parse("system/*.cruds")}
	if len(who) > 0 {
		p = who[0]
	}
	g, err := h.engine.Authorize(ctx, p, i, r.Type)
	if err != nil {
		return err
	}
	c := record.Change{Interaction: i, Ref: r.Ref()}
	if i == fhir.Update {
		c.Content, c.Upsert, c.Import = r, true, len(who) == 0
	}
	x, err := h.gate.Admit(ctx, g, c)
	if err == nil {
		_, err = h.store.Commit(ctx, []record.Cleared{x})
	}
	return err
}

func (h *house) load(text string) {
	h.t.Helper()
	if err := h.write(fhir.Update, text); err != nil {
		h.t.Fatalf("%v (%v)\n%s", err, errors.Unwrap(err), text)
	}
}

func (h *house) remove(ref string) {
	h.t.Helper()
	r, _ := fhir.ParseRef(ref)
	text := map[fhir.ResourceType]string{"Observation": observation(string(r.ID), "anna", "")}[r.Type]
	if err := h.write(fhir.Delete, text); err != nil {
		h.t.Fatal(err)
	}
}

// exchange is a backend service of an exchange, therapist one that works for dora.
func (h *house) exchange() authz.Principal {
	return authz.Principal{Tenant: h.tenant, Subject: "iss|exchange", Client: "exchange", Roles: []string{"hie"}, Purpose: "TREAT", Organizations: []fhir.ID{"hie"}, Scopes: smart.Parse("system/*.rs")}
}

func (h *house) therapist() authz.Principal {
	return authz.Principal{Tenant: h.tenant, Subject: "iss|scribe", Client: "scribe", Roles: []string{"therapist"}, Purpose: "TREAT", User: fhir.Ref{Type: "Practitioner", ID: "dora"}, Organizations: []fhir.ID{"general"}, Scopes: smart.Parse("system/*.rs")}
}

func (h *house) grant(p authz.Principal) authz.Grant {
	h.t.Helper()
	g, err := h.engine.Authorize(context.Background(), p, fhir.Operation, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return g
}

func (h *house) accept(p authz.Principal, r export.Request) string {
	h.t.Helper()
	if r.Level == "" {
		r.Level = export.System
	}
	if r.URL == "" {
		r.URL = base + "/$export"
	}
	id, err := h.Accept(context.Background(), h.grant(p), r)
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

func (h *house) status(p authz.Principal, id string) export.Status {
	h.t.Helper()
	s, err := h.Status(context.Background(), h.grant(p), id, 1)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) fetch(p authz.Principal, id, name string) (string, error) {
	ctx := context.Background()
	g := h.grant(p)
	s, err := h.Fetch(ctx, g, id, name)
	if err != nil {
		return "", err
	}
	if !s.HeldBy(g) {
		h.t.Fatal("a stream for nobody")
	}
	var b bytes.Buffer
	err = s.Copy(&b)
	return b.String(), err
}

// fetched is all that an export that is done lets out, by kind and type, each file under its name.
func (h *house) fetched(p authz.Principal, id string) map[string][]string {
	h.t.Helper()
	s := h.status(p, id)
	if s.State != export.Done {
		h.t.Fatalf("the export is %s %s", s.State, s.Reason)
	}
	out := map[string][]string{}
	for _, f := range s.Files {
		text, err := h.fetch(p, id, f.Name)
		if err != nil {
			h.t.Fatalf("%v (%v)", err, errors.Unwrap(outcome.Of(err)))
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

func status(err error) int {
	if err == nil {
		return 200
	}
	return outcome.Of(err).Status()
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
	h.t.Helper()
	list, err := os.ReadDir(h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	return len(list)
}

func (h *house) exec(query string, args ...any) {
	h.t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	if _, err := c.Exec(ctx, query, args...); err != nil {
		h.t.Fatal(err)
	}
}

// export is what an export lets out when it is done.
func (h *house) export(p authz.Principal, r export.Request) map[string][]string {
	h.t.Helper()
	id := h.accept(p, r)
	h.finish()
	return h.fetched(p, id)
}
