package signin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/identity"
	relying "github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/cmd/cloister/internal/signin"
)

const (
	providerClient = "cloister-at-the-practice"
	providerSecret = "a secret/of: the practice"
)

// someone is who a provider says that she is.
type someone struct {
	sub, email, name string
	verified         bool
	amr              []string
	acr              string
	claims           map[string]any
	signedIn         time.Duration // before now
}

// provider is zitadel/oidc's own OpenID provider, over a small store, with a login page that lets in whom the test wants. It
// runs by the clock of the test.
type provider struct {
	*httptest.Server
	op.OpenIDProvider
	t   *testing.T
	now func() time.Time

	mu       sync.Mutex
	who      someone
	deny     bool
	down     bool
	keys     []signing
	requests map[string]*request
	codes    map[string]string
	redirect []string
	tamper   func(claims map[string]any) // changes an ID token before it is signed again
	ended    []url.Values                // what came to its end_session_endpoint
	count    int
}

func newProvider(t *testing.T, who someone) *provider {
	t.Helper()
	p := &provider{t: t, who: who, requests: map[string]*request{}, codes: map[string]string{}}
	p.rotate()
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	var err error
	p.OpenIDProvider, err = op.NewProvider(&op.Config{CryptoKey: sha256.Sum256([]byte("test")), CodeMethodS256: true, AuthMethodPost: true}, store{p},
		op.StaticIssuer(p.URL), op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rotate makes a new signing key; the one before is not published any more.
func (p *provider) rotate() {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = []signing{{fmt.Sprint("key-", len(p.codes), "-", k.N.Bit(1), k.N.String()[:8]), k}}
}

func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	down, tamper := p.down, p.tamper
	p.mu.Unlock()
	switch {
	case down:
		http.Error(w, "down", http.StatusBadGateway)
	case r.URL.Path == "/login":
		p.login(w, r)
	case r.URL.Path == "/oauth/token" && tamper != nil:
		rec := httptest.NewRecorder()
		p.OpenIDProvider.ServeHTTP(rec, r)
		p.forge(w, rec, tamper)
	default:
		if r.URL.Path == "/end_session" {
			p.set(func() { p.ended = append(p.ended, r.URL.Query()) })
		}
		p.OpenIDProvider.ServeHTTP(w, r)
	}
}

// login is the whole of the provider's login pages.
func (p *provider) login(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	p.mu.Lock()
	rq, deny := p.requests[id], p.deny
	if rq != nil && !deny {
		rq.who, rq.done, rq.at = p.who, true, p.now().Add(-p.who.signedIn)
	}
	p.mu.Unlock()
	if rq == nil {
		http.NotFound(w, r)
		return
	}
	if deny {
		http.Redirect(w, r, rq.GetRedirectURI()+"?error=access_denied&state="+url.QueryEscape(rq.GetState()), http.StatusFound)
		return
	}
	http.Redirect(w, r, op.AuthCallbackURL(p)(op.ContextWithIssuer(r.Context(), p.URL), id), http.StatusFound)
}

// forge signs the ID token of an answer anew, with other claims.
func (p *provider) forge(w http.ResponseWriter, rec *httptest.ResponseRecorder, tamper func(map[string]any)) {
	var answer map[string]any
	if json.Unmarshal(rec.Body.Bytes(), &answer) == nil && answer["id_token"] != nil {
		text, _ := answer["id_token"].(string)
		parsed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			p.t.Error(err)
			return
		}
		claims := map[string]any{}
		if err := json.Unmarshal(parsed.UnsafePayloadWithoutVerification(), &claims); err != nil {
			p.t.Error(err)
		}
		tamper(claims)
		answer["id_token"] = p.sign("JWT", claims)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(rec.Code)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		p.t.Error(err)
	}
}

func (p *provider) sign(kind string, claims map[string]any) string {
	p.mu.Lock()
	k := p.keys[0]
	p.mu.Unlock()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: &jose.JSONWebKey{Key: k.key, KeyID: k.id}}, (&jose.SignerOptions{}).WithType(jose.ContentType(kind)))
	if err != nil {
		p.t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// logoutToken says that sessions have ended; change may spoil it.
func (p *provider) logoutToken(change func(map[string]any)) string {
	p.mu.Lock()
	p.count++
	n := p.count
	p.mu.Unlock()
	now := p.now().Unix()
	c := map[string]any{
		"iss": p.URL, "aud": providerClient, "sub": p.who.sub, "iat": now, "exp": now + 120, "jti": fmt.Sprint("logout-", n),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	if change != nil {
		change(c)
	}
	return p.sign("logout+jwt", c)
}

// at makes a server that has p as a provider of practices.
func (p *provider) at(name string, practices []string, change func(*relying.Client)) func(*house, *signin.Config) {
	return func(h *house, c *signin.Config) {
		p.now = h.clock
		p.redirect = []string{h.base + "/smart/sign-in/callback"}
		client := relying.Client{
			Name: name, Title: "the " + name, Issuer: p.URL, ID: providerClient, Secret: providerSecret, Scopes: []string{"email", "profile"}, Practices: practices,
			Assurance: identity.Assurance{ACR: []string{"urn:example:strong"}},
		}
		if change != nil {
			change(&client)
		}
		c.Providers = append(c.Providers, client)
	}
}

// skew is by how much the provider's own clock, which is that of the machine, goes before that of the test.
func (p *provider) skew() time.Duration { return time.Since(p.now()) }

type signing struct {
	id  string
	key *rsa.PrivateKey
}

func (k signing) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k signing) Algorithm() jose.SignatureAlgorithm          { return jose.RS256 }
func (k signing) Use() string                                 { return "sig" }
func (k signing) ID() string                                  { return k.id }
func (k signing) Key() any                                    { return k.key }

// public is the half of a key that is published.
type public struct{ signing }

func (k public) Key() any { return &k.key.PublicKey }

// request is one sign-in at the provider.
type request struct {
	*oidc.AuthRequest
	id   string
	who  someone
	done bool
	at   time.Time
	skew time.Duration
}

func (r *request) GetID() string          { return r.id }
func (r *request) GetACR() string         { return r.who.acr }
func (r *request) GetAMR() []string       { return r.who.amr }
func (r *request) GetAudience() []string  { return []string{r.ClientID} }
func (r *request) GetAuthTime() time.Time { return r.at.Add(r.skew) }
func (r *request) GetClientID() string    { return r.ClientID }
func (r *request) GetNonce() string       { return r.Nonce }
func (r *request) GetSubject() string     { return r.who.sub }
func (r *request) GetScopes() []string    { return r.Scopes }
func (r *request) Done() bool             { return r.done }
func (r *request) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: r.CodeChallenge, Method: r.CodeChallengeMethod}
}

// store is the op.Storage of a provider.
type store struct{ p *provider }

var errNone = errors.New("there is none")

func (s store) CreateAuthRequest(_ context.Context, r *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.count++
	rq := &request{AuthRequest: r, id: fmt.Sprint("request-", s.p.count), skew: s.p.skew()}
	s.p.requests[rq.id] = rq
	return rq, nil
}

func (s store) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if rq := s.p.requests[id]; rq != nil {
		return rq, nil
	}
	return nil, errNone
}

func (s store) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	s.p.mu.Lock()
	id := s.p.codes[code]
	s.p.mu.Unlock()
	return s.AuthRequestByID(ctx, id)
}

func (s store) SaveAuthCode(_ context.Context, id, code string) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.codes[code] = id
	return nil
}

func (s store) DeleteAuthRequest(_ context.Context, id string) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	delete(s.p.requests, id)
	return nil
}

func (s store) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return "access", time.Now().Add(time.Minute), nil
}

func (s store) CreateAccessAndRefreshTokens(context.Context, op.TokenRequest, string) (string, string, time.Time, error) {
	return "", "", time.Time{}, errNone
}

func (s store) TokenRequestByRefreshToken(context.Context, string) (op.RefreshTokenRequest, error) {
	return nil, errNone
}

func (s store) TerminateSession(context.Context, string, string) error          { return nil }
func (s store) RevokeToken(context.Context, string, string, string) *oidc.Error { return nil }
func (s store) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errNone
}

func (s store) GetRefreshTokenInfo(context.Context, string, string) (string, string, error) {
	return "", "", op.ErrInvalidRefreshToken
}

func (s store) SigningKey(context.Context) (op.SigningKey, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.p.keys[0], nil
}

func (s store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

func (s store) KeySet(context.Context) ([]op.Key, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	out := make([]op.Key, 0, len(s.p.keys))
	for _, k := range s.p.keys {
		out = append(out, public{k})
	}
	return out, nil
}

func (s store) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != providerClient {
		return nil, errNone
	}
	return registered(s), nil
}

func (s store) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if id != providerClient || secret != providerSecret {
		return errNone
	}
	return nil
}

func (s store) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromRequest fills the ID token.
func (s store) SetUserinfoFromRequest(_ context.Context, u *oidc.UserInfo, r op.IDTokenRequest, _ []string) error {
	rq, ok := r.(*request)
	if !ok {
		return errNone
	}
	u.Subject, u.Email, u.EmailVerified, u.Name = rq.who.sub, rq.who.email, oidc.Bool(rq.who.verified), rq.who.name
	for k, v := range rq.who.claims {
		u.AppendClaims(k, v)
	}
	return nil
}

func (s store) SetUserinfoFromToken(_ context.Context, u *oidc.UserInfo, _, subject, _ string) error {
	u.Subject = subject
	return nil
}

func (s store) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return map[string]any{}, nil
}

func (s store) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNone
}

func (s store) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errNone
}
func (s store) Health(context.Context) error { return nil }

// registered is this server as the provider knows it.
type registered struct{ p *provider }

func (c registered) GetID() string            { return providerClient }
func (c registered) RedirectURIs() []string   { return c.p.redirect }
func (c registered) ClockSkew() time.Duration { return c.p.skew() }
func (c registered) PostLogoutRedirectURIs() []string {
	return []string{strings.TrimSuffix(c.p.redirect[0], "sign-in/callback") + "signed-out"}
}
func (c registered) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }
func (c registered) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodBasic }
func (c registered) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c registered) GrantTypes() []oidc.GrantType        { return []oidc.GrantType{oidc.GrantTypeCode} }
func (c registered) LoginURL(id string) string           { return c.p.URL + "/login?id=" + id }
func (c registered) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeBearer }

// IDTokenLifetime makes the end of an ID token five minutes after the test's now: the provider adds the skew to its own.
func (c registered) IDTokenLifetime() time.Duration { return 5*time.Minute - 2*c.p.skew() }
func (c registered) DevMode() bool                  { return true }
func (c registered) RestrictAdditionalIdTokenScopes() func([]string) []string { //nolint:revive,staticcheck // of op.Client
	return func(s []string) []string { return s }
}
func (c registered) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(s []string) []string { return s }
}
func (c registered) IsScopeAllowed(string) bool           { return false }
func (c registered) IDTokenUserinfoClaimsAssertion() bool { return true }

// visitor is a browser that goes to providers as well.
func (h *house) visitor(providers ...*provider) *browser {
	h.t.Helper()
	b := h.browser()
	b.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		for _, p := range providers {
			if strings.HasPrefix(r.URL.String(), p.URL) {
				return nil
			}
		}
		if !strings.HasPrefix(r.URL.String(), h.base) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return b
}

// backChannel posts a logout token, as a provider does.
func (h *house) backChannel(token string) (int, string) {
	h.t.Helper()
	res, err := http.Post(h.base+"/smart/backchannel-logout", "application/x-www-form-urlencoded", strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var b bytes.Buffer
	_, _ = io.Copy(&b, res.Body)
	if res.Header.Get("Cache-Control") != "no-store" {
		h.t.Error("an answer to a logout may be cached")
	}
	return res.StatusCode, b.String()
}

// app registers one more app, for some practices.
func (h *house) app(id string, practices []string, scopes ...string) string {
	h.t.Helper()
	a := app.App{
		ID: id, Name: id, Auth: app.None, Redirects: []string{redirect}, Grants: []string{app.Code, app.Refresh},
		Scopes: scopes, Purposes: []string{"TREAT", "PATRQT"}, Registered: noon,
	}
	if err := a.Validate(); err != nil {
		h.t.Fatal(err)
	}
	if err := h.Store.Register(context.Background(), a); err != nil {
		h.t.Fatal(err)
	}
	for _, slug := range practices {
		tenant, _ := h.records.Tenant(slug)
		if err := h.Store.ApproveApp(context.Background(), id, app.Approval{Tenant: tenant, Practice: slug, By: "test", At: noon}); err != nil {
			h.t.Fatal(err)
		}
	}
	return id
}

// tokenOf asks the token endpoint as that app.
func (h *house) tokenOf(id string, form url.Values) (int, map[string]any) {
	h.t.Helper()
	form.Set("client_id", id)
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
