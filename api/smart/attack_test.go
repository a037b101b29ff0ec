package smart_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/identity"
)

// TestResourceServersLearnOfTheirPracticesAlone: that somebody is known to a practice is that practice's secret.
func TestResourceServersLearnOfTheirPracticesAlone(t *testing.T) {
	w := newWorld(t)
	w.approve("desk", "lakeside")
	f := w.flow("desk", "openid", "user/Patient.rs", "offline_access")
	theirs, ours := f.tokens(w.twin, ""), f.tokens(w.therapist, "")
	for _, which := range []string{"access_token", "refresh_token"} {
		if a := w.post(t, "/introspect", "gate:gate-secret", url.Values{"token": {ours.str(which)}}); a.body["active"] != true || a.str("practice") != "harbor" {
			t.Errorf("%s of the practice that approved the resource server: %s", which, a.text)
		}
		if a := w.post(t, "/introspect", "gate:gate-secret", url.Values{"token": {theirs.str(which)}}); strings.TrimSpace(a.text) != `{"active":false}` {
			t.Errorf("%s of another practice: %s", which, a.text)
		}
		if a := w.post(t, "/introspect", "desk:desk-secret", url.Values{"token": {theirs.str(which)}}); a.body["active"] != true {
			t.Errorf("%s of one's own: %s", which, a.text)
		}
	}
	w.approve("gate", "lakeside")
	if a := w.post(t, "/introspect", "gate:gate-secret", url.Values{"token": {theirs.str("access_token")}}); a.body["active"] != true {
		t.Errorf("approved there, too: %s", a.text)
	}
}

// TestNoOpenRedirect: who registers an app herself must not use this server's good name to send people wherever she likes.
func TestNoOpenRedirect(t *testing.T) {
	w := newWorld(t, func(c *smart.Config) { c.Registration = smart.RegistrationOpen })
	a := w.register(t, `{"client_name":"Steps","token_endpoint_auth_method":"none","redirect_uris":["https://app.example.org/callback"],"scope":"openid launch/patient patient/Observation.rs"}`)
	id := a.str("client_id")
	for why, change := range map[string]func(url.Values){
		"scope": func(v url.Values) { v.Set("scope", "x") }, "response_type": func(v url.Values) { v.Set("response_type", "token") }, "launch": func(v url.Values) { v.Set("launch", "x") }, "no page": func(v url.Values) { v.Set("prompt", "none") },
	} {
		f := w.flow(id, "openid", "launch/patient", "patient/Observation.rs")
		change(f.form)
		if b := w.get(t, "/authorize?"+f.form.Encode()); b.status != http.StatusBadRequest || b.head.Get("Location") != "" {
			t.Errorf("%s: %d to %s", why, b.status, b.head.Get("Location"))
		}
	}
	f := w.flow(id, "openid", "launch/patient", "patient/Observation.rs")
	f.interaction() // a sound request leads to the pages
	w.approve(id, "harbor")
	f.form.Set("scope", "x")
	back(t, "approved by a practice", f.authorize(), "invalid_scope")
}

// TestASignInForTheRequestIsNewEnough also with max_age=0, and however long she reads the page of consent.
func TestASignInForTheRequestIsNewEnough(t *testing.T) {
	w := newWorld(t)
	for _, age := range []string{"0", "60"} {
		w.pass(2 * time.Minute)
		f := w.flow("chart", "openid", "user/Patient.rs")
		f.form.Set("max_age", age)
		id := f.interaction()
		a := w.therapist.approval("openid")
		if _, err := w.server.Approve(f.browser(), id, a); err == nil {
			t.Errorf("max_age=%s: an old sign-in is good enough", age)
		}
		w.pass(time.Second)
		a.Session = w.signIn(w.therapist.account)
		w.pass(5 * time.Minute)
		if _, err := w.server.Approve(f.browser(), id, a); err != nil {
			t.Errorf("max_age=%s: %v", age, err)
		}
	}
	w.pass(time.Minute)
	f := w.flow("chart", "openid", "user/Patient.rs")
	f.form.Set("prompt", "select_account")
	if _, err := w.server.Approve(f.browser(), f.interaction(), w.therapist.approval("openid")); err == nil {
		t.Error("select_account: nobody was asked who she is")
	}
}

// TestNoAppIsRegisteredWithoutAudit as nothing else is.
func TestNoAppIsRegisteredWithoutAudit(t *testing.T) {
	w := newWorld(t, func(c *smart.Config) { c.Registration = smart.RegistrationOpen })
	before, err := w.store.Apps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.audit.fail = errors.New("down")
	w.register(t, `{"client_name":"Steps","token_endpoint_auth_method":"none","redirect_uris":["https://app.example.org/callback"],"scope":"openid patient/Observation.rs"}`).wants(503, "temporarily_unavailable")
	if after, err := w.store.Apps(t.Context()); err != nil || len(after) != len(before) {
		t.Errorf("%d apps, and %d before: %v", len(after), len(before), err)
	}
}

// TestAGrantOfAProvidersSessionStaysInItsPractices: the provider of one practice must not approve anything in another one.
func TestAGrantOfAProvidersSessionStaysInItsPractices(t *testing.T) {
	w := newWorld(t)
	w.approve("chart", "lakeside")
	m := identity.Membership{Tenant: w.slugs["lakeside"], Practice: "lakeside", User: w.therapist.account.Memberships[0].User, Roles: []string{"therapist"}}
	if err := w.store.PutMembership(t.Context(), w.therapist.account.ID, m); err != nil {
		t.Fatal(err)
	}
	s := w.therapist.session
	s.ID, s.Provider, s.Practices = "00000000-0000-4000-8000-00000000000a", "https://id.lakeside.example", []string{"lakeside"}
	if ok, err := w.store.OpenSession(t.Context(), s, make([]byte, 32), "sub", ""); err != nil || !ok {
		t.Fatal(ok, err)
	}
	f := w.flow("chart", "openid", "user/Patient.rs")
	a := w.therapist.approval("openid", "user/Patient.rs")
	a.Session = s
	id := f.interaction()
	if _, err := w.server.Approve(f.browser(), id, a); err == nil {
		t.Error("a session of lakeside's provider approved an app in harbor")
	}
	in, err := w.server.Interaction(f.browser(), id)
	if err != nil {
		t.Fatal(err)
	}
	a.App = in.App
	if _, err := w.server.UserToken(t.Context(), a); err == nil {
		t.Error("a session of lakeside's provider reads in harbor")
	}
	a.Membership = m
	if _, err := w.server.Approve(f.browser(), id, a); err != nil {
		t.Error(err)
	}
}

// TestAudienceAndIssuerOfEveryToken: a token for another server, or of another one, is none here, whoever signed it.
func TestAudienceAndIssuerOfEveryToken(t *testing.T) {
	w := newWorld(t)
	good := func() map[string]any {
		return map[string]any{
			"iss": issuer, "sub": w.therapist.account.ID, "aud": fhirAt, "exp": w.now().Add(time.Minute).Unix(), "client_id": "desk", "sid": "00000000-0000-4000-8000-000000000001", "scope": "openid user/*.rs",
			"practice": "harbor", "roles": []string{"therapist"}, "purpose_of_use": "TREAT",
		}
	}
	active := func(c map[string]any) bool {
		text, err := w.ring.Sign(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		_, accepted := w.accepts(t, text)
		said := w.post(t, "/introspect", "desk:desk-secret", url.Values{"token": {text}}).body["active"] == true
		if accepted != said {
			t.Errorf("%v: the API says %v, introspection %v", c, accepted, said)
		}
		return accepted
	}
	if !active(good()) {
		t.Fatal("a good token is refused")
	}
	for why, change := range map[string]func(map[string]any){
		"aud": func(c map[string]any) { c["aud"] = "https://other.example/fhir" }, "iss": func(c map[string]any) { c["iss"] = "https://other.example" },
		"the very moment of expiry": func(c map[string]any) { c["exp"] = w.now().Unix() },
	} {
		c := good()
		change(c)
		if active(c) {
			t.Errorf("%s: active", why)
		}
	}
}

// TestAssertionsProveAtEveryEndpointAndOnce: one that was used at an endpoint is no good at the next.
func TestAssertionsProveAtEveryEndpointAndOnce(t *testing.T) {
	w := newWorld(t)
	token := w.backend(w.assertion(nil)).ok().str("access_token")
	with := func(assertion string) url.Values {
		return url.Values{"token": {token}, "client_assertion": {assertion}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}
	}
	text := w.assertion(nil)
	if a := w.post(t, "/introspect", "", with(text)); a.body["active"] != true {
		t.Error(a.text)
	}
	w.post(t, "/introspect", "", with(text)).wants(401, "invalid_client")
	w.post(t, "/revoke", "", with(text)).wants(401, "invalid_client")
	w.backend(text).wants(401, "invalid_client")
	if _, ok := w.accepts(t, token); !ok {
		t.Error("revoked by a replay")
	}
	// The same jti of another app is another one.
	second := app.App{ID: "pump2", Name: "Pump", Auth: app.PrivateKeyJWT, Grants: []string{app.ClientCredentials}, Scopes: []string{"system/Observation.rs"}, Purposes: []string{"HOPERAT"}, Roles: []string{"research-analyst"}, Registered: w.now()}
	first, err := w.store.App(t.Context(), "pump")
	if err != nil {
		t.Fatal(err)
	}
	second.JWKS = first.JWKS
	if err := w.store.Register(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	w.approve("pump2", "harbor")
	for _, id := range []string{"pump", "pump2"} {
		w.backend(w.assertion(func(c map[string]any, _ *jose.SignerOptions) { c["iss"], c["sub"], c["jti"] = id, id, "same" })).ok()
	}
	w.backend(w.assertion(func(c map[string]any, _ *jose.SignerOptions) { c["jti"] = "same" })).wants(401, "invalid_client")
	// One way to prove who one is.
	v := with(w.assertion(nil))
	w.post(t, "/introspect", "desk:desk-secret", v).wants(401, "invalid_client")
	v.Set("client_id", "desk")
	w.post(t, "/introspect", "", v).wants(401, "invalid_client")
}

// TestFormsOfAnotherSiteStartNothing: a request that was posted from elsewhere carries no cookie, and gets an interaction of its own.
func TestFormsOfAnotherSiteStartNothing(t *testing.T) {
	w := newWorld(t)
	hers := w.flow("chart", "openid", "user/Patient.rs")
	hers.interaction()
	f := w.flow("chart", "openid", "user/Patient.rs")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/authorize", strings.NewReader(f.form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a := w.do(t, r)
	id := strings.TrimPrefix(a.head.Get("Location"), issuer+"/interaction/")
	if a.status != http.StatusFound || id == a.head.Get("Location") {
		t.Fatalf("%d %s", a.status, a.text)
	}
	if _, err := w.server.Interaction(hers.browser(), id); err == nil {
		t.Error("she sees an interaction that another site began")
	}
}

// TestIDTokenOfTheStandard (OpenID Connect Core 2, 3.1.3.6): what an app needs to know that the token is for it, new, and beside this access token.
func TestIDTokenOfTheStandard(t *testing.T) {
	w := newWorld(t)
	w.pass(time.Minute)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	a := f.tokens(w.therapist, "")
	check := func(a answer) map[string]any {
		t.Helper()
		token := a.str("id_token")
		signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		var set jose.JSONWebKeySet
		if err := json.Unmarshal([]byte(w.get(t, "/keys").text), &set); err != nil {
			t.Fatal(err)
		}
		keys := set.Key(signed.Signatures[0].Protected.KeyID)
		if len(keys) != 1 {
			t.Fatal("the key is not published")
		}
		if _, err := signed.Verify(keys[0]); err != nil {
			t.Fatal(err)
		}
		h := sha256.Sum256([]byte(a.str("access_token")))
		c := claims(t, token)
		for name, want := range map[string]any{
			"iss": issuer, "aud": "chart", "azp": "chart", "sub": w.therapist.account.ID, "nonce": "n-0S6_WzA2Mj", "at_hash": base64.RawURLEncoding.EncodeToString(h[:16]),
			"iat": float64(w.now().Unix()), "exp": float64(w.now().Add(5 * time.Minute).Unix()), "auth_time": float64(w.therapist.session.SignedIn.Unix()),
		} {
			if c[name] != want {
				t.Errorf("%s is %v, want %v", name, c[name], want)
			}
		}
		return c
	}
	c := check(a)
	for _, name := range []string{"fhirUser", "profile", "name", "email", "patient"} {
		if c[name] != nil {
			t.Errorf("%s, which no scope asked for: %v", name, c[name])
		}
	}
	w.pass(4 * time.Minute)
	w.settle()
	check(f.refresh(a.str("refresh_token")).ok()) // the sign-in stays the one that it was (12.2)
	d := claims(t, w.flow("chart", "openid", "profile", "user/Patient.rs").tokens(w.therapist, "").str("id_token"))
	if d["profile"] != fhirAt+"/Practitioner/tess" || d["name"] != "tess" || d["fhirUser"] != nil || d["email"] != nil {
		t.Errorf("%v", d)
	}
	if b := w.flow("chart", "fhirUser", "user/Patient.rs").tokens(w.therapist, ""); b.str("id_token") != "" {
		t.Error("an ID token without openid")
	}
}

// TestTextThatNoDatabaseHoldsIsTheSendersFault: it must not look like one of ours, and wake up an operator.
func TestTextThatNoDatabaseHoldsIsTheSendersFault(t *testing.T) {
	w := newWorld(t)
	host := w.host(w.therapist)
	for _, bad := range []string{"x\x00", "x\xff"} {
		for _, name := range []string{"state", "nonce", "login_hint", "client_id", "scope", "launch"} {
			f := w.flow("chart", "openid", "user/Patient.rs")
			f.form.Set(name, bad)
			w.get(t, "/authorize?"+f.form.Encode()).wants(400, "invalid_request")
			w.post(t, "/par", "", f.form).wants(400, "invalid_request")
		}
		w.post(t, "/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {bad}}).wants(400, "invalid_request")
		for _, path := range []string{"/token", "/par", "/introspect", "/revoke"} {
			w.post(t, path, url.QueryEscape(bad)+":x", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}, "token": {"x"}}).wants(401, "invalid_client")
		}
	}
	w.backend(w.assertion(func(c map[string]any, _ *jose.SignerOptions) { c["iss"], c["sub"] = "a\x00", "a\x00" })).wants(401, "invalid_client")
	for _, body := range []string{`{"fhirContext":[{"reference":"ImagingStudy/1","role":"\u0000"}]}`, "{\"fhirContext\":[{\"reference\":\"ImagingStudy/1\",\"role\":\"\xff\"}]}", `{"smart_style_url":"https://x.example/\u0000"}`} {
		w.launch(t, host, body).wants(400, "invalid_request")
	}
	if strings.Contains(w.log.String(), "failed") {
		t.Error(w.log.String())
	}
}
