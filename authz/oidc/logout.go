package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Logout is what a logout token says: the sessions of a subject, or one session of the provider, have ended.
type Logout struct {
	Issuer, Subject, SID string
	ID                   string // jti
}

// The event of OpenID Connect Back-Channel Logout 1.0, section 2.4, and the typ of its tokens.
const (
	eventLogout = "http://schemas.openid.net/event/backchannel-logout"
	typeLogout  = "logout+jwt"
)

// LoggedOut checks a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.6). Whether it was used before is for the
// caller to know. The error is an [outcome.Error]: Unavailable while the keys of the provider cannot be had, otherwise Forbidden.
func (p *Party) LoggedOut(ctx context.Context, text string) (Logout, error) {
	issuer, err := issuerOf(text)
	if err != nil {
		return Logout{}, unfit(err)
	}
	c := p.issued(issuer)
	if c == nil {
		return Logout{}, unfit(errors.New("oidc: the issuer of the logout token is not configured"))
	}
	found, err := c.discover(ctx)
	if err != nil {
		return Logout{}, down(err)
	}
	// Anybody can send one: the keys are not asked for each time.
	token, claims, err := c.signed(ctx, found, c.client, text)
	if err != nil {
		return Logout{}, err
	}
	// Explicit typing is optional; a token that is typed as something else is something else.
	if kind := typeOf(text); kind != "" && kind != "JWT" && kind != typeLogout {
		return Logout{}, unfit(errors.New("oidc: the token is of another type"))
	}
	if has(claims, "nonce") {
		return Logout{}, unfit(errors.New("oidc: the logout token has a nonce, as ID tokens have"))
	}
	var events map[string]map[string]json.RawMessage
	if json.Unmarshal(claims["events"], &events) != nil || events[eventLogout] == nil {
		return Logout{}, unfit(errors.New("oidc: the token is about no logout"))
	}
	out := Logout{Issuer: c.Issuer, Subject: token.Subject, SID: claims.text("sid", false), ID: claims.text("jti", true)}
	if out.Subject == "" && out.SID == "" {
		claims.fail("sid")
	}
	if err := claims.err(); err != nil {
		return Logout{}, unfit(err)
	}
	return out, nil
}

// typeOf is the typ of a token that was checked.
func typeOf(text string) string {
	algorithms := make([]jose.SignatureAlgorithm, 0, len(Algorithms()))
	for _, a := range Algorithms() {
		algorithms = append(algorithms, jose.SignatureAlgorithm(a))
	}
	signed, err := jose.ParseSignedCompact(text, algorithms)
	if err != nil {
		return "none"
	}
	kind, _ := signed.Signatures[0].Protected.ExtraHeaders[jose.HeaderType].(string)
	return strings.TrimPrefix(kind, "application/")
}

// signOutLimit is how long a sign-out waits for a provider that was not discovered yet.
const signOutLimit = 3 * time.Second

// SignOut gives the address at which a browser signs out at a provider as well (OpenID Connect RP-Initiated Logout 1.0), and
// what the provider is called; ok is false where it has none. hint is the ID token of the sign-in, or "", and back where the browser may go then.
func (p *Party) SignOut(ctx context.Context, issuer, hint, back string) (to, title string, ok bool) {
	c := p.issued(issuer)
	if c == nil {
		return "", "", false
	}
	ctx, cancel := context.WithTimeout(ctx, signOutLimit)
	defer cancel()
	found, err := c.discover(ctx)
	if err != nil {
		return "", "", false
	}
	u, err := url.Parse(found.EndSession)
	if err != nil || u.Host == "" || !trusted(u) {
		return "", "", false
	}
	q := u.Query()
	q.Set("client_id", c.ID)
	q.Set("post_logout_redirect_uri", back)
	if hint != "" {
		q.Set("id_token_hint", hint)
	}
	u.RawQuery = q.Encode()
	return u.String(), c.Title, true
}
