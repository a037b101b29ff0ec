package signin_test

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
	relying "github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

var tess = someone{sub: "tess-at-harbor", email: "tess@harbor.example", name: "Tess Doe", verified: true, amr: []string{"pwd", "otp"}}

func (h *house) invite(email, name string) {
	h.t.Helper()
	m := h.membership(name)
	if err := h.Identity.Invite(context.Background(), server.Operator(m.Tenant, "test"), identity.Invitation{Email: email, Name: "Somebody", Membership: m}); err != nil {
		h.t.Fatal(err)
	}
}

// linked makes an account that a provider knows already, and that has no password.
func (h *house) linked(email string, p *provider, subject string, personas ...string) {
	h.t.Helper()
	a := identity.Account{Name: "Somebody", Email: email}
	for _, name := range personas {
		a.Memberships = append(a.Memberships, h.membership(name))
	}
	made, err := h.Identity.Create(context.Background(), "test", a, "")
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.Identity.Link(context.Background(), "test", made.ID, p.URL, subject); err != nil {
		h.t.Fatal(err)
	}
}

// events lists the security events of a practice, or of none, as kind, outcome and reason.
func (h *house) events(practice string) []string {
	h.t.Helper()
	q := postgres.SecurityQuery{From: noon.Add(-time.Hour)}
	if practice != "" {
		q.Tenant, _ = h.records.Tenant(practice)
	}
	list, err := h.records.Security(context.Background(), q)
	if err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, strings.Trim(string(e.Kind)+" "+string(e.Outcome)+" "+string(e.Reason), " "))
	}
	return out
}

func (h *house) recorded(practice string, kind audit.Kind, outcome audit.Outcome, reason audit.Reason) {
	h.t.Helper()
	want := strings.Trim(string(kind)+" "+string(outcome)+" "+string(reason), " ")
	if list := h.events(practice); !slices.Contains(list, want) {
		h.t.Errorf("no event %q: %q", want, list)
	}
}

// with goes to a provider from a page of sign-in.
func (b *browser) with(p page, name string) page {
	b.h.t.Helper()
	at := strings.Index(p.body, `href="/smart/sign-in/provider/`+name)
	if at < 0 {
		b.h.t.Fatalf("the page does not offer %s (%d):\n%s", name, p.status, p.body)
	}
	link, _, _ := strings.Cut(p.body[at+len(`href="`):], `"`)
	return b.get(strings.ReplaceAll(link, "&amp;", "&"))
}

// The whole way: an app, the provider of the practice, an invitation that links, a role that the provider gives, a token.
func TestAProviderLeadsToAToken(t *testing.T) {
	staff := tess
	staff.claims = map[string]any{"groups": []string{"Clinicians", "Staff"}}
	p := newProvider(t, staff)
	h := newHouse(t, p.at("staff", []string{"harbor"}, func(c *relying.Client) {
		c.Claims = relying.Claims{Roles: []string{"groups"}, Map: map[string][]string{"Clinicians": {"therapist"}}}
	}))
	h.invite("tess@harbor.example", "therapist")
	b := h.visitor(p)
	at := b.authorize()
	if !strings.Contains(at.body, "Sign in with the staff") {
		t.Fatal(at.body)
	}
	at = b.with(at, "staff")
	if !strings.HasPrefix(at.url.Path, "/smart/interaction/") {
		t.Fatalf("the provider leads to %d %s\n%s", at.status, at.url, at.body)
	}
	at = b.submit(at, "/patients", "name", "Bergstrom")
	at = b.submit(at, "/patient", "patient", button.FindStringSubmatch(at.body)[1])
	status, token := h.token(b.submit(at, at.url.Path, "answer", "yes"), nil)
	if status != http.StatusOK || h.read("Condition?patient="+persona(t, "patient").Claims.Patient, token["access_token"]) != http.StatusOK {
		t.Fatal(status, token)
	}
	a, err := h.Identity.Find(context.Background(), "tess@harbor.example")
	if err != nil || len(a.Memberships) != 1 || !slices.Equal(a.Memberships[0].Roles, []string{"therapist"}) || a.Name != "Tess Doe" {
		t.Errorf("%+v %v", a, err)
	}
	h.recorded("harbor", audit.AccountLinked, audit.Success, "")
	h.recorded("harbor", audit.SignIn, audit.Success, "")
	// The next time nobody asks for an invitation, and the address may have changed.
	p.set(func() { p.who.email = "tess@elsewhere.example" })
	again := h.visitor(p)
	if at := again.with(again.get("/smart/sign-in"), "staff"); at.url.Path != "/smart/account" || !strings.Contains(at.body, "Tess Doe") {
		t.Errorf("%d %s\n%s", at.status, at.url, at.body)
	}
}

// Whoever is not linked and nobody at all are told the same.
func TestUnlinkedIsUnknown(t *testing.T) {
	p := newProvider(t, tess)
	h := newHouse(t, p.at("staff", []string{"harbor"}, nil))
	h.account("tess@harbor.example", "therapist") // with this address, and not linked
	h.account("off@harbor.example", "colleague")
	a, err := h.Identity.Find(context.Background(), "off@harbor.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Identity.Link(context.Background(), "test", a.ID, p.URL, "off"); err != nil {
		t.Fatal(err)
	}
	if err := h.Identity.Disable(context.Background(), "test", a.ID, true); err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for _, who := range []someone{
		tess, {sub: "x", email: "nobody@harbor.example", verified: true, amr: []string{"mfa"}}, {sub: "y", amr: []string{"mfa"}},
		{sub: "off", email: "off@harbor.example", verified: true, amr: []string{"mfa"}}, // disabled
	} {
		p.set(func() { p.who = who })
		b := h.visitor(p)
		got := b.with(b.get("/smart/sign-in"), "staff")
		if got.status != http.StatusForbidden || !strings.Contains(got.body, "ask the practice for an invitation") {
			t.Errorf("%d\n%s", got.status, got.body)
		}
		bodies = append(bodies, same(got.body))
	}
	if len(slices.Compact(bodies)) != 1 {
		t.Error("the answers differ by whether there is an account")
	}
	h.recorded("", audit.SignIn, audit.Refused, audit.ReasonUnlinked)
}

func TestStaffNeedASecondFactorAtTheProvider(t *testing.T) {
	p := newProvider(t, tess)
	h := newHouse(t, p.at("staff", []string{"harbor"}, nil))
	h.linked("tess@harbor.example", p, tess.sub, "therapist")
	h.linked("nora@harbor.example", p, "nora", "patient")
	try := func(sub, acr string, amr ...string) page {
		p.set(func() { p.who = someone{sub: sub, amr: amr, acr: acr} })
		b := h.visitor(p)
		return b.with(b.get("/smart/sign-in"), "staff")
	}
	for name, c := range map[string]struct {
		sub, acr string
		amr      []string
		ok       bool
	}{
		"a password":            {tess.sub, "", []string{"pwd"}, false},
		"not said":              {tess.sub, "", nil, false},
		"two of one kind":       {tess.sub, "", []string{"pwd", "pin"}, false},
		"another acr":           {tess.sub, "urn:example:weak", []string{"pwd"}, false},
		"mfa":                   {tess.sub, "", []string{"mfa"}, true},
		"two kinds":             {tess.sub, "", []string{"pwd", "hwk"}, true},
		"the acr that is asked": {tess.sub, "urn:example:strong", []string{"pwd"}, true},
		"a patient needs none":  {"nora", "", []string{"pwd"}, true},
	} {
		got := try(c.sub, c.acr, c.amr...)
		if ok := got.url.Path == "/smart/account"; ok != c.ok || !ok && (got.status != http.StatusForbidden || !strings.Contains(got.body, "second factor")) {
			t.Errorf("%s: %d %s\n%s", name, got.status, got.url.Path, got.body)
		}
	}
	h.recorded("harbor", audit.SignIn, audit.Refused, audit.ReasonFactor)
}

// Where the configuration has staff prove a second factor here, they do, and then they are in.
func TestAFactorOfOursInPlaceOfTheProviders(t *testing.T) {
	p := newProvider(t, someone{sub: tess.sub, amr: []string{"pwd"}})
	h := newHouse(t, p.at("staff", []string{"harbor"}, func(c *relying.Client) { c.Assurance.Own = true }))
	h.linked("tess@harbor.example", p, tess.sub, "therapist")
	b := h.visitor(p)
	at := b.with(b.authorize(), "staff")
	if !strings.Contains(at.body, "Set up a second step") {
		t.Fatalf("%d %s", at.status, at.body)
	}
	if in := b.get("/smart/account"); in.url.Path == "/smart/account" {
		t.Error("she is in without it")
	}
	enrol := func(b *browser, at page) page {
		at = b.submit(at, "/enrol/app")
		secret := regexp.MustCompile(`<code>([A-Z2-7 ]+)</code>`).FindStringSubmatch(at.body)
		if secret == nil {
			t.Fatalf("%d %s", at.status, at.body)
		}
		h.secrets["tess@harbor.example"] = strings.ReplaceAll(secret[1], " ", "")
		return b.submit(at, "/enrol/app/confirm", "code", h.code("tess@harbor.example"))
	}
	if got := enrol(b, at); !strings.Contains(got.body, "Choose a patient") {
		t.Fatalf("%d %s\n%s", got.status, got.url, got.body)
	}
	// A logout there also ends a sign-in that waits for the factor.
	h.advance(time.Minute)
	late := h.visitor(p)
	at = late.with(late.get("/smart/sign-in"), "staff")
	if !strings.HasPrefix(at.url.Path, "/smart/second-factor") {
		t.Fatal(at.url)
	}
	if status, _ := h.backChannel(p.logoutToken(nil)); status != http.StatusOK {
		t.Fatal(status)
	}
	late.submit(at, "/second-factor", "code", h.code("tess@harbor.example"))
	for _, x := range []*browser{b, late} {
		if in := x.get("/smart/account"); in.url.Path != "/smart/sign-in" {
			t.Errorf("in after the logout: %s", in.url)
		}
	}
}

// A claim gives staff their roles, and makes nobody staff who is a patient.
func TestRolesOfAProvider(t *testing.T) {
	p := newProvider(t, tess)
	h := newHouse(t, p.at("staff", []string{"harbor"}, func(c *relying.Client) {
		c.Claims = relying.Claims{Roles: []string{"groups"}, Map: map[string][]string{"Clinicians": {"therapist"}, "Desk": {"front-desk"}}}
	}))
	h.linked("tess@harbor.example", p, tess.sub, "therapist", "lakeside-therapist")
	h.linked("nora@harbor.example", p, "nora", "patient")
	roles := func(email, practice string) []string {
		a, err := h.Identity.Find(context.Background(), email)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range a.Memberships {
			if m.Practice == practice {
				return m.Roles
			}
		}
		return nil
	}
	try := func(sub string, groups ...string) page {
		p.set(func() { p.who = someone{sub: sub, amr: []string{"mfa"}, claims: map[string]any{"groups": groups}} })
		b := h.visitor(p)
		return b.with(b.get("/smart/sign-in"), "staff")
	}
	there := roles("tess@harbor.example", "lakeside")
	if got := try(tess.sub, "Desk"); got.url.Path != "/smart/account" || !slices.Equal(roles("tess@harbor.example", "harbor"), []string{"front-desk"}) {
		t.Errorf("%d %v", got.status, roles("tess@harbor.example", "harbor"))
	}
	if !slices.Equal(roles("tess@harbor.example", "lakeside"), there) {
		t.Error("the provider of one practice changes roles in another")
	}
	h.recorded("harbor", audit.RolesChanged, audit.Success, "")
	if got := try(tess.sub, "Gardeners"); got.status != http.StatusForbidden {
		t.Errorf("no group that counts: %d", got.status)
	}
	if got := try("nora", "Clinicians"); got.url.Path != "/smart/account" || !slices.Equal(roles("nora@harbor.example", "harbor"), []string{"patient"}) {
		t.Errorf("a patient with a claim: %d %v", got.status, roles("nora@harbor.example", "harbor"))
	}
}

// The provider of one practice opens no other, and is not offered where another is asked for.
func TestAProviderSpeaksForItsPracticeAlone(t *testing.T) {
	p, q := newProvider(t, tess), newProvider(t, tess)
	h := newHouse(t, p.at("harbor", []string{"harbor"}, nil), q.at("lakeside", []string{"lakeside"}, nil))
	h.linked("tess@harbor.example", p, tess.sub, "therapist", "lakeside-therapist")
	h.linked("lena@lakeside.example", q, "lena", "lakeside-therapist")
	b := h.visitor(p, q)
	at := b.with(b.authorize(), "harbor")
	if strings.Contains(at.body, "Lakeside") || !strings.Contains(at.body, "Choose a patient") {
		t.Errorf("both practices are open: %s", at.body)
	}
	// Lakeside's provider says that it is Tess; to it she is nobody.
	other := h.visitor(p, q)
	if got := other.with(other.get("/smart/sign-in"), "lakeside"); got.status != http.StatusForbidden {
		t.Errorf("another provider's word for her: %d", got.status)
	}
	// Nor does an invitation of Harbor let Lakeside's provider in.
	h.invite("new@harbor.example", "trainee")
	q.set(func() { q.who = someone{sub: "new", email: "new@harbor.example", verified: true, amr: []string{"mfa"}} })
	if got := other.with(other.get("/smart/sign-in"), "lakeside"); got.status != http.StatusForbidden {
		t.Errorf("an invitation of another practice: %d", got.status)
	}
}

// What is of another browser, of another time or used is not good, and nothing comes of it.
func TestAnswersBelongToTheirBrowser(t *testing.T) {
	p := newProvider(t, tess)
	h := newHouse(t, p.at("staff", []string{"harbor"}, nil))
	h.linked("tess@harbor.example", p, tess.sub, "therapist")
	// answer leads to the provider's answer, and does not bring it.
	answer := func(b *browser) string {
		follow := b.client.CheckRedirect
		b.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
			if r.URL.Path == "/smart/sign-in/callback" {
				return http.ErrUseLastResponse
			}
			return follow(r, via)
		}
		defer func() { b.client.CheckRedirect = follow }()
		return b.with(b.get("/smart/sign-in"), "staff").header.Get("Location")
	}
	refused := func(what string, b *browser, target string, want int) {
		t.Helper()
		got := b.get(target)
		in := b.get("/smart/account")
		if got.status != want || in.url.Path != "/smart/sign-in" {
			t.Errorf("%s: %d %s, then %s\n%s", what, got.status, got.url.Path, in.url, got.body)
		}
	}
	victim, attacker := h.visitor(p), h.visitor(p)
	stolen := answer(attacker)
	refused("an answer in a browser that began nothing", victim, stolen, http.StatusUnprocessableEntity)
	answer(victim)
	refused("an answer of another browser", victim, stolen, http.StatusUnprocessableEntity)
	h.recorded("", audit.SignIn, audit.Refused, audit.ReasonProvider)

	own := answer(victim)
	u, _ := url.Parse(own)
	q := u.Query()
	q.Set("state", q.Get("state")+"A")
	refused("another state", victim, u.Path+"?"+q.Encode(), http.StatusUnprocessableEntity)
	q = u.Query()
	q.Set("code", "another")
	refused("a code that is none", victim, u.Path+"?"+q.Encode(), http.StatusForbidden)
	refused("the right one, after that", victim, own, http.StatusUnprocessableEntity)

	b := h.visitor(p)
	own = answer(b)
	jar, _ := cookiejar.New(nil)
	base, _ := url.Parse(h.base)
	jar.SetCookies(base, b.client.Jar.Cookies(base))
	if got := b.get(own); got.url.Path != "/smart/account" {
		t.Fatalf("her own: %d %s", got.status, got.body)
	}
	copied := h.visitor(p)
	copied.client.Jar = jar
	refused("one that was used, with all cookies of its time", copied, own, http.StatusUnprocessableEntity)
	h.recorded("", audit.SignIn, audit.Refused, audit.ReasonReplay)

	late := h.visitor(p)
	own = answer(late)
	h.advance(11 * time.Minute)
	refused("one that comes late", late, own, http.StatusUnprocessableEntity)
	h.recorded("", audit.SignIn, audit.Refused, audit.ReasonExpired)

	p.set(func() { p.deny = true })
	no := h.visitor(p)
	if got := no.with(no.get("/smart/sign-in"), "staff"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "not signed in there") {
		t.Errorf("she said no: %d", got.status)
	}
}

// A real provider whose ID tokens are changed on the way: none of them opens anything.
func TestForgedIDTokens(t *testing.T) {
	p := newProvider(t, tess)
	h := newHouse(t, p.at("staff", []string{"harbor"}, nil))
	h.linked("tess@harbor.example", p, tess.sub, "therapist")
	for name, tamper := range map[string]func(map[string]any){
		"nonce":           func(c map[string]any) { c["nonce"] = "another" },
		"audience":        func(c map[string]any) { c["aud"] = []string{"another"} },
		"another client":  func(c map[string]any) { c["azp"] = "another" },
		"issuer":          func(c map[string]any) { c["iss"] = "https://id.evil.example" },
		"expired":         func(c map[string]any) { c["exp"] = noon.Add(-time.Minute).Unix() },
		"access token":    func(c map[string]any) { c["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" },
		"of another time": func(c map[string]any) { c["iat"] = noon.Add(time.Hour).Unix() },
	} {
		p.set(func() { p.tamper = tamper })
		b := h.visitor(p)
		got := b.with(b.get("/smart/sign-in"), "staff")
		if got.status != http.StatusForbidden || !strings.Contains(got.body, "cannot be accepted") {
			t.Errorf("%s: %d\n%s", name, got.status, got.body)
		}
	}
	h.recorded("", audit.SignIn, audit.Refused, audit.ReasonProvider)
	p.set(func() { p.tamper = func(map[string]any) {} })
	b := h.visitor(p)
	if got := b.with(b.get("/smart/sign-in"), "staff"); got.url.Path != "/smart/account" {
		t.Errorf("one that is as it was: %d %s", got.status, got.body)
	}
	if log := h.log.b.String(); strings.Contains(log, providerSecret) || strings.Contains(log, "tess@") {
		t.Error("the log holds a secret or an address")
	}
}

func TestKeysOfAProviderRotate(t *testing.T) {
	p := newProvider(t, tess)
	h := newHouse(t, p.at("staff", []string{"harbor"}, nil))
	h.linked("tess@harbor.example", p, tess.sub, "therapist")
	for range 3 {
		b := h.visitor(p)
		if got := b.with(b.get("/smart/sign-in"), "staff"); got.url.Path != "/smart/account" {
			t.Fatalf("%d %s", got.status, got.body)
		}
		p.rotate()
	}
}

func TestAProviderThatDoesNotAnswer(t *testing.T) {
	p, q := newProvider(t, tess), newProvider(t, someone{sub: "lena", amr: []string{"mfa"}})
	p.down = true // before the server starts
	h := newHouse(t, p.at("harbor", []string{"harbor"}, nil), q.at("lakeside", []string{"lakeside"}, nil))
	h.linked("tess@harbor.example", p, tess.sub, "therapist")
	h.linked("lena@lakeside.example", q, "lena", "lakeside-therapist")
	h.account("nora@harbor.example", "patient")
	b := h.visitor(p, q)
	got := b.with(b.get("/smart/sign-in"), "harbor")
	if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "the harbor does not answer") || !strings.Contains(got.body, "Other ways to sign in") {
		t.Errorf("%d\n%s", got.status, got.body)
	}
	if got := b.with(b.get("/smart/sign-in"), "lakeside"); got.url.Path != "/smart/account" {
		t.Errorf("another provider: %d\n%s", got.status, got.body)
	}
	local := h.browser()
	if got := local.signIn(local.get("/smart/sign-in"), "nora@harbor.example"); got.url.Path != "/smart/account" {
		t.Errorf("local sign-in: %d", got.status)
	}
	p.set(func() { p.down = false })
	h.advance(5 * time.Second)
	b = h.visitor(p, q)
	if got := b.with(b.get("/smart/sign-in"), "harbor"); got.url.Path != "/smart/account" {
		t.Errorf("after it is back: %d\n%s", got.status, got.body)
	}
	// Down between the login there and the code.
	mid := h.visitor(p, q)
	follow := mid.client.CheckRedirect
	mid.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Path == "/smart/sign-in/callback" {
			p.set(func() { p.down = true })
		}
		return follow(r, via)
	}
	if got := mid.with(mid.get("/smart/sign-in"), "harbor"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "does not answer") {
		t.Errorf("down in the middle: %d\n%s", got.status, got.body)
	}
	if in := mid.get("/smart/account"); in.url.Path != "/smart/sign-in" {
		t.Error("she is in all the same")
	}
}

func TestBackChannelLogoutEndsAtOnce(t *testing.T) {
	first := someone{sub: "nora", amr: []string{"pwd"}, claims: map[string]any{"sid": "s1"}}
	p := newProvider(t, first)
	h := newHouse(t, p.at("portal", []string{"harbor"}, nil))
	h.linked("nora@harbor.example", p, "nora", "patient")
	self := "Patient/" + persona(t, "patient").Claims.Patient
	in := func(sid string) (*browser, map[string]any) {
		p.set(func() { p.who.claims = map[string]any{"sid": sid} })
		b := h.visitor(p)
		at := b.with(b.authorize("scope", "openid fhirUser launch/patient patient/Patient.rs"), "portal")
		_, token := h.token(b.submit(at, at.url.Path, "answer", "yes"), nil)
		if got := h.read(self, token["access_token"]); got != http.StatusOK {
			t.Fatal(got, token)
		}
		return b, token
	}
	one, a := in("s1")
	two, c := in("s2")
	sid := func(c map[string]any) { c["sid"] = "s1" }

	for name, token := range map[string]string{
		"nonce":          p.logoutToken(func(c map[string]any) { c["nonce"] = "n" }),
		"no event":       p.logoutToken(func(c map[string]any) { delete(c, "events") }),
		"foreign aud":    p.logoutToken(func(c map[string]any) { c["aud"] = "another" }),
		"foreign issuer": p.logoutToken(func(c map[string]any) { c["iss"] = "https://id.evil.example" }),
		"old":            p.logoutToken(func(c map[string]any) { c["iat"] = noon.Add(-time.Hour).Unix() }),
		"nothing":        "",
		"no token":       "abc",
	} {
		if status, body := h.backChannel(token); status != http.StatusBadRequest || !strings.Contains(body, `"error":"invalid_request"`) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if got := h.read(self, a["access_token"]); got != http.StatusOK {
		t.Fatalf("a logout token that is not good ended something: %d", got)
	}

	token := p.logoutToken(sid)
	if status, body := h.backChannel(token); status != http.StatusOK || body != "" {
		t.Fatal(status, body)
	}
	if got := h.read(self, a["access_token"]); got != http.StatusUnauthorized {
		t.Errorf("the access token goes on: %d", got)
	}
	if at := one.get("/smart/account"); at.url.Path != "/smart/sign-in" {
		t.Errorf("the session goes on: %s", at.url)
	}
	if got := h.read(self, c["access_token"]); got != http.StatusOK {
		t.Errorf("another session of hers has ended: %d", got)
	}
	if status, _ := h.backChannel(token); status != http.StatusBadRequest {
		t.Errorf("the same token again: %d", status)
	}
	h.recorded("", audit.SessionsEnded, audit.Refused, audit.ReasonReplay)
	h.recorded("harbor", audit.SessionsEnded, audit.Success, "")

	if status, _ := h.backChannel(p.logoutToken(nil)); status != http.StatusOK { // all of the subject
		t.Fatal(status)
	}
	if got := h.read(self, c["access_token"]); got != http.StatusUnauthorized {
		t.Errorf("all of hers, but for one: %d", got)
	}
	if at := two.get("/smart/account"); at.url.Path != "/smart/sign-in" {
		t.Error("the session goes on")
	}
	// Nobody has a session any more, and that is fine.
	if status, _ := h.backChannel(p.logoutToken(nil)); status != http.StatusOK {
		t.Errorf("%d", status)
	}
	if got := one.get("/smart/backchannel-logout"); got.status != http.StatusMethodNotAllowed {
		t.Errorf("%d", got.status)
	}
}

// What lives as long as the session ends with it, refresh tokens too; what she allowed for longer stays hers to end (section 2.7).
func TestBackChannelLogoutEndsRefreshTokens(t *testing.T) {
	p := newProvider(t, someone{sub: "nora", amr: []string{"pwd"}})
	h := newHouse(t, p.at("portal", []string{"harbor"}, nil))
	reader := h.app("reader", []string{"harbor"}, "openid", "launch/patient", "online_access", "patient/Patient.rs")
	h.linked("nora@harbor.example", p, "nora", "patient")
	b := h.visitor(p)
	at := b.with(b.authorize("client_id", reader, "scope", "openid launch/patient online_access patient/Patient.rs"), "portal")
	code := b.submit(at, at.url.Path, "answer", "yes").left().Get("code")
	form := func(more ...string) url.Values {
		v := url.Values{"redirect_uri": {redirect}, "code_verifier": {verifier}}
		for i := 0; i+1 < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		return v
	}
	status, token := h.tokenOf(reader, form("grant_type", "authorization_code", "code", code))
	refresh, _ := token["refresh_token"].(string)
	if status != http.StatusOK || refresh == "" {
		t.Fatal(status, token)
	}
	if status, _ := h.backChannel(p.logoutToken(nil)); status != http.StatusOK {
		t.Fatal(status)
	}
	if status, got := h.tokenOf(reader, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}); status != http.StatusBadRequest || got["error"] != "invalid_grant" {
		t.Errorf("the refresh token goes on: %d %v", status, got)
	}
}

func TestSignOutGoesOnToTheProvider(t *testing.T) {
	p := newProvider(t, tess)
	h := newHouse(t, p.at("staff", []string{"harbor"}, nil))
	h.linked("tess@harbor.example", p, tess.sub, "therapist")
	b := h.visitor(p)
	at := b.submit(b.with(b.get("/smart/sign-in"), "staff"), "/sign-out")
	to, ok := strings.CutPrefix(at.header.Get("Refresh"), "0; url=")
	if !ok || at.status != http.StatusOK || !strings.HasPrefix(to, p.URL+"/end_session?") || !strings.Contains(at.body, "Continue to the staff") {
		t.Fatalf("%d %v\n%s", at.status, at.header, at.body)
	}
	if in := b.get("/smart/account"); in.url.Path != "/smart/sign-in" {
		t.Error("she is still signed in here")
	}
	// The provider takes the hint for what it is, and sends her back.
	back := b.get(to)
	if back.url.Path != "/smart/signed-out" || len(p.ended) != 1 || p.ended[0].Get("client_id") != providerClient || strings.Count(p.ended[0].Get("id_token_hint"), ".") != 2 {
		t.Errorf("%d %s %v\n%s", back.status, back.url, p.ended, back.body)
	}
	// A local sign-in goes nowhere.
	h.account("nora@harbor.example", "patient")
	local := h.browser()
	if at := local.submit(local.signIn(local.get("/smart/sign-in"), "nora@harbor.example"), "/sign-out"); at.url.Path != "/smart/signed-out" || at.header.Get("Refresh") != "" {
		t.Errorf("%s", at.url)
	}
}

// An app that asks for a fresh sign-in gets one, or nothing.
func TestAFreshSignInIsAskedOfTheProvider(t *testing.T) {
	who := tess
	who.signedIn = time.Hour
	p := newProvider(t, who)
	h := newHouse(t, p.at("staff", []string{"harbor"}, nil))
	h.linked("tess@harbor.example", p, tess.sub, "therapist")
	for _, ask := range [][]string{{"prompt", "login"}, {"max_age", "600"}} {
		b := h.visitor(p)
		if got := b.with(b.authorize(ask...), "staff"); got.status != http.StatusForbidden {
			t.Errorf("%v, and the sign-in is of an hour ago: %d %s", ask, got.status, got.url)
		}
	}
	p.set(func() { p.who.signedIn = 0 })
	for _, ask := range [][]string{{"prompt", "login"}, {"max_age", "600"}} {
		b := h.visitor(p)
		if got := b.with(b.authorize(ask...), "staff"); !strings.HasPrefix(got.url.Path, "/smart/interaction/") || !strings.Contains(got.body, "Choose a patient") {
			t.Errorf("%v: %d %s\n%s", ask, got.status, got.url, got.body)
		}
	}
	// A provider that does not say when she signed in opens a session that is old from the start.
	p.set(func() { p.tamper = func(c map[string]any) { delete(c, "auth_time") } })
	b := h.visitor(p)
	if got := b.with(b.get("/smart/sign-in"), "staff"); got.url.Path != "/smart/account" {
		t.Fatalf("%d %s", got.status, got.url)
	}
	at := b.authorize("max_age", "600")
	if at.url.Path != "/smart/sign-in" {
		t.Errorf("a sign-in of nobody knows when is a fresh one: %s", at.url)
	}
	if got := b.with(at, "staff"); got.status != http.StatusForbidden {
		t.Errorf("and goes on to be one: %d %s", got.status, got.url)
	}
}

func TestWhichProvidersAreOffered(t *testing.T) {
	p, q := newProvider(t, tess), newProvider(t, tess)
	h := newHouse(t, p.at("harbor", []string{"harbor"}, nil), q.at("lakeside", []string{"lakeside"}, nil))
	one := h.app("lakeside-only", []string{"lakeside"}, "openid", "launch/patient", "patient/Patient.rs")
	b := h.visitor(p, q)
	all := b.get("/smart/sign-in")
	if !strings.Contains(all.body, "Sign in with the harbor") || !strings.Contains(all.body, "Sign in with the lakeside") {
		t.Error(all.body)
	}
	at := b.authorize("client_id", one, "scope", "openid launch/patient patient/Patient.rs")
	if strings.Contains(at.body, "the harbor") || !strings.Contains(at.body, "Sign in with the lakeside") {
		t.Error(at.body)
	}
	if got := b.get("/smart/sign-in/provider/harbor?" + at.url.RawQuery); got.status != http.StatusNotFound {
		t.Errorf("one that is not offered: %d %s", got.status, got.url)
	}
	unknown := b.get("/smart/sign-in/provider/nobody")
	if unknown.status != http.StatusNotFound {
		t.Errorf("one that there is not: %d", unknown.status)
	}
}
