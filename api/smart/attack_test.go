package smart_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"

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

// TestACodeThatExpiredLeavesNothing: the list of apps shows none that never got a token.
func TestACodeThatExpiredLeavesNothing(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	code := f.code(w.therapist, "")
	w.pass(time.Minute)
	w.post(t, "/token", "", f.exchange(code)).wants(400, "invalid_grant")
	if list, err := w.server.Grants(t.Context(), w.therapist.account.ID); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
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

// TestALostKeyOpensNoEndpoint: a process that has not read the keys again must not take what a lost one signed.
func TestALostKeyOpensNoEndpoint(t *testing.T) {
	w := newWorld(t)
	other := w.open()
	a := w.flow("desk", "openid", "user/Patient.rs").tokens(w.therapist, "")
	if b := other.userinfo(t, a.str("access_token")); b.status != 200 {
		t.Fatal(b.text)
	}
	if err := w.ring.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.settle() // ends are asked for every second, keys every minute
	other.userinfo(t, a.str("access_token")).wants(401, "invalid_token")
	if b := other.post(t, "/introspect", "desk:desk-secret", url.Values{"token": {a.str("access_token")}}); b.body["active"] != false {
		t.Error(b.text)
	}
}

// together sends requests that all wait for the row of the grant, and lets them go at once.
func (w *world) together(n int, send func() answer) []answer {
	w.t.Helper()
	ctx := w.t.Context()
	connect := func() *pgx.Conn {
		c, err := pgx.Connect(ctx, w.dsn)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	tx, err := connect().Begin(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "SELECT FROM identity.app_grant FOR UPDATE"); err != nil {
		w.t.Fatal(err)
	}
	answers := make([]answer, n)
	var wait sync.WaitGroup
	for i := range answers {
		wait.Go(func() { answers[i] = send() })
	}
	watcher := connect()
	for waiting, tries := 0, 0; waiting < n; tries++ {
		if err := watcher.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&waiting); err != nil || tries > 2000 {
			w.t.Fatalf("%d requests wait for the grant: %v", waiting, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := tx.Rollback(ctx); err != nil {
		w.t.Fatal(err)
	}
	wait.Wait()
	return answers
}

// TestRacesOnOneGrant: of two requests with one refresh token, or one code, that come at the same moment, one gets tokens and the other is
// a reuse, not a fault of the database. It ends the grant.
func TestRacesOnOneGrant(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	token := f.tokens(w.therapist, "").str("refresh_token")
	code := f.code(w.therapist, "")
	for what, send := range map[string]func() answer{
		"refresh token": func() answer { return f.refresh(token) },
		"code":          func() answer { return w.post(t, "/token", "", f.exchange(code)) },
	} {
		good := 0
		for _, a := range w.together(2, send) {
			if a.status != http.StatusOK {
				a.wants(400, "invalid_grant")
				continue
			}
			good++
			if _, ok := w.accepts(t, a.str("access_token")); ok {
				t.Errorf("%s: the access token outlived the reuse", what)
			}
			f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
		}
		if what == "refresh token" && good != 1 || good > 1 {
			t.Errorf("%s: %d requests got tokens", what, good)
		}
	}
}

// TestWhatEndsIsRefusedInThisProcessAtOnce, whatever ends it, and before the set of what ended is read again.
func TestWhatEndsIsRefusedInThisProcessAtOnce(t *testing.T) {
	ctx := t.Context()
	for why, end := range map[string]func(w *world, f *flow, a answer, code string) error{
		"a refresh token came again": func(_ *world, f *flow, a answer, _ string) error {
			f.refresh(a.str("refresh_token")).ok()
			f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
			return nil
		},
		"its code came again": func(w *world, f *flow, _ answer, code string) error {
			w.post(t, "/token", "", f.exchange(code)).wants(400, "invalid_grant")
			return nil
		},
		"its code came again from another app": func(w *world, _ *flow, _ answer, code string) error {
			thief := w.flow("desk", "openid")
			w.post(t, "/token", thief.basic, thief.exchange(code)).wants(400, "invalid_grant")
			return nil
		},
		"it was revoked": func(w *world, f *flow, a answer, _ string) error {
			w.post(t, "/revoke", "", f.with(url.Values{"token": {a.str("refresh_token")}}))
			return nil
		},
		"its user revoked it": func(w *world, _ *flow, _ answer, _ string) error {
			list, err := w.server.Grants(ctx, w.therapist.account.ID)
			if err != nil {
				return err //nolint:wrapcheck // a test
			}
			return w.server.RevokeGrant(ctx, w.therapist.account.ID, list[0].ID) //nolint:wrapcheck // a test
		},
		"the account is disabled": func(w *world, _ *flow, _ answer, _ string) error {
			return w.people.Disable(ctx, "test", w.therapist.account.ID, true) //nolint:wrapcheck // a test
		},
		"her session ended": func(w *world, _ *flow, _ answer, _ string) error {
			return w.people.EndSession(ctx, w.therapist.account.ID, w.therapist.session.ID) //nolint:wrapcheck // a test
		},
		"all her sessions ended": func(w *world, _ *flow, _ answer, _ string) error {
			return w.people.EndSessions(ctx, "test", w.therapist.account.ID) //nolint:wrapcheck // a test
		},
		"she left the practice": func(w *world, _ *flow, _ answer, _ string) error {
			return w.people.Leave(ctx, "test", w.therapist.account.ID, w.slugs["harbor"]) //nolint:wrapcheck // a test
		},
		"her roles are others": func(w *world, _ *flow, _ answer, _ string) error {
			m := w.therapist.account.Memberships[0]
			m.Roles = []string{"front-desk"}
			return w.people.Join(ctx, "test", w.therapist.account.ID, m) //nolint:wrapcheck // a test
		},
		"she signed out by the app": func(w *world, _ *flow, a answer, _ string) error {
			if b := w.get(t, "/end-session?"+url.Values{"id_token_hint": {a.str("id_token")}}.Encode()); b.status != http.StatusFound {
				t.Error(b.text)
			}
			return nil
		},
	} {
		w := newWorld(t)
		f := w.flow("chart", "openid", "user/Patient.rs", "online_access")
		code := f.code(w.therapist, "")
		a := w.post(t, "/token", "", f.exchange(code)).ok()
		if _, ok := w.accepts(t, a.str("access_token")); !ok {
			t.Fatal("not accepted")
		}
		if err := end(w, f, a, code); err != nil {
			t.Fatal(why, err)
		}
		if _, ok := w.accepts(t, a.str("access_token")); ok {
			t.Errorf("%s: the access token is still good", why)
		}
		w.userinfo(t, a.str("access_token")).wants(401, "invalid_token")
	}
}

// TestRefreshStandsOnTheUserAsSheIs: roles of the next token are those that she has by then.
func TestRefreshStandsOnTheUserAsSheIs(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	token := f.tokens(w.therapist, "").str("refresh_token")
	m := w.therapist.account.Memberships[0]
	m.Roles = []string{"front-desk"}
	if err := w.store.PutMembership(t.Context(), w.therapist.account.ID, m); err != nil { // by whatever way
		t.Fatal(err)
	}
	who, ok := w.accepts(t, f.refresh(token).ok().str("access_token"))
	if !ok || len(who.Roles) != 1 || who.Roles[0] != "front-desk" {
		t.Errorf("%v %+v", ok, who.Roles)
	}
}

// TestRefreshIsCutDownToTheRegistration: what an app may not ask for any more, an old grant does not give it.
func TestRefreshIsCutDownToTheRegistration(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "user/Observation.rs", "offline_access")
	token := f.tokens(w.therapist, "").str("refresh_token")
	c, err := pgx.Connect(t.Context(), w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	if _, err := c.Exec(t.Context(), `UPDATE identity.app SET body = jsonb_set(body, '{Scopes}', '["openid","offline_access","user/Patient.r"]') WHERE id = 'chart'`); err != nil {
		t.Fatal(err)
	}
	f.refresh(token, "scope", "user/Observation.rs").wants(400, "invalid_scope")
	if a := f.refresh(token).ok(); a.str("scope") != "openid user/Patient.r offline_access" {
		t.Error(a.text)
	}
}

// TestRefreshStandsOnTheApprovalOfThePractice, also where the grant was left alive when it was withdrawn.
func TestRefreshStandsOnTheApprovalOfThePractice(t *testing.T) {
	w := newWorld(t)
	w.approve("chart", "lakeside") // so that the app stays in use
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	a := f.tokens(w.therapist, "")
	c, err := pgx.Connect(t.Context(), w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	if _, err := c.Exec(t.Context(), `DELETE FROM identity.app_approval WHERE app = 'chart' AND practice = 'harbor'`); err != nil {
		t.Fatal(err)
	}
	f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
	if _, ok := w.accepts(t, a.str("access_token")); ok {
		t.Error("the access token is good after a refresh that was refused for good")
	}
	w.flow("chart", "openid", "user/Patient.rs").tokens(w.twin, "")
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
	if _, err := w.server.UserToken(t.Context(), in, a); err == nil {
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

// TestInteractionIDsAndCodesAreSingleUse also for two approvals at the same moment.
func TestInteractionIDsAndCodesAreSingleUse(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs")
	id := f.interaction()
	var wait sync.WaitGroup
	codes := make([]string, 8)
	for i := range codes {
		wait.Go(func() {
			codes[i], _ = w.server.Approve(f.browser(), id, w.therapist.approval("openid", "user/Patient.rs"))
		})
	}
	wait.Wait()
	var one string
	for _, c := range codes {
		if c != "" && one != "" {
			t.Error("one interaction gave two codes")
		}
		if c != "" {
			one = c
		}
	}
	u, err := url.Parse(one)
	if err != nil || one == "" {
		t.Fatal(one, err)
	}
	answers := make([]answer, 8)
	for i := range answers {
		wait.Go(func() { answers[i] = w.post(t, "/token", "", f.exchange(u.Query().Get("code"))) })
	}
	wait.Wait()
	for _, a := range answers { // one may have got a token, and it ended with the second
		if a.status != http.StatusOK {
			a.wants(400, "invalid_grant")
		} else if _, ok := w.accepts(t, a.str("access_token")); ok {
			t.Error("a token of a code that came again is good")
		}
	}
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

// TestNothingStandsOnADisabledAccount, also where nobody ended its grants.
func TestNothingStandsOnADisabledAccount(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	a := f.tokens(w.therapist, "")
	id := f.interaction()
	in, err := w.server.Interaction(f.browser(), id)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	for _, sql := range []string{"ALTER TABLE identity.account DISABLE TRIGGER USER", "UPDATE identity.account SET disabled = true WHERE id = '" + w.therapist.account.ID + "'"} {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	w.userinfo(t, a.str("access_token")).wants(401, "invalid_token")
	if _, err := w.server.Approve(f.browser(), id, w.therapist.approval("openid")); err == nil {
		t.Error("a disabled account approves")
	}
	if _, err := w.server.UserToken(t.Context(), in, w.therapist.approval("openid")); err == nil {
		t.Error("a disabled account reads")
	}
	f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
	if _, ok := w.accepts(t, a.str("access_token")); ok {
		t.Error("the access token is good after a refresh that was refused for good")
	}
}

// TestARefreshTokenOfAnotherAppIsRefused while it is good, and stays so: whoever found it must not end its owner's grant either.
func TestARefreshTokenOfAnotherAppIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, pair := range [][2]string{{"chart", "desk"}, {"desk", "chart"}} {
		f, thief := w.flow(pair[0], "openid", "user/Patient.rs", "offline_access"), w.flow(pair[1], "openid")
		token := f.tokens(w.therapist, "").str("refresh_token")
		thief.refresh(token).wants(400, "invalid_grant")
		thief.refresh(token, "scope", "openid").wants(400, "invalid_grant")
		f.refresh(token).ok()
	}
	// A confidential app's token does not do without the app's proof.
	token := w.flow("desk", "openid", "user/Patient.rs", "offline_access").tokens(w.therapist, "").str("refresh_token")
	w.post(t, "/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}).wants(401, "invalid_client")
	// A public app's token says whose it is.
	token = w.flow("chart", "openid", "user/Patient.rs", "offline_access").tokens(w.therapist, "").str("refresh_token")
	w.post(t, "/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}).ok()
	w.post(t, "/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"nothing"}}).wants(400, "invalid_grant")
}
