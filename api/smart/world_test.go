package smart_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	records "github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

const (
	base   = "https://fhir.example.org"
	issuer = base + "/smart"
	fhirAt = base + "/fhir"
)

// opened is when worlds begin.
var opened = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// migrated has the keys of the first start: to make them takes longer than most of the tests.
var migrated = cluster.Template{Name: "smart", Prepare: func(ctx context.Context, dsn string) error {
	if _, err := records.Migrate(ctx, dsn); err != nil {
		return err
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: dsn, MaxConns: 2})
	if err != nil {
		return err
	}
	defer store.Close()
	box, err := identity.NewBox(make([]byte, identity.KeySize))
	if err != nil {
		return err
	}
	_, err = smart.NewRing(ctx, store, box, func() time.Time { return opened })
	return err
}}

// trail keeps events of security where a test can see them.
type trail struct {
	mu   sync.Mutex
	list []audit.Security
	fail error
}

func (a *trail) RecordSecurity(_ context.Context, e audit.Security) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fail != nil {
		return a.fail
	}
	a.list = append(a.list, e)
	return nil
}

func (a *trail) has(k audit.Kind, r audit.Reason) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.list, func(e audit.Security) bool { return e.Kind == k && e.Reason == r })
}

func (a *trail) count(k audit.Kind, r audit.Reason) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.list {
		if e.Kind == k && e.Reason == r {
			n++
		}
	}
	return n
}

type slugs map[string]int32

func (s slugs) Tenant(slug string) (int32, bool) { id, ok := s[slug]; return id, ok }

// process is one server over the database of a world.
type process struct {
	store  *postgres.Store
	ended  *oidc.Ended
	tokens *oidc.Authenticator
	people *identity.Service
	ring   *smart.Ring
	server *smart.Server
}

// world is an authorization server over a real database, with a few people and apps.
type world struct {
	t     *testing.T
	dsn   string
	clock atomic.Int64 // milliseconds since the epoch
	slugs slugs
	audit trail
	key   jose.JSONWebKey // of the backend service
	box   *identity.Box
	log   strings.Builder
	logMu sync.Mutex
	*process

	therapist, patient, twin person
}

// Write is the log.
func (w *world) Write(b []byte) (int, error) {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	return w.log.Write(b) //nolint:wrapcheck // a test
}

type person struct {
	account identity.Account
	session identity.Session
}

func (p person) approval(scopes ...string) smart.Approval {
	return smart.Approval{Account: p.account, Session: p.session, Membership: p.account.Memberships[0], Scopes: scopes}
}

func (w *world) now() time.Time       { return time.UnixMilli(w.clock.Load()).UTC() }
func (w *world) pass(d time.Duration) { w.clock.Add(d.Milliseconds()) }

func newWorld(t *testing.T, change ...func(*smart.Config)) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{t: t, dsn: cluster.NewDatabase(t, migrated), slugs: slugs{}}
	w.clock.Store(opened.UnixMilli())
	c, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, slug := range []string{"harbor", "lakeside"} {
		var id int32
		if err := c.QueryRow(ctx, "INSERT INTO record.tenant (slug, name) VALUES ($1, $1) RETURNING id", slug).Scan(&id); err != nil {
			t.Fatal(err)
		}
		w.slugs[slug] = id
	}
	_ = c.Close(ctx)
	if w.box, err = identity.NewBox(make([]byte, identity.KeySize)); err != nil {
		t.Fatal(err)
	}
	w.process = w.open(change...)
	w.therapist = w.person("tess", "harbor", "Practitioner/tess", "therapist")
	w.patient = w.person("anna", "harbor", "Patient/anna", "patient")
	w.twin = w.person("theo", "lakeside", "Practitioner/theo", "therapist")
	w.apps()
	return w
}

// open starts a process.
func (w *world) open(change ...func(*smart.Config)) *process {
	w.t.Helper()
	ctx := w.t.Context()
	p := &process{}
	var err error
	if p.store, err = postgres.Open(ctx, postgres.Options{URL: w.dsn, MaxConns: 8}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.store.Close)
	if p.people, err = identity.New(identity.Config{Store: p.store, Box: w.box, Audit: &w.audit, Now: w.now, Pages: issuer}); err != nil {
		w.t.Fatal(err)
	}
	ring, err := smart.NewRing(ctx, p.store, w.box, w.now)
	p.ring = ring
	if err != nil {
		w.t.Fatal(err)
	}
	p.ended = oidc.NewEnded(p.store.Ended, w.now)
	if err := p.ended.Refresh(ctx); err != nil {
		w.t.Fatal(err)
	}
	if p.tokens, err = oidc.New(nil, w.slugs, w.now, oidc.Local{Issuer: oidc.Issuer{URL: issuer, Audience: fhirAt}, Keys: ring, Ended: p.ended}); err != nil {
		w.t.Fatal(err)
	}
	cfg := smart.Config{
		Issuer: issuer, FHIRBase: fhirAt, SignIn: issuer + "/interaction", SignOut: issuer + "/account", Store: p.store, Keys: ring, People: p.people,
		Practices: w.slugs, Ended: p.ended, Authenticator: p.tokens, Audit: &w.audit, Log: slog.New(slog.NewTextHandler(w, nil)), Now: w.now,
		Limits: smart.Limits{Address: 1 << 30, Failures: 1 << 30, Register: 1 << 30},
	}
	for _, f := range change {
		f(&cfg)
	}
	if p.server, err = smart.New(cfg); err != nil {
		w.t.Fatal(err)
	}
	p.people.OnEnd(func(ctx context.Context, e identity.Ended) error {
		if e.Session == "" {
			return p.server.EndAccount(ctx, e.Account)
		}
		return p.server.EndSession(ctx, e.Account, e.Session)
	})
	return p
}

func (w *world) person(name, practice, user string, roles ...string) person {
	w.t.Helper()
	ctx := w.t.Context()
	ref, _ := fhir.ParseRef(user)
	a, err := w.people.Create(ctx, "test", identity.Account{
		Name: name, Email: name + "@example.org",
		Memberships: []identity.Membership{{Tenant: w.slugs[practice], Practice: practice, User: ref, Roles: roles}},
	}, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return person{a, w.signIn(a)}
}

// signIn opens a session.
func (w *world) signIn(a identity.Account) identity.Session {
	w.t.Helper()
	var id [16]byte
	_, _ = rand.Read(id[:])
	s := identity.Session{
		ID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), Account: a.ID, SignedIn: w.now(), Methods: []string{"pwd", "otp", "mfa"},
		Idle: w.now().Add(12 * time.Hour), Absolute: w.now().Add(12 * time.Hour), Client: "test",
	}
	h := sha256.Sum256(id[:])
	ok, err := w.store.OpenSession(w.t.Context(), s, h[:], "", "")
	if err != nil || !ok {
		w.t.Fatal(ok, err)
	}
	return s
}

const redirect = "https://app.example.org/callback"

func (w *world) apps() {
	w.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	w.key = jose.JSONWebKey{Key: k, KeyID: "one", Algorithm: "ES384", Use: "sig"}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{w.key.Public()}})
	if err != nil {
		w.t.Fatal(err)
	}
	clinical := []string{"openid", "fhirUser", "profile", "launch", "launch/patient", "offline_access", "online_access", "patient/*.rs", "user/Patient.rs", "user/Observation.rs"}
	both := []string{app.Code, app.Refresh}
	for _, a := range []app.App{
		{ID: "chart", Name: "Chart", Auth: app.None, Redirects: []string{redirect}, LogoutRedirects: []string{"https://app.example.org/bye"}, Grants: both, Scopes: clinical, Purposes: []string{"TREAT", "PATRQT"}},
		{ID: "desk", Name: "Desk", Auth: app.SecretBasic, Secret: app.HashSecret("desk-secret"), Redirects: []string{redirect}, Grants: both, Scopes: clinical, Purposes: []string{"TREAT"}},
		{ID: "post", Name: "Post", Auth: app.SecretPost, Secret: app.HashSecret("post-secret"), Redirects: []string{redirect}, Grants: both, Scopes: clinical, Purposes: []string{"TREAT"}},
		{ID: "pump", Name: "Pump", Auth: app.PrivateKeyJWT, JWKS: set, Grants: []string{app.ClientCredentials}, Scopes: []string{"system/Observation.rs", "system/Patient.rs"}, Purposes: []string{"HOPERAT"}, Roles: []string{"research-analyst"}},
		{ID: "gate", Name: "Gate", Auth: app.SecretBasic, Secret: app.HashSecret("gate-secret"), Introspects: true},
		{ID: "ehr", Name: "EHR", Auth: app.None, Redirects: []string{redirect}, Grants: both, Scopes: clinical, Purposes: []string{"TREAT"}, Host: true},
		{ID: "phone", Name: "Phone", Auth: app.None, Redirects: []string{"http://127.0.0.1/cb", "org.example.phone:/cb"}, Loopback: true, Grants: both, Scopes: clinical, Purposes: []string{"PATRQT"}},
	} {
		a.Registered = w.now()
		if err := a.Validate(); err != nil {
			w.t.Fatal(a.ID, err)
		}
		if err := w.store.Register(w.t.Context(), a); err != nil {
			w.t.Fatal(err)
		}
		w.approve(a.ID, "harbor")
	}
}

func (w *world) approve(id, practice string) {
	w.t.Helper()
	if err := w.store.ApproveApp(w.t.Context(), id, app.Approval{Tenant: w.slugs[practice], Practice: practice, By: "test", At: w.now()}); err != nil {
		w.t.Fatal(err)
	}
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	head   http.Header
	body   map[string]any
	text   string
}

func (a answer) str(name string) string { s, _ := a.body[name].(string); return s }

// wants checks status and error code of a refusal, and that it carries no token.
func (a answer) wants(status int, code string) {
	a.t.Helper()
	if a.status != status || a.str("error") != code || a.str("access_token") != "" || a.str("refresh_token") != "" {
		a.t.Errorf("%d %s, want %d %s", a.status, a.text, status, code)
	}
	if a.head.Get("Cache-Control") != "no-store" {
		a.t.Errorf("a refusal may be kept: %q", a.head.Get("Cache-Control"))
	}
}

// ok checks that a token came.
func (a answer) ok() answer {
	a.t.Helper()
	if a.status != http.StatusOK || a.str("access_token") == "" {
		a.t.Fatalf("%d %s", a.status, a.text)
	}
	return a
}

func (p *process) do(t *testing.T, r *http.Request) answer {
	t.Helper()
	rec := httptest.NewRecorder()
	p.server.Handler().ServeHTTP(rec, r)
	res := rec.Result()
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{t: t, status: res.StatusCode, head: res.Header, text: string(text)}
	_ = json.Unmarshal(text, &a.body) // a redirect has none
	return a
}

// post sends a form; basic is id:secret or "".
func (p *process) post(t *testing.T, path, basic string, form url.Values) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id, password, ok := strings.Cut(basic, ":"); ok {
		r.SetBasicAuth(id, password)
	}
	return p.do(t, r)
}

// flow is one authorization of an app.
type flow struct {
	w        *world
	client   string
	basic    string
	secret   string
	verifier string
	form     url.Values
	cookie   *http.Cookie
}

// flow prepares a request that is good.
func (w *world) flow(client string, scopes ...string) *flow {
	f := &flow{w: w, client: client, verifier: strings.Repeat("v", 43)}
	h := sha256.Sum256([]byte(f.verifier))
	f.form = url.Values{
		"response_type": {"code"}, "client_id": {client}, "redirect_uri": {redirect}, "scope": {strings.Join(scopes, " ")}, "state": {"af0ifjsldkj"}, "aud": {fhirAt},
		"nonce": {"n-0S6_WzA2Mj"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(h[:])}, "code_challenge_method": {"S256"},
	}
	switch client {
	case "desk":
		f.basic = "desk:desk-secret"
	case "post":
		f.secret = "post-secret"
	}
	return f
}

// authorize asks, and gives where the browser is sent.
func (f *flow) authorize() *url.URL {
	f.w.t.Helper()
	r := httptest.NewRequestWithContext(f.w.t.Context(), http.MethodGet, "/authorize?"+f.form.Encode(), http.NoBody)
	if f.cookie != nil {
		r.AddCookie(f.cookie)
	}
	rec := httptest.NewRecorder()
	f.w.server.Handler().ServeHTTP(rec, r)
	res := rec.Result()
	defer func() { _ = res.Body.Close() }()
	for _, c := range res.Cookies() {
		f.cookie = c
	}
	if res.StatusCode != http.StatusFound {
		f.w.t.Fatalf("authorize: %d %s", res.StatusCode, rec.Body)
	}
	u, err := res.Location()
	if err != nil {
		f.w.t.Fatal(err)
	}
	return u
}

// browser is the context of a request of the browser.
func (f *flow) browser() context.Context {
	r := httptest.NewRequestWithContext(f.w.t.Context(), http.MethodGet, "/", http.NoBody)
	if f.cookie != nil {
		r.AddCookie(f.cookie)
	}
	return f.w.server.Browser(r)
}

// interaction asks and gives the id of the interaction.
func (f *flow) interaction() string {
	f.w.t.Helper()
	u := f.authorize()
	id, ok := strings.CutPrefix(u.String(), issuer+"/interaction/")
	if !ok {
		f.w.t.Fatalf("no interaction: %s", u)
	}
	return id
}

// code goes all the way to a code; patient is chosen, or "".
func (f *flow) code(p person, patient fhir.ID) string {
	f.w.t.Helper()
	a := p.approval(strings.Fields(f.form.Get("scope"))...)
	a.Patient = patient
	id := f.interaction()
	to, err := f.w.server.Approve(f.browser(), id, a)
	if err != nil {
		f.w.t.Fatal(err, errors.Unwrap(err))
	}
	u, err := url.Parse(to)
	if err != nil || u.Query().Get("state") != f.form.Get("state") || u.Query().Get("iss") != issuer || u.Query().Get("code") == "" {
		f.w.t.Fatalf("%s %v", to, err)
	}
	return u.Query().Get("code")
}

// exchange is the form of a token request with a code.
func (f *flow) exchange(code string) url.Values {
	v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.form.Get("redirect_uri")}, "code_verifier": {f.verifier}}
	return f.with(v)
}

func (f *flow) with(v url.Values) url.Values {
	if f.basic == "" {
		v.Set("client_id", f.client)
	}
	if f.secret != "" {
		v.Set("client_secret", f.secret)
	}
	return v
}

// tokens goes all the way.
func (f *flow) tokens(p person, patient fhir.ID) answer {
	f.w.t.Helper()
	return f.w.post(f.w.t, "/token", f.basic, f.exchange(f.code(p, patient))).ok()
}

func (f *flow) refresh(token string, more ...string) answer {
	f.w.t.Helper()
	v := f.with(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return f.w.post(f.w.t, "/token", f.basic, v)
}

// accepts asks the resource server.
func (p *process) accepts(t *testing.T, token string) (authz.Principal, bool) {
	t.Helper()
	who, err := p.tokens.Authenticate(t.Context(), token)
	if err != nil && outcome.Of(err).Status() != http.StatusUnauthorized {
		t.Fatal(err, errors.Unwrap(err))
	}
	return who, err == nil
}

// claims reads a JWT without checking it.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("no JWT: %q", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// assertion signs a client assertion of the backend service; change alters claims and headers before.
func (w *world) assertion(change func(c map[string]any, o *jose.SignerOptions), keys ...jose.SigningKey) string {
	w.t.Helper()
	var id [8]byte
	_, _ = rand.Read(id[:])
	c := map[string]any{"iss": "pump", "sub": "pump", "aud": issuer + "/token", "exp": w.now().Add(4 * time.Minute).Unix(), "jti": fmt.Sprintf("%x", id)}
	o := (&jose.SignerOptions{}).WithType("JWT")
	if change != nil {
		change(c, o)
	}
	key := jose.SigningKey{Algorithm: jose.ES384, Key: w.key}
	if len(keys) > 0 {
		key = keys[0]
	}
	s, err := jose.NewSigner(key, o)
	if err != nil {
		w.t.Fatal(err)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// backend asks for a token of the backend service.
func (w *world) backend(assertion string, more ...string) answer {
	w.t.Helper()
	v := url.Values{
		"grant_type": {"client_credentials"}, "scope": {"system/Observation.rs"}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	}
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
		if more[i+1] == "" {
			v.Del(more[i])
		}
	}
	return w.post(w.t, "/token", "", v)
}

// get asks for a path.
func (p *process) get(t *testing.T, path string) answer {
	t.Helper()
	return p.do(t, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
}

// allow reports whether scopes leave the search of a type open.
func allow(s authz.Scopes, kind fhir.ResourceType) bool {
	return len(s.Allow(kind, fhir.SearchType)) > 0
}

func statusOf(err error) int { return outcome.Of(err).Status() }

// dump is all of the schema identity as text.
func (w *world) dump() string {
	w.t.Helper()
	ctx := w.t.Context()
	c, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	rows, err := c.Query(ctx, "SELECT tablename FROM pg_tables WHERE schemaname = 'identity'")
	if err != nil {
		w.t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range names {
		rows, err := c.Query(ctx, "SELECT t::text FROM identity."+n+" t")
		if err != nil {
			w.t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			w.t.Fatal(err)
		}
		b.WriteString(strings.Join(lines, "\n"))
	}
	return b.String()
}
