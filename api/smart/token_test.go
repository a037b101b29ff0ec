package smart_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/authz/audit"
)

func TestTokenEndpointRefusesABadGrantType(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "patient/*.rs")
	code := f.code(w.patient, "anna")
	for grant, want := range map[string]string{
		"not_a_grant_type": "unsupported_grant_type", "": "invalid_request", "password": "unsupported_grant_type", "implicit": "unsupported_grant_type",
		"urn:ietf:params:oauth:grant-type:token-exchange": "unauthorized_client", "urn:ietf:params:oauth:grant-type:jwt-bearer": "unsupported_grant_type",
		"urn:ietf:params:oauth:grant-type:device_code": "unauthorized_client", "client_credentials": "unauthorized_client",
	} {
		v := f.exchange(code)
		v.Set("grant_type", grant)
		v.Set("assertion", "x")
		w.post(t, "/token", "", v).wants(400, want)
	}
	w.post(t, "/token", "", f.exchange(code)).ok() // none of these used the code up
	w.backend(w.assertion(nil), "grant_type", "authorization_code", "code", "x", "redirect_uri", redirect).wants(400, "unauthorized_client")
}

func TestBackendServiceAuthorization(t *testing.T) {
	w := newWorld(t)
	a := w.backend(w.assertion(nil)).ok()
	who, ok := w.accepts(t, a.str("access_token"))
	if !ok || who.Client != "pump" || who.Purpose != "HOPERAT" || who.Tenant != w.slugs["harbor"] || len(who.Roles) != 1 || who.Roles[0] != "research-analyst" || who.Patient != "" || who.User.String() != "" {
		t.Errorf("%v %+v", ok, who)
	}
	if a.str("refresh_token") != "" || a.str("id_token") != "" || a.body["expires_in"] != 300.0 || a.str("scope") != "system/Observation.rs" {
		t.Error(a.text)
	}
	w.backend(w.assertion(func(c map[string]any, _ *jose.SignerOptions) { c["aud"] = issuer })).ok() // RFC 7523, 3: the issuer names the server, too
}

func TestBackendServiceRefusesABadAssertionType(t *testing.T) {
	w := newWorld(t)
	w.backend(w.assertion(nil), "client_assertion_type", "not_an_assertion_type").wants(400, "invalid_request")
	w.backend(w.assertion(nil), "client_assertion_type", "").wants(400, "invalid_request")
	w.backend(w.assertion(nil), "client_assertion", "").wants(400, "invalid_request")
}

func TestBackendServiceRefusesABadAssertion(t *testing.T) {
	w := newWorld(t)
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := func(d time.Duration) int64 { return w.now().Add(d).Unix() }
	set := func(name string, value any) func(map[string]any, *jose.SignerOptions) {
		return func(c map[string]any, _ *jose.SignerOptions) {
			c[name] = value
			if value == nil {
				delete(c, name)
			}
		}
	}
	head := func(name jose.HeaderKey, value any) func(map[string]any, *jose.SignerOptions) {
		return func(_ map[string]any, o *jose.SignerOptions) { o.WithHeader(name, value) }
	}
	signed := func(k any, kid string, alg jose.SignatureAlgorithm) jose.SigningKey {
		return jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: k, KeyID: kid}}
	}
	good := strings.Split(w.assertion(nil), ".")
	for why, text := range map[string]string{
		"invalid signature":            good[0] + "." + good[1] + "." + strings.Split(w.assertion(nil), ".")[2],
		"no signature":                 good[0] + "." + good[1] + ".",
		"alg none":                     "eyJhbGciOiJub25lIn0." + good[1] + ".",
		"another key under its kid":    w.assertion(nil, signed(other, "one", jose.ES384)),
		"unknown kid":                  w.assertion(nil, signed(w.key.Key, "two", jose.ES384)),
		"no kid":                       w.assertion(nil, jose.SigningKey{Algorithm: jose.ES384, Key: w.key.Key}),
		"HMAC with the public key":     w.assertion(nil, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}),
		"an algorithm SMART lacks":     w.assertion(nil, signed(weak, "one", jose.RS256)),
		"wrong typ":                    w.assertion(head(jose.HeaderType, "at+jwt")),
		"jku that is not registered":   w.assertion(head("jku", "https://evil.example/keys")),
		"wrong aud":                    w.assertion(set("aud", "https://other.example/token")),
		"the FHIR base as aud":         w.assertion(set("aud", fhirAt)),
		"two audiences":                w.assertion(set("aud", []string{issuer + "/token", "https://other.example/token"})),
		"no aud":                       w.assertion(set("aud", nil)),
		"wrong iss":                    w.assertion(set("iss", "chart")),
		"no iss":                       w.assertion(set("iss", nil)),
		"wrong sub":                    w.assertion(set("sub", "chart")),
		"no sub":                       w.assertion(set("sub", nil)),
		"unknown client":               w.assertion(func(c map[string]any, _ *jose.SignerOptions) { c["iss"], c["sub"] = "nobody", "nobody" }),
		"expired":                      w.assertion(set("exp", now(-time.Minute))),
		"exp too far":                  w.assertion(set("exp", now(6*time.Minute))),
		"no exp":                       w.assertion(set("exp", nil)),
		"exp beyond all dates":         w.assertion(set("exp", 1e300)),
		"not yet valid":                w.assertion(set("nbf", now(2*time.Minute))),
		"issued in the future":         w.assertion(set("iat", now(2*time.Minute))),
		"no jti":                       w.assertion(set("jti", nil)),
		"empty jti":                    w.assertion(set("jti", "")),
		"a claim in a second spelling": w.assertion(func(c map[string]any, _ *jose.SignerOptions) { c["AUD"] = issuer + "/token"; c["aud"] = "x" }),
		"no JWT":                       "hello",
		"longer than any":              w.assertion(set("x", strings.Repeat("x", 9000))),
	} {
		a := w.backend(text)
		if a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", why, a.status, a.text)
			continue
		}
		a.wants(http.StatusUnauthorized, "invalid_client")
	}
	if !w.audit.has(audit.TokenRefused, audit.ReasonClient) {
		t.Error("no refusal is in the audit trail")
	}
	w.backend(w.assertion(nil)).ok()
}

func TestBackendServiceRefusesAReplayedJTI(t *testing.T) {
	w := newWorld(t)
	text := w.assertion(nil)
	w.backend(text).ok()
	w.backend(text).wants(401, "invalid_client")
	again := w.open() // also in another process
	v := url.Values{"grant_type": {"client_credentials"}, "scope": {"system/Observation.rs"}, "client_assertion": {text}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}
	again.post(t, "/token", "", v).wants(401, "invalid_client")
	w.pass(time.Minute)
	if err := w.store.SweepGrants(t.Context(), w.now()); err != nil { // what is forgotten has expired
		t.Fatal(err)
	}
	w.backend(text).wants(401, "invalid_client")
}

func TestBackendServiceScopes(t *testing.T) {
	w := newWorld(t)
	for scope, want := range map[string]string{"": "invalid_scope", "system/Condition.rs": "invalid_scope", "user/Observation.rs": "invalid_scope", "system/Observation.cruds": "", "offline_access": "invalid_scope", "system/\"": "invalid_scope"} {
		a := w.backend(w.assertion(nil), "scope", scope)
		if want != "" {
			a.wants(400, want)
		} else if a.ok().str("scope") != "system/Observation.rs" { // cut down to what is registered
			t.Errorf("%s: %s", scope, a.text)
		}
	}
	if a := w.backend(w.assertion(nil), "scope", "system/*.rs system/Observation.r?code=x").ok(); a.str("scope") != "system/Observation.rs system/Patient.rs system/Observation.r?code=x" {
		t.Error(a.text)
	}
}

func TestTokenForAnotherPracticeIsRefused(t *testing.T) {
	w := newWorld(t)
	w.backend(w.assertion(nil), "practice", "lakeside").wants(400, "invalid_request")
	w.backend(w.assertion(nil), "practice", "nowhere").wants(400, "invalid_request")
	w.approve("pump", "lakeside")
	w.backend(w.assertion(nil)).wants(400, "invalid_request") // which one?
	a := w.backend(w.assertion(nil), "practice", "lakeside").ok()
	if who, ok := w.accepts(t, a.str("access_token")); !ok || who.Tenant != w.slugs["lakeside"] {
		t.Errorf("%v %+v", ok, who)
	}
	// A user of another practice cannot approve an app that hers did not.
	f := w.flow("chart", "openid", "user/Patient.rs")
	id := f.interaction()
	if _, err := w.server.Approve(f.browser(), id, w.twin.approval("openid", "user/Patient.rs")); err == nil {
		t.Error("an app that the practice did not approve got a code")
	}
	// Nor can one claim a membership that she has not.
	forged := w.therapist.approval("openid", "user/Patient.rs")
	forged.Membership.Practice, forged.Membership.Tenant = "lakeside", w.slugs["lakeside"]
	w.approve("chart", "lakeside")
	if _, err := w.server.Approve(f.browser(), id, forged); err == nil {
		t.Error("a forged membership got a code")
	}
}

func TestClientAuthentication(t *testing.T) {
	w := newWorld(t)
	for why, c := range map[string]struct {
		client, basic string
		form          url.Values
		status        int
		code          string
	}{
		"wrong secret": {"desk", "desk:wrong", nil, 401, "invalid_client"},
		"secret in the form, not as it registered": {"desk", "", url.Values{"client_id": {"desk"}, "client_secret": {"desk-secret"}}, 401, "invalid_client"},
		"no secret":                        {"desk", "", url.Values{"client_id": {"desk"}}, 401, "invalid_client"},
		"empty secret":                     {"desk", "desk:", nil, 401, "invalid_client"},
		"secret of another app":            {"desk", "desk:post-secret", nil, 401, "invalid_client"},
		"two client_ids":                   {"desk", "desk:desk-secret", url.Values{"client_id": {"chart"}}, 401, "invalid_client"},
		"basic, where the form registered": {"post", "post:post-secret", nil, 401, "invalid_client"},
		"a secret for a public app":        {"chart", "", url.Values{"client_id": {"chart"}, "client_secret": {"x"}}, 401, "invalid_client"},
		"nobody":                           {"chart", "", url.Values{}, 400, "invalid_request"},
		"unknown":                          {"chart", "", url.Values{"client_id": {"nobody"}}, 401, "invalid_client"},
	} {
		f := w.flow(c.client, "openid", "user/Patient.rs")
		v := f.exchange(f.code(w.therapist, ""))
		v.Del("client_id")
		v.Del("client_secret")
		for name, x := range c.form {
			v[name] = x
		}
		a := w.post(t, "/token", c.basic, v)
		if a.status != c.status || a.str("error") != c.code {
			t.Errorf("%s: %d %s", why, a.status, a.text)
		}
		if a.status == 401 && a.head.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no challenge", why)
		}
	}
	for _, client := range []string{"desk", "post"} {
		w.flow(client, "openid", "user/Patient.rs").tokens(w.therapist, "")
	}
}

func TestParametersInTheURLOrTwiceAreRefused(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs")
	v := f.exchange(f.code(w.therapist, ""))
	w.post(t, "/token?client_id=chart", "", v).wants(400, "invalid_request")
	v.Add("code", "another")
	w.post(t, "/token", "", v).wants(400, "invalid_request")
	get := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/token?grant_type=authorization_code", http.NoBody)
	if a := w.do(t, get); a.status != http.StatusMethodNotAllowed || a.head.Get("Allow") != "POST" {
		t.Errorf("GET: %d", a.status)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/token", strings.NewReader(`{"grant_type":"authorization_code"}`))
	r.Header.Set("Content-Type", "application/json")
	if a := w.do(t, r); a.status != http.StatusUnsupportedMediaType {
		t.Errorf("JSON: %d", a.status)
	}
	r = httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/token", strings.NewReader("grant_type="+strings.Repeat("x", 100_000)))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w.do(t, r).wants(400, "invalid_request")
}
