package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/notify"
	"github.com/cloister-health/cloister/fhir/record/postgres/practicetest"
)

const base = "https://clinic.example/fhir"

// canary is in everything that an exchange may not see.
const canary = practicetest.Canary

const topics = "https://cloister.health/fhir/SubscriptionTopic/"

var consent, note, observation, encounter, status = practicetest.Consent, practicetest.Note, practicetest.Observation, practicetest.Encounter, practicetest.Status

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

var filled = practicetest.Template("notify", "", world()...)

// house is a practice with a server that notifies.
type house struct {
	*practicetest.Practice
	box *inbox
	cfg notify.Config
	*notify.Service
}

func open(dsn string) (*house, error) {
	p, err := practicetest.Open(dsn, "")
	return &house{Practice: p}, err
}

// newHouse starts on a copy of the world; set changes the configuration.
func newHouse(t testing.TB, set ...func(*notify.Config)) *house {
	t.Helper()
	h := &house{Practice: practicetest.New(t, filled, ""), box: &inbox{}}
	h.cfg = h.config(h.box, slog.New(slog.NewTextHandler(t.Output(), nil)))
	for _, f := range set {
		f(&h.cfg)
	}
	var err error
	if h.Service, err = notify.New(h.cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) config(to notify.Sender, log *slog.Logger) notify.Config {
	return notify.Config{
		Base: base, Engine: h.Engine, Gate: h.Gate, Records: h.Store, Subscriptions: h.Store.Subscriptions(), Hooks: to, Keys: envelopetest.Keys(),
		Log: log, Now: h.Now, Jitter: func() float64 { return 0.5 },
	}
}

const scope = "system/*.rs system/Subscription.cruds"

// exchange is a backend service of an exchange.
func (h *house) exchange() authz.Principal { return h.Exchange(scope) }

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
	h.T.Helper()
	r, err := codec.Parse([]byte(text))
	if err != nil {
		h.T.Fatalf("%v\n%s", err, text)
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
	h.T.Helper()
	a, err := h.Create(context.Background(), h.Grant(p), h.parse(body))
	if err != nil {
		h.T.Fatalf("%v (%v)", err, errors.Unwrap(outcome.Of(err)))
	}
	return a.Ref.ID
}

// active is subscribe with the handshake done.
func (h *house) active(p authz.Principal, body string) fhir.ID {
	h.T.Helper()
	h.Clock.Add(1000)
	id := h.subscribe(p, body)
	for range 200 {
		h.settle()
		if st := h.state(id); st == "active " {
			h.box.take()
			return id
		} else if st != "requested " {
			h.T.Fatal(st)
		}
		h.Clock.Add(1000) // a transaction of another database may still be under way
		time.Sleep(10 * time.Millisecond)
	}
	h.T.Fatal("it never became active")
	return id
}

func (h *house) state(id fhir.ID) string {
	return h.SQL("SELECT status || ' ' || reason FROM notify.subscription WHERE id::text = $1", string(id))
}

// settle works until nothing waits.
func (h *house) settle() {
	h.T.Helper()
	ctx := context.Background()
	if err := h.Subscriptions.Sequence(ctx); err != nil {
		h.T.Fatal(err)
	}
	h.Finish(h.Step)
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
	h.T.Helper()
	for _, m := range h.box.take() {
		out = append(out, readBundle(h.T, m.Body).events...)
	}
	return out
}

// waiting returns when some transaction waits for a lock.
func (h *house) waiting() {
	h.T.Helper()
	for range 12_000 { // a minute
		if h.SQL("SELECT count(*)::text FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.datname = current_database()") != "0" {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.T.Fatal("nobody waits")
}

func parse(scopes string) authz.Scopes { return smart.Parse(scopes) }
