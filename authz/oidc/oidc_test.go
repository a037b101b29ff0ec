package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

const audience = "http://localhost:8080/fhir"

// idp is a real issuer, in this process.
type idp struct {
	*httptest.Server
	mu       sync.Mutex
	keys     jose.JSONWebKeySet
	down     bool
	jwksURI  string
	requests map[string]int
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	p := &idp{requests: map[string]int{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.requests[r.URL.Path]++
		if p.down {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		var doc any
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			keys := p.URL + "/keys"
			if p.jwksURI != "" {
				keys = p.jwksURI
			}
			doc = map[string]any{"issuer": p.URL, "jwks_uri": keys, "id_token_signing_alg_values_supported": []string{"RS256", "none"}}
		case "/keys":
			doc = p.keys
		default:
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(doc)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *idp) set(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *idp) asked(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[path]
}

// key makes a key for an algorithm; publish puts its public half into the key set.
func key(t *testing.T, alg, kid string) jose.JSONWebKey {
	t.Helper()
	var k any
	var err error
	switch alg {
	case "ES256":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	default:
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: k, KeyID: kid, Algorithm: alg, Use: "sig"}
}

func (p *idp) publish(keys ...jose.JSONWebKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = jose.JSONWebKeySet{}
	for _, k := range keys {
		p.keys.Keys = append(p.keys.Keys, k.Public())
	}
}

type claims map[string]any

// with changes one claim; nil takes it out.
func (c claims) with(name string, v any) claims {
	d := maps.Clone(c)
	if v == nil {
		delete(d, name)
	} else {
		d[name] = v
	}
	return d
}

func sign(t *testing.T, k jose.JSONWebKey, c claims) string {
	t.Helper()
	return signWith(t, jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Algorithm), Key: k}, c)
}

func signWith(t *testing.T, k jose.SigningKey, c claims) string {
	t.Helper()
	s, err := jose.NewSigner(k, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := j.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

type slugs map[string]int32

func (s slugs) Tenant(slug string) (int32, bool) { id, ok := s[slug]; return id, ok }

// clock is the test's own time.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type world struct {
	idp   *idp
	key   jose.JSONWebKey
	clock *clock
	good  claims
	auth  *Authenticator
}

func newWorld(t *testing.T, algorithms ...string) *world {
	t.Helper()
	w := &world{idp: newIDP(t), key: key(t, "ES256", "one"), clock: &clock{now: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)}}
	w.idp.publish(w.key)
	w.good = claims{
		"iss": w.idp.URL, "aud": audience, "sub": "u1", "exp": w.clock.now.Add(time.Hour).Unix(),
		"scope": "openid user/*.rs", "practice": "harbor", "roles": []string{"therapist", "supervisor"},
		"organizations": []string{"org-1"}, "purpose_of_use": "TREAT", "fhirUser": "Practitioner/p1", "client_id": "app",
	}
	var err error
	w.auth, err = New([]Issuer{{URL: w.idp.URL, Audience: audience, Algorithms: algorithms}}, slugs{"harbor": 7, "zero": 0}, w.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) authenticate(token string) (authz.Principal, error) {
	return w.auth.Authenticate(context.Background(), token)
}

// category gives the category of the error, and its public text.
func category(err error) (outcome.Category, string) {
	var e *outcome.Error
	if !errors.As(err, &e) {
		return 0, "not an outcome"
	}
	return e.Issues[0].Category, e.Issues[0].Text
}

func (w *world) refused(t *testing.T, why, token string) {
	t.Helper()
	p, err := w.authenticate(token)
	if err == nil {
		t.Errorf("%s: accepted as %+v", why, p)
		return
	}
	if c, text := category(err); c != outcome.Login || text != "a valid access token is required" {
		t.Errorf("%s: %v %q (%v)", why, c, text, errors.Unwrap(err))
	}
}

func TestGoodTokenBecomesAPrincipal(t *testing.T) {
	w := newWorld(t)
	p, err := w.authenticate(sign(t, w.key, w.good.with("patient", "pat-1")))
	if err != nil {
		t.Fatal(err, errors.Unwrap(err))
	}
	if open := p.Scopes.Allow("Observation", fhir.Read); len(open) != 1 || open[0].PatientOnly || open[0].Where != nil {
		t.Error("the scopes are lost")
	}
	if open := p.Scopes.Allow("Observation", fhir.Create); open != nil {
		t.Error("the scopes are too wide")
	}
	p.Scopes = nil
	want := authz.Principal{
		Tenant: 7, Subject: w.idp.URL + "|u1", Client: "app", Roles: []string{"therapist", "supervisor"}, Purpose: "TREAT",
		User: fhir.Ref{Type: "Practitioner", ID: "p1"}, Organizations: []fhir.ID{"org-1"}, Patient: "pat-1",
		Expiry: w.clock.now.Add(time.Hour).Local(),
	}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
	// Several audiences, an absolute fhirUser, no scope at all.
	p, err = w.authenticate(sign(t, w.key, w.good.with("aud", []string{"other", audience}).with("fhirUser", audience+"/RelatedPerson/r1").with("scope", nil)))
	if err != nil {
		t.Fatal(err, errors.Unwrap(err))
	}
	if p.User.String() != "RelatedPerson/r1" {
		t.Errorf("fhirUser %v", p.User)
	}
	if open := p.Scopes.Allow("Observation", fhir.Read); open != nil {
		t.Error("a token without scope opens something")
	}
}

func TestBadClaimsAreRefused(t *testing.T) {
	w := newWorld(t)
	past := w.clock.now.Add(-time.Second).Unix()
	for why, c := range map[string]claims{
		"expired":                 w.good.with("exp", past),
		"expires now":             w.good.with("exp", w.clock.now.Unix()),
		"no expiry":               w.good.with("exp", nil),
		"not yet valid":           w.good.with("nbf", w.clock.now.Add(time.Hour).Unix()),
		"unknown issuer":          w.good.with("iss", "https://evil.example"),
		"issuer with a slash":     w.good.with("iss", w.idp.URL+"/"),
		"no issuer":               w.good.with("iss", nil),
		"other audience":          w.good.with("aud", "http://localhost:8080"),
		"no audience":             w.good.with("aud", nil),
		"empty audience":          w.good.with("aud", []string{}),
		"no subject":              w.good.with("sub", nil),
		"empty subject":           w.good.with("sub", ""),
		"no practice":             w.good.with("practice", nil),
		"unknown practice":        w.good.with("practice", "meadow"),
		"practice without id":     w.good.with("practice", "zero"),
		"no purpose":              w.good.with("purpose_of_use", nil),
		"several purposes":        w.good.with("purpose_of_use", []string{"TREAT", "HPAYMT"}),
		"purposes in one":         w.good.with("purpose_of_use", "TREAT HPAYMT"),
		"no roles":                w.good.with("roles", nil),
		"empty roles":             w.good.with("roles", []string{}),
		"roles as text":           w.good.with("roles", "therapist"),
		"null role":               w.good.with("roles", []any{"therapist", nil}),
		"operator":                w.good.with("roles", []string{"operator"}),
		"operator among others":   w.good.with("roles", []string{"therapist", "operator"}),
		"Operator":                w.good.with("roles", []string{"Operator"}),
		"operator with a space":   w.good.with("roles", []string{"operator "}),
		"no name of a profile":    w.good.with("release_profile", "Safe Harbor"),
		"an empty profile":        w.good.with("release_profile", ""),
		"several profiles":        w.good.with("release_profile", []string{"safe-harbor"}),
		"two roles in one":        w.good.with("roles", []string{"therapist,biller"}),
		"organization, malformed": w.good.with("organizations", []string{"a/b"}),
		"organization, reference": w.good.with("organizations", []string{"Organization/org-1"}),
		"patient, malformed":      w.good.with("patient", "Patient/1"),
		"fhirUser elsewhere":      w.good.with("fhirUser", "https://other.example/fhir/Practitioner/p1"),
		"fhirUser of no person":   w.good.with("fhirUser", "Observation/p1"),
		"fhirUser versioned":      w.good.with("fhirUser", "Practitioner/p1/_history/1"),
		"scope as list":           w.good.with("scope", []string{"user/*.rs"}),
		"bound to a key":          w.good.with("cnf", map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
		"bound to two things":     w.good.with("cnf", map[string]any{"jkt": "x", "x5t#S256": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
		"bound to nothing":        w.good.with("cnf", map[string]any{}),
		"bound to no thumbprint":  w.good.with("cnf", map[string]any{"x5t#S256": "abc"}),
		"bound to null":           w.good.with("cnf", nil).with("cnf", json.RawMessage("null")),
		"bound elsewhere":         w.good.with("cnf", map[string]any{"x5t#S256": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
		"second spelling":         w.good.with("Practice", "harbor"),
		"second spelling, fold":   w.good.with("role\u017f", []string{"biller"}),
		"second audience":         w.good.with("aud", "x").with("AUD", audience),
	} {
		w.refused(t, why, sign(t, w.key, c))
	}
	if _, err := w.authenticate(sign(t, w.key, w.good)); err != nil {
		t.Fatal("the test proves nothing:", err)
	}
}

func TestBadSignaturesAreRefused(t *testing.T) {
	w := newWorld(t)
	good := sign(t, w.key, w.good)
	parts := strings.Split(good, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	none := b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	changed, err := json.Marshal(w.good.with("roles", []string{"privacy-officer"}))
	if err != nil {
		t.Fatal(err)
	}
	foreign := key(t, "ES256", "one")
	embedded := signWith(t, jose.SigningKey{Algorithm: jose.ES256, Key: foreign.Key}, w.good)
	public, err := w.key.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	full := `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`
	for why, token := range map[string]string{
		"empty":                      "",
		"no token":                   "hello",
		"dots":                       "..",
		"other key, same kid":        sign(t, foreign, w.good),
		"other key, other kid":       sign(t, key(t, "ES256", "two"), w.good),
		"other key, no kid":          embedded,
		"alg none":                   none,
		"alg none with signature":    none + parts[2],
		"signature of other claims":  parts[0] + "." + b64(changed) + "." + parts[2],
		"no signature":               parts[0] + "." + parts[1] + ".",
		"public key as HMAC secret":  signWith(t, jose.SigningKey{Algorithm: jose.HS256, Key: public}, w.good),
		"JSON serialization":         full,
		"trailing part":              good + ".x",
		"trailing space":             good + " ",
		"payload that is no object":  parts[0] + "." + b64([]byte(`[]`)) + "." + parts[2],
		"longer than any real token": good + strings.Repeat("A", maxToken),
	} {
		w.refused(t, why, token)
	}
	if _, err := w.authenticate(good); err != nil {
		t.Fatal("the test proves nothing:", err)
	}
}

func TestAlgorithms(t *testing.T) {
	for _, alg := range Algorithms() {
		w := newWorld(t)
		k := key(t, alg, alg)
		w.idp.publish(k)
		if _, err := w.authenticate(sign(t, k, w.good)); err != nil {
			t.Errorf("%s: %v", alg, errors.Unwrap(err))
		}
	}
	w := newWorld(t, "RS256")
	w.refused(t, "ES256 where only RS256 is allowed", sign(t, w.key, w.good))
}

func TestIssuerThatIsDownAtStart(t *testing.T) {
	w := newWorld(t)
	w.idp.set(true)
	token := sign(t, w.key, w.good)
	for range 3 {
		_, err := w.authenticate(token)
		if c, text := category(err); c != outcome.Unavailable || text != "the identity provider cannot be reached" {
			t.Fatalf("%v %q", c, text)
		}
	}
	if n := w.idp.asked("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("asked %d times while it is down, want once per %v", n, retryAfter)
	}
	w.idp.set(false)
	w.clock.pass(retryAfter)
	if _, err := w.authenticate(token); err != nil {
		t.Fatalf("the issuer is back: %v (%v)", err, errors.Unwrap(err))
	}
}

func TestKeysOutOfReachAreNotABadToken(t *testing.T) {
	w := newWorld(t)
	if _, err := w.authenticate(sign(t, w.key, w.good)); err != nil {
		t.Fatal(err)
	}
	w.idp.set(true)
	w.clock.pass(keysFor)
	// The known key still works; whether the unknown one is good, only the issuer can say.
	if _, err := w.authenticate(sign(t, w.key, w.good.with("sub", "u2"))); err != nil {
		t.Error("a known key needs no issuer:", err)
	}
	w.outOfReach(t, sign(t, key(t, "ES256", "two"), w.good))
}

// outOfReach waits until a token of an unknown key finds the issuer down: go-oidc may still hand out the answer of the
// request before, for an instant.
func (w *world) outOfReach(t *testing.T, forged string) {
	t.Helper()
	var err error
	for range 12_000 { // a minute
		if _, err = w.authenticate(forged); outcome.Of(err).Status() == http.StatusServiceUnavailable {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("unknown key while the issuer is down: %v", err)
}

// All who share one fetch of the keys share its failure.
func TestKeysOutOfReachForSeveralAtOnce(t *testing.T) {
	w := newWorld(t)
	if _, err := w.authenticate(sign(t, w.key, w.good)); err != nil {
		t.Fatal(err)
	}
	w.idp.set(true)
	w.clock.pass(keysFor)
	forged := sign(t, key(t, "ES256", "two"), w.good)
	w.outOfReach(t, forged)
	w.clock.pass(keysFor)
	errs := make(chan error)
	for range 32 {
		go func() {
			_, err := w.authenticate(forged)
			errs <- err
		}()
	}
	for range 32 {
		if c, _ := category(<-errs); c != outcome.Unavailable {
			t.Fatalf("category %v", c)
		}
	}
}

func TestRotatedKeysAreFoundWithoutFloodingTheIssuer(t *testing.T) {
	w := newWorld(t)
	if _, err := w.authenticate(sign(t, w.key, w.good)); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		w.refused(t, "forged", sign(t, key(t, "ES256", "forged"), w.good.with("n", i)))
	}
	if n := w.idp.asked("/keys"); n != 1 {
		t.Errorf("20 forged tokens made the server ask %d times", n)
	}
	next := key(t, "ES256", "two")
	w.idp.publish(next)
	w.clock.pass(keysFor)
	// go-oidc may still hand out the answer of the request before, for an instant.
	var err error
	for range 12_000 { // a minute
		if _, err = w.authenticate(sign(t, next, w.good)); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("the new key is not found:", errors.Unwrap(err))
}

func TestKeySetOverPlainHTTPIsNotTrusted(t *testing.T) {
	w := newWorld(t)
	w.idp.jwksURI = "http://keys.example/keys"
	_, err := w.authenticate(sign(t, w.key, w.good))
	if c, _ := category(err); c != outcome.Unavailable {
		t.Errorf("%v", err)
	}
}

func TestVerifiedTokenIsRememberedUntilItExpires(t *testing.T) {
	w := newWorld(t)
	token := sign(t, w.key, w.good)
	first, err := w.authenticate(token)
	if err != nil {
		t.Fatal(err)
	}
	first.Roles[0] = "privacy-officer"
	again, err := w.authenticate(token)
	if err != nil || again.Roles[0] != "therapist" {
		t.Fatalf("a caller changed what is remembered: %v %v", again.Roles, err)
	}
	// A withdrawn key counts from the next verification on, at the latest after maxAge.
	w.idp.publish(key(t, "ES256", "two"))
	w.clock.pass(time.Minute)
	if _, err := w.authenticate(token); err != nil {
		t.Errorf("not remembered: %v", err)
	}
	w.idp.publish(w.key)
	w.clock.pass(time.Hour)
	w.refused(t, "expired", token)
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(2)
	now := time.Unix(1000, 0)
	p := authz.Principal{Expiry: now.Add(time.Hour)}
	c.put("a", p, nil, now)
	c.put("b", p, nil, now)
	c.get("a", now)
	c.put("c", p, nil, now)
	for token, want := range map[string]bool{"a": true, "b": false, "c": true} {
		if _, _, ok := c.get(token, now); ok != want {
			t.Errorf("%s: %v, want %v", token, ok, want)
		}
	}
	c.put("a", p, nil, now)
	if len(c.byKey) != 2 || c.order.Len() != 2 {
		t.Errorf("%d keys, %d entries", len(c.byKey), c.order.Len())
	}
	if _, _, ok := c.get("a", now.Add(maxAge)); ok {
		t.Error("remembered for too long")
	}
	c.put("d", authz.Principal{Expiry: now.Add(time.Second)}, nil, now)
	if _, _, ok := c.get("d", now.Add(time.Second)); ok {
		t.Error("remembered beyond its expiry")
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	ok := Issuer{URL: "https://id.example", Audience: "x"}
	for why, list := range map[string][]Issuer{
		"none":              nil,
		"plain http":        {{URL: "http://id.example", Audience: "x"}},
		"no host":           {{URL: "id.example", Audience: "x"}},
		"query":             {{URL: "https://id.example?a=b", Audience: "x"}},
		"credentials":       {{URL: "https://a:b@id.example", Audience: "x"}},
		"no audience":       {{URL: "https://id.example"}},
		"symmetric":         {{URL: "https://id.example", Audience: "x", Algorithms: []string{"HS256"}}},
		"unsigned":          {{URL: "https://id.example", Audience: "x", Algorithms: []string{"RS256", "none"}}},
		"twice":             {ok, ok},
		"http, not loopack": {{URL: "http://127.0.0.1.example", Audience: "x"}},
	} {
		if _, err := New(list, slugs{}, time.Now); err == nil {
			t.Errorf("%s: accepted", why)
		}
	}
	if _, err := New([]Issuer{ok, {URL: "http://127.0.0.1:9", Audience: "x"}}, slugs{}, time.Now); err != nil {
		t.Error(err)
	}
}

// FuzzAuthenticate feeds what no signature covers: nothing of it may be accepted or crash.
func FuzzAuthenticate(f *testing.F) {
	a, err := New([]Issuer{{URL: "http://127.0.0.1:1", Audience: "x"}}, slugs{"harbor": 7}, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	for _, s := range []string{"", "..", "a.b.c", b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{"iss":"x"}`)) + ".", `{"payload":""}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := a.Authenticate(context.Background(), token); err == nil {
			t.Errorf("accepted %q", token)
		}
	})
}
