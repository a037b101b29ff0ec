package api

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/record/egress"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

// receiver is a client's endpoint: it checks the signature of what arrives, as Standard Webhooks has it.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	secret []byte
	bodies []string
	forged int
}

func (r *receiver) host() string { return strings.TrimPrefix(r.URL, "https://") }

func (r *receiver) ServeHTTP(w http.ResponseWriter, rq *http.Request) {
	body, _ := io.ReadAll(rq.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if rq.Header.Get("Webhook-Signature") != notify.Signature(rq.Header.Get("Webhook-Id"), rq.Header.Get("Webhook-Timestamp"), body, [][]byte{r.secret}) {
		r.forged++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.bodies = append(r.bodies, string(body))
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) take() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out, r.bodies = r.bodies, nil
	return out
}

// learn takes the secret out of the answer that made a subscription.
func (r *receiver) learn(t *testing.T, body string) {
	t.Helper()
	m := regexp.MustCompile(`"whsec_([^"]*)"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("there is no secret in %s", body)
	}
	key, err := base64.StdEncoding.DecodeString(m[1])
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secret = key
}

// newNotify is a clinic that notifies a receiver.
func newNotify(t *testing.T) (*clinic, *notify.Service, *receiver) {
	t.Helper()
	c := newClinic(t)
	s, r := c.notifying(t)
	return c, s, r
}

// notifying lets a clinic notify a receiver.
func (c *clinic) notifying(t *testing.T) (*notify.Service, *receiver) {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewTLSServer(r)
	t.Cleanup(r.Close)
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	out, err := egress.New(egress.Config{Own: []string{r.host()}, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	s, err := notify.New(notify.Config{
		Base: c.cfg.Base, Engine: c.cfg.Engine, Gate: c.cfg.Gate, Records: c.store, Subscriptions: c.store.Subscriptions(),
		Hooks: notify.NewHooks(out), Keys: envelopetest.Keys(), Log: c.cfg.Log, Now: c.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.cfg.Notify = s
	if c.Handler, err = New(c.cfg); err != nil {
		t.Fatal(err)
	}
	return s, r
}

// deliver works until something has arrived.
func deliver(t *testing.T, s *notify.Service, r *receiver) []string {
	t.Helper()
	ctx := context.Background()
	for range 400 {
		if err := s.Subscriptions.Sequence(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Step(ctx); err != nil {
			t.Fatal(err)
		}
		if got := r.take(); got != nil {
			return got
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nothing arrived")
	return nil
}

var (
	hookBlock  = regexp.MustCompile("(?s)```(http subscription|json sent|json)\n(.*?)```")
	hookParts  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	hookSecret = regexp.MustCompile(`whsec_[A-Za-z0-9+/={}]*`)
)

// The worked example of docs/rest/subscriptions.md is what a server answers and sends, step by step.
func TestDocsSubscriptionExample(t *testing.T) {
	c, s, r := newNotify(t)
	page := filepath.Join("..", "docs", "rest", "subscriptions.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := hookBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 10 {
		t.Fatalf("%d blocks", len(blocks))
	}
	normal := func(x string) string {
		x = strings.ReplaceAll(x, r.host(), "hooks.example.org")
		x = moments.ReplaceAllString(hookParts.ReplaceAllString(hookSecret.ReplaceAllString(x, "whsec_{secret}"), "{id}"), "2026-03-01T12:00:00.000Z")
		var b bytes.Buffer
		if err := json.Compact(&b, []byte(x)); err != nil {
			return x
		}
		return b.String()
	}
	id, answer, sent := "", "", 0
	for _, b := range blocks {
		if b[1] != "http subscription" {
			if b[1] == "json sent" {
				if sent++; sent == 2 {
					c.create(t, "colleague", observation("Patient/bert", ""))
				}
				answer = deliver(t, s, r)[0]
			}
			if normal(answer) != normal(b[2]) {
				t.Errorf("%s\n%s\nthe page has\n%s", b[1], normal(answer), normal(b[2]))
			}
			continue
		}
		head, body, _ := strings.Cut(b[2], "\n\n")
		lines := strings.Split(strings.TrimSpace(head), "\n")
		m := firstLine.FindStringSubmatch(lines[0])
		if m == nil {
			t.Fatalf("%q is no example", lines[0])
		}
		w := ask(t, c, m[1], strings.ReplaceAll(m[2], "{id}", id), m[3], strings.ReplaceAll(body, "hooks.example.org", r.host()))
		if strconv.Itoa(w.Code) != m[4] {
			t.Fatalf("%s: %d\n%s", lines[0], w.Code, w.Body)
		}
		if answer = w.Body.String(); id == "" {
			r.learn(t, answer)
			id = strings.TrimPrefix(w.Header().Get("Location"), "https://clinic.example/fhir/Subscription/")
			if w.Header().Get("ETag") != `W/"1"` {
				t.Error(w.Header())
			}
		}
	}
	if r.forged != 0 {
		t.Errorf("%d messages with a signature that is none", r.forged)
	}
}

func TestSubscriptionsOverHTTP(t *testing.T) {
	c, s, r := newNotify(t)
	body := `{"resourceType":"Subscription","status":"requested","reason":"x","criteria":"https://cloister.health/fhir/SubscriptionTopic/resource-change",
"_criteria":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria","valueString":"Observation"}]},
"channel":{"type":"rest-hook","endpoint":"https://` + r.host() + `/in","payload":"application/fhir+json","_payload":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content","valueCode":"empty"}]}}}`
	for _, x := range []struct {
		method, path, token, body string
		want                      int
	}{
		{"POST", "/fhir/Subscription", "therapist", body, 403},
		{"POST", "/fhir/Subscription", "operator", body, 403},
		{"POST", "/fhir/Subscription", "", body, 401},
		{"POST", "/fhir/Subscription", "exchange", `{"resourceType":"Patient"}`, 400},
		{"POST", "/fhir/Subscription", "exchange", strings.Replace(body, r.host(), "evil.example", 1), 422},
		{"POST", "/fhir/Subscription", "exchange", strings.Replace(body, "https://"+r.host(), "http://169.254.169.254", 1), 422},
		{"GET", "/fhir/Subscription", "therapist", "", 403},
		{"GET", "/fhir/Subscription/x", "exchange", "", 404},
		{"GET", "/fhir/Subscription/$status?what=1", "exchange", "", 400},
		{"GET", "/fhir/Subscription/x/$events?content=all", "exchange", "", 400},
		{"GET", "/fhir/Subscription/x/$events?eventsSinceNumber=-1", "exchange", "", 400},
		{"PATCH", "/fhir/Subscription/x", "exchange", `{"resourceType":"Parameters"}`, 403},
		{"POST", "/fhir", "exchange", `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":` + body + `,"request":{"method":"POST","url":"Subscription"}}]}`, 403},
		{"GET", "/fhir/Subscription/x/_history", "exchange", "", 403},
	} {
		if w := ask(t, c, x.method, x.path, x.token, x.body); w.Code != x.want {
			t.Errorf("%s %s as %q: %d, want %d\n%s", x.method, x.path, x.token, w.Code, x.want, w.Body)
		}
	}
	w := ask(t, c, "POST", "/fhir/Subscription", "exchange", body)
	if w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	place := below(t, w.Header().Get("Location"))
	id := strings.TrimPrefix(place, "/fhir/Subscription/")
	r.learn(t, w.Body.String())
	deliver(t, s, r)
	var got struct{ Status string }
	w = ask(t, c, "GET", place, "exchange", "")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Status != "active" || w.Header().Get("ETag") != `W/"1"` {
		t.Errorf("%v %s", err, w.Body)
	}
	off := strings.Replace(strings.Replace(body, `"requested"`, `"off"`, 1), `"reason"`, `"id":"`+id+`","reason"`, 1)
	if w := ask(t, c, "PUT", place, "exchange", off, "If-Match", `W/"2"`); w.Code != 412 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, c, "PUT", place, "exchange", off, "If-Match", `W/"1"`); w.Code != 200 || w.Header().Get("ETag") != `W/"2"` || !strings.Contains(w.Body.String(), `"off"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for path, n := range map[string]string{"/fhir/Subscription": "1", "/fhir/Subscription?status=off,error": "1", "/fhir/Subscription?status=active": "0", "/fhir/Subscription/$status": "1", "/fhir/Subscription/$status?id=x": "0", place + "/$status": "1"} {
		if w := ask(t, c, "GET", path, "exchange", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"total":`+n) || strings.Contains(w.Body.String(), "whsec_") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask(t, c, "POST", place+"/$rotate-secret", "exchange", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "whsec_") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	statement := ask(t, c, "GET", "/fhir/metadata", "", "").Body.String()
	for _, x := range []string{`"valueCanonical":"https://cloister.health/fhir/SubscriptionTopic/encounter-start"`, "backport-subscription-events", notify.Profile} {
		if !strings.Contains(statement, x) {
			t.Errorf("the capability statement has no %s", x)
		}
	}
	// What is kept beside the record is nowhere in it.
	if w := ask(t, c, "DELETE", place, "exchange", ""); w.Code != 204 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, c, "GET", place, "exchange", ""); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
