package signin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/api/scim"
	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/cmd/cloister/internal/signin"
	"github.com/cloister-health/cloister/fhir"
)

// granted connects the app for somebody who was led to the page of consent, and gives her tokens.
func (h *house) granted(b *browser, consent page) map[string]any {
	h.t.Helper()
	status, got := h.token(b.submit(consent, consent.url.Path, "answer", "yes"), nil)
	if status != http.StatusOK {
		h.t.Fatalf("%d %v", status, got)
	}
	return got
}

// refresh uses a refresh token.
func (h *house) refresh(token any) (int, map[string]any) {
	h.t.Helper()
	return h.token(page{}, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {fmt.Sprint(token)}})
}

// directory sends a SCIM request to this process.
func (h *house) directory(token, method, path, body string, status int) map[string]any {
	h.t.Helper()
	rq, err := http.NewRequestWithContext(context.Background(), method, h.at+"/scim/v2"+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	rq.Header.Set("Authorization", "Bearer "+token)
	rq.Header.Set("Content-Type", "application/scim+json")
	res, err := http.DefaultClient.Do(rq)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		h.t.Fatalf("%s %s: %d %s, want %d (%v)", method, path, res.StatusCode, text, status, err)
	}
	out := map[string]any{}
	if len(text) > 0 && json.Unmarshal(text, &out) != nil {
		h.t.Fatalf("%s", text)
	}
	return out
}

// TestADirectoryEndsEverythingAtOnce: whoever is taken out of a practice by its directory is out of her sessions, and so are the apps that
// she let in, with the access tokens that they have: in this process at once, in others when they next ask, which is within a second.
func TestADirectoryEndsEverythingAtOnce(t *testing.T) {
	roles := func(_ *house, c *signin.Config) {
		c.GroupRoles = func(practice, group string) []string {
			if practice == "harbor" && strings.EqualFold(group, "Clinicians") {
				return []string{"therapist"}
			}
			return nil
		}
	}
	h := newHouse(t, roles)
	other := h.another(roles)
	const secret, email = "the token of the directory of harbor", "elena@harbor.example"
	m := h.membership("therapist")
	if err := h.Store.PutDirectory(context.Background(), m.Tenant, m.Practice, scim.TokenHash(secret), h.clock()); err != nil {
		t.Fatal(err)
	}
	h.account(email, "therapist")
	var organizations []string
	for _, o := range m.Organizations {
		organizations = append(organizations, string(o))
	}
	list, err := json.Marshal(organizations)
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"userName":%q,"displayName":"Elena","urn:cloister:params:scim:schemas:extension:member:2.0:User":{"fhirUser":%q,"organizations":%s}}`, email, m.User, list)
	create := func() string { return fmt.Sprint(h.directory(secret, "POST", "/Users", body, 201)["id"]) }
	user := create()
	group := fmt.Sprint(h.directory(secret, "POST", "/Groups", fmt.Sprintf(`{"displayName":"Clinicians","members":[{"value":%q}]}`, user), 201)["id"])
	patient := "Patient/" + persona(t, "patient").Claims.Patient

	for what, end := range map[string]func(){
		"active is false": func() {
			h.directory(secret, "PATCH", "/Users/"+user, `{"Operations":[{"op":"Replace","path":"active","value":"False"}]}`, 200)
		},
		"out of the group": func() {
			h.directory(secret, "PATCH", "/Groups/"+group, `{"Operations":[{"op":"remove","path":"members"}]}`, 200)
		},
		"deleted": func() { h.directory(secret, "DELETE", "/Users/"+user, "", 204) },
	} {
		b := h.browser()
		got := h.granted(b, b.toConsent(t, email))
		if err := other.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
		for _, x := range []*house{h, other} {
			if status := x.read(patient, got["access_token"]); status != http.StatusOK {
				t.Fatalf("%s: before, a read is answered with %d", what, status)
			}
		}
		end()
		if status := h.read(patient, got["access_token"]); status != http.StatusUnauthorized {
			t.Errorf("%s: the access token is answered with %d by the process that was told", what, status)
		}
		if err := other.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
		if status := other.read(patient, got["access_token"]); status != http.StatusUnauthorized {
			t.Errorf("%s: the access token is answered with %d by another process", what, status)
		}
		if status, answer := h.refresh(got["refresh_token"]); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
			t.Errorf("%s: the refresh token: %d %v", what, status, answer)
		}
		if p := b.get("/smart/account"); !strings.HasSuffix(p.url.Path, "/sign-in") {
			t.Errorf("%s: the session goes on at %s", what, p.url.Path)
		}
		// Somebody new in the same place, for the next way out.
		if what == "deleted" {
			user = create()
		} else {
			h.directory(secret, "PATCH", "/Users/"+user, `{"Operations":[{"op":"replace","value":{"active":true}}]}`, 200)
		}
		h.directory(secret, "PUT", "/Groups/"+group, fmt.Sprintf(`{"displayName":"Clinicians","members":[{"value":%q}]}`, user), 200)
	}
	h.directory("another token", "GET", "/Users", "", 401)
	for _, path := range []string{"/smart/account", "/fhir/Patient"} { // the token of a directory opens nothing else
		if p := h.browser().get(path); p.status == http.StatusOK && !strings.HasSuffix(p.url.Path, "/sign-in") {
			t.Errorf("%s: %d", path, p.status)
		}
	}
	if status := h.read(patient, secret); status != http.StatusUnauthorized {
		t.Errorf("the token of a directory reads records: %d", status)
	}
}

// TestRevokedOnOneServerIsRefusedOnTheOther: the second process is told by nobody, and asks.
func TestRevokedOnOneServerIsRefusedOnTheOther(t *testing.T) {
	h := newHouse(t)
	other := h.another()
	other.Start()
	h.account("nora@harbor.example", "patient")
	b := h.browser()
	got := h.granted(b, b.signIn(b.authorize(), "nora@harbor.example"))
	self := "Patient/" + persona(t, "patient").Claims.Patient
	if status := other.read(self, got["access_token"]); status != http.StatusOK {
		t.Fatal(status)
	}
	res, err := http.PostForm(h.at+"/smart/revoke", url.Values{"client_id": {appID}, "token": {fmt.Sprint(got["refresh_token"])}})
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res, err)
	}
	_ = res.Body.Close()
	if status := h.read(self, got["access_token"]); status != http.StatusUnauthorized {
		t.Errorf("the server that revoked answers with %d", status)
	}
	status, deadline := 0, time.Now().Add(time.Minute) // a second, on a machine that has one for it
	for status != http.StatusUnauthorized && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		status = other.read(self, got["access_token"])
	}
	if status != http.StatusUnauthorized {
		t.Errorf("the other server answers with %d", status)
	}
}

// TestWhoCannotAskRefuses: a server that has not known for five seconds which grants ended lets nobody in, and says that it is its own fault.
func TestWhoCannotAskRefuses(t *testing.T) {
	h := newHouse(t)
	h.account("nora@harbor.example", "patient")
	b := h.browser()
	got := h.granted(b, b.signIn(b.authorize(), "nora@harbor.example"))
	self := "Patient/" + persona(t, "patient").Claims.Patient
	other := h.another() // and nothing asks in its background
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, http.StatusOK}, {4 * time.Second, http.StatusOK}, {time.Second, http.StatusOK}, {time.Second, http.StatusServiceUnavailable}} {
		h.pass(c.after)
		if status := other.read(self, got["access_token"]); status != c.want {
			t.Errorf("%s later: %d, want %d", c.after, status, c.want)
		}
	}
	if err := other.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if status := other.read(self, got["access_token"]); status != http.StatusOK {
		t.Errorf("once it knows again: %d", status)
	}
	other.Store.Close() // the database of accounts is away; that of records is there
	h.pass(6 * time.Second)
	if err := other.Refresh(context.Background()); err == nil {
		t.Fatal("it is there")
	}
	if status := other.read(self, got["access_token"]); status != http.StatusServiceUnavailable {
		t.Errorf("without a database: %d", status)
	}
}

// TestStartDoesWhatAServerHasToDo: what has expired goes, the next keys are made, and all of that is over when Close returns.
func TestStartDoesWhatAServerHasToDo(t *testing.T) {
	h := newHouse(t)
	h.account("nora@harbor.example", "patient")
	b := h.browser()
	h.granted(b, b.signIn(b.authorize(), "nora@harbor.example"))
	b.authorize() // and one that nobody finishes
	conn, err := pgx.Connect(context.Background(), h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rows := func(table string) (n int) {
		t.Helper()
		if err := conn.QueryRow(context.Background(), "SELECT count(*) FROM identity."+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	keys := rows("signing_key")
	for _, table := range []string{"session", "ticket", "code"} {
		if rows(table) == 0 {
			t.Errorf("there is no %s yet: this test looks at nothing", table)
		}
	}
	h.pass(90 * 24 * time.Hour)
	other := h.another(func(_ *house, c *signin.Config) {
		c.Every = signin.Intervals{Ended: 20 * time.Millisecond, Sweep: 20 * time.Millisecond, Keys: 20 * time.Millisecond}
	})
	other.Start()
	left := func() (out []string) {
		for _, table := range []string{"session", "ticket", "code"} {
			if rows(table) > 0 {
				out = append(out, table)
			}
		}
		if rows("signing_key") <= keys {
			out = append(out, "the keys of the last quarter")
		}
		return out
	}
	for deadline := time.Now().Add(time.Minute); len(left()) > 0 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if got := left(); len(got) > 0 {
		t.Errorf("still there: %v", got)
	}
	other.Close()
	time.Sleep(100 * time.Millisecond) // what went on would find the connections closed, and say so
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	if log := h.log.b.String(); strings.Contains(log, "could not be") {
		t.Errorf("the log says\n%s", log)
	}
}

// TestATokenOfOnePracticeReadsNoOther: one account, several practices; a token is of the one that was chosen.
func TestATokenOfOnePracticeReadsNoOther(t *testing.T) {
	h := newHouse(t)
	const email = "lucia@example.org"
	h.account(email, "therapist", "lakeside-therapist")
	there := h.membership("lakeside-therapist")
	patients := map[string]string{"harbor": persona(t, "patient").Claims.Patient}
	for _, rq := range persona(t, "lakeside-therapist").Requests {
		if id, ok := strings.CutPrefix(rq.Path, "/Patient/"); ok && rq.Status == http.StatusOK {
			patients["lakeside"] = id
		}
	}
	if patients["lakeside"] == "" || patients["lakeside"] == patients["harbor"] {
		t.Fatal(patients)
	}
	for practice, key := range map[string]string{"harbor": "harbor|" + h.membership("therapist").User.String() + "|therapist", "lakeside": "lakeside|" + there.User.String() + "|" + strings.Join(there.Roles, "+")} {
		b := h.browser()
		p := b.signIn(b.authorize(), email)
		p = b.submit(p, "/role", "role", key)
		for other, id := range patients {
			found := b.submit(p, "/patients", "name", "Bergstrom")
			if strings.Contains(found.body, id) != (other == practice) {
				t.Errorf("%s: the picker shows the patient of %s: %v", practice, other, !(other == practice))
			}
			if other != practice {
				if refused := b.submit(found, "/patient", "patient", id); refused.status != http.StatusUnprocessableEntity {
					t.Errorf("%s: a patient of %s is taken: %d", practice, other, refused.status)
				}
			}
		}
		p = b.submit(b.submit(p, "/patients", "name", "Bergstrom"), "/patient", "patient", patients[practice])
		got := h.granted(b, p)
		if c := claimsOf(t, got["access_token"]); c["practice"] != practice || c["fhirUser"] != h.base+"/fhir/"+map[string]string{"harbor": h.membership("therapist").User.String(), "lakeside": there.User.String()}[practice] {
			t.Errorf("%s: the token says %v", practice, c)
		}
		for other, id := range patients {
			want := http.StatusNotFound
			if other == practice {
				want = http.StatusOK
			}
			for _, path := range []string{"Patient/" + id, "Patient/" + id + "/_history/1"} {
				if status := h.read(path, got["access_token"]); status != want && !(want == http.StatusOK && strings.Contains(path, "_history")) {
					t.Errorf("a token of %s: %s of %s is answered with %d", practice, path, other, status)
				}
			}
		}
		// A refresh stays where it was.
		if status, again := h.refresh(got["refresh_token"]); status != http.StatusOK || claimsOf(t, again["access_token"])["practice"] != practice {
			t.Errorf("%s: refreshed to %d %v", practice, status, again)
		}
	}
}

// TestAPersonIsAnIdentityAndNoParty: apps learn as whom somebody signed in, and no rule is asked about a Person.
func TestAPersonIsAnIdentityAndNoParty(t *testing.T) {
	h := newHouse(t)
	h.account("dana@harbor.example", "front-desk")
	a, err := h.Identity.Find(context.Background(), "dana@harbor.example")
	if err != nil {
		t.Fatal(err)
	}
	m := h.membership("front-desk")
	if err := h.Identity.Leave(context.Background(), "test", a.ID, m.Tenant); err != nil {
		t.Fatal(err)
	}
	m.User = fhir.Ref{Type: "Person", ID: "dana"}
	if err := h.Identity.Join(context.Background(), "test", a.ID, m); err != nil {
		t.Fatal(err)
	}
	for _, roles := range [][]string{{"patient"}, {"proxy"}, {"front-desk", "patient"}} {
		no := m
		no.Roles = roles
		if err := h.Identity.Join(context.Background(), "test", a.ID, no); err == nil {
			t.Errorf("a Person stands for a patient, as %v", roles)
		}
	}
	h.register(app.App{
		ID: "desk", Name: "Desk", Auth: app.None, Redirects: []string{redirect}, Grants: []string{app.Code, app.Refresh}, Scopes: []string{"openid", "fhirUser", "launch/patient", "patient/Appointment.rs"},
		Purposes: []string{"HOPERAT"}, Registered: noon,
	})
	b := h.browser()
	p := b.signIn(b.authorize("client_id", "desk", "scope", "openid fhirUser launch/patient patient/Appointment.rs"), "dana@harbor.example")
	nora := persona(t, "patient").Claims.Patient
	p = b.submit(b.submit(p, "/patients", "name", "Bergstrom"), "/patient", "patient", nora)
	back := b.submit(p, p.url.Path, "answer", "yes")
	status, got := h.token(back, url.Values{"grant_type": {"authorization_code"}, "code": {back.left().Get("code")}, "redirect_uri": {redirect}, "code_verifier": {verifier}, "client_id": {"desk"}})
	want := h.base + "/fhir/Person/dana"
	if status != http.StatusOK || got["fhirUser"] != want || claimsOf(t, got["id_token"])["fhirUser"] != want {
		t.Fatalf("%d: the app is told %v and %v", status, got["fhirUser"], claimsOf(t, got["id_token"]))
	}
	if c := claimsOf(t, got["access_token"]); c["fhirUser"] != nil || c["sub"] != a.ID {
		t.Errorf("the access token says %v", c)
	}
	if status := h.read("Appointment?patient="+nora, got["access_token"]); status != http.StatusOK {
		t.Errorf("what the front desk may read is answered with %d", status)
	}
}

// claimsOf reads a token as anybody can, who has it.
func claimsOf(t *testing.T, token any) map[string]any {
	t.Helper()
	parts := strings.Split(fmt.Sprint(token), ".")
	out := map[string]any{}
	if len(parts) != 3 || json.Unmarshal(decode(t, parts[1]), &out) != nil {
		t.Fatalf("%v is no token", token)
	}
	return out
}

// TestAppsPagesReadTheAPI: a browser lets the pages of active apps read what they may, and no others (Fetch, CORS protocol).
func TestAppsPagesReadTheAPI(t *testing.T) {
	h := newHouse(t)
	ask := func(origin, path, method, token string) http.Header {
		t.Helper()
		rq, err := http.NewRequestWithContext(context.Background(), method, h.base+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		rq.Header.Set("Origin", origin)
		if method == http.MethodOptions {
			rq.Header.Set("Access-Control-Request-Method", "GET")
			rq.Header.Set("Access-Control-Request-Headers", "authorization")
		}
		if token != "" {
			rq.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if got := res.Header.Get("Access-Control-Allow-Credentials"); got != "" {
			t.Errorf("%s of %s: with cookies", method, path)
		}
		if got := res.Header.Get("Access-Control-Allow-Origin"); got != "" && got != origin {
			t.Errorf("%s of %s from %s allows %s", method, path, origin, got)
		}
		return res.Header
	}
	const app, house = "http://127.0.0.1:7", "https://house.example" // the redirect's, and one of the configuration
	check := func(when string, appKnown bool) {
		t.Helper()
		for _, method := range []string{http.MethodOptions, http.MethodGet} {
			for _, path := range []string{"/fhir/Patient", "/fhir/metadata", "/fhir/.well-known/smart-configuration", "/smart/.well-known/openid-configuration", "/smart/keys"} {
				for origin, want := range map[string]bool{app: appKnown, house: true, "https://evil.example": false, "null": false, "http://127.0.0.1:7.evil.example": false, "http://127.0.0.1": false} {
					head := ask(origin, path, method, "")
					if got := head.Get("Access-Control-Allow-Origin") != ""; got != want {
						t.Errorf("%s: %s of %s from %s: %v, want %v", when, method, path, origin, got, want)
					}
					if !slices.Contains(strings.Split(strings.Join(head.Values("Vary"), ", "), ", "), "Origin") {
						t.Errorf("%s: %s of %s: caches are not told that it depends on the origin", when, method, path)
					}
				}
			}
		}
		if got := ask(app, "/smart/token", http.MethodOptions, "").Get("Access-Control-Allow-Origin") != ""; got != appKnown {
			t.Errorf("%s: the token endpoint: %v", when, got)
		}
		for _, path := range []string{"/smart/authorize", "/smart/sign-in", "/smart/account", "/scim/v2/Users"} { // these are no pages' of an app
			for _, origin := range []string{app, house} {
				if got := ask(origin, path, http.MethodOptions, "").Get("Access-Control-Allow-Origin"); got != "" {
					t.Errorf("%s: %s: %s", when, path, got)
				}
			}
		}
	}
	check("registered", true)
	if !strings.Contains(ask(app, "/fhir/Patient", http.MethodOptions, "").Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Error("a preflight allows no token")
	}
	for _, practice := range []string{"harbor", "lakeside"} {
		if _, err := h.Store.EndGrants(context.Background(), smart.End{App: appID, Practice: practice}, h.clock()); err != nil {
			t.Fatal(err)
		}
		h.advance(6 * time.Second)
		check("withdrawn in "+practice, practice == "harbor") // lakeside still uses it then
	}
}
