package notify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

// An endpoint that does not answer is tried again, later and later; then the subscription is in
// error, what was not delivered is kept, and it goes on when its client says so.
func TestRetryErrorAndReactivation(t *testing.T) {
	h := newHouse(t, func(c *notify.Config) { c.Tries = 4 })
	ctx := context.Background()
	p := h.exchange()
	body := subscription("resource-change", "id-only", channel("max-count", "valuePositiveInt", 2), "Observation")
	id := h.active(p, body)
	var tries []string
	start := h.Now()
	h.box.fail = errors.New("down")
	h.box.then = func(m notify.Message) { tries = append(tries, m.ID+" "+h.Now().Sub(start).String()) }
	for i := range 3 {
		h.Load(observation(fmt.Sprintf("o%d", i), "anna", ""))
	}
	start = h.Now()
	for range 60 {
		h.settle()
		h.Clock.Add(1000)
	}
	// 5 s, 10 s and 20 s, of which the jitter of this test leaves three quarters.
	if len(tries) != 4 {
		t.Fatal(tries)
	}
	for i, after := range []string{" 0s", " 4s", " 12s", " 27s"} {
		if name, _, _ := strings.Cut(tries[0], " "); tries[i] != name+after {
			t.Errorf("try %d: %s, want %s%s", i, tries[i], name, after)
		}
	}
	if st := h.state(id); st != "error not-delivered" {
		t.Fatal(st)
	}
	a, err := h.Status(ctx, h.Grant(p), base+"/Subscription/$status", "", nil, []string{"error"})
	if err != nil || !strings.Contains(text(a), `"code":"not-delivered"`) {
		t.Errorf("%v %s", err, text(a))
	}
	a, err = h.Events(ctx, h.Grant(p), id, notify.Range{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "undelivered", readBundle(t, []byte(text(a))).events, "1 Observation/o0", "2 Observation/o1")
	h.Load(observation("o3", "anna", ""))
	h.Clock.Add(3 * 24 * 3600_000)
	if err := h.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	h.box.fail, h.box.then = nil, nil
	h.settle()
	if h.box.take() != nil {
		t.Fatal("it went on by itself")
	}
	if _, err := h.Update(ctx, h.Grant(p), id, 0, h.parse(strings.Replace(body, `"status"`, `"id":"`+string(id)+`","status"`, 1))); err != nil {
		t.Fatal(err)
	}
	h.settle()
	want(t, "after", h.events(), "1 Observation/o0", "2 Observation/o1", "3 Observation/o2", "4 Observation/o3")

	// In error for too long: off, and nothing is kept for it.
	h.box.fail = notify.ErrGone
	h.Load(observation("o4", "anna", ""))
	h.settle()
	if st := h.state(id); st != "error gone" {
		t.Error(st)
	}
	h.Clock.Add(8 * 24 * 3600_000)
	if err := h.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if st := h.state(id) + h.SQL("SELECT count(*)::text FROM notify.change"); st != "off stale0" {
		t.Error(st)
	}
	h.Load(observation("o5", "anna", ""))
	if n := h.SQL("SELECT count(*)::text FROM notify.pending"); n != "0" {
		t.Errorf("%s changes are written down for nobody", n)
	}
}

// Heartbeats come when nothing else was delivered for so long, and count nothing.
func TestHeartbeats(t *testing.T) {
	h := newHouse(t)
	h.active(h.exchange(), subscription("resource-change", "empty", channel("heartbeat-period", "valueUnsignedInt", 60), "Observation"))
	began := h.Now()
	var got []string
	h.box.then = func(m notify.Message) {
		b := readBundle(t, m.Body)
		got = append(got, fmt.Sprintf("%s %s %v %s", b.kind, b.count, b.events, h.Now().Sub(began).Truncate(10*time.Second)))
		if b.kind == "event-notification" && (strings.Contains(string(m.Body), "Observation") || strings.Contains(string(m.Body), "topic") || b.entries != nil) {
			t.Errorf("an empty notification says %s", m.Body)
		}
	}
	for i := range 20 {
		h.Clock.Add(10_000)
		if i == 8 {
			h.Load(observation("o1", "anna", ""))
		}
		h.Load(note(fmt.Sprintf("n%d", i), "psychotherapy-note")) // nobody hears of it
		h.settle()
	}
	want(t, "heartbeats", got, "heartbeat 0 [] 1m0s", "event-notification 1 [1] 1m40s", "heartbeat 1 [] 2m40s")
}

// registry is what is known of clients.
type registry func(authz.Frozen) error

func (r registry) Standing(_ context.Context, who authz.Frozen) error { return r(who) }

// A client that may not act any more is told nothing, and neither is one whose scopes were taken.
func TestStandingIsAskedAtEachDelivery(t *testing.T) {
	var gone error
	h := newHouse(t, func(c *notify.Config) { c.Clients = registry(func(authz.Frozen) error { return gone }) })
	id := h.active(h.exchange(), subscription("resource-change", "id-only", "", "Observation"))
	h.Load(observation("o1", "anna", ""))
	gone = outcome.New(outcome.Unavailable, "")
	ctx := context.Background()
	if err := h.Subscriptions.Sequence(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Step(ctx); err == nil || h.state(id) != "active " {
		t.Errorf("%v %s", err, h.state(id))
	}
	gone = authz.ErrDenied
	h.Clock.Add(10_000)
	h.settle()
	if st := h.state(id); st != "error denied" || h.box.take() != nil {
		t.Errorf("%s", st)
	}
	if _, err := h.Events(ctx, h.Grant(h.exchange()), id, notify.Range{}); status(err) != 403 {
		t.Error(err)
	}
}

func TestEnd(t *testing.T) {
	h := newHouse(t)
	id := h.active(h.exchange(), strings.Replace(subscription("resource-change", "id-only", "", "Observation"), `"reason"`, `"end":"2026-03-02T00:00:00Z","reason"`, 1))
	h.Clock.Add(24 * 3600_000)
	h.Load(observation("o1", "anna", ""))
	h.settle()
	if st := h.state(id); st != "off ended" || h.box.take() != nil {
		t.Error(st)
	}
}

// What is wrong with a Subscription is told at once, each fault by its path.
func TestRefusals(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	good := subscription("resource-change", "id-only", "", "Observation")
	for _, x := range []struct{ from, to, path string }{
		{`"requested"`, `"active"`, ""},
		{`"requested"`, `"error"`, "Subscription.status"},
		{topics + "resource-change", topics + "nothing", "Subscription.criteria"},
		{topics + "resource-change", "Observation?status=final", "Subscription.criteria"},
		{`"_criteria"`, `"_reason"`, "Subscription.criteria"},
		{`"Observation"`, `"Nothing?a=b"`, "Subscription.criteria.extension[0]"},
		{`"Observation"`, `"Observation?_count=1"`, "Subscription.criteria.extension[0]"},
		{`"Observation"`, `"Observation?_include=*"`, "Subscription.criteria.extension[0]"},
		{`"Observation"`, `"Observation?unknown=1"`, "Subscription.criteria"},
		{`"rest-hook"`, `"email"`, "Subscription.channel.type"},
		{`"rest-hook"`, `"rest-hook","_type":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-channel-type","valueCoding":{"code":"x"}}]}`, "Subscription.channel.type.extension[0]"},
		{`"endpoint":"https://hook.example/in",`, "", "Subscription.channel.endpoint"},
		{"Authorization: Bearer s3cret", "Host: evil", "Subscription.channel.header[0]"},
		{"Authorization: Bearer s3cret", "webhook-id: 1", "Subscription.channel.header[0]"},
		{"Authorization: Bearer s3cret", `X-A: b\r\nHost: evil`, "Subscription.channel.header[0]"},
		{"Authorization: Bearer s3cret", "Content-Length: 1", "Subscription.channel.header[0]"},
		{"Authorization: Bearer s3cret", "no field", "Subscription.channel.header[0]"},
		{`"payload":"application/fhir+json"`, `"payload":"application/fhir+xml"`, "Subscription.channel.payload"},
		{`"id-only"`, `"all"`, "Subscription.channel.payload.extension[0]"},
		{`"_payload"`, `"_endpoint"`, "Subscription.channel.payload"},
		{`"channel":{`, `"channel":{` + channel("max-count", "valuePositiveInt", 101), "Subscription.channel.extension[0]"},
		{`"channel":{`, `"channel":{` + channel("timeout", "valueUnsignedInt", 0), "Subscription.channel.extension[0]"},
		{`"channel":{`, `"channel":{` + channel("heartbeat-period", "valueUnsignedInt", 1), "Subscription.channel.extension[0]"},
		{`"reason"`, `"end":"2020-01-01T00:00:00Z","reason"`, "Subscription.end"},
	} {
		body := strings.Replace(good, x.from, x.to, 1)
		if body == good && x.path != "" {
			t.Fatalf("%q is not in it", x.from)
		}
		_, err := h.Create(ctx, h.Grant(h.exchange()), h.parse(body))
		if x.path == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		var paths []string
		for _, i := range outcome.Of(err).Issues {
			paths = append(paths, i.Path)
		}
		if status(err) != 422 || paths[0] != x.path {
			t.Errorf("%s for %s: %v %q, want %s", x.to, x.from, err, paths, x.path)
		}
		if strings.Contains(fmt.Sprint(err), "evil") {
			t.Errorf("the fault repeats the value: %v", err)
		}
	}

	// Whoever does not act for itself, may not subscribe, or may not see the type.
	for name, scopes := range map[string]string{"a user": "user/*.cruds", "no scope for it": "system/*.rs", "no scope for the type": "system/Patient.rs system/Subscription.cruds"} {
		p := h.exchange()
		p.Scopes = parse(scopes)
		if _, err := h.Create(ctx, h.Grant(p), h.parse(good)); status(err) != 403 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Create(ctx, h.Grant(h.exchange()), h.parse(strings.Replace(good, `"Observation"`, `"AuditEvent"`, 1))); status(err) != 403 {
		t.Errorf("a type that is not open: %v", err)
	}

	// Another client's is not there, like one that never was.
	id := h.subscribe(h.exchange(), good)
	other := h.exchange()
	other.Client = "other"
	g := h.Grant(other)
	for what, f := range map[string]func(fhir.ID) error{
		"read":   func(id fhir.ID) error { _, err := h.Read(ctx, g, id); return err },
		"update": func(id fhir.ID) error { _, err := h.Update(ctx, g, id, 0, h.parse(good)); return err },
		"delete": func(id fhir.ID) error { return h.Delete(ctx, g, id) },
		"status": func(id fhir.ID) error { _, err := h.Status(ctx, g, "", id, nil, nil); return err },
		"events": func(id fhir.ID) error { _, err := h.Events(ctx, g, id, notify.Range{}); return err },
		"rotate": func(id fhir.ID) error { _, err := h.Rotate(ctx, g, id); return err },
	} {
		a, b := f(id), f("00000000-0000-4000-8000-000000000000")
		if status(a) != 404 || fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%s: %v, and of what never was: %v", what, a, b)
		}
	}
	if a, err := h.Search(ctx, g, base+"/Subscription", nil); err != nil || strings.Contains(text(a), string(id)) {
		t.Errorf("%v %s", err, text(a))
	}
}

// The secret is told once; an old one signs for a day after it was replaced.
func TestSecrets(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	g := h.Grant(h.exchange())
	a, err := h.Create(ctx, g, h.parse(subscription("resource-change", "id-only", channel("heartbeat-period", "valueUnsignedInt", 3600), "Observation")))
	if err != nil || strings.Count(text(a), "whsec_") != 1 {
		t.Fatalf("%v %s", err, text(a))
	}
	id := a.Ref.ID
	for _, f := range []func() (notify.Answer, error){
		func() (notify.Answer, error) { return h.Read(ctx, g, id) },
		func() (notify.Answer, error) { return h.Search(ctx, g, base+"/Subscription", nil) },
		func() (notify.Answer, error) { return h.Status(ctx, g, "", id, nil, nil) },
	} {
		if a, err := f(); err != nil || strings.Contains(text(a), "whsec_") {
			t.Errorf("%v %s", err, text(a))
		}
	}
	if s := h.SQL("SELECT encode(sealed, 'escape') FROM notify.subscription"); strings.Contains(s, "s3cret") || strings.Contains(s, "hook.example") {
		t.Error("the endpoint or its secret lies in the clear")
	}
	keys := func() (n int, first string) {
		h.box.take()
		for range 200 {
			h.Clock.Add(3600_000)
			h.settle()
			if got := h.box.take(); got != nil {
				return len(got[0].Keys), string(got[0].Keys[0])
			}
			time.Sleep(10 * time.Millisecond)
		}
		return 0, ""
	}
	n, old := keys()
	if n != 1 || len(old) != 32 {
		t.Fatal(n)
	}
	if a, err = h.Rotate(ctx, g, id); err != nil || strings.Count(text(a), "whsec_") != 1 {
		t.Fatalf("%v %s", err, text(a))
	}
	if n, first := keys(); n != 2 || first == old {
		t.Errorf("%d keys sign", n)
	}
	h.Clock.Add(24 * 3600_000)
	if n, first := keys(); n != 1 || first == old {
		t.Errorf("%d keys sign a day later", n)
	}
}
