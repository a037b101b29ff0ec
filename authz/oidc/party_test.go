package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir/outcome"
)

const (
	callback = "https://fhir.example.org/smart/sign-in/callback"
	clientID = "cloister"
	access   = "an-access-token"
)

// practice is the identity provider of a practice, which says whatever a test has it say.
type practice struct {
	*httptest.Server
	mu       sync.Mutex
	now      time.Time
	key      jose.JSONWebKey
	keys     []jose.JSONWebKey
	down     map[string]int // status by path
	token    func(form url.Values) string
	userinfo map[string]any
	names    bool
	methods  []string
	asked    map[string]int
	basic    [2]string
	form     url.Values
}

func newPractice(t *testing.T) *practice {
	t.Helper()
	p := &practice{now: time.Unix(1_800_000_000, 0), key: key(t, "RS256", "one"), down: map[string]int{}, asked: map[string]int{}, userinfo: map[string]any{"sub": "u1"}, methods: []string{"client_secret_basic"}}
	p.keys = []jose.JSONWebKey{p.key}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *practice) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[r.URL.Path]++
	if status := p.down[r.URL.Path] + p.down[""]; status != 0 {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
		return
	}
	var doc any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		doc = map[string]any{
			"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
			"userinfo_endpoint": p.URL + "/userinfo", "end_session_endpoint": p.URL + "/end?of=session", "id_token_signing_alg_values_supported": []string{"RS256", "none"},
			"token_endpoint_auth_methods_supported": p.methods, "authorization_response_iss_parameter_supported": p.names,
		}
	case "/keys":
		set := jose.JSONWebKeySet{}
		for _, k := range p.keys {
			set.Keys = append(set.Keys, k.Public())
		}
		doc = set
	case "/token":
		_ = r.ParseForm()
		p.form = r.PostForm
		p.basic[0], p.basic[1], _ = r.BasicAuth()
		doc = map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 60, "id_token": p.token(r.PostForm)}
	case "/userinfo":
		if r.Header.Get("Authorization") != "Bearer "+access {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		doc = p.userinfo
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(doc); err != nil {
		panic(err)
	}
}

func (p *practice) clock() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.now }

func (p *practice) client() Client {
	return Client{
		Name: "harbor", Title: "Harbor", Issuer: p.URL, ID: clientID, Secret: "not to be printed", Scopes: []string{"email"}, Practices: []string{"harbor"},
		Assurance: identity.Assurance{ACR: []string{"gold"}},
		Claims:    Claims{Roles: []string{"groups"}, Map: map[string][]string{"Therapists": {"therapist"}, "Desk": {"front-desk"}}},
	}
}

func party(t *testing.T, p *practice, change func(*Client)) *Party {
	t.Helper()
	c := p.client()
	if change != nil {
		change(&c)
	}
	out, err := NewParty([]Client{c}, callback, p.clock)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func visit(p *practice) identity.Visit {
	return identity.Visit{Provider: "harbor", Begun: p.clock(), Secret: "of this browser"}
}

func (p *practice) idClaims(v identity.Visit) claims {
	now := p.clock().Unix()
	return claims{
		"iss": p.URL, "sub": "u1", "aud": clientID, "iat": now, "exp": now + 300, "nonce": v.Nonce(), "auth_time": now - 5,
		"email": "Tess@example.org", "email_verified": true, "name": "Tess", "groups": []string{"Therapists", "Everybody"}, "amr": []string{"pwd", "otp"}, "sid": "s1",
	}
}

// says has the token endpoint give these claims, signed as they should be.
func (p *practice) says(t *testing.T, c claims) {
	t.Helper()
	text := sign(t, p.key, c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token = func(url.Values) string { return text }
}

func redeem(party *Party, v identity.Visit) (Arrival, error) {
	return party.Redeem(context.Background(), v, url.Values{"code": {"c1"}, "state": {v.State()}})
}

func status(err error) int {
	var o *outcome.Error
	if !errors.As(err, &o) {
		return 0
	}
	return o.Status()
}

func TestAuthorizeAsksForWhatIsChecked(t *testing.T) {
	p := newPractice(t)
	r := party(t, p, func(c *Client) { c.MaxAge = time.Hour })
	v, ok := r.Visit("harbor", "back", nil)
	if !ok || v.MaxAge == nil || *v.MaxAge != time.Hour {
		t.Fatalf("%+v", v)
	}
	shorter := time.Minute
	if v, _ := r.Visit("harbor", "", &shorter); *v.MaxAge != time.Minute {
		t.Error("the shorter of two ages is what counts")
	}
	if _, ok := r.Visit("nobody", "", nil); ok {
		t.Error("a provider that is not configured")
	}
	v.Secret = "s"
	to, err := r.Authorize(context.Background(), v, Ask{Anew: true, Hint: "tess"})
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(to)
	sum := sha256.Sum256([]byte(v.Verifier()))
	want := map[string]string{
		"response_type": "code", "client_id": clientID, "redirect_uri": callback, "scope": "openid email", "state": v.State(), "nonce": v.Nonce(),
		"code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method": "S256", "acr_values": "gold", "max_age": "3600", "prompt": "login", "login_hint": "tess",
	}
	for name, value := range want {
		if got := u.Query()[name]; len(got) != 1 || got[0] != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if len(u.Query()) != len(want) || u.Path != "/authorize" {
		t.Errorf("%s", to)
	}
	if v.State() == v.Nonce() || v.Nonce() == v.Verifier() || len(v.Verifier()) < 43 {
		t.Error("state, nonce and verifier are not independent secrets")
	}
}

func TestRedeemReadsWhoSheIs(t *testing.T) {
	p := newPractice(t)
	r := party(t, p, nil)
	v := visit(p)
	p.says(t, p.idClaims(v))
	got, err := redeem(r, v)
	if err != nil {
		t.Fatal(err)
	}
	x := got.External
	if x.Issuer != p.URL || x.Subject != "u1" || x.Email != "Tess@example.org" || !x.EmailVerified || x.Name != "Tess" || x.SessionID != "s1" || !slices.Equal(x.Roles, []string{"therapist"}) ||
		!slices.Equal(x.AMR, []string{"pwd", "otp"}) || !slices.Equal(x.Practices, []string{"harbor"}) || x.SignedIn.Unix() != p.now.Unix()-5 || strings.Count(got.Token, ".") != 2 {
		t.Errorf("%+v", got)
	}
	if p.basic != [2]string{clientID, "not+to+be+printed"} || p.form.Get("code_verifier") != v.Verifier() || p.form.Get("client_secret") != "" || p.form.Get("redirect_uri") != callback {
		t.Errorf("the code is redeemed with %v %v", p.basic, p.form)
	}
	p.mu.Lock()
	p.methods = []string{"client_secret_post"}
	p.mu.Unlock()
	if _, err := redeem(party(t, p, nil), v); err != nil || p.form.Get("client_secret") != "not to be printed" || p.asked["/token"] != 2 {
		t.Errorf("client_secret_post: %v %v", err, p.form)
	}
}

// A claim gives the roles that it is mapped to and no others; without it, none.
func TestRolesByClaim(t *testing.T) {
	p := newPractice(t)
	v := visit(p)
	path := func(c *Client) { c.Claims.Roles = []string{"realm_access", "roles"} }
	for name, c := range map[string]struct {
		change func(*Client)
		claim  string
		value  any
		want   []string
	}{
		"several":           {nil, "groups", []string{"Desk", "Therapists", "Desk"}, []string{"front-desk", "therapist"}},
		"one as a string":   {nil, "groups", "Desk", []string{"front-desk"}},
		"unknown ones":      {nil, "groups", []string{"therapist", "operator", "practice-admin"}, []string{}},
		"none":              {nil, "groups", nil, []string{}},
		"of another kind":   {nil, "groups", 7, []string{}},
		"a path":            {path, "realm_access", map[string]any{"roles": []string{"Therapists"}}, []string{"therapist"}},
		"a path to nothing": {path, "realm_access", []string{"Therapists"}, []string{}},
		"not configured":    {func(c *Client) { c.Claims = Claims{} }, "groups", []string{"Therapists"}, nil},
	} {
		p.says(t, p.idClaims(v).with(c.claim, c.value))
		got, err := redeem(party(t, p, c.change), v)
		if err != nil || !slices.Equal(got.External.Roles, c.want) || (got.External.Roles == nil) != (c.want == nil) {
			t.Errorf("%s: %#v %v", name, got.External.Roles, err)
		}
	}
}

func TestVerifiedAddresses(t *testing.T) {
	p := newPractice(t)
	v := visit(p)
	for name, c := range map[string]struct {
		trusted bool
		value   any
		want    bool
	}{
		"yes": {false, true, true}, "as a string": {false, "true", true}, "no": {false, false, false}, "absent": {false, nil, false}, "a number": {false, 1, false},
		"absent, but always": {true, nil, true},
	} {
		p.says(t, p.idClaims(v).with("email_verified", c.value))
		got, err := redeem(party(t, p, func(x *Client) { x.Claims.Trusted = c.trusted }), v)
		if err != nil || got.External.EmailVerified != c.want {
			t.Errorf("%s: %v %v", name, got.External.EmailVerified, err)
		}
	}
}

func TestUserinfoFillsGapsOnly(t *testing.T) {
	p := newPractice(t)
	v := visit(p)
	p.userinfo = map[string]any{"sub": "u1", "email": "info@example.org", "email_verified": true, "groups": []string{"Desk"}, "amr": []string{"mfa"}, "acr": "gold", "name": "Another"}
	p.says(t, p.idClaims(v).with("email", nil).with("email_verified", nil).with("amr", nil).with("groups", nil))
	got, err := redeem(party(t, p, nil), v)
	x := got.External
	if err != nil || x.Email != "info@example.org" || !x.EmailVerified || !slices.Equal(x.Roles, []string{"front-desk"}) || len(x.AMR) != 0 || x.ACR != "" || x.Name != "Tess" {
		t.Errorf("%+v %v", x, err)
	}
	p.says(t, p.idClaims(v).with("groups", nil).with("email_verified", false))
	if got, err := redeem(party(t, p, nil), v); err != nil || got.External.Email != "Tess@example.org" || got.External.EmailVerified {
		t.Errorf("an address of the token is verified by what is said of another: %+v %v", got.External, err)
	}
	p.says(t, p.idClaims(v).with("email", nil))
	p.userinfo = map[string]any{"sub": "u1", "email": "info@example.org"}
	if got, err := redeem(party(t, p, nil), v); err != nil || got.External.Email != "info@example.org" || got.External.EmailVerified {
		t.Errorf("an address is verified by what the token says of none: %+v %v", got.External, err)
	}
	p.userinfo["sub"] = "u2"
	if _, err := redeem(party(t, p, nil), v); status(err) != http.StatusForbidden {
		t.Errorf("the userinfo of somebody else: %v", err)
	}
	p.down["/userinfo"] = http.StatusBadGateway
	if _, err := redeem(party(t, p, nil), v); status(err) != http.StatusServiceUnavailable {
		t.Errorf("no userinfo: %v", err)
	}
}

func TestAnswersThatAreNotGood(t *testing.T) {
	p, stranger := newPractice(t), newPractice(t)
	v := visit(p)
	good := p.idClaims(v)
	now := p.now.Unix()
	hash := sha256.Sum256([]byte("another access token"))
	none := func(c claims) string {
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(encoded(t, c)) + "."
	}
	other := v
	other.Secret = "of another browser"
	for name, text := range map[string]string{
		"wrong nonce":             sign(t, p.key, good.with("nonce", other.Nonce())),
		"no nonce":                sign(t, p.key, good.with("nonce", nil)),
		"wrong audience":          sign(t, p.key, good.with("aud", "somebody-else")),
		"no audience":             sign(t, p.key, good.with("aud", nil)),
		"several, no azp":         sign(t, p.key, good.with("aud", []string{clientID, "other"})),
		"azp of another":          sign(t, p.key, good.with("azp", "other")),
		"several, azp of another": sign(t, p.key, good.with("aud", []string{clientID, "other"}).with("azp", "other")),
		"expired":                 sign(t, p.key, good.with("exp", now)),
		"no expiry":               sign(t, p.key, good.with("exp", nil)),
		"of tomorrow":             sign(t, p.key, good.with("iat", now+3600).with("exp", now+7200)),
		"of yesterday":            sign(t, p.key, good.with("iat", now-86400)),
		"not yet good":            sign(t, p.key, good.with("nbf", now+3600)),
		"no iat":                  sign(t, p.key, good.with("iat", nil)),
		"foreign issuer":          sign(t, p.key, good.with("iss", stranger.URL)),
		"foreign key":             sign(t, stranger.key, good),
		"alg none":                none(good),
		"shared secret":           signWith(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte("not to be printed, but 32 bytes!")}, good),
		"of another access token": sign(t, p.key, good.with("at_hash", base64.RawURLEncoding.EncodeToString(hash[:16]))),
		"no subject":              sign(t, p.key, good.with("sub", nil)),
		"a long subject":          sign(t, p.key, good.with("sub", strings.Repeat("x", 256))),
		"a claim twice":           sign(t, p.key, good.with("Nonce", v.Nonce())),
		"amr is no list":          sign(t, p.key, good.with("amr", "mfa")),
		"no token":                "",
		"no JWT":                  "opaque",
		"too long":                sign(t, p.key, good.with("more", strings.Repeat("x", maxToken))),
	} {
		p.token = func(url.Values) string { return text }
		if got, err := redeem(party(t, p, nil), v); status(err) != http.StatusForbidden || got.External.Subject != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	right := sha256.Sum256([]byte(access))
	p.says(t, good.with("at_hash", base64.RawURLEncoding.EncodeToString(right[:16])).with("aud", []string{clientID, "other"}).with("azp", clientID))
	if _, err := redeem(party(t, p, nil), v); err != nil {
		t.Errorf("a good one is refused: %v", err)
	}
}

// RFC 9207: the answer says which issuer it is of, where the provider says that it does.
func TestTheIssuerOfAnAnswer(t *testing.T) {
	p := newPractice(t)
	v := visit(p)
	p.says(t, p.idClaims(v))
	for _, c := range []struct {
		names bool
		iss   []string
		want  int
	}{
		{false, nil, 0}, {false, []string{p.URL}, 0}, {false, []string{"https://evil.example"}, 403},
		{true, nil, 403}, {true, []string{p.URL}, 0}, {true, []string{p.URL, p.URL}, 403},
	} {
		p.mu.Lock()
		p.names = c.names
		before := p.asked["/token"]
		p.mu.Unlock()
		_, err := party(t, p, nil).Redeem(context.Background(), v, url.Values{"code": {"c1"}, "iss": c.iss})
		if status(err) != c.want || c.want != 0 && p.asked["/token"] != before {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestWhatTheProviderRefuses(t *testing.T) {
	p := newPractice(t)
	v := visit(p)
	for answer, want := range map[string]int{"error=access_denied": 401, "error=login_required&code=c1": 401, "error=temporarily_unavailable": 503, "": 403} {
		q, _ := url.ParseQuery(answer)
		if _, err := party(t, p, nil).Redeem(context.Background(), v, q); status(err) != want || p.asked["/token"] != 0 {
			t.Errorf("%q: %v", answer, err)
		}
	}
	for code, want := range map[int]int{400: 403, 502: 503, 307: 503} { // with invalid_grant in the body
		p.down = map[string]int{"/token": code}
		if _, err := redeem(party(t, p, nil), v); status(err) != want {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// max_age is asked for and held.
func TestHowOldASignInMayBe(t *testing.T) {
	p := newPractice(t)
	v := visit(p)
	age := func(d time.Duration) *time.Duration { return &d }
	begun := v.Begun.Unix()
	for name, c := range map[string]struct {
		max    *time.Duration
		signed any
		ok     bool
		at     int64
	}{
		"any age":                     {nil, begun - 86400, true, begun - 86400},
		"not said, not asked":         {nil, nil, true, 0},
		"within":                      {age(time.Hour), begun - 3500, true, begun - 3500},
		"too long ago":                {age(time.Hour), begun - 3700, false, 0},
		"not said":                    {age(time.Hour), nil, false, 0},
		"anew":                        {age(0), begun + 20, true, begun + 20},
		"anew, but of this morning":   {age(0), begun - 3600, false, 0},
		"anew, by a clock that lags":  {age(0), begun - 30, true, begun},
		"anew, and not said":          {age(0), nil, false, 0},
		"said as a string, not asked": {nil, "now", false, 0},
	} {
		v := v
		v.MaxAge = c.max
		p.says(t, p.idClaims(v).with("auth_time", c.signed))
		got, err := redeem(party(t, p, nil), v)
		if (err == nil) != c.ok || c.ok && c.at != 0 && got.External.SignedIn.Unix() != c.at || c.ok && c.at == 0 && !got.External.SignedIn.IsZero() {
			t.Errorf("%s: %v %v", name, got.External.SignedIn, err)
		}
	}
}

func TestKeysRotateUnderASignIn(t *testing.T) {
	p := newPractice(t)
	r := party(t, p, nil)
	v := visit(p)
	p.says(t, p.idClaims(v))
	if _, err := redeem(r, v); err != nil {
		t.Fatal(err)
	}
	old := p.key
	p.key = key(t, "ES256", "two")
	p.keys = []jose.JSONWebKey{p.key}
	p.says(t, p.idClaims(v))
	if _, err := redeem(r, v); err != nil { // in the same second
		t.Errorf("the new key is not known: %v", err)
	}
	p.key = old
	p.says(t, p.idClaims(v))
	if _, err := redeem(r, v); status(err) != http.StatusForbidden {
		t.Errorf("a key that was withdrawn: %v", err)
	}
}

func TestAProviderThatIsDown(t *testing.T) {
	p, q := newPractice(t), newPractice(t)
	other := q.client()
	other.Name, other.Practices = "lakeside", []string{"lakeside"}
	p.down = map[string]int{"": http.StatusBadGateway}
	r, err := NewParty([]Client{p.client(), other}, callback, p.clock) // nobody is asked
	if err != nil {
		t.Fatal(err)
	}
	v := visit(p)
	for range 20 {
		if _, err := r.Authorize(context.Background(), v, Ask{}); status(err) != http.StatusServiceUnavailable {
			t.Fatal(err)
		}
	}
	if p.asked["/.well-known/openid-configuration"] != 1 {
		t.Errorf("a provider that is down was asked %d times at once", p.asked["/.well-known/openid-configuration"])
	}
	elsewhere := v
	elsewhere.Provider = "lakeside"
	if _, err := r.Authorize(context.Background(), elsewhere, Ask{}); err != nil {
		t.Errorf("another provider is down, too: %v", err)
	}
	p.mu.Lock()
	p.down = map[string]int{}
	p.now = p.now.Add(3 * time.Second)
	p.mu.Unlock()
	if _, err := r.Authorize(context.Background(), v, Ask{}); err != nil {
		t.Errorf("it is back: %v", err)
	}
	for _, path := range []string{"/keys", "/token"} {
		p.says(t, p.idClaims(v))
		p.mu.Lock()
		p.down = map[string]int{path: http.StatusTemporaryRedirect}
		p.now = p.now.Add(time.Minute)
		p.mu.Unlock()
		if _, err := redeem(r, v); status(err) != http.StatusServiceUnavailable {
			t.Errorf("%s is down: %v", path, err)
		}
	}
}

func (p *practice) logoutClaims() claims {
	now := p.clock().Unix()
	return claims{"iss": p.URL, "sub": "u1", "sid": "s1", "aud": clientID, "iat": now, "exp": now + 120, "jti": "j1", "events": map[string]any{eventLogout: map[string]any{}}}
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func typed(t *testing.T, k jose.JSONWebKey, kind string, c claims) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType(jose.ContentType(kind))
	if kind == "" {
		o = nil
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Algorithm), Key: k}, o)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(encoded(t, c))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := signed.CompactSerialize()
	return text
}

func TestLogoutTokens(t *testing.T) {
	p, stranger := newPractice(t), newPractice(t)
	r := party(t, p, nil)
	good, now := p.logoutClaims(), p.now.Unix()
	for name, c := range map[string]struct {
		kind string
		claims
		want Logout
	}{
		"both":       {typeLogout, good, Logout{p.URL, "u1", "s1", "j1"}},
		"untyped":    {"", good, Logout{p.URL, "u1", "s1", "j1"}},
		"as a JWT":   {"JWT", good, Logout{p.URL, "u1", "s1", "j1"}},
		"a subject":  {typeLogout, good.with("sid", nil), Logout{p.URL, "u1", "", "j1"}},
		"a session":  {typeLogout, good.with("sub", nil), Logout{p.URL, "", "s1", "j1"}},
		"audiences":  {typeLogout, good.with("aud", []string{"x", clientID}), Logout{p.URL, "u1", "s1", "j1"}},
		"full media": {"application/logout+jwt", good, Logout{p.URL, "u1", "s1", "j1"}},
	} {
		if got, err := r.LoggedOut(context.Background(), typed(t, p.key, c.kind, c.claims)); err != nil || got != c.want {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	for name, text := range map[string]string{
		"nonce":          typed(t, p.key, typeLogout, good.with("nonce", "n")),
		"no events":      typed(t, p.key, typeLogout, good.with("events", nil)),
		"another event":  typed(t, p.key, typeLogout, good.with("events", map[string]any{"urn:x": map[string]any{}})),
		"no object":      typed(t, p.key, typeLogout, good.with("events", map[string]any{eventLogout: true})),
		"foreign aud":    typed(t, p.key, typeLogout, good.with("aud", "other")),
		"foreign issuer": typed(t, stranger.key, typeLogout, good.with("iss", stranger.URL)),
		"foreign key":    typed(t, stranger.key, typeLogout, good),
		"nobody":         typed(t, p.key, typeLogout, good.with("sub", nil).with("sid", nil)),
		"no jti":         typed(t, p.key, typeLogout, good.with("jti", nil)),
		"no iat":         typed(t, p.key, typeLogout, good.with("iat", nil)),
		"old":            typed(t, p.key, typeLogout, good.with("iat", now-3600)),
		"of tomorrow":    typed(t, p.key, typeLogout, good.with("iat", now+3600).with("exp", now+7200)),
		"expired":        typed(t, p.key, typeLogout, good.with("exp", now)),
		"an ID token":    typed(t, p.key, "JWT", p.idClaims(visit(p))),
		"another type":   typed(t, p.key, "at+jwt", good),
		"alg none":       "eyJhbGciOiJub25lIn0." + strings.Split(typed(t, p.key, "", good), ".")[1] + ".",
		"nothing":        "",
	} {
		if got, err := r.LoggedOut(context.Background(), text); status(err) != http.StatusForbidden || got != (Logout{}) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	// Whoever sends tokens with bad signatures has us ask for keys once in a while, not each time.
	if p.asked["/keys"] > 2 {
		t.Errorf("the keys were asked for %d times", p.asked["/keys"])
	}
}

func TestSignOutThere(t *testing.T) {
	p := newPractice(t)
	r := party(t, p, nil)
	to, title, ok := r.SignOut(context.Background(), p.URL, "the-token", "https://fhir.example.org/smart/signed-out")
	u, err := url.Parse(to)
	if !ok || err != nil || title != "Harbor" || u.Path != "/end" {
		t.Fatal(to, title, ok)
	}
	q := u.Query()
	if q.Get("id_token_hint") != "the-token" || q.Get("client_id") != clientID || q.Get("post_logout_redirect_uri") != "https://fhir.example.org/smart/signed-out" || q.Get("of") != "session" {
		t.Error(to)
	}
	if to, _, _ := r.SignOut(context.Background(), p.URL, "", "x"); strings.Contains(to, "hint") {
		t.Error(to)
	}
	if _, _, ok := r.SignOut(context.Background(), "https://other.example", "", "x"); ok {
		t.Error("a provider that is none of ours")
	}
}

func TestClientsAreChecked(t *testing.T) {
	p := newPractice(t)
	for want, change := range map[string]func(*Client){
		"name":      func(c *Client) { c.Name = "Har/bor" },
		"title":     func(c *Client) { c.Title = "" },
		"issuer":    func(c *Client) { c.Issuer = "http://id.example.org" },
		"client_id": func(c *Client) { c.ID = "" },
		"scopes":    func(c *Client) { c.Scopes = []string{"a b"} },
		"practices": func(c *Client) { c.Practices = nil },
		"acr":       func(c *Client) { c.Assurance.ACR = []string{""} },
		"max_age":   func(c *Client) { c.MaxAge = -1 },
		"roles":     func(c *Client) { c.Claims.Map = map[string][]string{"Admins": {"operator"}} },
	} {
		c := p.client()
		change(&c)
		var f FieldError
		if err := c.Validate(); !errors.As(err, &f) || f.Field != want {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := NewParty([]Client{c}, callback, p.clock); err == nil {
			t.Errorf("%s: accepted", want)
		}
	}
	for name, roles := range map[string][]string{"patient": {"patient"}, "proxy": {"proxy"}, "not a word": {"Therapist!"}, "none": {}} {
		c := p.client()
		c.Claims.Map["X"] = roles
		if c.Validate() == nil {
			t.Errorf("a claim gives %s", name)
		}
	}
	same := p.client()
	same.Name = "again"
	if _, err := NewParty([]Client{p.client(), same}, callback, p.clock); err == nil {
		t.Error("two providers with one issuer")
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	p := newPractice(t)
	c := p.client()
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "client", c, "secret", c.Secret)
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %v %q", c, c, c, c.Secret), string(encoded(t, c)), b.String()} {
		if strings.Contains(s, "not to be") {
			t.Errorf("%s", s)
		}
	}
	// Nor is it in what goes wrong.
	p.down = map[string]int{"/token": 401}
	_, err := redeem(party(t, p, nil), visit(p))
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.Contains(err.Error(), "not to be") {
			t.Error(err)
		}
	}
}
