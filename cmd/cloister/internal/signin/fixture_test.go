package signin_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 6238
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-health/cloister/api/smart"
	identities "github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/seed"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/cmd/cloister/internal/signin"
	"github.com/cloister-health/cloister/cmd/cloister/internal/vocabulary"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

var sample = clinic.Config{Seed: 7, Now: noon}

var seeded = cluster.Template{Name: "signin", Prepare: func(ctx context.Context, dsn string) error {
	if _, err := postgres.Migrate(ctx, dsn); err != nil {
		return err
	}
	terms, err := vocabulary.Package()
	if err != nil {
		return err
	}
	if _, err := postgres.InstallPackage(ctx, dsn, terms, nil); err != nil {
		return err
	}
	clock := func() time.Time { return noon }
	store, err := postgres.Open(ctx, postgres.Options{URL: dsn, Now: clock, Keys: envelopetest.Keys()})
	if err != nil {
		return err
	}
	defer store.Close()
	core, err := server.NewCore(store, clock)
	if err != nil {
		return err
	}
	if err := seed.Run(ctx, core, sample, nil); err != nil {
		return err
	}
	// The keys of the first start: to make them takes longer than most of the tests.
	apps, err := identities.Open(ctx, identities.Options{URL: dsn, MaxConns: 2})
	if err != nil {
		return err
	}
	defer apps.Close()
	box, err := identity.NewBox(make([]byte, identity.KeySize))
	if err != nil {
		return err
	}
	_, err = smart.NewRing(ctx, apps, box, clock)
	return err
}}

const (
	password = "four words of no sense"
	appID    = "trend"
	redirect = "http://127.0.0.1:7/back" // nothing answers there: a browser of these tests does not go
)

// scopes are what the app asks for.
var scopes = []string{"openid", "fhirUser", "launch/patient", "offline_access", "patient/Patient.rs", "patient/Condition.rs", "patient/DocumentReference.rs"}

// house is the whole server on a database of its own.
type house struct {
	*signin.SignIn
	t       *testing.T
	dsn     string
	base    string // origin
	at      string // where this process listens
	records *postgres.Store
	core    *server.Core
	log     *lines
	time    *clock
	mu      sync.Mutex
	letters []string
	secrets map[string]string // of one-time codes, by e-mail address
}

type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// Send keeps the text of a letter.
func (h *house) Send(_ context.Context, _, _, text string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.letters = append(h.letters, text)
	return nil
}

// clock is the one of all servers of a test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (h *house) clock() time.Time {
	h.time.mu.Lock()
	defer h.time.mu.Unlock()
	return h.time.now
}

// pass moves the clock, and tells nobody.
func (h *house) pass(d time.Duration) {
	h.time.mu.Lock()
	defer h.time.mu.Unlock()
	h.time.now = h.time.now.Add(d)
}

func (h *house) advance(d time.Duration) {
	h.pass(d)
	if err := h.Refresh(context.Background()); err != nil { // what is known of ended grants is a leap of the clock old
		h.t.Error(err)
	}
}

func newHouse(t *testing.T, change ...func(*house, *signin.Config)) *house {
	t.Helper()
	h := &house{t: t, dsn: cluster.NewDatabase(t, seeded), log: &lines{}, secrets: map[string]string{}, time: &clock{now: noon}}
	h.open(change...)
	h.Start()
	h.register(app.App{
		ID: appID, Name: "Trend", Auth: app.None, Redirects: []string{redirect}, Grants: []string{app.Code, app.Refresh},
		Scopes: append(slices.Clone(scopes), "launch"), Purposes: []string{"TREAT", "PATRQT"}, Registered: noon,
	})
	return h
}

// open wires the whole server.
func (h *house) open(change ...func(*house, *signin.Config)) {
	h.t.Helper()
	var whole http.Handler
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { whole.ServeHTTP(w, r) }))
	h.t.Cleanup(s.Close)
	if h.base == "" {
		h.base = strings.Replace(s.URL, "127.0.0.1", "localhost", 1) // passkeys need a domain
	}
	h.at = s.URL
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(h.log, nil))
	var err error
	if h.records, err = postgres.Open(ctx, postgres.Options{URL: h.dsn, Now: h.clock, MaxConns: 2, Keys: envelopetest.Keys()}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.records.Close)
	box, err := identity.NewBox(make([]byte, identity.KeySize))
	if err != nil {
		h.t.Fatal(err)
	}
	cfg := signin.Config{
		URL: h.dsn, FHIRBase: h.base + "/fhir", People: identity.Config{Box: box, Mail: h, Title: "Test"}, Auditor: h.records, Practices: h.records,
		Origins: []string{"https://house.example"}, Log: log, Now: h.clock,
	}
	for _, f := range change {
		f(h, &cfg)
	}
	if h.SignIn, err = signin.Open(ctx, cfg); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.Close)
	if h.core, err = server.NewCore(h.records, h.clock); err != nil {
		h.t.Fatal(err)
	}
	api, err := h.core.Handler(server.Config{
		Base: h.base + "/fhir", Authenticator: h.Authenticator, SMART: h.SMART(), Apps: h.Server.AllowsOrigin, Origins: []string{"https://house.example"}, Version: "test", Released: noon, Deadline: time.Minute, MaxBody: 1 << 20,
		Cursors: [32]byte{1}, Log: log, Now: h.clock, Labels: "exchange",
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if whole, err = h.Handler(api); err != nil {
		h.t.Fatal(err)
	}
}

// another is a second process behind the same address and on the same database. Nothing is done in its background before Start.
func (h *house) another(change ...func(*house, *signin.Config)) *house {
	h.t.Helper()
	o := &house{t: h.t, dsn: h.dsn, base: h.base, log: h.log, secrets: h.secrets, time: h.time}
	o.open(change...)
	return o
}

func (h *house) register(a app.App) {
	h.t.Helper()
	if err := a.Validate(); err != nil {
		h.t.Fatal(err)
	}
	if err := h.Store.Register(context.Background(), a); err != nil {
		h.t.Fatal(err)
	}
	for _, slug := range []string{"harbor", "lakeside"} {
		id, ok := h.records.Tenant(slug)
		if !ok {
			h.t.Fatal(slug)
		}
		if err := h.Store.ApproveApp(context.Background(), a.ID, app.Approval{Tenant: id, Practice: slug, By: "test", At: noon}); err != nil {
			h.t.Fatal(err)
		}
	}
}

func persona(t *testing.T, name string) clinic.Persona {
	t.Helper()
	for _, p := range clinic.Personas(sample) {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("there is no %s", name)
	return clinic.Persona{}
}

func (h *house) membership(name string) identity.Membership {
	h.t.Helper()
	p := persona(h.t, name)
	id, ok := h.records.Tenant(p.Practice)
	user, ref := fhir.ParseRef(p.Claims.FHIRUser)
	if !ok || !ref {
		h.t.Fatal(name)
	}
	m := identity.Membership{Tenant: id, Practice: p.Practice, User: user, Roles: p.Claims.Roles}
	for _, o := range p.Claims.Organizations {
		m.Organizations = append(m.Organizations, fhir.ID(o))
	}
	return m
}

// account makes one with the memberships of personas; staff get an authenticator app.
func (h *house) account(email string, personas ...string) {
	h.t.Helper()
	ctx := context.Background()
	a := identity.Account{Name: "Somebody", Email: email}
	for _, p := range personas {
		a.Memberships = append(a.Memberships, h.membership(p))
	}
	if _, err := h.Identity.Create(ctx, "test", a, password); err != nil {
		h.t.Fatal(err)
	}
	if !a.Staff() {
		return
	}
	from := identity.From{Address: netip.MustParseAddr("192.0.2.7"), Agent: "test"}
	step, err := h.Identity.Password(ctx, email, password, from)
	if err != nil || step.Challenge == nil {
		h.t.Fatal(step, err)
	}
	secret, _, err := h.Identity.EnrolTOTP(ctx, step.Challenge.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	h.secrets[email] = secret
	done, err := h.Identity.ConfirmTOTP(ctx, step.Challenge.ID, h.code(email), from)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.Identity.SignOut(ctx, done.Token); err != nil {
		h.t.Fatal(err)
	}
	h.advance(time.Minute) // the next code is another one
}

func (h *house) code(email string) string {
	h.t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(h.secrets[email])
	if err != nil {
		h.t.Fatal(err)
	}
	m := hmac.New(sha1.New, key)
	_ = binary.Write(m, binary.BigEndian, h.clock().Unix()/30)
	sum := m.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[len(sum)-1]&0xf:])&0x7fffffff%1_000_000)
}

// browser keeps cookies and follows redirects on this server, as one does.
type browser struct {
	h      *house
	client *http.Client
	origin string // sent with forms; "" sends none
}

func (h *house) browser() *browser {
	h.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return &browser{h, &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(r.URL.String(), h.base) {
			return http.ErrUseLastResponse
		}
		return nil
	}}, h.base}
}

// page is one answer.
type page struct {
	status int
	url    *url.URL
	header http.Header
	body   string
}

// left is where the browser would go outside of this server.
func (p page) left() url.Values {
	to := p.header.Get("Location")
	if !strings.HasPrefix(to, redirect) {
		return nil
	}
	u, err := url.Parse(to)
	if err != nil {
		return nil
	}
	return u.Query()
}

func (b *browser) send(method, target string, form url.Values) page {
	b.h.t.Helper()
	if !strings.HasPrefix(target, "http") {
		target = b.h.base + target
	}
	var body io.Reader = http.NoBody
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	rq, err := http.NewRequestWithContext(context.Background(), method, target, body)
	if err != nil {
		b.h.t.Fatal(err)
	}
	if form != nil {
		rq.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if method == http.MethodPost && b.origin != "" {
		rq.Header.Set("Origin", b.origin)
	}
	res, err := b.client.Do(rq)
	if err != nil {
		b.h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.h.t.Fatal(err)
	}
	return page{res.StatusCode, res.Request.URL, res.Header, string(text)}
}

func (b *browser) get(target string) page { b.h.t.Helper(); return b.send(http.MethodGet, target, nil) }

var (
	formTag = regexp.MustCompile(`(?s)<form[^>]* action="([^"]*)"[^>]*>(.*?)</form>`)
	hidden  = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
	ticked  = regexp.MustCompile(`<input type="checkbox" name="([^"]*)" value="([^"]*)" checked>`)
)

// form is the one of a page whose action ends so, with what is hidden or ticked in it.
func (p page) form(t *testing.T, action string) (string, url.Values) {
	t.Helper()
	for _, m := range formTag.FindAllStringSubmatch(p.body, -1) {
		to := html.UnescapeString(m[1])
		path, _, _ := strings.Cut(to, "?")
		if !strings.HasSuffix(path, action) {
			continue
		}
		out := url.Values{}
		for _, tag := range []*regexp.Regexp{hidden, ticked} {
			for _, i := range tag.FindAllStringSubmatch(m[2], -1) {
				out.Add(i[1], html.UnescapeString(i[2]))
			}
		}
		return to, out
	}
	t.Fatalf("no form %s on %s (%d):\n%s", action, p.url, p.status, p.body)
	return "", nil
}

// submit sends a form of the page with more values.
func (b *browser) submit(p page, action string, more ...string) page {
	b.h.t.Helper()
	to, form := p.form(b.h.t, action)
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return b.send(http.MethodPost, to, form)
}

const verifier = "a-verifier-of-at-least-forty-three-characters-1234"

// put stores resources of a practice, as an import does.
func (h *house) put(practice string, resources ...string) {
	h.t.Helper()
	ctx := context.Background()
	tenant, ok := h.records.Tenant(practice)
	if !ok {
		h.t.Fatal(practice)
	}
	grant, err := h.core.Engine.Authorize(ctx, server.Operator(tenant, "test"), fhir.Transaction, "")
	if err != nil {
		h.t.Fatal(err)
	}
	var cleared []record.Cleared
	for _, text := range resources {
		r, err := codec.Parse([]byte(text))
		if err != nil {
			h.t.Fatal(err)
		}
		c, err := h.core.Gate.Admit(ctx, grant, record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r, Upsert: true, Import: true})
		if err != nil {
			h.t.Fatal(err)
		}
		cleared = append(cleared, c)
	}
	digest := sha256.Sum256([]byte(strings.Join(resources, "")))
	if _, err := h.core.Store.Import(ctx, cleared, digest[:]); err != nil {
		h.t.Fatal(err)
	}
}

// authorize begins an authorization, and gives the page that the browser ends on.
func (b *browser) authorize(more ...string) page {
	b.h.t.Helper()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {appID}, "redirect_uri": {redirect}, "scope": {strings.Join(scopes, " ")}, "state": {"some-state-of-the-app"},
		"aud": {b.h.base + "/fhir"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return b.get("/smart/authorize?" + q.Encode())
}

// signIn fills the forms of a sign-in, from the page that asks for it.
func (b *browser) signIn(p page, email string) page {
	b.h.t.Helper()
	p = b.submit(p, "/sign-in", "email", email, "password", password)
	if b.h.secrets[email] == "" {
		return p
	}
	b.h.advance(time.Minute)
	return b.submit(p, "/second-factor", "code", b.h.code(email))
}

// token redeems the code that the browser brought back.
func (h *house) token(back page, form url.Values) (int, map[string]any) {
	h.t.Helper()
	if form == nil {
		code := back.left().Get("code")
		if code == "" {
			h.t.Fatalf("no code: %d %s\n%s", back.status, back.header.Get("Location"), back.body)
		}
		form = url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier}}
	}
	if !form.Has("client_id") {
		form.Set("client_id", appID)
	}
	res, err := http.PostForm(h.base+"/smart/token", form)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	out := map[string]any{}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		h.t.Fatal(err)
	}
	return res.StatusCode, out
}

// read asks the FHIR API.
func (h *house) read(path string, token any) int {
	h.t.Helper()
	rq, err := http.NewRequestWithContext(context.Background(), http.MethodGet, h.at+"/fhir/"+path, http.NoBody)
	if err != nil {
		h.t.Fatal(err)
	}
	rq.Header.Set("Authorization", fmt.Sprint("Bearer ", token))
	res, err := http.DefaultClient.Do(rq)
	if err != nil {
		h.t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func decode(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
