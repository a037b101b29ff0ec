package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/oidc"
)

var clock = func() time.Time { return time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC) }

type slugs map[string]int32

func (s slugs) Tenant(slug string) (int32, bool) { id, ok := s[slug]; return id, ok }

const audience = "http://127.0.0.1:8080/fhir"

var therapist = Persona{
	Name: "therapist", About: "Sees <her> patients.", Try: []Request{{Command: `curl -sS -H "Authorization: Bearer $TOKEN" '` + audience + `/Patient?name=a&_count=1'`, Expect: "her <patients>"}},
	Claims: Claims{Subject: "t1", Scope: "user/*.rs", Practice: "harbor", Roles: []string{"therapist"}, Purpose: "TREAT", User: "Practitioner/p1"},
}

// run serves an issuer whose key lies in dir.
func run(t *testing.T, dir string) (*Issuer, string) {
	t.Helper()
	var handler http.Handler
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(s.Close)
	i, err := New(Config{
		URL: s.URL, Audience: audience, KeyFile: filepath.Join(dir, "issuer", "key.json"),
		Personas: []Persona{therapist}, Lifetime: time.Hour, Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	handler = i.Handler()
	return i, s.URL
}

// server is the other side: what the API uses to check tokens.
func server(t *testing.T, issuer string) *oidc.Authenticator {
	t.Helper()
	a, err := oidc.New([]oidc.Issuer{{URL: issuer, Audience: audience}}, slugs{"harbor": 7}, clock)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestTokensAreAcceptedByTheRealAuthenticator(t *testing.T) {
	i, url := run(t, t.TempDir())
	token, err := i.Mint(therapist.Claims, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	p, err := server(t, url).Authenticate(context.Background(), token)
	if err != nil {
		t.Fatal(err, errors.Unwrap(err))
	}
	if p.Tenant != 7 || p.Subject != url+"|t1" || p.User.String() != "Practitioner/p1" || !p.Expiry.Equal(clock().Add(time.Minute)) {
		t.Errorf("%+v", p)
	}
}

func TestPageAndTokenEndpointGiveTokensThatWork(t *testing.T) {
	_, base := run(t, t.TempDir())
	status, body := get(t, base+"/")
	if status != http.StatusOK || !strings.Contains(body, "Sees &lt;her&gt; patients.") {
		t.Fatalf("%d %s", status, body)
	}
	m := regexp.MustCompile(`(?s)>TOKEN=([^<]+)<.*>curl -sS -H "Authorization: Bearer \$TOKEN" '([^']+)'<`).FindStringSubmatch(html.UnescapeString(body))
	if len(m) != 3 || m[2] != audience+"/Patient?name=a&_count=1" || !strings.Contains(body, "her &lt;patients&gt;") {
		t.Fatalf("no command for a shell: %s", body)
	}
	res, err := http.PostForm(base+"/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"therapist"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
		In    int    `json:"expires_in"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Type != "Bearer" || answer.In != 3600 {
		t.Fatalf("%+v %v", answer, err)
	}
	for _, token := range []string{m[1], answer.Token} {
		if _, err := server(t, base).Authenticate(context.Background(), token); err != nil {
			t.Error(err, errors.Unwrap(err))
		}
	}
	for _, form := range []url.Values{
		{"grant_type": {"client_credentials"}, "client_id": {"nobody"}},
		{"grant_type": {"password"}, "client_id": {"therapist"}},
		{},
	} {
		res, err := http.PostForm(base+"/token", form)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode/100 != 4 || strings.Contains(string(body), "access_token") {
			t.Errorf("%v: %d %s", form, res.StatusCode, body)
		}
	}
}

func TestTokensSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	before, _ := run(t, dir)
	after, url := run(t, dir)
	before.cfg.URL = url // the port of a test server changes; that of `cloister dev` does not
	token, err := before.Mint(therapist.Claims, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server(t, url).Authenticate(context.Background(), token); err != nil {
		t.Error(err, errors.Unwrap(err))
	}
	path := after.cfg.KeyFile
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v %v", fi, err)
	}
	if _, body := get(t, url+"/keys"); strings.Contains(body, `"d"`) {
		t.Error("the key set publishes the private key")
	}
	other, otherURL := run(t, t.TempDir())
	other.cfg.URL = url
	if token, err = other.Mint(therapist.Claims, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := server(t, url).Authenticate(context.Background(), token); err == nil {
		t.Errorf("the key of %s is good for %s", otherURL, url)
	}
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(after.cfg); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestMintRefuses(t *testing.T) {
	i, _ := run(t, t.TempDir())
	if _, err := i.Mint(Claims{Subject: "x", Roles: []string{"therapist", "operator"}}, time.Minute); err == nil {
		t.Error("a token for the role of the command line")
	}
	if _, err := i.Mint(Claims{}, time.Minute); err == nil {
		t.Error("a token for nobody")
	}
	if _, err := i.Mint(therapist.Claims, 0); err == nil {
		t.Error("a token without lifetime")
	}
}

func TestOnlyTheLoopbackInterface(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.org:0", "127.0.0.1"} {
		if l, err := Listen(context.Background(), address); err == nil {
			_ = l.Close()
			t.Errorf("listens on %s", address)
		}
	}
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestForeignHostNameIsRefused(t *testing.T) {
	i, _ := run(t, t.TempDir())
	for host, want := range map[string]int{
		"127.0.0.1:8081": http.StatusOK, "localhost:8081": http.StatusOK, "[::1]:8081": http.StatusOK, "localhost": http.StatusOK,
		"evil.example:8081": http.StatusMisdirectedRequest, "127.0.0.1.evil.example": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequest(http.MethodGet, "/personas", nil)
		r.Host = host
		w := httptest.NewRecorder()
		i.Handler().ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %q: %d, want %d", host, w.Code, want)
		}
	}
}
