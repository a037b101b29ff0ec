package smart_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/audit"
)

func TestRevokedTokenIsRefused(t *testing.T) {
	w := newWorld(t)
	other := w.open()
	for _, which := range []string{"access_token", "refresh_token"} {
		f := w.flow("desk", "openid", "user/Patient.rs", "offline_access")
		a := f.tokens(w.therapist, "")
		stranger := w.flow("chart")
		if b := w.post(t, "/revoke", "", stranger.with(url.Values{"token": {a.str(which)}})); b.status != http.StatusOK { // and nothing happens
			t.Errorf("%d %s", b.status, b.text)
		}
		if _, ok := w.accepts(t, a.str("access_token")); !ok {
			t.Fatalf("a stranger has revoked the %s", which)
		}
		w.post(t, "/revoke", "desk:wrong", url.Values{"token": {a.str(which)}}).wants(401, "invalid_client")
		if b := w.post(t, "/revoke", f.basic, url.Values{"token": {a.str(which)}}); b.status != http.StatusOK {
			t.Errorf("%d %s", b.status, b.text)
		}
		if _, ok := w.accepts(t, a.str("access_token")); ok {
			t.Errorf("revoked by its %s, the access token is good", which)
		}
		other.settle()
		if _, ok := other.accepts(t, a.str("access_token")); ok {
			t.Errorf("revoked by its %s, the access token is good elsewhere", which)
		}
		f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
		u := w.userinfo(t, a.str("access_token"))
		u.wants(401, "invalid_token")
	}
	b := w.backend(w.assertion(nil)).ok()
	v := url.Values{"token": {b.str("access_token")}, "client_assertion": {w.assertion(nil)}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}
	w.post(t, "/revoke", "", v)
	if _, ok := w.accepts(t, b.str("access_token")); ok {
		t.Error("a backend service's token is good after its revocation")
	}
	if a := w.post(t, "/revoke", "desk:desk-secret", url.Values{"token": {"hello"}}); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.text)
	}
	if !w.audit.has(audit.GrantRevoked, "") {
		t.Error("it is not in the audit trail")
	}
}

func (p *process) userinfo(t *testing.T, token string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/userinfo", http.NoBody)
	r.Header.Set("Authorization", "Bearer "+token)
	return p.do(t, r)
}

func TestIntrospectionByStrangers(t *testing.T) {
	w := newWorld(t)
	f := w.flow("desk", "openid", "fhirUser", "launch/patient", "patient/*.rs", "offline_access")
	a := f.tokens(w.therapist, "anna")
	for _, token := range []string{a.str("access_token"), a.str("refresh_token")} {
		v := url.Values{"token": {token}}
		for _, who := range []string{"desk:desk-secret", "gate:gate-secret"} {
			b := w.post(t, "/introspect", who, v)
			if b.status != 200 || b.body["active"] != true || b.str("client_id") != "desk" || b.str("scope") != a.str("scope") || b.str("patient") != "anna" || b.str("fhirUser") != fhirAt+"/Practitioner/tess" || b.body["exp"] == nil {
				t.Errorf("%s: %d %s", who, b.status, b.text)
			}
		}
		// Another app learns nothing, not even that there is such a token.
		v.Set("client_id", "post")
		v.Set("client_secret", "post-secret")
		stranger := w.post(t, "/introspect", "", v)
		v.Set("token", "hello")
		nothing := w.post(t, "/introspect", "", v)
		if stranger.text != nothing.text || strings.TrimSpace(stranger.text) != `{"active":false}` {
			t.Errorf("%s %s", stranger.text, nothing.text)
		}
		w.post(t, "/introspect", "", url.Values{"token": {token}}).wants(400, "invalid_request")
		w.post(t, "/introspect", "", url.Values{"token": {token}, "client_id": {"chart"}}).wants(401, "invalid_client")
		w.post(t, "/introspect", "desk:wrong", url.Values{"token": {token}}).wants(401, "invalid_client")
	}
	w.pass(5 * time.Minute)
	w.settle()
	if b := w.post(t, "/introspect", "desk:desk-secret", url.Values{"token": {a.str("access_token")}}); b.body["active"] != false {
		t.Errorf("expired: %s", b.text)
	}
	f.refresh(a.str("refresh_token")).ok()
	if b := w.post(t, "/introspect", "desk:desk-secret", url.Values{"token": {a.str("refresh_token")}}); b.body["active"] != false {
		t.Errorf("rotated: %s", b.text)
	}
	if b := w.post(t, "/introspect", "desk:desk-secret", url.Values{"token": {a.str("id_token")}}); b.body["active"] != false {
		t.Errorf("ID token: %s", b.text)
	}
}

func TestUserInfo(t *testing.T) {
	w := newWorld(t)
	a := w.flow("chart", "openid", "fhirUser", "user/Patient.rs").tokens(w.therapist, "")
	if b := w.userinfo(t, a.str("access_token")); b.status != 200 || b.str("sub") != w.therapist.account.ID || b.str("fhirUser") != fhirAt+"/Practitioner/tess" || b.str("name") != "" || b.str("email") != "" {
		t.Errorf("%d %s", b.status, b.text)
	}
	b := w.flow("chart", "user/Patient.rs").tokens(w.therapist, "")
	w.userinfo(t, b.str("access_token")).wants(403, "insufficient_scope")
	w.userinfo(t, a.str("id_token")).wants(401, "invalid_token")
	w.userinfo(t, "hello").wants(401, "invalid_token")
	w.get(t, "/userinfo?access_token="+a.str("access_token")).wants(400, "invalid_request")
}

func TestCORS(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]bool{
		"/token": true, "/keys": true, "/userinfo": true, "/revoke": true, "/par": true, "/.well-known/openid-configuration": true,
		"/authorize": false, "/introspect": false, "/register": false, "/launch": false, "/end-session": false,
	} {
		for origin, known := range map[string]bool{"https://app.example.org": true, "https://evil.example": false, "null": false, "http://app.example.org": false, "https://app.example.org.evil.example": false} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, path, http.NoBody)
			r.Header.Set("Origin", origin)
			r.Header.Set("Access-Control-Request-Method", "POST")
			a := w.do(t, r)
			if got := a.head.Get("Access-Control-Allow-Origin"); (got == origin) != (want && known) || got != "" && got != origin {
				t.Errorf("preflight of %s from %s: %q", path, origin, got)
			}
			if a.head.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s: with cookies", path)
			}
			r = httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, http.NoBody)
			r.Header.Set("Origin", origin)
			if got := w.do(t, r).head.Get("Access-Control-Allow-Origin"); (got == origin) != (want && known) {
				t.Errorf("%s from %s: %q", path, origin, got)
			}
		}
	}
}

func TestEveryAnswerHasItsHeaders(t *testing.T) {
	w := newWorld(t)
	for _, path := range append(smart.Paths(), "/nothing", "/healthz", "/ready", "/devicecode") {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodHead, http.MethodOptions} {
			a := w.do(t, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Strict-Transport-Security": "max-age=31536000"} {
				if a.head.Get(name) != want {
					t.Errorf("%s %s: %s is %q", method, path, name, a.head.Get(name))
				}
			}
			if cc := a.head.Get("Cache-Control"); cc != "no-store" && !(a.status == 200 && strings.HasPrefix(cc, "public")) {
				t.Errorf("%s %s: Cache-Control %q", method, path, cc)
			}
			if !slices.Contains(smart.Paths(), path) && a.status != 404 {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
}

func TestDiscovery(t *testing.T) {
	w := newWorld(t, func(c *smart.Config) { c.Registration = smart.RegistrationPending })
	a := w.get(t, "/.well-known/openid-configuration")
	if a.status != 200 || a.str("issuer") != issuer || a.body["authorization_response_iss_parameter_supported"] != true {
		t.Fatal(a.text)
	}
	for name, path := range map[string]string{
		"authorization_endpoint": "/authorize", "token_endpoint": "/token", "introspection_endpoint": "/introspect", "revocation_endpoint": "/revoke", "registration_endpoint": "/register",
		"pushed_authorization_request_endpoint": "/par", "userinfo_endpoint": "/userinfo", "end_session_endpoint": "/end-session", "jwks_uri": "/keys",
	} {
		if a.str(name) != issuer+path {
			t.Errorf("%s is %q", name, a.str(name))
		}
	}
	for name, want := range map[string]string{
		"code_challenge_methods_supported": `["S256"]`, "response_types_supported": `["code"]`, "grant_types_supported": `["authorization_code","refresh_token","client_credentials"]`,
		"token_endpoint_auth_signing_alg_values_supported": `["RS384","ES384","ES256"]`, "id_token_signing_alg_values_supported": `["RS256"]`,
	} {
		if got := text(t, a.body[name]); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
}

func TestSigningKeysRotate(t *testing.T) {
	w := newWorld(t)
	kids := func() (out []string) {
		a := w.get(t, "/keys")
		if strings.Contains(a.text, `"d"`) || strings.Contains(a.text, `"p"`) {
			t.Fatal("a private key is published")
		}
		keys, _ := a.body["keys"].([]any)
		for _, k := range keys {
			m, _ := k.(map[string]any)
			s, _ := m["kid"].(string)
			out = append(out, s)
		}
		slices.Sort(out)
		return out
	}
	kid := func(token string) string {
		s, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		return s.Signatures[0].Protected.KeyID
	}
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	a := f.tokens(w.therapist, "")
	first := kids()
	if len(first) != 2 || !slices.Contains(first, kid(a.str("access_token"))) || !slices.Contains(first, kid(a.str("id_token"))) {
		t.Fatalf("%v", first)
	}
	other := w.open() // sees the keys, and makes none
	if !slices.Equal(kids(), first) {
		t.Error("a second process made keys of its own")
	}
	w.pass(90*24*time.Hour - 23*time.Hour)
	if err := w.ring.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(kids()) != 4 {
		t.Errorf("the next keys are not published: %v", kids())
	}
	w.therapist.session = w.signIn(w.therapist.account)
	w.settle()
	b := f.tokens(w.therapist, "")
	if kid(b.str("access_token")) != kid(a.str("access_token")) {
		t.Error("a key signs that was published just now")
	}
	w.pass(24*time.Hour - 2*time.Minute)
	w.settle()
	if err := w.ring.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := w.backend(w.assertion(nil)).ok().str("access_token")
	w.pass(3 * time.Minute)
	w.settle()
	after := w.backend(w.assertion(nil)).ok().str("access_token")
	if kid(before) == kid(after) || !slices.Contains(kids(), kid(before)) {
		t.Error("the next key does not sign, or the old one is not published any more")
	}
	for _, token := range []string{before, after} { // in a process that did not make the keys
		other.settle()
		if _, ok := other.accepts(t, token); !ok {
			t.Error("a token is refused across the change of keys")
		}
	}
	w.pass(3 * time.Hour)
	w.settle()
	if got := kids(); len(got) != 2 || slices.Contains(got, first[0]) || slices.Contains(got, first[1]) {
		t.Errorf("old keys stay: %v of %v", got, first)
	}
	lost := w.backend(w.assertion(nil)).ok().str("access_token")
	if _, ok := w.accepts(t, lost); !ok {
		t.Fatal("not accepted")
	}
	if err := w.ring.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{w.process, other} {
		p.settle()
		if _, ok := p.accepts(t, lost); ok {
			t.Error("a token of a key that was lost is good")
		}
	}
	w.backend(w.assertion(nil)).ok()
}

func (w *world) launch(t *testing.T, token, body string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/launch", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	return w.do(t, r)
}

func TestEHRLaunch(t *testing.T) {
	w := newWorld(t)
	host := w.host(w.therapist)
	a := w.launch(t, host, `{"patient":"anna","encounter":"e1","intent":"review","need_patient_banner":false,"smart_style_url":"https://ehr.example/style.json","fhirContext":[{"reference":"ImagingStudy/1"}]}`)
	if a.status != http.StatusCreated || a.str("launch") == "" || a.str("iss") != fhirAt {
		t.Fatalf("%d %s", a.status, a.text)
	}
	f := w.flow("chart", "openid", "launch", "patient/*.rs")
	f.form.Set("launch", a.str("launch"))
	id := f.interaction()
	i, err := w.server.Interaction(f.browser(), id)
	if err != nil || i.Patient != "anna" || i.Encounter != "e1" || i.Practice != "harbor" || i.NeedPatient || i.StyleURL != "https://ehr.example/style.json" {
		t.Fatalf("%+v %v", i, err)
	}
	// It is for the user who launched, in her practice.
	if _, err := w.server.Approve(f.browser(), id, w.patient.approval("openid", "launch", "patient/*.rs")); err == nil {
		t.Error("somebody else uses the launch")
	}
	w.approve("chart", "lakeside")
	if _, err := w.server.Approve(f.browser(), id, w.twin.approval("openid", "launch", "patient/*.rs")); err == nil {
		t.Error("another practice uses the launch")
	}
	mixed := w.therapist.approval("openid", "launch", "patient/*.rs")
	mixed.Patient = "berta"
	if _, err := w.server.Approve(f.browser(), id, mixed); err == nil {
		t.Error("another patient than that of the launch")
	}
	to, err := w.server.Approve(f.browser(), id, w.therapist.approval("openid", "launch", "patient/*.rs"))
	if err != nil {
		t.Fatal(err, errors.Unwrap(err))
	}
	u, _ := url.Parse(to)
	b := w.post(t, "/token", "", f.exchange(u.Query().Get("code"))).ok()
	if b.str("patient") != "anna" || b.str("encounter") != "e1" || b.body["need_patient_banner"] != false || b.str("smart_style_url") != "https://ehr.example/style.json" || b.str("intent") != "review" || text(t, b.body["fhirContext"]) != `[{"reference":"ImagingStudy/1"}]` {
		t.Error(b.text)
	}
	again := w.flow("chart", "openid", "launch", "patient/*.rs")
	again.form.Set("launch", a.str("launch"))
	back(t, "reuse", again.authorize(), "invalid_request")
	for why, c := range map[string]struct {
		body string
		wait time.Duration
		app  string
	}{
		"expired":     {`{"patient":"anna"}`, time.Minute, "chart"},
		"another app": {`{"patient":"anna","client_id":"desk"}`, 0, "chart"},
	} {
		w.settle()
		host := w.host(w.therapist)
		a := w.launch(t, host, c.body)
		f := w.flow(c.app, "openid", "launch", "patient/*.rs")
		f.form.Set("launch", a.str("launch"))
		w.pass(c.wait)
		back(t, why, f.authorize(), "invalid_request")
	}
	w.settle()
	host = w.host(w.therapist)
	for why, body := range map[string]string{
		"no JSON": "hello", "unknown member": `{"patinet":"x"}`, "no id": `{"patient":"a/b"}`, "two": `{}{}`, "style over http": `{"smart_style_url":"http://x"}`,
		"no list": `{"fhirContext":{}}`, "empty context": `{"fhirContext":[{}]}`, "absolute reference": `{"fhirContext":[{"reference":"https://x/ImagingStudy/1"}]}`,
	} {
		if a := w.launch(t, host, body); a.status != 400 {
			t.Errorf("%s: %d %s", why, a.status, a.text)
		}
	}
	plain := w.flow("chart", "openid", "user/Patient.rs").tokens(w.therapist, "").str("access_token")
	w.launch(t, plain, `{}`).wants(401, "invalid_token") // without the scope launch
	w.launch(t, "hello", `{}`).wants(401, "invalid_token")
}

// host is a token of the host EHR with the scope launch.
func (w *world) host(p person) string {
	w.t.Helper()
	text, err := w.ring.Sign(w.t.Context(), map[string]any{
		"iss": issuer, "sub": p.account.ID, "aud": fhirAt, "exp": w.now().Add(time.Minute).Unix(), "client_id": "ehr", "sid": "00000000-0000-4000-8000-000000000001", "scope": "launch user/*.rs",
		"practice": p.account.Memberships[0].Practice, "roles": p.account.Memberships[0].Roles, "purpose_of_use": "TREAT", "fhirUser": p.account.Memberships[0].User.String(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func TestPushedAuthorizationRequest(t *testing.T) {
	w := newWorld(t)
	f := w.flow("desk", "openid", "user/Patient.rs")
	w.post(t, "/par", "desk:wrong", f.form).wants(401, "invalid_client")
	a := w.post(t, "/par", f.basic, f.form)
	if a.status != http.StatusCreated || a.body["expires_in"] != 60.0 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	uri := a.str("request_uri")
	stranger := w.get(t, "/authorize?"+url.Values{"client_id": {"chart"}, "request_uri": {uri}}.Encode())
	stranger.wants(400, "invalid_request")
	b := w.post(t, "/par", f.basic, f.form)
	pushed := *f
	pushed.form = url.Values{"client_id": {"desk"}, "request_uri": {b.str("request_uri")}, "scope": {"openid user/*.cruds"}, "redirect_uri": {"https://evil.example/"}}
	id := pushed.interaction() // what stands beside request_uri counts for nothing
	to, err := w.server.Approve(pushed.browser(), id, w.therapist.approval("openid", "user/Patient.rs"))
	if err != nil || !strings.HasPrefix(to, redirect+"?") {
		t.Fatal(to, err)
	}
	w.get(t, "/authorize?"+pushed.form.Encode()).wants(400, "invalid_request") // once
	for why, change := range map[string]func(url.Values){
		"plain": func(v url.Values) { v.Set("code_challenge_method", "plain") }, "redirect": func(v url.Values) { v.Set("redirect_uri", "https://evil.example/") },
		"aud": func(v url.Values) { v.Del("aud") }, "request_uri": func(v url.Values) { v.Set("request_uri", uri) },
	} {
		f := w.flow("desk", "openid", "user/Patient.rs")
		change(f.form)
		if a := w.post(t, "/par", f.basic, f.form); a.status != 400 {
			t.Errorf("%s: %d %s", why, a.status, a.text)
		}
	}
	c := w.post(t, "/par", f.basic, f.form)
	w.pass(time.Minute)
	w.get(t, "/authorize?"+url.Values{"client_id": {"desk"}, "request_uri": {c.str("request_uri")}}.Encode()).wants(400, "invalid_request")
}

func (w *world) register(t *testing.T, body string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/register", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return w.do(t, r)
}

func TestDynamicRegistration(t *testing.T) {
	const patient = `{"client_name":"Steps","token_endpoint_auth_method":"none","redirect_uris":["https://app.example.org/callback"],"grant_types":["authorization_code","refresh_token"],"scope":"openid launch/patient patient/Observation.rs"}`
	const clinician = `{"client_name":"Rounds","redirect_uris":["https://app.example.org/callback"],"scope":"openid user/Observation.rs"}`
	off := newWorld(t)
	off.register(t, patient).wants(404, "invalid_request")
	pending := newWorld(t, func(c *smart.Config) { c.Registration = smart.RegistrationPending })
	a := pending.register(t, clinician)
	if a.status != http.StatusCreated || a.str("registration_status") != "pending" || a.str("client_secret") == "" || a.str("token_endpoint_auth_method") != "client_secret_basic" {
		t.Fatalf("%d %s", a.status, a.text)
	}
	f := pending.flow(a.str("client_id"), "openid", "user/Observation.rs")
	f.basic = a.str("client_id") + ":" + a.str("client_secret")
	if b := pending.get(t, "/authorize?"+f.form.Encode()); b.status != 400 {
		t.Errorf("an app that waits is let in: %d", b.status)
	}
	pending.approve(a.str("client_id"), "harbor")
	f.tokens(pending.therapist, "")
	open := newWorld(t, func(c *smart.Config) { c.Registration = smart.RegistrationOpen; c.Limits.Register = 4 })
	b := open.register(t, patient)
	if b.status != http.StatusCreated || b.str("registration_status") != "approved" {
		t.Fatalf("%d %s", b.status, b.text)
	}
	open.flow(b.str("client_id"), "openid", "launch/patient", "patient/Observation.rs").tokens(open.patient, "anna")
	g := open.flow(b.str("client_id"), "openid", "launch/patient", "patient/Observation.rs")
	id := g.interaction()
	staff := open.therapist.approval("openid", "launch/patient", "patient/Observation.rs")
	staff.Patient = "anna"
	if _, err := open.server.Approve(g.browser(), id, staff); err == nil {
		t.Error("an app that nobody approved serves staff")
	}
	if c := open.register(t, clinician); c.str("registration_status") != "pending" {
		t.Error(c.text)
	}
	for range 2 {
		open.register(t, "{}").wants(400, "invalid_client_metadata")
	}
	open.register(t, patient).wants(429, "temporarily_unavailable")
	for why, body := range map[string]string{
		"backend":         `{"client_name":"x","grant_types":["client_credentials"],"scope":"system/*.rs"}`,
		"implicit":        `{"client_name":"x","redirect_uris":["https://x.example/"],"response_types":["token"],"scope":"openid"}`,
		"http":            `{"client_name":"x","redirect_uris":["http://x.example/"],"scope":"openid"}`,
		"javascript":      `{"client_name":"x","redirect_uris":["javascript:alert(1)"],"token_endpoint_auth_method":"none","scope":"openid"}`,
		"wildcard":        `{"client_name":"x","redirect_uris":["https://*.example/"],"scope":"openid"}`,
		"no name":         `{"redirect_uris":["https://x.example/"],"scope":"openid"}`,
		"name that hides": `{"client_name":"x\u202e","redirect_uris":["https://x.example/"],"scope":"openid"}`,
		"private key":     `{"client_name":"x","redirect_uris":["https://x.example/"],"scope":"openid","token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[{"kty":"oct","k":"AA","kid":"1"}]}}`,
		"jwks over http":  `{"client_name":"x","redirect_uris":["https://x.example/"],"scope":"openid","token_endpoint_auth_method":"private_key_jwt","jwks_uri":"http://x.example/"}`,
	} {
		if a := pending.register(t, body); a.status != 400 || a.str("error") != "invalid_client_metadata" {
			t.Errorf("%s: %d %s", why, a.status, a.text)
		}
	}
}

func TestLogout(t *testing.T) {
	w := newWorld(t)
	a := w.flow("chart", "openid", "user/Patient.rs", "online_access").tokens(w.therapist, "")
	end := func(v url.Values) answer { return w.get(t, "/end-session?"+v.Encode()) }
	if b := end(url.Values{}); b.status != 302 || b.head.Get("Location") != issuer+"/account" {
		t.Errorf("%d %s", b.status, b.head.Get("Location"))
	}
	end(url.Values{"id_token_hint": {a.str("access_token")}}).wants(400, "invalid_request")
	end(url.Values{"id_token_hint": {a.str("id_token")}, "post_logout_redirect_uri": {"https://evil.example/"}}).wants(400, "invalid_request")
	end(url.Values{"id_token_hint": {a.str("id_token")}, "client_id": {"desk"}}).wants(400, "invalid_request")
	if _, ok := w.accepts(t, a.str("access_token")); !ok {
		t.Fatal("signed out by a request that was refused")
	}
	w.pass(time.Hour) // an ID token stays good as a hint
	w.settle()
	b := end(url.Values{"id_token_hint": {a.str("id_token")}, "post_logout_redirect_uri": {"https://app.example.org/bye"}, "state": {"s"}})
	if b.status != 302 || b.head.Get("Location") != "https://app.example.org/bye?state=s" {
		t.Errorf("%d %s", b.status, b.head.Get("Location"))
	}
	if list, err := w.people.Sessions(t.Context(), w.therapist.account.ID); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	if !w.audit.has(audit.SignOut, "") {
		t.Error("it is not in the audit trail")
	}
}

func TestRateLimits(t *testing.T) {
	w := newWorld(t, func(c *smart.Config) { c.Limits = smart.Limits{Address: 40, Failures: 5, Register: 1} })
	for range 5 {
		w.post(t, "/token", "desk:wrong", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}).wants(401, "invalid_client")
	}
	w.post(t, "/token", "desk:desk-secret", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}).wants(429, "temporarily_unavailable")
	// The app itself, elsewhere, is not locked out by that.
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/token", strings.NewReader("grant_type=refresh_token&refresh_token=x"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("desk", "desk-secret")
	r.RemoteAddr = "198.51.100.7:1234"
	w.do(t, r).wants(400, "invalid_grant")
	var last answer
	for range 40 {
		last = w.get(t, "/keys")
	}
	last.wants(429, "temporarily_unavailable")
	if last.head.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w.pass(time.Minute)
	if a := w.get(t, "/keys"); a.status != 200 {
		t.Errorf("%d", a.status)
	}
}

// TestNothingIsGivenWithoutAudit: what cannot be recorded does not happen.
func TestNothingIsGivenWithoutAudit(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	code := f.code(w.therapist, "")
	id := f.interaction()
	w.audit.fail = errors.New("secret of the database")
	w.post(t, "/token", "", f.exchange(code)).wants(503, "temporarily_unavailable")
	if a := w.backend(w.assertion(nil)); a.status != 503 || strings.Contains(a.text, "secret") {
		t.Errorf("%d %s", a.status, a.text)
	}
	if _, err := w.server.Approve(f.browser(), id, w.therapist.approval("openid")); err == nil {
		t.Error("a grant without a record")
	}
}

// TestNoSecretIsLoggedOrStored looks for what was handed out.
func TestNoSecretIsLoggedOrStored(t *testing.T) {
	w := newWorld(t)
	f := w.flow("desk", "openid", "user/Patient.rs", "offline_access")
	code := f.code(w.therapist, "")
	a := w.post(t, "/token", f.basic, f.exchange(code)).ok()
	w.post(t, "/token", f.basic, f.exchange(code))
	w.post(t, "/token", f.basic, url.Values{"grant_type": {"x"}})
	stored := w.dump()
	for name, secret := range map[string]string{"code": code, "refresh token": a.str("refresh_token"), "access token": a.str("access_token"), "secret": "desk-secret", "verifier": f.verifier, "cookie": f.cookie.Value} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the %s is in the log", name)
		}
		if strings.Contains(stored, secret) {
			t.Errorf("the %s is in the database", name)
		}
	}
	if !strings.Contains(stored, w.therapist.account.ID) || strings.Contains(stored, "PRIVATE") {
		t.Error("the test looks in the wrong place, or a private key is there")
	}
}

// text writes a value as JSON.
func text(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
