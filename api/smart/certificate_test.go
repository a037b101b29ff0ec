package smart_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/mtls"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// certificate makes one that is good for a day.
func (w *world) certificate() *x509.Certificate {
	w.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: w.now().Add(-time.Minute), NotAfter: w.now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		w.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// refresh reads which grants have ended: what is known of them is good for seconds.
func (w *world) refresh(t *testing.T) {
	t.Helper()
	if err := w.ended.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// An app that registered certificates is known by one of them and by its key, and its tokens are good with the one alone (RFC 8705).
func TestTokensAreBoundToTheCertificateOfTheApp(t *testing.T) {
	w := newWorld(t)
	pump, err := w.store.App(t.Context(), "pump")
	if err != nil {
		t.Fatal(err)
	}
	one, next, other := w.certificate(), w.certificate(), w.certificate()
	x := app.App{
		ID: "hie", Name: "Exchange", Auth: app.PrivateKeyJWT, JWKS: pump.JWKS, Grants: pump.Grants, Scopes: pump.Scopes, Purposes: pump.Purposes, Roles: pump.Roles,
		Certificates: []string{mtls.Thumbprint(one), mtls.Thumbprint(next)}, Registered: w.now(),
	}
	if err := x.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Register(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	w.approve("hie", "harbor")
	form := func(id string) url.Values {
		return url.Values{
			"grant_type": {"client_credentials"}, "scope": {"system/Patient.rs"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion": {w.assertion(func(c map[string]any, _ *jose.SignerOptions) { c["iss"], c["sub"] = id, id })},
		}
	}
	ask := func(path string, v url.Values, c *x509.Certificate) answer {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if c != nil {
			r = r.WithContext(mtls.With(r.Context(), c))
		}
		return w.do(t, r)
	}
	for what, c := range map[string]*x509.Certificate{"none": nil, "another": other} {
		t.Log(what)
		ask("/token", form("hie"), c).wants(401, "invalid_client")
	}
	// The certificate alone does not prove who it is either.
	v := form("hie")
	v.Set("client_assertion", w.assertion(func(c map[string]any, _ *jose.SignerOptions) {
		c["iss"], c["sub"], c["aud"] = "hie", "hie", "https://elsewhere.example.org"
	}))
	ask("/token", v, one).wants(401, "invalid_client")

	for _, c := range []*x509.Certificate{one, next} {
		a := ask("/token", form("hie"), c).ok()
		token := a.str("access_token")
		for holder, want := range map[*x509.Certificate]bool{c: true, other: false, nil: false} {
			ctx := t.Context()
			if holder != nil {
				ctx = mtls.With(ctx, holder)
			}
			// Twice: the second time the token is known.
			for range 2 {
				who, err := w.tokens.Authenticate(ctx, token)
				if (err == nil) != want || want && who.Certificate != mtls.Thumbprint(c) {
					t.Errorf("with the certificate %v: %v", holder == c, err)
				}
			}
		}
		about := form("hie")
		about.Set("token", token)
		about.Del("grant_type")
		said := ask("/introspect", about, c)
		cnf, _ := said.body["cnf"].(map[string]any)
		if said.body["active"] != true || cnf["x5t#S256"] != mtls.Thumbprint(c) {
			t.Errorf("introspection: %s", said.text)
		}
	}
	// It does not outlive the certificate.
	w.pass(24*time.Hour - 2*time.Minute)
	w.refresh(t)
	a := ask("/token", form("hie"), one).ok()
	if _, err := w.tokens.Authenticate(mtls.With(t.Context(), one), a.str("access_token")); err != nil {
		t.Errorf("the certificate is good for two minutes more: %v", err)
	}
	w.pass(3 * time.Minute)
	w.refresh(t)
	var refused *outcome.Error
	if _, err := w.tokens.Authenticate(mtls.With(t.Context(), one), a.str("access_token")); !errors.As(err, &refused) || refused.Status() != http.StatusUnauthorized {
		t.Error("a token is good with a certificate that has expired")
	}
	ask("/token", form("hie"), one).wants(401, "invalid_client")

	// What an app did not register binds nothing.
	b := ask("/token", form("pump"), other).ok()
	if _, err := w.tokens.Authenticate(t.Context(), b.str("access_token")); err != nil {
		t.Errorf("a token of an app without certificates: %v", err)
	}
	for what, certs := range map[string][]string{"malformed": {"abc"}, "too many": {x.Certificates[0], x.Certificates[0], x.Certificates[0], x.Certificates[0], x.Certificates[0]}} {
		x.Certificates = certs
		if x.Validate() == nil {
			t.Errorf("certificates that are %s are registered", what)
		}
	}
	chart, err := w.store.App(t.Context(), "chart")
	if err != nil {
		t.Fatal(err)
	}
	chart.Certificates = []string{mtls.Thumbprint(one)}
	if chart.Validate() == nil {
		t.Error("an app in a browser has registered a certificate")
	}
}
