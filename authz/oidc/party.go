package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// client is a Client with what was discovered of its provider.
type client struct {
	Client
	*provider
	redirect string
	// direct asks for keys without repeating an answer: an ID token comes from the provider itself, so that nobody
	// else can have us ask, and a key that was changed a moment ago is found.
	direct *http.Client
	// exchange is for what is no question about the provider: codes, and who somebody is.
	exchange *http.Client
}

func newClient(c Client, redirect string, now func() time.Time) *client {
	p := newProvider(Issuer{URL: c.Issuer, Audience: c.ID, Algorithms: c.Algorithms}, now)
	return &client{
		Client: c, provider: p, redirect: redirect, direct: asking(newThrottle(now, 0)),
		exchange: &http.Client{Timeout: askLimit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// down says that a provider cannot be asked now.
func down(err error) error {
	return outcome.New(outcome.Unavailable, "the identity provider does not answer at the moment: try again in a few minutes").Because(err)
}

// unfit is the one refusal of an answer that is not good; the log gets the reason.
func unfit(reason error) error {
	return outcome.New(outcome.Forbidden, "the answer of the identity provider cannot be accepted: start again").Because(reason)
}

// declined says that the provider did not sign her in, by her own wish or by its.
func declined(code string) error {
	return outcome.New(outcome.Login, "you were not signed in there").Because(fmt.Errorf("oidc: the provider answers %.40q", code))
}

// Ask is what a sign-in at a provider must be beyond that.
type Ask struct {
	Anew bool   // she signs in once more, though she is signed in there
	Hint string // who she probably is (login_hint)
}

// Offered finds a provider by its name.
func (p *Party) Offered(name string) (Offer, bool) {
	c := p.named(name)
	if c == nil {
		return Offer{}, false
	}
	return Offer{c.Name, c.Title, slices.Clone(c.Practices)}, true
}

// Visit is a visit to the named provider, with the age that its configuration and the caller allow a sign-in; nil allows any.
func (p *Party) Visit(name, back string, maxAge *time.Duration) (identity.Visit, bool) {
	c := p.named(name)
	if c == nil {
		return identity.Visit{}, false
	}
	if c.MaxAge > 0 && (maxAge == nil || *maxAge > c.MaxAge) {
		maxAge = &c.MaxAge
	}
	return identity.Visit{Provider: name, Return: back, MaxAge: maxAge}, true
}

// Authorize gives the address at the provider that a visit begins with (OpenID Connect Core 1.0, 3.1.2.1). The error is an
// [outcome.Error], Unavailable while the provider cannot be asked where that is.
func (p *Party) Authorize(ctx context.Context, v identity.Visit, ask Ask) (string, error) {
	c := p.named(v.Provider)
	if c == nil {
		return "", unfit(errors.New("oidc: no such provider"))
	}
	found, err := c.discover(ctx)
	if err != nil {
		return "", down(err)
	}
	cfg, err := c.config(found)
	if err != nil {
		return "", down(err)
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(v.Nonce()), oauth2.S256ChallengeOption(v.Verifier())}
	add := func(name, value string) { options = append(options, oauth2.SetAuthURLParam(name, value)) }
	if v.MaxAge != nil {
		add("max_age", strconv.FormatInt(int64(*v.MaxAge/time.Second), 10))
	}
	if ask.Anew {
		add("prompt", "login")
	}
	if ask.Hint != "" {
		add("login_hint", ask.Hint)
	}
	if len(c.Assurance.ACR) > 0 {
		add("acr_values", strings.Join(c.Assurance.ACR, " "))
	}
	return cfg.AuthCodeURL(v.State(), options...), nil
}

// config is what oauth2 has to know. The error says that the discovery document is not one to rely on.
func (c *client) config(d *discovered) (*oauth2.Config, error) {
	for _, s := range []string{d.Authorization, d.Token} {
		if u, err := url.Parse(s); err != nil || u.Host == "" || !trusted(u) {
			return nil, errors.New("oidc: an endpoint of the provider is not at an https URL")
		}
	}
	// RFC 8414, section 2: client_secret_basic where nothing else is said. A code is good once, so nothing is tried out.
	style := oauth2.AuthStyleInHeader
	if c.Secret == "" || len(d.AuthMethods) > 0 && !slices.Contains(d.AuthMethods, "client_secret_basic") {
		style = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID: c.ID, ClientSecret: string(c.Secret), RedirectURL: c.redirect, Scopes: append([]string{oidc.ScopeOpenID}, c.Scopes...),
		Endpoint: oauth2.Endpoint{AuthURL: d.Authorization, TokenURL: d.Token, AuthStyle: style},
	}, nil
}

// Arrival is somebody who comes back from a provider.
type Arrival struct {
	External identity.External
	Token    string // her ID token, the hint for a sign-out there
}

// Redeem makes of the answer of a provider (OpenID Connect Core 1.0, 3.1.2.5) who somebody is. v is the visit that state belongs to.
// The error is an [outcome.Error]: Unavailable while the provider does not answer, Login if it let nobody in, and
// otherwise Forbidden.
func (p *Party) Redeem(ctx context.Context, v identity.Visit, answer url.Values) (Arrival, error) {
	c := p.named(v.Provider)
	if c == nil {
		return Arrival{}, unfit(errors.New("oidc: the provider is not configured any more"))
	}
	found, err := c.discover(ctx)
	if err != nil {
		return Arrival{}, down(err)
	}
	// RFC 9207, 2.4: before anything that the answer holds goes anywhere.
	if list := answer["iss"]; len(list) > 1 || len(list) == 1 && list[0] != c.Issuer || len(list) == 0 && found.Names {
		return Arrival{}, unfit(errors.New("oidc: the answer is that of another issuer"))
	}
	switch said := answer.Get("error"); said {
	case "":
	case "temporarily_unavailable", "server_error":
		return Arrival{}, down(errors.New("oidc: the provider says that it is unavailable"))
	default:
		return Arrival{}, declined(said)
	}
	code := answer.Get("code")
	if code == "" {
		return Arrival{}, unfit(errors.New("oidc: the answer has neither code nor error"))
	}
	cfg, err := c.config(found)
	if err != nil {
		return Arrival{}, down(err)
	}
	tokens, err := cfg.Exchange(oidc.ClientContext(ctx, c.exchange), code, oauth2.VerifierOption(v.Verifier()))
	if err != nil {
		return Arrival{}, refusedCode(err)
	}
	text, _ := tokens.Extra("id_token").(string)
	token, claims, err := c.idToken(ctx, found, text, v, tokens.AccessToken)
	if err != nil {
		return Arrival{}, err
	}
	if err := c.complete(ctx, found, claims, token.Subject, tokens); err != nil {
		return Arrival{}, err
	}
	x, err := c.external(token, claims, v)
	if err != nil {
		return Arrival{}, unfit(err)
	}
	return Arrival{x, text}, nil
}

// refusedCode tells a code that is not good from a provider that does not answer, or does not know this server.
func refusedCode(err error) error {
	var said *oauth2.RetrieveError
	if !errors.As(err, &said) {
		return down(err)
	}
	// Not the error itself: it holds the body of the answer.
	reason := fmt.Errorf("oidc: the token endpoint answers %d %q", said.Response.StatusCode, said.ErrorCode)
	if said.ErrorCode == "invalid_grant" && said.Response.StatusCode/100 == 4 {
		return unfit(reason)
	}
	return down(reason)
}

// idToken checks an ID token (OpenID Connect Core 1.0, 3.1.3.7): what go-oidc checks, and the rest.
func (c *client) idToken(ctx context.Context, found *discovered, text string, v identity.Visit, access string) (*oidc.IDToken, reader, error) {
	token, claims, err := c.signed(ctx, found, c.direct, text)
	if err != nil {
		return nil, nil, err
	}
	if token.Nonce == "" || token.Nonce != v.Nonce() {
		return nil, nil, unfit(errors.New("oidc: the ID token is for another sign-in"))
	}
	if party := claims.text("azp", false); party != c.ID && (party != "" || len(token.Audience) > 1) {
		return nil, nil, unfit(errors.New("oidc: the ID token was made for another client"))
	}
	if token.AccessTokenHash != "" {
		if err := token.VerifyAccessToken(access); err != nil {
			return nil, nil, unfit(errors.New("oidc: the ID token belongs to another access token"))
		}
	}
	return token, claims, nil
}

// skew is by how much the clock of a provider may differ.
const skew = time.Minute

// signed checks what every token of a provider must be. Keys are fetched with by.
func (c *client) signed(ctx context.Context, found *discovered, by *http.Client, text string) (*oidc.IDToken, reader, error) {
	if _, err := issuerOf(text); err != nil { // compact form, and not too long
		return nil, nil, unfit(err)
	}
	verifier := found.verifier
	if by == c.direct {
		verifier = c.verifier(found.document, by) // with no keys yet: one that was withdrawn is not known any more
	}
	token, err := verified(ctx, verifier, text)
	if err != nil && errors.Is(err, errUnreachable) {
		return nil, nil, down(err)
	}
	if err != nil {
		return nil, nil, unfit(err)
	}
	var claims reader
	if err := token.Claims(&claims); err != nil {
		return nil, nil, unfit(err)
	}
	// encoding/json, which go-oidc reads with, takes a claim in another spelling for the claim.
	for name := range claims {
		if lower := strings.ToLower(name); name != lower && slices.Contains(ofToken, lower) {
			return nil, nil, unfit(fmt.Errorf("oidc: claim %s in another spelling", lower))
		}
	}
	now := c.now()
	switch {
	case !now.Before(token.Expiry):
		err = errors.New("oidc: the token has expired")
	case token.IssuedAt.After(now.Add(skew)) || token.IssuedAt.Before(now.Add(-identity.VisitLife)):
		err = errors.New("oidc: the token was made at another time")
	case token.Subject == "" && !has(claims, "sid") || len(token.Subject) > maxIdentity:
		err = errors.New("oidc: the token names nobody")
	}
	if err != nil {
		return nil, nil, unfit(err)
	}
	return token, claims, nil
}

// maxIdentity bounds a subject, in bytes (OpenID Connect Core 1.0, section 2).
const maxIdentity = 255

// ofToken are the claims that the checks of a token rest on.
var ofToken = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "nonce", "azp", "at_hash", "acr", "amr", "auth_time", "sid", "jti", "events"}

func has(claims reader, name string) bool { _, ok := claims[name]; return ok }

// complete adds what the userinfo endpoint says to what the ID token leaves out (OpenID Connect Core 1.0, 5.3.2): some
// providers give addresses and groups there alone. What the sign-in itself was is never taken from there.
func (c *client) complete(ctx context.Context, found *discovered, claims reader, subject string, tokens *oauth2.Token) error {
	email := c.Claims.email()
	missing := !has(claims, email) || len(c.Claims.Roles) > 0 && !has(claims, c.Claims.Roles[0])
	if !missing || found.Userinfo == "" {
		return nil
	}
	if u, err := url.Parse(found.Userinfo); err != nil || !trusted(u) {
		return down(errors.New("oidc: the userinfo endpoint is not at an https URL"))
	}
	info, err := found.provider.UserInfo(oidc.ClientContext(ctx, c.exchange), oauth2.StaticTokenSource(tokens))
	if err != nil {
		return down(errors.New("oidc: the userinfo endpoint does not answer as it should")) // the error holds the answer
	}
	if info.Subject != subject {
		return unfit(errors.New("oidc: the userinfo endpoint speaks of somebody else"))
	}
	var more map[string]json.RawMessage
	if err := info.Claims(&more); err != nil {
		return unfit(errors.New("oidc: the userinfo endpoint gives no object"))
	}
	if !has(claims, email) {
		delete(claims, claimVerified) // it is said of an address, which is another one
		take(claims, more, email, claimVerified)
	}
	take(claims, more, c.Claims.name())
	if len(c.Claims.Roles) > 0 {
		take(claims, more, c.Claims.Roles[0])
	}
	return nil
}

// take copies what is not there yet.
func take(into reader, from map[string]json.RawMessage, names ...string) {
	for _, n := range names {
		if v, ok := from[n]; ok && !has(into, n) && !slices.Contains(ofToken, n) {
			into[n] = v
		}
	}
}
