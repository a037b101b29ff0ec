package smart_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir"
)

// back wants the app to be told of an error at its redirect, with state and issuer.
func back(t *testing.T, why string, u *url.URL, code string) {
	t.Helper()
	q := u.Query()
	if !strings.HasPrefix(u.String(), redirect+"?") || q.Get("error") != code || q.Get("iss") != issuer || q.Get("code") != "" {
		t.Errorf("%s: %s, want %s", why, u, code)
	}
}

func TestPKCEIsRequired(t *testing.T) {
	w := newWorld(t)
	for _, client := range []string{"chart", "desk"} { // confidential apps are no exception
		for why, change := range map[string]func(url.Values){
			"missing code_challenge":         func(v url.Values) { v.Del("code_challenge") },
			"plain code_challenge_method":    func(v url.Values) { v.Set("code_challenge_method", "plain") },
			"missing code_challenge_method":  func(v url.Values) { v.Del("code_challenge_method") },
			"lower case":                     func(v url.Values) { v.Set("code_challenge_method", "s256") },
			"short challenge":                func(v url.Values) { v.Set("code_challenge", "abc") },
			"challenge that is no base64url": func(v url.Values) { v.Set("code_challenge", strings.Repeat("+", 43)) },
		} {
			f := w.flow(client, "openid", "user/Patient.rs")
			change(f.form)
			back(t, client+" "+why, f.authorize(), "invalid_request")
		}
	}
}

func TestTokenExchangeFailsWithAnInvalidCodeVerifier(t *testing.T) {
	w := newWorld(t)
	for why, verifier := range map[string]string{
		"wrong": strings.Repeat("w", 43), "missing": "", "the challenge itself": "CHALLENGE", "too short": "v", "too long": strings.Repeat("v", 129), "with a space": strings.Repeat("v", 43) + " ",
	} {
		f := w.flow("chart", "openid", "user/Patient.rs")
		v := f.exchange(f.code(w.therapist, ""))
		v.Set("code_verifier", verifier)
		if verifier == "CHALLENGE" {
			v.Set("code_verifier", f.form.Get("code_challenge"))
		}
		a := w.post(t, "/token", "", v)
		if a.status != 400 || a.str("error") != "invalid_grant" {
			t.Errorf("%s: %d %s", why, a.status, a.text)
		}
		w.post(t, "/token", "", f.exchange(v.Get("code"))).wants(400, "invalid_grant") // nobody guesses on
	}
	if !w.audit.has(audit.TokenRefused, audit.ReasonProof) {
		t.Error("it is not in the audit trail")
	}
}

func TestAuthorizationRefusesWhatIsNotSound(t *testing.T) {
	w := newWorld(t)
	for why, c := range map[string]struct {
		change func(url.Values)
		code   string
	}{
		"wrong aud":                 {func(v url.Values) { v.Set("aud", "https://other.example/fhir") }, "invalid_request"},
		"missing aud":               {func(v url.Values) { v.Del("aud") }, "invalid_request"},
		"missing state":             {func(v url.Values) { v.Del("state") }, "invalid_request"},
		"implicit":                  {func(v url.Values) { v.Set("response_type", "token") }, "unsupported_response_type"},
		"hybrid":                    {func(v url.Values) { v.Set("response_type", "code id_token") }, "unsupported_response_type"},
		"missing response_type":     {func(v url.Values) { v.Del("response_type") }, "unsupported_response_type"},
		"fragment":                  {func(v url.Values) { v.Set("response_mode", "fragment") }, "invalid_request"},
		"request object":            {func(v url.Values) { v.Set("request", "x.y.z") }, "request_not_supported"},
		"no scope":                  {func(v url.Values) { v.Del("scope") }, "invalid_scope"},
		"scope beyond registration": {func(v url.Values) { v.Set("scope", "user/Condition.rs") }, "invalid_scope"},
		"system scope":              {func(v url.Values) { v.Set("scope", "system/Patient.rs") }, "invalid_scope"},
		"malformed scope":           {func(v url.Values) { v.Set("scope", "user/Patient.rs\topenid") }, "invalid_scope"},
		"unknown prompt":            {func(v url.Values) { v.Set("prompt", "shout") }, "invalid_request"},
		"none and login":            {func(v url.Values) { v.Set("prompt", "none login") }, "invalid_request"},
		"launch without a handle":   {func(v url.Values) { v.Set("scope", "launch openid") }, "invalid_request"},
		"a handle without launch":   {func(v url.Values) { v.Set("launch", "xyz") }, "invalid_request"},
		"an unknown handle":         {func(v url.Values) { v.Set("scope", "launch openid"); v.Set("launch", "xyz") }, "invalid_request"},
	} {
		f := w.flow("chart", "openid", "user/Patient.rs")
		c.change(f.form)
		u := f.authorize()
		back(t, why, u, c.code)
		if u.Query().Get("state") != f.form.Get("state") {
			t.Errorf("%s: state %q", why, u.Query().Get("state"))
		}
	}
	bad := w.flow("chart", "openid", "user/Patient.rs")
	bad.form.Set("max_age", "-1")
	w.get(t, "/authorize?"+bad.form.Encode()).wants(400, "invalid_request")
	f := w.flow("chart", "openid", "user/Patient.rs")
	f.form.Set("aud", fhirAt+"/") // written either way
	f.interaction()
}

func TestRedirectMismatch(t *testing.T) {
	w := newWorld(t)
	for _, to := range []string{
		"", "https://evil.example/", redirect + "/", redirect + "?x=1", redirect + "#x", strings.ToUpper(redirect), "https://app.example.org:443/callback",
		"https://app.example.org/%63allback", "https://app.example.org/callback/../callback", "http://app.example.org/callback", "https://app.example.org@evil.example/callback",
		"javascript:alert(1)", " " + redirect, redirect + "\n",
	} {
		f := w.flow("chart", "openid", "user/Patient.rs")
		f.form.Set("redirect_uri", to)
		a := w.get(t, "/authorize?"+f.form.Encode())
		if a.status != 400 || a.head.Get("Location") != "" { // nobody is sent anywhere
			t.Errorf("%q: %d %s", to, a.status, a.head.Get("Location"))
		}
	}
	f := w.flow("chart", "openid", "user/Patient.rs")
	v := f.exchange(f.code(w.therapist, ""))
	v.Set("redirect_uri", redirect+"2")
	w.post(t, "/token", "", v).wants(400, "invalid_grant")
	for to, want := range map[string]bool{
		"http://127.0.0.1/cb": true, "http://127.0.0.1:51234/cb": true, "org.example.phone:/cb": true, "http://127.0.0.1:51234/other": false, "http://127.0.0.2:51234/cb": false,
		"http://localhost:51234/cb": false, "https://127.0.0.1:51234/cb": false, "http://127.0.0.1:/cb": false, "http://127.0.0.1:080/cb": false, "http://u@127.0.0.1:80/cb": false, "org.example.phone:/cb2": false,
	} {
		f := w.flow("phone", "openid", "patient/*.rs")
		f.form.Set("redirect_uri", to)
		if a := w.get(t, "/authorize?"+f.form.Encode()); (a.status == 302) != want {
			t.Errorf("%s: %d", to, a.status)
		}
	}
}

func TestCodeReuseRevokesWhatWasIssued(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	code := f.code(w.therapist, "")
	a := w.post(t, "/token", "", f.exchange(code)).ok()
	if _, ok := w.accepts(t, a.str("access_token")); !ok {
		t.Fatal("the token is not good")
	}
	w.post(t, "/token", "", f.exchange(code)).wants(400, "invalid_grant")
	if _, ok := w.accepts(t, a.str("access_token")); ok {
		t.Error("the access token outlived the reuse of its code")
	}
	f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
	if !w.audit.has(audit.TokenReused, audit.ReasonReplay) {
		t.Error("it is not in the audit trail")
	}
}

func TestCodeOfAnotherClientIsRefused(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs")
	code := f.code(w.therapist, "")
	thief := w.flow("desk", "openid", "user/Patient.rs")
	w.post(t, "/token", thief.basic, thief.exchange(code)).wants(400, "invalid_grant")
	w.post(t, "/token", "", f.exchange(code)).wants(400, "invalid_grant")
	if !w.audit.has(audit.TokenRefused, audit.ReasonClient) {
		t.Error("it is not in the audit trail")
	}
}

func TestCodeExpires(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs")
	code := f.code(w.therapist, "")
	w.pass(time.Minute)
	w.post(t, "/token", "", f.exchange(code)).wants(400, "invalid_grant")
	w.post(t, "/token", "", f.exchange(strings.Repeat("A", 43))).wants(400, "invalid_grant")
}

// TestInteractionBelongsToItsBrowser: whoever sends somebody a link to an interaction of her own must not get a code for that
// person's record.
func TestInteractionBelongsToItsBrowser(t *testing.T) {
	w := newWorld(t)
	mine, hers := w.flow("chart", "openid", "user/Patient.rs"), w.flow("chart", "openid", "user/Patient.rs")
	id := mine.interaction()
	hers.interaction()
	if c := mine.cookie; !c.HttpOnly || !c.Secure || c.SameSite != 2 || !strings.HasPrefix(c.Name, "__Host-") {
		t.Errorf("%+v", c)
	}
	for why, f := range map[string]*flow{"another browser": hers, "no cookie": w.flow("chart")} {
		if _, err := w.server.Interaction(f.browser(), id); err == nil {
			t.Errorf("%s sees the interaction", why)
		}
		if _, err := w.server.Approve(f.browser(), id, w.therapist.approval("openid", "user/Patient.rs")); err == nil {
			t.Errorf("%s gets a code", why)
		}
		if _, err := w.server.Refuse(f.browser(), id, "access_denied", ""); err == nil {
			t.Errorf("%s can refuse", why)
		}
	}
	if _, err := w.server.Interaction(t.Context(), id); err == nil {
		t.Error("a page that forgets to say which browser it is sees the interaction")
	}
	i, err := w.server.Interaction(mine.browser(), id)
	if err != nil || i.App.ID != "chart" || len(i.Scopes) != 2 {
		t.Fatalf("%+v %v", i, err)
	}
	to, err := w.server.Refuse(mine.browser(), id, "access_denied", "she said no")
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(to)
	back(t, "refused", u, "access_denied")
	if _, err := w.server.Approve(mine.browser(), id, w.therapist.approval("openid")); err == nil {
		t.Error("an interaction that was refused gives a code")
	}
}

func TestApprovalIsCheckedAnew(t *testing.T) {
	w := newWorld(t)
	over := w.signIn(w.therapist.account)
	if err := w.people.EndSession(t.Context(), w.therapist.account.ID, over.ID); err != nil {
		t.Fatal(err)
	}
	for why, change := range map[string]func(*smart.Approval){
		"a session that is over":         func(a *smart.Approval) { a.Session = over },
		"somebody else's session":        func(a *smart.Approval) { a.Session = w.patient.session },
		"nobody":                         func(a *smart.Approval) { a.Account = identity.Account{ID: "00000000-0000-4000-8000-000000000000"} },
		"another user of the practice":   func(a *smart.Approval) { a.Membership.User = fhir.Ref{Type: "Practitioner", ID: "other"} },
		"no scope":                       func(a *smart.Approval) { a.Scopes = nil },
		"scopes that were not asked for": func(a *smart.Approval) { a.Scopes = []string{"user/Observation.rs"} },
		"a patient scope, no patient":    func(a *smart.Approval) { a.Scopes = []string{"patient/*.rs"} },
		"no patient id":                  func(a *smart.Approval) { a.Scopes = []string{"patient/*.rs"}; a.Patient = "a/b" },
	} {
		f := w.flow("chart", "openid", "user/Patient.rs", "patient/*.rs")
		id := f.interaction()
		a := w.therapist.approval("openid", "user/Patient.rs")
		change(&a)
		if to, err := w.server.Approve(f.browser(), id, a); err == nil {
			t.Errorf("%s: %s", why, to)
		}
	}
	// A patient chooses herself alone, and no app that is not for patients.
	f := w.flow("chart", "openid", "patient/*.rs")
	id := f.interaction()
	a := w.patient.approval("openid", "patient/*.rs")
	a.Patient = "berta"
	if _, err := w.server.Approve(f.browser(), id, a); err == nil {
		t.Error("a patient has chosen another one")
	}
	f = w.flow("desk", "openid", "patient/*.rs")
	id = f.interaction()
	a.Patient = "anna"
	if _, err := w.server.Approve(f.browser(), id, a); err == nil {
		t.Error("an app for treatment serves a patient")
	}
	// prompt=login and max_age want a sign-in that is new.
	for name, value := range map[string]string{"prompt": "login", "max_age": "60"} {
		w.pass(2 * time.Minute)
		f := w.flow("chart", "openid", "user/Patient.rs")
		f.form.Set(name, value)
		id := f.interaction()
		a := w.therapist.approval("openid")
		if _, err := w.server.Approve(f.browser(), id, a); err == nil {
			t.Errorf("%s: an old sign-in is good enough", name)
		}
		a.Session = w.signIn(w.therapist.account)
		if _, err := w.server.Approve(f.browser(), id, a); err != nil {
			t.Error(name, err, errors.Unwrap(err))
		}
	}
}

func TestLimitedScopeGrant(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "launch/patient", "patient/*.rs", "offline_access")
	id := f.interaction()
	a := w.therapist.approval("openid", "launch/patient", "patient/Observation.rs", "patient/Condition.cud")
	a.Patient = "anna"
	to, err := w.server.Approve(f.browser(), id, a)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(to)
	b := w.post(t, "/token", "", f.exchange(u.Query().Get("code"))).ok()
	if b.str("scope") != "openid launch/patient patient/Observation.rs" || b.str("refresh_token") != "" {
		t.Error(b.text) // what she left out is out, and nothing is in that was not asked for
	}
	who, ok := w.accepts(t, b.str("access_token"))
	if !ok {
		t.Fatal("not accepted")
	}
	if !allow(who.Scopes, "Observation") {
		t.Error("Observation is closed")
	}
	if allow(who.Scopes, "Condition") {
		t.Error("Condition is open")
	}
}

func TestUnapprovedAppIsRefused(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	b := f.tokens(w.therapist, "")
	keys, err := w.store.EndGrants(t.Context(), smart.End{App: "chart", Practice: "harbor"}, w.now())
	if err != nil {
		t.Fatal(err)
	}
	w.ended.Add(keys...)
	if a := w.get(t, "/authorize?"+f.form.Encode()); a.status != 400 || a.head.Get("Location") != "" {
		t.Errorf("%d %s", a.status, a.text)
	}
	f.refresh(b.str("refresh_token")).wants(401, "invalid_client")
	if _, ok := w.accepts(t, b.str("access_token")); ok {
		t.Error("its token is still good")
	}
	unknown := w.flow("nobody", "openid")
	if a, c := w.get(t, "/authorize?"+f.form.Encode()), w.get(t, "/authorize?"+unknown.form.Encode()); a.text != c.text {
		t.Errorf("an app that waits can be told from one that is not there: %s %s", a.text, c.text)
	}
	w.approve("chart", "harbor") // the practice changes its mind
	f.tokens(w.therapist, "")
}
