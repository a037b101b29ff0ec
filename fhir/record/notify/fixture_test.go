package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/notify"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

const base = "https://clinic.example/fhir"

// canary is in everything that an exchange may not see.
const canary = "CANARYwombat"

const topics = "https://cloister.health/fhir/SubscriptionTopic/"

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

func encounter(id, patient, provider, status string) string {
	return `{"resourceType":"Encounter","id":"` + id + `","status":"` + status + `","class":{"code":"AMB"},"subject":{"reference":"Patient/` + patient + `"},"serviceProvider":{"reference":"Organization/` + provider + `"}}`
}

// world is a practice: anna, who also is a patient of a Part 2 program and consented to its
// exchange, bert, who is one and consented to nothing, and cleo.
func world() []string {
	return []string{
		`{"resourceType":"Organization","id":"sud","name":"Program","type":[{"coding":[{"system":"` + fhir.OrganizationKind + `","code":"part2-program"}]}]}`,
		`{"resourceType":"Organization","id":"general","name":"General"}`,
		`{"resourceType":"Organization","id":"hie","name":"Exchange"}`,
		`{"resourceType":"Practitioner","id":"dora","name":[{"family":"Dora"}]}`,
		`{"resourceType":"Patient","id":"anna","name":[{"family":"Anna"}],"birthDate":"1990-02-03"}`,
		`{"resourceType":"Patient","id":"bert","name":[{"family":"Bert"}]}`,
		`{"resourceType":"Patient","id":"cleo","name":[{"family":"Cleo"}]}`,
		consent("c", "part2-specific", "active"),
		encounter("ea", "anna", "sud", "finished"), encounter("eb", "bert", "sud", "finished"), encounter("ec", "anna", "general", "finished"),
	}
}

var filled = cluster.Template{Name: "notify", Prepare: func(ctx context.Context, dsn string) error {
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

// house is a practice with a server that notifies, on a database of its own.
type house struct {
	t      testing.TB
	dsn    string
	store  *postgres.Store
	engine *authz.Engine
	gate   *record.Gate
	clock  atomic.Int64     // milliseconds since the epoch
	moving func() time.Time // in place of it, or nil
	tenant int32
	box    *inbox
	cfg    notify.Config
	*notify.Service
}

func open(dsn string) (*house, error) {
	h := &house{dsn: dsn}
	h.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	ctx := context.Background()
	var err error
	if h.store, err = postgres.Open(ctx, postgres.Options{URL: dsn, Now: h.now, Keys: envelopetest.Keys(), MaxConns: 4}); err != nil {
		return nil, err
	}
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		return nil, err
	}
	h.engine = authz.NewEngine(policy, h.store, h.now)
	h.gate = record.NewGate(h.engine, h.store, h.now).Explaining(h.store).Accounting(h.store).Masking(h.store)
	h.tenant, err = h.store.EnsureTenant(ctx, "harbor", "Harbor")
	return h, err
}

// newHouse starts on a copy of the world; set changes the configuration.
func newHouse(t testing.TB, set ...func(*notify.Config)) *house {
	t.Helper()
	h, err := open(cluster.NewDatabase(t, filled))
	if err != nil {
		t.Fatal(err)
	}
	h.t, h.box = t, &inbox{}
	t.Cleanup(h.store.Close)
	h.clock.Add(60_000)
	h.cfg = h.config(h.box, slog.New(slog.NewTextHandler(t.Output(), nil)))
	for _, f := range set {
		f(&h.cfg)
	}
	if h.Service, err = notify.New(h.cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) config(to notify.Sender, log *slog.Logger) notify.Config {
	return notify.Config{
		Base: base, Engine: h.engine, Gate: h.gate, Records: h.store, Subscriptions: h.store.Subscriptions(), Hooks: to, Keys: envelopetest.Keys(),
		Log: log, Now: h.now, Jitter: func() float64 { return 0.5 },
	}
}

func (h *house) now() time.Time {
	if h.moving != nil {
		return h.moving()
	}
	return time.UnixMilli(h.clock.Load()).UTC()
}

func (h *house) write(i fhir.Interaction, text string) error {
	h.clock.Add(1000)
	x, err := h.admit(i, text)
	if err == nil {
		_, err = h.store.Commit(context.Background(), x)
	}
	return err
}

func (h *house) admit(i fhir.Interaction, texts ...string) (out []record.Cleared, err error) {
	ctx := context.Background()
	operator := authz.Principal{Tenant: h.tenant, Subject: "test|operator", Roles: []string{"operator"}, Purpose: "HSYSADMIN", Scopes: smart.Parse("system/*.cruds")}
	g, err := h.engine.Authorize(ctx, operator, fhir.Operation, "")
	if err != nil {
		return nil, err
	}
	for _, text := range texts {
		r, err := codec.Parse([]byte(text))
		if err != nil {
			return nil, err
		}
		c := record.Change{Interaction: i, Ref: r.Ref()}
		if i == fhir.Update {
			c.Content, c.Upsert, c.Import = r, true, true
		}
		x, err := h.gate.Admit(ctx, g, c)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func (h *house) load(text string) {
	h.t.Helper()
	if err := h.write(fhir.Update, text); err != nil {
		h.t.Fatalf("%v (%v)\n%s", err, errors.Unwrap(err), text)
	}
}

func (h *house) remove(text string) {
	h.t.Helper()
	if err := h.write(fhir.Delete, text); err != nil {
		h.t.Fatal(err)
	}
}

const scope = "system/*.rs system/Subscription.cruds"

// exchange is a backend service of an exchange.
func (h *house) exchange() authz.Principal {
	return authz.Principal{Tenant: h.tenant, Subject: "iss|exchange", Client: "exchange", Roles: []string{"hie"}, Purpose: "TREAT", Organizations: []fhir.ID{"hie"}, Scopes: smart.Parse(scope)}
}

func (h *house) grant(p authz.Principal) authz.Grant {
	h.t.Helper()
	g, err := h.engine.Authorize(context.Background(), p, fhir.Operation, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return g
}

// subscription is the JSON of one; filters are those of its criteria.
func subscription(topic, content, channel string, filters ...string) string {
	var ext []string
	for _, f := range filters {
		ext = append(ext, `{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria","valueString":`+quoted(f)+`}`)
	}
	criteria := ""
	if ext != nil {
		criteria = `"_criteria":{"extension":[` + strings.Join(ext, ",") + `]},`
	}
	return `{"resourceType":"Subscription","meta":{"profile":["` + notify.Profile + `"]},"status":"requested","reason":"exchange","criteria":"` + topics + topic + `",` + criteria + `
"channel":{` + channel + `"type":"rest-hook","endpoint":"https://hook.example/in","header":["Authorization: Bearer s3cret"],"payload":"application/fhir+json",
"_payload":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content","valueCode":"` + content + `"}]}}}`
}

func channel(name, kind string, n int) string {
	return `"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-` + name + `","` + kind + `":` + strconv.Itoa(n) + `}],`
}

func quoted(s string) string {
	return string(element.AppendQuoted(nil, s))
}

func (h *house) parse(text string) *codec.Resource {
	h.t.Helper()
	r, err := codec.Parse([]byte(text))
	if err != nil {
		h.t.Fatalf("%v\n%s", err, text)
	}
	return r
}

func text(a notify.Answer) string {
	var b strings.Builder
	_ = a.Copy(&b)
	return b.String()
}

// subscribe makes a subscription, and gives its id.
func (h *house) subscribe(p authz.Principal, body string) fhir.ID {
	h.t.Helper()
	a, err := h.Create(context.Background(), h.grant(p), h.parse(body))
	if err != nil {
		h.t.Fatalf("%v (%v)", err, errors.Unwrap(outcome.Of(err)))
	}
	return a.Ref.ID
}

// active is subscribe with the handshake done.
func (h *house) active(p authz.Principal, body string) fhir.ID {
	h.t.Helper()
	h.clock.Add(1000)
	id := h.subscribe(p, body)
	for range 200 {
		h.settle()
		if st := h.state(id); st == "active " {
			h.box.take()
			return id
		} else if st != "requested " {
			h.t.Fatal(st)
		}
		h.clock.Add(1000) // a transaction of another database may still be under way
		time.Sleep(10 * time.Millisecond)
	}
	h.t.Fatal("it never became active")
	return id
}

func (h *house) state(id fhir.ID) string {
	return h.sql("SELECT status || ' ' || reason FROM notify.subscription WHERE id::text = $1", string(id))
}

// settle works until nothing waits.
func (h *house) settle() {
	h.t.Helper()
	ctx := context.Background()
	if err := h.Subscriptions.Sequence(ctx); err != nil {
		h.t.Fatal(err)
	}
	for range 1000 {
		busy, err := h.Step(ctx)
		if err != nil {
			h.t.Fatalf("%v (%v)", err, errors.Unwrap(outcome.Of(err)))
		}
		if !busy {
			return
		}
	}
	h.t.Fatal("the work does not end")
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

// inbox is an endpoint that keeps what arrives.
type inbox struct {
	mu   sync.Mutex
	got  []notify.Message
	fail error
	then func(notify.Message)
}

func (*inbox) Check(string, []notify.Header) error { return nil }

func (b *inbox) Send(_ context.Context, m notify.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.then != nil {
		b.then(m)
	}
	if b.fail != nil {
		return b.fail
	}
	b.got = append(b.got, m)
	return nil
}

func (b *inbox) take() []notify.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.got
	b.got = nil
	return out
}

// told is a notification as it reads.
type told struct {
	kind, status, count string
	events              []string // number, and what it is about
	entries             []string // of the Bundle, behind the first
}

func readBundle(t testing.TB, body []byte) told {
	t.Helper()
	if _, err := codec.Parse(body); err != nil {
		t.Errorf("the Bundle is none: %v\n%s", err, body)
	}
	var b struct {
		Type  string
		Entry []struct {
			FullURL  string
			Resource json.RawMessage
			Request  struct{ Method, URL string }
			Response struct{ Status string }
		}
	}
	if err := json.Unmarshal(body, &b); err != nil || b.Type != "history" && b.Type != "searchset" || len(b.Entry) == 0 {
		t.Fatalf("%v %s", err, body)
	}
	type part struct {
		Name           string
		ValueCode      string
		ValueString    string
		ValueReference struct{ Reference string }
		Part           []part
	}
	var p struct{ Parameter []part }
	if err := json.Unmarshal(b.Entry[0].Resource, &p); err != nil {
		t.Fatal(err)
	}
	var out told
	for _, x := range p.Parameter {
		switch x.Name {
		case "type":
			out.kind = x.ValueCode
		case "status":
			out.status = x.ValueCode
		case "events-since-subscription-start":
			out.count = x.ValueString
		case "notification-event":
			var number, focus string
			for _, y := range x.Part {
				switch y.Name {
				case "event-number":
					number = y.ValueString
				case "focus":
					focus = " " + strings.TrimPrefix(y.ValueReference.Reference, base+"/")
				}
			}
			out.events = append(out.events, number+focus)
		}
	}
	for _, e := range b.Entry[1:] {
		out.entries = append(out.entries, e.Request.Method+" "+e.Request.URL+" "+e.Response.Status)
	}
	return out
}

// events are those of all messages, in their order.
func (h *house) events() (out []string) {
	h.t.Helper()
	for _, m := range h.box.take() {
		out = append(out, readBundle(h.t, m.Body).events...)
	}
	return out
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

func (h *house) connect() *pgx.Conn {
	h.t.Helper()
	c, err := pgx.Connect(context.Background(), h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// waiting returns when some transaction waits for a lock.
func (h *house) waiting() {
	h.t.Helper()
	for range 1000 {
		if h.sql("SELECT count(*)::text FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.datname = current_database()") != "0" {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Fatal("nobody waits")
}

func parse(scopes string) authz.Scopes { return smart.Parse(scopes) }
