package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/api/smart"
	accounts "github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/export"
)

type practices map[string]int32

func (p practices) Tenant(slug string) (int32, bool) { id, ok := p[slug]; return id, ok }

// backends is a clinic that exports, with its authorization server, on a network.
type backends struct {
	*clinic
	exports *export.Service
	apps    *accounts.Store
	net     *http.Client
	cut     int // bytes after which the next file breaks off, or 0
}

// still is the clock of the clinic, which asking does not move.
func (b *backends) still() time.Time { return clock().Add(time.Duration(b.tick.Load()) * time.Second) }

// RoundTrip carries requests to https://clinic.example to the server, and breaks a file off.
func (b *backends) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && b.cut > 0 && strings.HasSuffix(r.URL.Path, ".ndjson") {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(res.Body, int64(b.cut)), broken{}), res.Body}
		b.cut = 0
	}
	return res, err //nolint:wrapcheck // a test
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the connection is gone") }

func newBackends(t *testing.T) *backends {
	t.Helper()
	c, s := newBulk(t)
	b := &backends{clinic: c, exports: s}
	ctx := t.Context()
	var err error
	if b.apps, err = accounts.Open(ctx, accounts.Options{URL: c.dsn, MaxConns: 4}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.apps.Close)
	box, err := identity.NewBox(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	const issuer = "https://clinic.example/smart"
	people, err := identity.New(identity.Config{Store: b.apps, Box: box, Audit: c.store, Now: b.still, Pages: issuer})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := smart.NewRing(ctx, b.apps, box, b.still)
	if err != nil {
		t.Fatal(err)
	}
	ended, known := oidc.NewEnded(b.apps.Ended, b.still), practices{"harbor": c.tenant}
	tokens, err := oidc.New(nil, known, b.still, oidc.Local{Issuer: oidc.Issuer{URL: issuer, Audience: c.cfg.Base}, Keys: ring, Ended: ended})
	if err != nil {
		t.Fatal(err)
	}
	server, err := smart.New(smart.Config{
		Issuer: issuer, FHIRBase: c.cfg.Base, SignIn: issuer + "/interaction", SignOut: issuer + "/account", Store: b.apps, Keys: ring, People: people,
		Practices: known, Ended: ended, Authenticator: tokens, Audit: c.store, Log: c.cfg.Log, Now: b.still,
		Limits: smart.Limits{Address: 1 << 30, Failures: 1 << 30, Register: 1 << 30},
	})
	if err != nil {
		t.Fatal(err)
	}
	said := server.Configuration()
	c.cfg.Authenticator = current{tokens, ended}
	c.cfg.SMART = &SMART{Issuer: said.Issuer, JWKS: said.JWKS, TokenEndpoint: said.Token, GrantTypes: said.GrantTypes, TokenAuthMethods: said.AuthMethods, TokenAuthAlgorithms: said.AuthAlgorithms, Scopes: said.Scopes}
	if c.Handler, err = New(c.cfg); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/smart/", http.StripPrefix("/smart", server.Handler()))
	mux.Handle("/", c)
	listener := httptest.NewServer(mux)
	t.Cleanup(listener.Close)
	b.net = &http.Client{Transport: redirected{b, listener.URL}, Timeout: time.Minute}
	return b
}

// current knows which grants have ended, whatever the clock of the test does; a server reads that every few seconds.
type current struct {
	tokens *oidc.Authenticator
	ended  *oidc.Ended
}

func (c current) Authenticate(ctx context.Context, token string) (authz.Principal, error) {
	if err := c.ended.Refresh(ctx); err != nil {
		return authz.Principal{}, err //nolint:wrapcheck // a test
	}
	return c.tokens.Authenticate(ctx, token) //nolint:wrapcheck // a test
}

// redirected sends what is for https://clinic.example to where the server listens.
type redirected struct {
	to http.RoundTripper
	at string
}

func (r redirected) RoundTrip(rq *http.Request) (*http.Response, error) {
	to, err := url.Parse(r.at)
	if err != nil {
		return nil, err //nolint:wrapcheck // a test
	}
	rq = rq.Clone(rq.Context())
	rq.URL.Scheme, rq.URL.Host, rq.Host = to.Scheme, to.Host, "clinic.example"
	return r.to.RoundTrip(rq) //nolint:wrapcheck // a test
}

// backend is a client as public ones are: it signs in with its key, signs in anew when its token has
// expired, waits as long as it is told to, holds the manifest against the specification, and goes on with
// a file that broke off.
type backend struct {
	t       *testing.T
	b       *backends
	id      string
	key     jose.JSONWebKey
	scopes  string
	token   string
	expires time.Time
	signed  int // how often it signed in
	waited  int // seconds
	resumed int
}

// register makes a client known to the server and to the practice.
func (b *backends) register(t *testing.T, id, scopes string, organizations ...fhir.ID) *backend {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &backend{t: t, b: b, id: id, scopes: scopes, key: jose.JSONWebKey{Key: k, KeyID: id + "-1", Algorithm: "ES384", Use: "sig"}}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{c.key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	a := app.App{
		ID: id, Name: id, Auth: app.PrivateKeyJWT, JWKS: set, Grants: []string{app.ClientCredentials}, Scopes: []string{"system/*.rs"},
		Purposes: []string{"TREAT"}, Roles: []string{"hie"}, Organizations: organizations, Registered: b.still(),
	}
	if err := errors.Join(a.Validate(), b.apps.Register(t.Context(), a), b.apps.ApproveApp(t.Context(), id, app.Approval{Tenant: b.tenant, Practice: "harbor", By: "test", At: b.still()})); err != nil {
		t.Fatal(err)
	}
	return c
}

// assertion is a JWT as SMART Backend Services asks for: iss and sub are the client, aud is the token endpoint.
func (c *backend) assertion(endpoint string) string {
	c.t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES384, Key: c.key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"iss": c.id, "sub": c.id, "aud": endpoint, "exp": c.b.still().Add(4 * time.Minute).Unix(), "jti": record.NewID()})
	if err != nil {
		c.t.Fatal(err)
	}
	signed, err := s.Sign(text)
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := signed.CompactSerialize()
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// reply is what came back, beside its body.
type reply struct {
	StatusCode int
	Header     http.Header
}

// send sends a request as it is.
func (b *backends) send(t *testing.T, method, to, token string, body io.Reader, headers ...string) (reply, []byte, error) {
	t.Helper()
	rq, err := http.NewRequestWithContext(t.Context(), method, to, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		rq.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		rq.Header.Set(headers[i], headers[i+1])
	}
	res, err := b.net.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header}, text, err //nolint:wrapcheck // a test
}

// discover gives the token endpoint.
func (c *backend) discover() string {
	c.t.Helper()
	_, text, _ := c.b.send(c.t, "GET", c.b.cfg.Base+"/.well-known/smart-configuration", "", nil)
	var said struct {
		Token   string   `json:"token_endpoint"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
		Grants  []string `json:"grant_types_supported"`
	}
	if err := json.Unmarshal(text, &said); err != nil || !slices.Contains(said.Methods, "private_key_jwt") || !slices.Contains(said.Grants, "client_credentials") {
		c.t.Fatalf("%v %s", err, text)
	}
	return said.Token
}

// ask sends an assertion to the token endpoint.
func (c *backend) ask(endpoint, assertion, scope string) (int, map[string]any) {
	c.t.Helper()
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {scope}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	}
	res, text, _ := c.b.send(c.t, "POST", endpoint, "", strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
	said := map[string]any{}
	if err := json.Unmarshal(text, &said); err != nil {
		c.t.Fatalf("%d %s", res.StatusCode, text)
	}
	return res.StatusCode, said
}

func (c *backend) signIn() {
	c.t.Helper()
	endpoint := c.discover()
	status, said := c.ask(endpoint, c.assertion(endpoint), c.scopes)
	life, _ := said["expires_in"].(float64)
	if status != http.StatusOK || !strings.EqualFold(fmt.Sprint(said["token_type"]), "bearer") || life <= 0 || said["scope"] != c.scopes || said["refresh_token"] != nil {
		c.t.Fatalf("%d %v", status, said)
	}
	c.token, c.expires = fmt.Sprint(said["access_token"]), c.b.still().Add(time.Duration(life)*time.Second)
	c.signed++
}

// do sends a request with a token that is good, and once more with a new one where it was not.
func (c *backend) do(method, to, body string, headers ...string) (reply, []byte, error) {
	c.t.Helper()
	for again := false; ; again = true {
		if c.token == "" || !c.b.still().Before(c.expires) {
			c.signIn()
		}
		if body != "" {
			headers = append(headers, "Content-Type", "application/fhir+json")
		}
		res, text, err := c.b.send(c.t, method, to, c.token, strings.NewReader(body), headers...)
		if res.StatusCode != http.StatusUnauthorized || again {
			return res, text, err
		}
		c.token = ""
	}
}

// kickOff gives the place of the status.
func (c *backend) kickOff(path string) string {
	c.t.Helper()
	res, text, _ := c.do("GET", c.b.cfg.Base+path, "", "Accept", "application/fhir+json", "Prefer", "respond-async")
	if res.StatusCode != http.StatusAccepted || len(text) > 0 || !strings.HasPrefix(res.Header.Get("Content-Location"), "https://") {
		c.t.Fatalf("%d %v %s", res.StatusCode, res.Header, text)
	}
	return res.Header.Get("Content-Location")
}

// poll asks until the export is done, and waits as it is told.
func (c *backend) poll(place string, each func()) manifest {
	c.t.Helper()
	for range 100 {
		res, text, _ := c.do("GET", place, "", "Accept", "application/json")
		switch res.StatusCode {
		case http.StatusAccepted:
			wait, err := strconv.Atoi(res.Header.Get("Retry-After"))
			if err != nil || wait < 1 || res.Header.Get("X-Progress") == "" || len(res.Header.Get("X-Progress")) > 100 {
				c.t.Fatalf("%v", res.Header)
			}
			c.waited += wait
			c.b.tick.Add(int64(wait))
			each()
		case http.StatusOK:
			if res.Header.Get("Content-Type") != "application/json" {
				c.t.Errorf("%v", res.Header)
			}
			if expires, err := http.ParseTime(res.Header.Get("Expires")); err != nil || !expires.After(c.b.still()) {
				c.t.Errorf("Expires: %v %v", expires, err)
			}
			return c.validate(text)
		default:
			c.t.Fatalf("%d %s", res.StatusCode, text)
		}
	}
	c.t.Fatal("the export does not end")
	return manifest{}
}

// validate holds a manifest against the table of the specification.
func (c *backend) validate(text []byte) manifest {
	c.t.Helper()
	var has map[string]json.RawMessage
	var m manifest
	if err := errors.Join(json.Unmarshal(text, &has), json.Unmarshal(text, &m)); err != nil {
		c.t.Fatal(err)
	}
	for _, name := range []string{"transactionTime", "request", "requiresAccessToken", "output", "error"} {
		if has[name] == nil {
			c.t.Errorf("the manifest lacks %s: %s", name, text)
		}
	}
	if _, err := time.Parse(time.RFC3339Nano, m.TransactionTime); err != nil {
		c.t.Error(err)
	}
	for _, f := range slices.Concat(m.Output, m.Error, m.Deleted) {
		if u, err := url.Parse(f.URL); err != nil || !u.IsAbs() || !fhir.ResourceType(f.Type).Valid() || f.Count < 1 {
			c.t.Errorf("%+v", f)
		}
	}
	return m
}

// download fetches a file, and goes on where it broke off.
func (c *backend) download(f entry) string {
	c.t.Helper()
	res, text, err := c.do("GET", f.URL, "", "Accept", "application/fhir+ndjson", "Accept-Encoding", "identity")
	for ; err != nil; c.resumed++ {
		if res.Header.Get("Accept-Ranges") != "bytes" || res.Header.Get("ETag") == "" {
			c.t.Fatalf("nothing to resume by: %v", res.Header)
		}
		var more []byte
		res, more, err = c.do("GET", f.URL, "", "Accept", "application/fhir+ndjson", "Accept-Encoding", "identity", "Range", "bytes="+strconv.Itoa(len(text))+"-", "If-Range", res.Header.Get("ETag"))
		if res.StatusCode == http.StatusOK {
			text = nil
		} else if res.StatusCode != http.StatusPartialContent || !strings.HasPrefix(res.Header.Get("Content-Range"), "bytes "+strconv.Itoa(len(text))+"-") {
			c.t.Fatalf("%d %v", res.StatusCode, res.Header)
		}
		text = append(text, more...)
	}
	if res.Header.Get("Content-Type") != "application/fhir+ndjson" || bytes.Count(text, []byte("\n")) != f.Count {
		c.t.Errorf("%d lines of %d, %v", bytes.Count(text, []byte("\n")), f.Count, res.Header)
	}
	for l := range bytes.Lines(text) {
		var r struct{ ResourceType string }
		if err := json.Unmarshal(l, &r); err != nil || r.ResourceType != f.Type {
			c.t.Errorf("%v in a file of %s: %s", err, f.Type, l)
		}
	}
	return string(text)
}

// A backend service from its registration to the deletion of what it fetched, against the authorization server itself, in the words of
// SMART Backend Services and of Bulk Data Access, and with the behaviours of public clients.
func TestBulkBackendService(t *testing.T) {
	b := newBackends(t)
	for _, text := range []string{
		`{"resourceType":"Organization","id":"county","name":"County Exchange"}`,
		`{"resourceType":"Group","id":"panel","type":"person","actual":true,"managingEntity":{"reference":"Organization/county"},"member":[{"entity":{"reference":"Patient/bert"}}]}`,
		diagnosis("k1", "bert", "R51.9"), diagnosis("k2", "anna", "R05.9"), diagnosis("hidden", "bert", "B20"),
	} {
		b.change(t, fhir.Update, text)
	}
	const scopes = "system/Condition.rs system/Group.rs system/Patient.rs"
	c, other := b.register(t, "county", scopes, "county"), b.register(t, "other", scopes, "other")
	wants := func(t *testing.T, who *backend, method, to string, status int) {
		t.Helper()
		if res, text, _ := who.do(method, to, ""); res.StatusCode != status || status >= 400 && !bytes.Contains(text, []byte(`"OperationOutcome"`)) {
			t.Errorf("%s %s as %s: %d %s, want %d", method, to, who.id, res.StatusCode, text, status)
		}
	}

	t.Run("the client discovers the token endpoint, and signs in with a JWT that its private key signed", func(t *testing.T) {
		c.t, other.t = t, t
		c.signIn()
		endpoint := c.discover()
		once := c.assertion(endpoint)
		if status, said := c.ask(endpoint, once, scopes); status != 200 {
			t.Errorf("%d %v", status, said)
		}
		if status, said := c.ask(endpoint, once, scopes); status < 400 || said["error"] != "invalid_client" {
			t.Errorf("an assertion is good twice: %d %v", status, said)
		}
		forged := *c
		forged.key = other.key
		if status, said := c.ask(endpoint, forged.assertion(endpoint), scopes); status < 400 || said["error"] != "invalid_client" {
			t.Errorf("another's key: %d %v", status, said)
		}
		if status, said := c.ask(endpoint, c.assertion("https://elsewhere.example/token"), scopes); status < 400 || said["error"] != "invalid_client" {
			t.Errorf("an assertion for another server: %d %v", status, said)
		}
		if status, said := c.ask(endpoint, c.assertion(endpoint), "user/Patient.rs"); status < 400 || said["access_token"] != nil {
			t.Errorf("scopes of a user: %d %v", status, said)
		}
	})
	t.Run("a kick-off without a good token is refused with 401, and one of what the scopes do not cover with 403", func(t *testing.T) {
		c.t, other.t = t, t
		for _, token := range []string{"", "not-a-token"} {
			if res, text, _ := b.send(t, "GET", b.cfg.Base+"/$export", token, nil, "Prefer", "respond-async"); res.StatusCode != http.StatusUnauthorized || res.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%q: %d %v %s", token, res.StatusCode, res.Header, text)
			}
		}
		if res, _, _ := c.do("GET", b.cfg.Base+"/$export?_type=Observation", "", "Prefer", "respond-async"); res.StatusCode != http.StatusForbidden {
			t.Errorf("%d", res.StatusCode)
		}
	})

	var place string
	var m manifest
	t.Run("a kick-off is answered 202 with Content-Location, its status 202 with X-Progress and Retry-After until it is complete", func(t *testing.T) {
		c.t, other.t = t, t
		place = c.kickOff("/Group/panel/$export")
		turns := 0
		m = c.poll(place, func() {
			if turns++; turns > 1 {
				work(t, b.exports)
			}
		})
		if turns != 2 || c.waited < 4 {
			t.Errorf("%d turns, %d seconds", turns, c.waited)
		}
	})
	t.Run("the manifest lists what the Group's members have and the client may see", func(t *testing.T) {
		c.t, other.t = t, t
		if !m.RequiresAccessToken || m.Request != b.cfg.Base+"/Group/panel/$export" || len(m.Error) != 0 {
			t.Errorf("%+v", m)
		}
		var got []string
		for _, f := range m.Output {
			for l := range strings.Lines(c.download(f)) {
				var r struct{ ResourceType, ID string }
				_ = json.Unmarshal([]byte(l), &r) // it was read before
				got = append(got, r.ResourceType+"/"+r.ID)
			}
		}
		if strings.Join(got, " ") != "Condition/k1 Group/panel Patient/bert" {
			t.Errorf("%q", got)
		}
	})
	t.Run("a token that expires in mid-job is replaced, and the export goes on", func(t *testing.T) {
		c.t, other.t = t, t
		signed := c.signed
		at := c.kickOff("/$export?_type=Patient,Condition")
		c.poll(at, func() {
			b.tick.Add(int64(smart.AccessLife / time.Second))
			// Without a new one the client is outside.
			if res, _, _ := b.send(t, "GET", at, c.token, nil); res.StatusCode != http.StatusUnauthorized {
				t.Errorf("with the old token: %d", res.StatusCode)
			}
			work(t, b.exports)
		})
		if c.signed <= signed {
			t.Error("the token was not replaced")
		}
		wants(t, c, "DELETE", at, 202)
	})
	t.Run("a file that requires a token is not given without one", func(t *testing.T) {
		c.t, other.t = t, t
		if res, _, _ := b.send(t, "GET", m.Output[0].URL, "", nil); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%d", res.StatusCode)
		}
	})
	t.Run("a download that breaks off is resumed where it broke off", func(t *testing.T) {
		c.t, other.t = t, t
		whole, resumed := c.download(m.Output[0]), c.resumed
		b.cut = 25
		if got := c.download(m.Output[0]); got != whole || c.resumed != resumed+1 || len(whole) <= 25 {
			t.Errorf("%d resumed, %q", c.resumed-resumed, got)
		}
	})
	t.Run("status, files and deletion are the client's that began the export: to another they are 404, as is the Group", func(t *testing.T) {
		c.t, other.t = t, t
		wants(t, other, "GET", place, 404)
		wants(t, other, "GET", m.Output[0].URL, 404)
		wants(t, other, "DELETE", place, 404)
		if res, _, _ := other.do("GET", b.cfg.Base+"/Group/panel/$export", "", "Prefer", "respond-async"); res.StatusCode != http.StatusNotFound {
			t.Errorf("the Group of another: %d", res.StatusCode)
		}
		wants(t, c, "GET", place, 200)
	})
	t.Run("a client that asks too often is told to wait, 429 with Retry-After", func(t *testing.T) {
		c.t, other.t = t, t
		at := c.kickOff("/Patient/$export?_type=Patient")
		var res reply
		for range 40 {
			res, _, _ = c.do("GET", at, "")
		}
		if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
		wants(t, c, "DELETE", at, 202)
	})
	t.Run("an export that is deleted while it is under way comes to nothing, and is 404 from then on", func(t *testing.T) {
		c.t, other.t = t, t
		at := c.kickOff("/$export?_type=Patient")
		wants(t, c, "DELETE", at, 202)
		work(t, b.exports)
		wants(t, c, "GET", at, 404)
		wants(t, c, "GET", at+"/1.ndjson", 404)
		wants(t, c, "DELETE", at, 404)
	})
	t.Run("a complete export that is deleted is 404, with its files", func(t *testing.T) {
		c.t, other.t = t, t
		wants(t, c, "DELETE", place, 202)
		wants(t, c, "GET", place, 404)
		wants(t, c, "GET", m.Output[0].URL, 404)
	})
	t.Run("after the time that Expires says, status and files are 404", func(t *testing.T) {
		c.t, other.t = t, t
		at := c.kickOff("/$export?_type=Patient")
		m := c.poll(at, func() { work(t, b.exports) })
		res, _, _ := c.do("GET", at, "")
		expires, err := http.ParseTime(res.Header.Get("Expires"))
		if err != nil {
			t.Fatal(err)
		}
		b.tick.Add(int64(expires.Sub(b.still())/time.Second) + 2)
		wants(t, c, "GET", at, 404)
		wants(t, c, "GET", m.Output[0].URL, 404)
	})
}
