// Package oidc turns a bearer token into a principal, for any number of OpenID issuers.
//
// It is the only importer of go-oidc. Issuer, audience, expiry and signature
// are always checked: go-oidc's switches for leaving a check out are not set
// here, and nothing in the configuration leads to them.
package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/mtls"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Issuer is one identity provider whose access tokens are accepted. They must
// be JWTs (RFC 9068).
type Issuer struct {
	URL        string   // exactly as in the tokens' iss claim; https, or http on the loopback interface
	Audience   string   // must be among the tokens' aud claim
	Algorithms []string // signature algorithms (RFC 7518, RFC 8037) that may be used; empty: all of [Algorithms]
}

// Algorithms lists every signature algorithm that can be allowed. All are
// asymmetric: with a shared secret, whoever can check a token could make one.
func Algorithms() []string {
	return []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512,
		oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
	}
}

// Tenants knows the practices of this server.
type Tenants interface {
	// Tenant gives the id of the practice with that slug.
	Tenant(slug string) (int32, bool)
}

// Authenticator checks bearer tokens. It is safe for concurrent use.
type Authenticator struct {
	issuers  map[string]*provider
	local    *local // or nil
	tenants  Tenants
	now      func() time.Time
	verified *cache
}

// maxToken bounds, in bytes, what is parsed at all.
const maxToken = 16 << 10

// Validate says what is wrong with the configuration of one issuer, or nil.
func (i Issuer) Validate() error {
	u, err := url.Parse(i.URL)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return fmt.Errorf("issuer %q is not an issuer URL, such as https://id.example.org", i.URL)
	case u.Scheme != "https" && !loopback(u):
		return fmt.Errorf("issuer %q must use https: whoever can change its answers on the way can forge tokens", i.URL)
	case i.Audience == "":
		return fmt.Errorf("issuer %q has no audience: without one, tokens made for other servers would be accepted", i.URL)
	}
	for _, a := range i.Algorithms {
		if !slices.Contains(Algorithms(), a) {
			return fmt.Errorf("issuer %q: signature algorithm %q is not one of %s", i.URL, a, strings.Join(Algorithms(), ", "))
		}
	}
	return nil
}

// New makes the authenticator. It reaches out to no issuer yet: one that is
// down does not keep the server from starting. now is the one clock of the server. own is
// the authorization server of this program, where it has one.
func New(issuers []Issuer, t Tenants, now func() time.Time, own ...Local) (*Authenticator, error) {
	if len(issuers)+len(own) == 0 {
		return nil, errors.New("oidc: no issuer is configured, so no token could ever be accepted")
	}
	a := &Authenticator{map[string]*provider{}, nil, t, now, newCache(maxCached)}
	for _, l := range own {
		if a.local != nil {
			return nil, errors.New("oidc: there can be one local issuer")
		}
		var err error
		if a.local, err = newLocal(l, now); err != nil {
			return nil, err
		}
	}
	for _, i := range issuers {
		if err := i.Validate(); err != nil {
			return nil, fmt.Errorf("oidc: %w", err)
		}
		if a.issuers[i.URL] != nil || a.local != nil && a.local.Issuer.URL == i.URL {
			return nil, fmt.Errorf("oidc: issuer %q is configured twice", i.URL)
		}
		a.issuers[i.URL] = newProvider(i, now)
	}
	return a, nil
}

// refuse is the one answer to every token that is not good, so that it does
// not help whoever tries tokens; the log gets the reason.
func refuse(reason error) error {
	return outcome.New(outcome.Login, "a valid access token is required").Because(reason)
}

// Authenticate checks a bearer token (without the word Bearer) and reads the
// principal from it. The error is an [outcome.Error]: Login for any token that is not
// good, Unavailable while its issuer cannot be asked for the keys.
//
// A token that is bound to a certificate is good on a connection that was made with it alone, see [mtls.Presented].
func (a *Authenticator) Authenticate(ctx context.Context, bearer string) (authz.Principal, error) {
	now := a.now()
	p, err := a.authenticate(ctx, bearer, now)
	if err == nil && p.Certificate != "" && p.Certificate != mtls.Presented(ctx, now) {
		return authz.Principal{}, refuse(errors.New("oidc: the token is bound to a certificate with which this request did not come"))
	}
	return p, err
}

func (a *Authenticator) authenticate(ctx context.Context, bearer string, now time.Time) (authz.Principal, error) {
	if p, keys, ok := a.verified.get(bearer, now); ok {
		if err := a.alive(keys); err != nil {
			return authz.Principal{}, err
		}
		return p, nil
	}
	token, issuer, err := a.verify(ctx, bearer)
	if err != nil {
		return authz.Principal{}, failed(err)
	}
	if !now.Before(token.Expiry) { // go-oidc lets the very moment of expiry pass
		return authz.Principal{}, refuse(errors.New("oidc: the token has expired"))
	}
	var raw map[string]json.RawMessage
	if err := token.Claims(&raw); err != nil {
		return authz.Principal{}, refuse(err)
	}
	p, err := principal(raw, issuer, a.tenants)
	if err != nil {
		return authz.Principal{}, refuse(err)
	}
	p.Expiry = token.Expiry
	var keys []string
	if a.local != nil && issuer.URL == a.local.Issuer.URL {
		if keys, err = ending(raw, kidOf(bearer)); err != nil {
			return authz.Principal{}, refuse(err)
		}
		if err := a.alive(keys); err != nil {
			return authz.Principal{}, err
		}
	}
	a.verified.put(bearer, p, keys, now)
	return clone(p), nil
}

// verify checks the token with the issuer that it names.
func (a *Authenticator) verify(ctx context.Context, bearer string) (*oidc.IDToken, Issuer, error) {
	iss, err := issuerOf(bearer)
	if err != nil {
		return nil, Issuer{}, err
	}
	if a.local != nil && iss == a.local.Issuer.URL {
		token, err := a.local.verify(ctx, bearer)
		return token, a.local.Issuer, err
	}
	provider := a.issuers[iss]
	if provider == nil {
		return nil, Issuer{}, errors.New("oidc: the issuer of the token is not configured")
	}
	token, err := provider.verify(ctx, bearer)
	return token, provider.issuer, err
}

// kidOf reads the name of the key that signed a token which was verified.
func kidOf(bearer string) string {
	head, _, _ := strings.Cut(bearer, ".")
	text, err := base64.RawURLEncoding.DecodeString(head)
	var h struct {
		ID string `json:"kid"`
	}
	if err != nil || json.Unmarshal(text, &h) != nil {
		return ""
	}
	return h.ID
}

// failed tells a token that is not good from one that cannot be checked now.
func failed(err error) error {
	if errors.Is(err, errUnreachable) {
		return outcome.New(outcome.Unavailable, "the identity provider cannot be reached").Because(err)
	}
	return refuse(err)
}

// alive refuses a token of which something that it rests on has ended.
func (a *Authenticator) alive(keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	ended, err := a.local.Ended.Any(keys...)
	if err != nil {
		return failed(err)
	}
	if ended {
		return refuse(errors.New("oidc: the grant of the token has ended"))
	}
	return nil
}

// issuerOf reads iss of a token that nobody has checked yet; it only chooses
// who checks, and the check compares iss again.
func issuerOf(bearer string) (string, error) {
	if len(bearer) > maxToken {
		return "", errors.New("oidc: the token is too long")
	}
	for i := range len(bearer) {
		// go-jose skips white space, so that one token would have many spellings.
		if c := bearer[i]; c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return "", errors.New("oidc: the token is not a signed JWT in compact form")
		}
	}
	parts := strings.Split(bearer, ".")
	if len(parts) != 3 {
		return "", errors.New("oidc: the token is not a signed JWT in compact form")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", errors.New("oidc: the token is not a JWT")
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", errors.New("oidc: the token's claims are not an object")
	}
	return claims.Issuer, nil
}
