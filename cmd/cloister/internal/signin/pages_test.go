package signin_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
)

var button = regexp.MustCompile(`name="patient" value="([^"]*)"`)

// toConsent leads a therapist to the page of consent for her patient.
func (b *browser) toConsent(t *testing.T, email string) page {
	t.Helper()
	p := b.signIn(b.authorize(), email)
	p = b.submit(p, "/patients", "name", "Bergstrom")
	found := button.FindStringSubmatch(p.body)
	if found == nil {
		t.Fatalf("nobody found: %d\n%s", p.status, p.body)
	}
	return b.submit(p, "/patient", "patient", found[1])
}

func TestConsentCanGiveLess(t *testing.T) {
	h := newHouse(t)
	h.account("elena@harbor.example", "therapist")
	b := h.browser()
	p := b.toConsent(t, "elena@harbor.example")
	for _, text := range []string{"Nora Bergstrom", "Mental-health and substance-use records: can be among it", "42 CFR Part 2", "As therapist", "patient/DocumentReference.rs"} {
		if !strings.Contains(p.body, text) {
			t.Errorf("the page of consent does not say %q", text)
		}
	}
	to, form := p.form(t, p.url.Path)
	asked := form["scope"]
	if len(asked) != len(scopes)-1 || slices.Contains(asked, "launch/patient") {
		t.Fatalf("scopes that can be unticked: %v", asked)
	}
	form["scope"] = slices.DeleteFunc(slices.Clone(asked), func(s string) bool { return s == "patient/DocumentReference.rs" })
	// What was not asked for is not given, whoever writes it into the form.
	form["scope"] = append(form["scope"], "user/*.cruds", "patient/Encounter.rs")
	form.Set("answer", "yes")
	status, token := h.token(b.send(http.MethodPost, to, form), nil)
	granted, _ := token["scope"].(string)
	list := strings.Fields(granted)
	want := slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == "patient/DocumentReference.rs" })
	slices.Sort(list)
	slices.Sort(want)
	if status != http.StatusOK || !slices.Equal(list, want) {
		t.Fatalf("%d: granted %v, want %v", status, list, want)
	}
	if token["patient"] != persona(t, "patient").Claims.Patient {
		t.Errorf("patient %v", token["patient"])
	}
	if got := h.read("Condition?patient="+persona(t, "patient").Claims.Patient, token["access_token"]); got != http.StatusOK {
		t.Errorf("what was left ticked is answered with %d", got)
	}
	if got := h.read("DocumentReference?patient="+persona(t, "patient").Claims.Patient, token["access_token"]); got != http.StatusForbidden {
		t.Errorf("what was unticked is answered with %d", got)
	}

	// Nothing ticked: not a grant without scopes, and not all of them.
	p = b.authorize()
	p = b.submit(b.submit(p, "/patients", "name", "Bergstrom"), "/patient", "patient", persona(t, "patient").Claims.Patient)
	to, form = p.form(t, p.url.Path)
	form.Del("scope")
	form.Set("answer", "yes")
	if p = b.send(http.MethodPost, to, form); p.status != http.StatusUnprocessableEntity || !strings.Contains(p.body, `href="#scopes"`) {
		t.Errorf("nothing ticked: %d", p.status)
	}
	if q := b.submit(p, p.url.Path, "answer", "no").left(); q.Get("error") != "access_denied" || q.Get("state") != "some-state-of-the-app" {
		t.Errorf("a refusal goes back with %v", q)
	}
}

func TestAnInteractionBelongsToItsBrowser(t *testing.T) {
	h := newHouse(t)
	h.account("elena@harbor.example", "therapist")
	h.account("tomas@harbor.example", "colleague")
	mine := h.browser()
	p := mine.toConsent(t, "elena@harbor.example")
	id := p.url.Path

	other := h.browser()
	other.signIn(other.get("/smart/sign-in"), "tomas@harbor.example")
	unknown := other.get("/smart/interaction/" + strings.Repeat("A", 43))
	stolen := other.get(id)
	if stolen.status != http.StatusNotFound || same(stolen.body) != same(unknown.body) {
		t.Errorf("somebody else's interaction is answered with %d, and one that never was with %d", stolen.status, unknown.status)
	}
	// Nor with a form of her own: its token is for no other interaction.
	own := other.authorize()
	_, form := own.form(t, "/patients")
	form.Set("answer", "yes")
	form["scope"] = scopes
	if got := other.send(http.MethodPost, id, form); got.status != http.StatusForbidden || got.left() != nil {
		t.Errorf("a form of another interaction is answered with %d %s", got.status, got.header.Get("Location"))
	}
	// It is still there for the one who began it.
	if got := mine.submit(mine.get(id), id, "answer", "yes"); got.left().Get("code") == "" {
		t.Errorf("her own approval: %d %s", got.status, got.body)
	}
}

var token = regexp.MustCompile(`name="form" value="[^"]*"`)

// same is a page without what differs between two browsers by intention.
func same(body string) string {
	return regexp.MustCompile(`interaction=[A-Za-z0-9_-]+`).ReplaceAllString(token.ReplaceAllString(body, ""), "")
}

func TestFormsOfOthersAreRefused(t *testing.T) {
	h := newHouse(t)
	h.account("elena@harbor.example", "therapist")
	b := h.browser()
	b.signIn(b.get("/smart/sign-in"), "elena@harbor.example")
	p := b.get("/smart/account")
	to, good := p.form(t, "/account/codes")
	stranger := h.browser()
	_, strange := stranger.get("/smart/sign-in").form(t, "/sign-in")
	for name, c := range map[string]struct {
		origin string
		form   url.Values
	}{
		"no token":                 {h.base, url.Values{}},
		"no token at all":          {h.base, url.Values{"form": {""}}},
		"the token of a stranger":  {h.base, strange},
		"from another origin":      {"https://evil.example", good},
		"from a neighbouring port": {"http://localhost:1", good},
		"from an opaque origin":    {"null", good},
		"without an origin":        {"", good},
	} {
		b.origin = c.origin
		got := b.send(http.MethodPost, to, c.form)
		if got.status != http.StatusForbidden || strings.Contains(got.body, "recovery codes") {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	b.origin = h.base
	if got := b.send(http.MethodPost, to, good); got.status != http.StatusOK || !strings.Contains(got.body, "Your recovery codes") {
		t.Errorf("her own form: %d", got.status)
	}
	// A token of an earlier session of the same browser is not good in the next one.
	b.submit(p, "/sign-out")
	if got := b.send(http.MethodPost, to, good); got.status != http.StatusForbidden {
		t.Errorf("a form of an ended session: %d", got.status)
	}
}

// TestASignInGivesANewSession: a cookie that somebody planted before is no session afterwards, and one that was signed out opens nothing,
// whoever kept it.
func TestASignInGivesANewSession(t *testing.T) {
	h := newHouse(t)
	h.account("both@harbor.example", "patient")
	b := h.browser()
	u, err := url.Parse(h.base)
	if err != nil {
		t.Fatal(err)
	}
	session := func() string {
		for _, c := range b.client.Jar.Cookies(u) {
			if c.Name == "cloister-session" {
				return c.Value
			}
		}
		return ""
	}
	open := func(token string) bool {
		c := h.browser()
		c.client.Jar.SetCookies(u, []*http.Cookie{{Name: "cloister-session", Value: token}})
		return strings.Contains(c.get("/smart/account").body, "Your access")
	}
	planted := strings.Repeat("A", 43)
	b.client.Jar.SetCookies(u, []*http.Cookie{{Name: "cloister-session", Value: planted}})
	b.signIn(b.get("/smart/sign-in"), "both@harbor.example")
	first := session()
	if first == planted || len(first) != 43 || !open(first) || open(planted) {
		t.Fatalf("planted %q, and after the sign-in %q", planted, first)
	}
	b.signIn(b.get("/smart/sign-in"), "both@harbor.example")
	if second := session(); second == first || !open(second) {
		t.Error("a second sign-in goes on with the first session")
	}
	p := b.get("/smart/account")
	last := session()
	b.submit(p, "/sign-out")
	if open(last) || session() != "" {
		t.Error("a session goes on after its sign-out")
	}
}

// TestAPasswordIsChangedByItsOwner, who knows the old one and is told. All other browsers are signed out.
func TestAPasswordIsChangedByItsOwner(t *testing.T) {
	const fresh = "another four good words"
	h := newHouse(t)
	h.account("both@harbor.example", "patient")
	here, there := h.browser(), h.browser()
	for _, b := range []*browser{here, there} {
		b.signIn(b.get("/smart/sign-in"), "both@harbor.example")
	}
	in := func(b *browser) bool { return strings.Contains(b.get("/smart/account").body, "Your access") }
	p := here.get("/smart/account/password")
	for why, form := range map[string][]string{
		"a wrong old one": {"old", "x", "password", fresh, "again", fresh}, "no old one": {"old", "", "password", fresh, "again", fresh},
		"two that differ": {"old", password, "password", fresh, "again", fresh + "x"}, "too short": {"old", password, "password", "short", "again", "short"},
	} {
		if got := here.submit(p, "/account/password", form...); got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", why, got.status)
		}
	}
	if !in(there) {
		t.Error("a refused change ended a session")
	}
	if got := here.submit(p, "/account/password", "old", password, "password", fresh, "again", fresh); !strings.Contains(got.body, "Your password is changed") {
		t.Fatalf("%d\n%s", got.status, got.body)
	}
	if !in(here) || in(there) {
		t.Errorf("here %v, there %v", in(here), in(there))
	}
	h.Identity.Close() // waits for letters
	if !slices.ContainsFunc(h.letters, func(text string) bool { return strings.Contains(text, "password of your account was changed") }) {
		t.Error("she is not told")
	}
	if there.signIn(there.get("/smart/sign-in"), "both@harbor.example"); in(there) {
		t.Error("the old password is good")
	}
	if there.submit(there.get("/smart/sign-in"), "/sign-in", "email", "both@harbor.example", "password", fresh); !in(there) {
		t.Error("the new password is not good")
	}
}

// TestPromptNoneShowsNoPage (OpenID Connect Core 3.1.2.1): a frame or a script learns no more than that somebody has to look.
func TestPromptNoneShowsNoPage(t *testing.T) {
	h := newHouse(t)
	h.account("both@harbor.example", "patient")
	b := h.browser()
	if got := b.authorize("prompt", "none").left(); got.Get("error") != "login_required" || got.Get("code") != "" || got.Get("state") == "" {
		t.Errorf("nobody is signed in: %v", got)
	}
	b.signIn(b.get("/smart/sign-in"), "both@harbor.example")
	if got := b.authorize("prompt", "none").left(); got.Get("error") != "consent_required" || got.Get("code") != "" {
		t.Errorf("somebody is signed in: %v", got)
	}
	h.advance(time.Minute)
	if got := b.authorize("prompt", "login"); !strings.HasSuffix(got.url.Path, "/sign-in") {
		t.Errorf("prompt=login: %s", got.url)
	}
}

func TestPagesCarryTheirPolicy(t *testing.T) {
	h := newHouse(t)
	h.account("elena@harbor.example", "therapist")
	b := h.browser()
	pages := []page{}
	for _, path := range []string{"sign-in", "recovery", "recovery/sent", "recovery/new", "invitation", "signed-out", "second-factor", "enrol", "interaction/none", "style/none.css", "nowhere"} {
		pages = append(pages, b.get("/smart/"+path))
	}
	pages = append(pages, b.submit(pages[0], "/sign-in", "email", "", "password", ""), b.submit(pages[0], "/sign-in", "email", "a@b.example", "password", "x"), b.submit(pages[0], "/sign-in/passkey"))
	p := b.authorize()
	p = b.submit(p, "/sign-in", "email", "elena@harbor.example", "password", password)
	pages = append(pages, p)
	p = b.submit(p, "/second-factor", "code", h.code("elena@harbor.example"))
	found := b.submit(p, "/patients", "name", "Bergstrom")
	consent := b.submit(found, "/patient", "patient", persona(t, "patient").Claims.Patient)
	enrol := b.get("/smart/enrol")
	pages = append(pages, p, found, consent, b.get("/smart/account"), b.get("/smart/account/password"), enrol, b.submit(enrol, "/enrol/app"), b.submit(enrol, "/enrol/passkey"))
	inline := regexp.MustCompile(`(?i)<style|<script(?: [^>]*)?>[^<]|\sstyle=|\son[a-z]+=|javascript:|data:`)
	foreign := regexp.MustCompile(`(?:src|href|action)="(?:[a-z]+:)?//`)
	for _, p := range pages {
		csp := p.header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "style-src 'self'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy %q has no %s", p.url, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "script-src 'self'") != strings.Contains(p.body, "passkey.js") {
			t.Errorf("%s: the policy is wider than the page: %q", p.url, csp)
		}
		for name, want := range map[string]string{"Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store"} {
			if got := p.header.Get(name); got != want {
				t.Errorf("%s: %s is %q", p.url, name, got)
			}
		}
		if m := inline.FindString(p.body); m != "" {
			t.Errorf("%s: inline: %q", p.url, m)
		}
		if m := foreign.FindString(p.body); m != "" {
			t.Errorf("%s: from elsewhere: %q", p.url, m)
		}
		if p.status < 300 && strings.Contains(p.body, "<form") && !strings.Contains(p.body, `<html lang="en">`) {
			t.Errorf("%s says no language", p.url)
		}
	}
	if n := strings.Count(pages[len(pages)-1].header.Get("Content-Security-Policy"), "http"); n != 0 {
		t.Errorf("a page that leads to no app names %d origins", n)
	}
	if !strings.Contains(consent.body, "What Trend may do") || !strings.Contains(consent.header.Get("Content-Security-Policy"), "form-action 'self' http://127.0.0.1:7;") {
		t.Errorf("the page of consent cannot lead back to the app: %s %q", consent.url, consent.header.Get("Content-Security-Policy"))
	}
}

func TestThePickerShowsWhomTheUserMaySee(t *testing.T) {
	h := newHouse(t)
	h.account("elena@harbor.example", "therapist")
	h.account("tomas@harbor.example", "colleague")
	nora, colin := persona(t, "patient").Claims.Patient, persona(t, "sud-patient").Claims.Patient
	b := h.browser()
	p := b.signIn(b.authorize(), "elena@harbor.example")
	if got := b.submit(p, "/patients", "name", "Whitaker"); strings.Contains(got.body, colin) || !strings.Contains(got.body, "Nobody of that name") {
		t.Error("the picker shows a patient of a Part 2 program to somebody outside of it")
	}
	if got := b.submit(p, "/patients", "name", "Bergstrom"); !strings.Contains(got.body, nora) {
		t.Error("the picker does not show her own patient")
	}
	hiddenPatient := b.submit(p, "/patients", "name", "Berg")
	absent := b.submit(hiddenPatient, "/patient", "patient", string(sample.Absent()))
	hiddenPatient = b.submit(hiddenPatient, "/patient", "patient", colin)
	if hiddenPatient.status != http.StatusUnprocessableEntity || hiddenPatient.body != absent.body {
		t.Errorf("a hidden patient is answered with %d, one who never was with %d, not byte for byte the same", hiddenPatient.status, absent.status)
	}
	other := h.browser()
	p = other.signIn(other.authorize(), "tomas@harbor.example")
	if got := other.submit(p, "/patients", "name", "Bergstrom"); strings.Contains(got.body, nora) {
		t.Error("the picker shows a patient to somebody who does not treat her")
	}
	// What was shown was accounted for, as any read: the pages' own client is in the access records.
	conn, err := pgx.Connect(context.Background(), h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var n int
	if err := conn.QueryRow(context.Background(), `SELECT count(*) FROM audit.event WHERE client = 'cloister'`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Error("no access record says what the picker showed")
	}
}

func TestSeveralRolesAreChosenAmong(t *testing.T) {
	h := newHouse(t)
	h.account("renata@harbor.example", "therapist", "proxy", "lakeside-therapist")
	b := h.browser()
	p := b.signIn(b.authorize(), "renata@harbor.example")
	for _, text := range []string{"Which access do you want to use?", "As therapist", "For somebody in your care", "Lakeside"} {
		if !strings.Contains(p.body, text) {
			t.Errorf("the choice does not say %q", text)
		}
	}
	if got := b.submit(p, "/role", "role", "harbor|Practitioner/somebody-else|therapist"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a role of somebody else is answered with %d", got.status)
	}
	p = b.submit(p, "/role", "role", "harbor|for-others")
	alba := persona(t, "proxy").Claims.Patient
	if !strings.Contains(p.body, "Alba Castro") || strings.Contains(p.body, `type="search"`) {
		t.Fatalf("a proxy is not asked for whom she acts: %s", p.body)
	}
	if got := b.submit(p, "/patient", "patient", persona(t, "patient").Claims.Patient); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a patient for whom she does not act is answered with %d", got.status)
	}
	p = b.submit(p, "/patient", "patient", alba)
	status, got := h.token(b.submit(p, p.url.Path, "answer", "yes"), nil)
	if status == http.StatusOK && got["patient"] != alba {
		t.Errorf("%v", got)
	}
}

func TestNobodyLearnsWhoHasAnAccount(t *testing.T) {
	h := newHouse(t)
	h.account("elena@harbor.example", "therapist")
	h.account("nora@harbor.example", "patient")
	answers := map[string][]string{}
	for _, email := range []string{"elena@harbor.example", "nora@harbor.example", "nobody@harbor.example"} {
		b := h.browser()
		p := b.submit(b.get("/smart/sign-in"), "/sign-in", "email", email, "password", "not the right one")
		r := b.submit(b.get("/smart/recovery"), "/recovery", "email", email)
		if p.status != http.StatusUnprocessableEntity || r.status != http.StatusOK {
			t.Fatal(p.status, r.status)
		}
		answers["sign-in"] = append(answers["sign-in"], strings.ReplaceAll(same(p.body), email, ""))
		answers["recovery"] = append(answers["recovery"], strings.ReplaceAll(same(r.body), email, ""))
	}
	for what, list := range answers {
		if list[0] != list[1] || list[1] != list[2] {
			t.Errorf("%s answers differ by whether there is an account", what)
		}
	}
}

func TestRevocationOnThePageCutsTheAppOff(t *testing.T) {
	h := newHouse(t)
	h.account("nora@harbor.example", "patient")
	b := h.browser()
	p := b.signIn(b.authorize(), "nora@harbor.example") // a patient has nobody to choose
	if !strings.Contains(p.body, "What Trend may do") || !strings.Contains(p.body, "(you)") {
		t.Fatalf("%d %s", p.status, p.body)
	}
	_, got := h.token(b.submit(p, p.url.Path, "answer", "yes"), nil)
	self := "Patient/" + persona(t, "patient").Claims.Patient
	if status := h.read(self, got["access_token"]); status != http.StatusOK {
		t.Fatal(status, got)
	}
	// fhirclient names no client when it refreshes: of a public app, the token says whose it is.
	first, _ := got["refresh_token"].(string)
	res, err := http.PostForm(h.base+"/smart/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first}})
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("a refresh without client_id: %v %v", res, err)
	}
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	p = b.get("/smart/account")
	if !strings.Contains(p.body, "Trend") {
		t.Fatal("the app is not in the list")
	}
	if p = b.submit(p, "/account/apps"); !strings.Contains(p.body, "The app is disconnected") {
		t.Error(p.body)
	}
	if status := h.read(self, got["access_token"]); status != http.StatusUnauthorized {
		t.Errorf("the token of a revoked app is answered with %d", status)
	}
	refresh, _ := got["refresh_token"].(string)
	if status, answer := h.token(page{}, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
		t.Errorf("the refresh token of a revoked app: %d %v", status, answer)
	}
}

// TestAProvidersSessionKnowsOfItsPracticesAlone: the page of one's access must not tell the provider of one practice, who can sign in
// as whom it likes, that she is known to another practice, nor let it cut off what she connected there.
func TestAProvidersSessionKnowsOfItsPracticesAlone(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.account("both@harbor.example", "patient")
	b := h.browser()
	p := b.signIn(b.authorize(), "both@harbor.example")
	status, tokens := h.token(b.submit(p, p.url.Path, "answer", "yes"), nil)
	if status != http.StatusOK {
		t.Fatal(status, tokens)
	}
	a, err := h.Identity.Find(ctx, "both@harbor.example")
	if err != nil {
		t.Fatal(err)
	}
	grants, err := h.Server.Grants(ctx, a.ID)
	if err != nil || len(grants) != 1 {
		t.Fatal(grants, err)
	}
	open := func(practice string) *browser {
		token := strings.Repeat(practice[:1], 43)
		hash := sha256.Sum256([]byte(token))
		s := identity.Session{
			ID: "00000000-0000-4000-8000-0000000000" + map[string]string{"harbor": "01", "lakeside": "02"}[practice], Account: a.ID, SignedIn: h.clock(), Methods: []string{"mfa"}, Provider: "https://id." + practice + ".example",
			Practices: []string{practice}, Idle: h.clock().Add(time.Hour), Absolute: h.clock().Add(time.Hour), Client: "browser of " + practice,
		}
		if ok, err := h.Store.OpenSession(ctx, s, hash[:], "sub", ""); err != nil || !ok {
			t.Fatal(ok, err)
		}
		c := h.browser()
		u, err := url.Parse(h.base)
		if err != nil {
			t.Fatal(err)
		}
		c.client.Jar.SetCookies(u, []*http.Cookie{{Name: "cloister-session", Value: token}})
		return c
	}
	harbor, lakeside := open("harbor"), open("lakeside")
	if p := harbor.get("/smart/account"); !strings.Contains(p.body, "Trend") || strings.Contains(p.body, "browser of lakeside") {
		t.Errorf("harbor's provider: %s", p.body)
	}
	p = lakeside.get("/smart/account")
	if strings.Contains(p.body, "Trend") || strings.Contains(p.body, "Disconnect") || !strings.Contains(p.body, "browser of lakeside") || strings.Contains(p.body, "browser of harbor") {
		t.Errorf("lakeside's provider learns of harbor: %s", p.body)
	}
	_, form := p.form(t, "/sign-out")
	for path, id := range map[string]string{"/smart/account/apps": grants[0].ID, "/smart/account/place": "00000000-0000-4000-8000-000000000001"} {
		form.Set("id", id)
		lakeside.send(http.MethodPost, path, form)
	}
	if h.read("Patient/"+persona(t, "patient").Claims.Patient, tokens["access_token"]) != http.StatusOK {
		t.Error("lakeside's provider disconnected an app of harbor")
	}
	if p := harbor.get("/smart/account"); !strings.Contains(p.body, "Your access") {
		t.Error("lakeside's provider ended a session of harbor's")
	}
	p = harbor.get("/smart/account")
	if p = harbor.submit(p, "/account/apps"); !strings.Contains(p.body, "disconnected") || h.read("Patient/"+persona(t, "patient").Claims.Patient, tokens["access_token"]) != http.StatusUnauthorized {
		t.Errorf("her own practice's: %d", p.status)
	}
}

func TestLettersLeadToAPassword(t *testing.T) {
	h := newHouse(t)
	h.account("nora@harbor.example", "patient")
	b := h.browser()
	b.submit(b.get("/smart/recovery"), "/recovery", "email", "nora@harbor.example")
	link := h.letter(t)
	p := b.get(link)
	if strings.Contains(p.url.String(), "token") || p.url.Path != "/smart/recovery/new" {
		t.Errorf("the token of a letter stays in the address: %s", p.url)
	}
	if got := b.submit(p, "/recovery/new", "password", "one two three four", "again", "another one"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `href="#again"`) {
		t.Errorf("two different passwords: %d", got.status)
	}
	if got := b.submit(p, "/recovery/new", "password", "short", "again", "short"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `href="#password"`) {
		t.Errorf("a short password: %d", got.status)
	}
	if got := b.submit(p, "/recovery/new", "password", "one two three four", "again", "one two three four"); got.url.Path != "/smart/account" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := h.browser().get(link); got.status != http.StatusOK { // the form is shown: whether the link is good, it says when it is used
		t.Error(got.status)
	}
	if err := h.Identity.Invite(context.Background(), server.Operator(h.membership("trainee").Tenant, "test"), identity.Invitation{Email: "new@harbor.example", Name: "June", Membership: h.membership("trainee")}); err != nil {
		t.Fatal(err)
	}
	b = h.browser()
	p = b.submit(b.get(h.letter(t)), "/invitation", "name", "June Whitlock", "password", "five six seven eight", "again", "five six seven eight")
	if !strings.Contains(p.body, "Set up a second step") {
		t.Fatalf("staff are not asked for a second step: %s", p.body)
	}
	p = b.submit(p, "/enrol/app")
	secret := regexp.MustCompile(`<code>([A-Z2-7 ]+)</code>`).FindStringSubmatch(p.body)
	if secret == nil || !strings.Contains(p.body, "<svg") {
		t.Fatal(p.body)
	}
	if got := b.submit(p, "/enrol/app/confirm", "code", "000000"); got.status != http.StatusUnprocessableEntity || strings.Contains(got.body, secret[1]) {
		t.Errorf("a wrong code: %d", got.status)
	}
	h.secrets["new@harbor.example"] = strings.ReplaceAll(secret[1], " ", "")
	if got := b.submit(p, "/enrol/app/confirm", "code", h.code("new@harbor.example")); got.url.Path != "/smart/account" || !strings.Contains(got.body, "Authenticator app") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

var address = regexp.MustCompile(`http://\S+`)

// letter waits for the next letter and gives the link in it.
func (h *house) letter(t *testing.T) string {
	t.Helper()
	for range 3000 { // a minute
		h.mu.Lock()
		for i, text := range h.letters {
			if link := address.FindString(text); link != "" {
				h.letters = slices.Delete(h.letters, 0, i+1)
				h.mu.Unlock()
				return link
			}
		}
		h.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("no letter came")
	return ""
}

var answer = regexp.MustCompile("(?m)^\\| `([A-Z]+) ([^`]+)` \\| ([0-9]{3}) \\|")

// The page says how the pages answer somebody who is not signed in.
func TestDocumentedAnswers(t *testing.T) {
	h := newHouse(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "sign-in.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := answer.FindAllStringSubmatch(string(text), -1)
	if len(rows) < 10 {
		t.Fatalf("the page lists %d answers", len(rows))
	}
	for _, row := range rows {
		b := h.browser()
		b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		var form url.Values
		if row[1] == http.MethodPost {
			form = url.Values{}
		}
		if got := b.send(row[1], row[2], form); strconv.Itoa(got.status) != row[3] {
			t.Errorf("%s %s is %d, and the page says %s", row[1], row[2], got.status, row[3])
		}
	}
}
