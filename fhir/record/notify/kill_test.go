package notify_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/egress"
	"github.com/cloister-health/cloister/fhir/record/notify"
	"github.com/cloister-health/cloister/fhir/record/turn/turntest"
)

// outward is the way to endpoints on this machine.
func outward(t *testing.T) *notify.Hooks {
	t.Helper()
	return hooks(t, egress.Config{Local: true})
}

// dawdling takes its time before it sends and afterwards, so that some are killed there.
type dawdling struct{ notify.Sender }

func (d dawdling) Send(ctx context.Context, m notify.Message) error {
	time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
	err := d.Sender.Send(ctx, m)
	time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
	return err
}

// TestWorkerProcess is no test: it is the worker that TestKilledProcesses starts and kills.
func TestWorkerProcess(t *testing.T) {
	at := turntest.Child(t)
	h, err := open(at.DSN)
	if err != nil {
		t.Fatal(err)
	}
	h.Moving = turntest.Clock(at.Begin)
	s, err := notify.New(h.config(dawdling{outward(t)}, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	turntest.Work(func(ctx context.Context) (bool, error) {
		if err := s.Subscriptions.Sequence(ctx); err != nil {
			return false, err
		}
		return s.Step(ctx)
	}, s.Sweep)
}

// listener is an endpoint that holds what arrives against what was promised.
type listener struct {
	mu      sync.Mutex
	keys    map[string][]byte   // by path
	last    map[string]string   // message, and what it said
	events  map[string][]string // without those that came again
	repeats int
	faults  []string
}

func (l *listener) fault(format string, args ...any) {
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

func (l *listener) got(t *testing.T, path string) []string {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.faults {
		t.Error(f)
	}
	if t.Failed() {
		t.FailNow()
	}
	return slices.Clone(l.events[path])
}

func (l *listener) handler(t *testing.T) http.HandlerFunc {
	t.Helper()
	return func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // its sender was killed
		}
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond) // so that some are killed meanwhile
		l.mu.Lock()
		defer l.mu.Unlock()
		path, id := r.URL.Path, r.Header.Get("Webhook-Id")
		if r.Header.Get("Webhook-Signature") != notify.Signature(id, r.Header.Get("Webhook-Timestamp"), body, [][]byte{l.keys[path]}) {
			l.fault("%s: a signature of somebody else", path)
		}
		if strings.Contains(string(body), canary) || strings.Contains(string(body), "bert") {
			l.fault("%s: what is hidden was sent: %s", path, body)
		}
		b := readBundle(t, body)
		if b.kind != "event-notification" {
			return
		}
		said := id + fmt.Sprint(b.events)
		if l.last[path] == said {
			l.repeats++
			return
		}
		for i, e := range b.events {
			if want := fmt.Sprintf("%d ", len(l.events[path])+1+i); !strings.HasPrefix(e, want) {
				l.fault("%s: %q after %q and %d events", path, said, l.last[path], len(l.events[path]))
			}
		}
		l.last[path], l.events[path] = said, append(l.events[path], b.events...)
	}
}

var signedWith = regexp.MustCompile(`whsec_([A-Za-z0-9+/=]+)`)

// Notifiers are killed, with SIGKILL and at any moment, again and again, while another one goes
// on: every event arrives, in order and under its number, nothing arrives again but the message
// that was on its way, and nothing that the subscriber may not see.
func TestKilledProcesses(t *testing.T) {
	h := newHouse(t)
	l := &listener{keys: map[string][]byte{}, last: map[string]string{}, events: map[string][]string{}}
	s := httptest.NewServer(l.handler(t))
	defer s.Close()
	at := turntest.Place{Begin: time.Now(), DSN: h.DSN}
	h.Moving = turntest.Clock(at.Begin)
	var err error
	if h.Service, err = notify.New(h.config(outward(t), slog.New(slog.DiscardHandler))); err != nil {
		t.Fatal(err)
	}
	ids := map[string]fhir.ID{} // by path
	for i := range 6 {
		path := fmt.Sprintf("/%d", i)
		body := subscription("resource-change", []string{"full-resource", "id-only"}[i%2], channel("max-count", "valuePositiveInt", 3), "Observation", "Encounter", "DocumentReference")
		body = strings.Replace(strings.Replace(body, "https://hook.example/in", s.URL+path, 1), `"header":["Authorization: Bearer s3cret"],`, "", 1)
		a, err := h.Create(context.Background(), h.Grant(h.exchange()), h.parse(body))
		if err != nil {
			t.Fatal(err)
		}
		key, err := base64.StdEncoding.DecodeString(signedWith.FindStringSubmatch(text(a))[1])
		if err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		ids[path], l.keys[path] = a.Ref.ID, key
		l.mu.Unlock()
	}
	workers := turntest.Start(t, 2, "TestWorkerProcess", at)
	most := turntest.Faults(t)
	deadline := time.Now().Add(2*time.Minute + time.Duration(most)*15*time.Second)
	until := func(what string, reached func(path string) bool) {
		t.Helper()
		for path, id := range ids {
			for !reached(path) {
				if st := h.state(id); st != "active " && st != "requested " {
					t.Fatalf("%s is %s", path, st)
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s: %s takes too long: %q\n%s", path, what, l.got(t, path), h.SQL("SELECT format(E'%s %s turn %s failures %s position %s events %s sent %s due %s lease %s, ', id, status, turn, failures, position, events, sent, due, lease) FROM notify.subscription"))
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
	until("the handshake", func(path string) bool { return h.state(ids[path]) == "active " })
	var want []string
	for n := range most {
		for i := range 2 {
			id := fmt.Sprintf("o%d-%d", n%7, i) // some of them again and again
			h.Load(observation(id, "anna", fmt.Sprintf(`,"valueInteger":%d`, n)))
			want = append(want, fmt.Sprintf("%d Observation/%s", len(want)+1, id))
			h.Load(note("n", "psychotherapy-note"))
			h.Load(encounter("eb", "bert", "sud", []string{"finished", "in-progress"}[(n+i)%2]))
		}
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		workers.Kill()
	}
	until("the end", func(path string) bool { return len(l.got(t, path)) >= len(want) })
	workers.End()
	for path := range ids {
		if got := l.got(t, path); !slices.Equal(got, want) {
			t.Errorf("%s was told of\n%q, not of\n%q", path, got, want)
		}
	}
	if got := h.SQL("SELECT count(*)::text FROM notify.event"); got != fmt.Sprint(len(ids)*len(want)) {
		t.Errorf("%s events are numbered", got)
	}
	t.Logf("%d kills, %d events of %d subscriptions, %d messages came again", most, len(want), len(ids), l.repeats)
}
