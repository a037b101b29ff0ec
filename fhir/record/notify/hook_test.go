package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/record/egress"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

// endpoint is a receiver over TLS, its host with the port, and what certifies it.
func endpoint(t *testing.T, h http.HandlerFunc) (*httptest.Server, string, *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s, strings.TrimPrefix(s.URL, "https://"), pool
}

func message(url string) notify.Message {
	return notify.Message{ID: "msg_1", Endpoint: url, Header: []notify.Header{{Name: "Authorization", Value: "Bearer s3cret"}}, Body: []byte(`{"a":1}`), At: time.Unix(1700000000, 0), Keys: [][]byte{[]byte("new"), []byte("old")}, Timeout: 2 * time.Second, Noticed: true}
}

// A message carries what Standard Webhooks 1.0 says, and a signature under each secret.
func TestSignedWebhook(t *testing.T) {
	var got *http.Request
	var body []byte
	_, host, roots := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	})
	hooks := hooks(t, egress.Config{Own: []string{host}, Roots: roots})
	m := message("https://" + host + "/in?x=1")
	if err := hooks.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, k := range m.Keys {
		mac := hmac.New(sha256.New, k)
		_, _ = io.WriteString(mac, `msg_1.1700000000.{"a":1}`)
		want = append(want, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	for name, value := range map[string]string{
		"Webhook-Id": "msg_1", "Webhook-Timestamp": "1700000000", "Webhook-Signature": strings.Join(want, " "), "Content-Type": "application/fhir+json", "Authorization": "Bearer s3cret",
	} {
		if got.Header.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, got.Header.Get(name), value)
		}
	}
	if string(body) != `{"a":1}` || got.Method != http.MethodPost || got.RequestURI != "/in?x=1" || got.Header.Get("Redisclosure-Notice") == "" {
		t.Errorf("%s %s %s %v", got.Method, got.RequestURI, body, got.Header)
	}
}

func hooks(t *testing.T, c egress.Config) *notify.Hooks {
	t.Helper()
	g, err := egress.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return notify.NewHooks(g)
}

// L50: nothing is sent where no list of the practice leads, whatever a client asks for. Package
// egress tests the ways around that; here it is that notifications go no other way.
func TestL50_NothingIsSentElsewhere(t *testing.T) {
	calls := 0
	s, host, roots := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that its client goes
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/in", http.StatusTemporaryRedirect)
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/endless":
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case "/slow":
			<-r.Context().Done()
		}
	})
	listed := hooks(t, egress.Config{Hosts: []string{host}, Roots: roots})
	if err := listed.Send(t.Context(), message(s.URL+"/in")); err == nil {
		t.Error("an address that is not public was sent to")
	}
	own := hooks(t, egress.Config{Own: []string{host}, Roots: roots})
	for _, u := range []string{"http://" + host + "/in", "https://127.0.0.1/in", "https://user@" + host + "/in", "in", "https://evil.example/in"} {
		if own.Check(u, nil) == nil {
			t.Errorf("%s is good enough", u)
		}
		if err := own.Send(t.Context(), message(u)); err == nil {
			t.Errorf("%s was sent to", u)
		}
	}
	if calls != 0 {
		t.Fatalf("%d calls", calls)
	}
	for path, want := range map[string]bool{"/in": true, "/redirect": false, "/endless": true, "/slow": false, "/gone": false} {
		m := message(s.URL + path)
		m.Timeout = time.Second
		err := own.Send(t.Context(), m)
		if (err == nil) != want || path == "/gone" && !errors.Is(err, notify.ErrGone) {
			t.Errorf("%s: %v", path, err)
		}
		if err != nil && (strings.Contains(err.Error(), host) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("an error tells where and what: %v", err)
		}
	}
	if calls != 5 {
		t.Errorf("%d calls: a redirect was followed", calls)
	}

	// In development: this machine, in the clear, and no secret of a client with it.
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer plain.Close()
	dev := hooks(t, egress.Config{Local: true})
	m := message(plain.URL)
	if err := dev.Send(context.Background(), m); err == nil {
		t.Error("Authorization in the clear")
	}
	m.Header = nil
	if err := dev.Send(context.Background(), m); err != nil {
		t.Error(err)
	}
}
