package smart

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/authz/app"
)

// errAssertion says that an assertion proves nothing.
var errAssertion = errors.New("smart: the assertion is not good")

const maxAssertion = 8 << 10

// assertionAlgorithms are those that SMART App Launch 2.2 names, and the smaller curve of the same kind.
var assertionAlgorithms = []jose.SignatureAlgorithm{jose.RS384, jose.ES384, jose.ES256}

// assertion is the claims of a client assertion (RFC 7523, 3; SMART App Launch 2.2, Client Authentication: Asymmetric).
type assertion struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expiry   *float64 `json:"exp"`
	Before   *float64 `json:"nbf"`
	Issued   *float64 `json:"iat"`
	ID       string   `json:"jti"`
}

// audience is one string or several.
type audience []string

// UnmarshalJSON reads both forms.
func (a *audience) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audience{one}
		return nil
	}
	var several []string
	if err := json.Unmarshal(text, &several); err != nil {
		return fmt.Errorf("smart: aud: %w", err)
	}
	*a = several
	return nil
}

// assertedClient reads who an assertion claims to be, before anybody has checked it.
func assertedClient(text string) (string, error) {
	c, err := claimsOf(text)
	if err != nil || c.Issuer == "" || c.Issuer != c.Subject {
		return "", errAssertion
	}
	return c.Issuer, nil
}

func claimsOf(text string) (assertion, error) {
	parts := strings.Split(text, ".")
	if len(text) > maxAssertion || len(parts) != 3 {
		return assertion{}, errAssertion
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return assertion{}, errAssertion
	}
	return readAssertion(payload)
}

func readAssertion(payload []byte) (assertion, error) {
	var names map[string]json.RawMessage
	var c assertion
	if json.Unmarshal(payload, &names) != nil || json.Unmarshal(payload, &c) != nil {
		return assertion{}, errAssertion
	}
	// encoding/json takes a name in any case: a second spelling could stand in for the first.
	for name := range names {
		if lower := strings.ToLower(name); name != lower && slices.Contains([]string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}, lower) {
			return assertion{}, errAssertion
		}
	}
	return c, nil
}

// checkAssertion checks what only the holder of one of the app's keys can have made, once.
func (s *Server) checkAssertion(ctx context.Context, a app.App, text string) error {
	if len(text) > maxAssertion {
		return errAssertion
	}
	signed, err := jose.ParseSignedCompact(text, assertionAlgorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return errAssertion
	}
	head := signed.Signatures[0].Protected
	if head.KeyID == "" || head.JSONWebKey != nil {
		return errAssertion
	}
	if kind, ok := head.ExtraHeaders[jose.HeaderType]; ok && kind != "JWT" && kind != "client-authentication+jwt" {
		return errAssertion
	}
	// A jku that is not the registered one would have us fetch keys from wherever the sender likes.
	if jku, ok := head.ExtraHeaders["jku"]; ok && (a.JWKSURI == "" || jku != a.JWKSURI) {
		return errAssertion
	}
	key, err := s.keyOf(ctx, a, head.KeyID, head.Algorithm)
	if err != nil {
		return err
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return errAssertion
	}
	c, err := readAssertion(payload)
	if err != nil {
		return err
	}
	expiry, err := s.checkClaims(a, c)
	if err != nil {
		return err
	}
	fresh, err := s.Store.Assertion(ctx, a.ID, sha256.Sum256([]byte(c.ID)), expiry.Add(skew))
	if err != nil {
		return unavailable(err)
	}
	if !fresh {
		return errAssertion
	}
	return nil
}

func (s *Server) checkClaims(a app.App, c assertion) (expiry time.Time, err error) {
	now := s.Now()
	if c.Issuer != a.ID || c.Subject != a.ID || c.Expiry == nil || c.ID == "" || len(c.ID) > 512 {
		return expiry, errAssertion
	}
	// Only one audience: an assertion that is good elsewhere, too, could be carried from there to here.
	if len(c.Audience) != 1 || c.Audience[0] != s.Issuer+pathToken && c.Audience[0] != s.Issuer {
		return expiry, errAssertion
	}
	for _, n := range []*float64{c.Expiry, c.Before, c.Issued} {
		if n != nil && (*n < 0 || *n > 253402300799) {
			return expiry, errAssertion
		}
	}
	expiry = time.Unix(int64(*c.Expiry), 0)
	switch {
	case !now.Before(expiry.Add(skew)), expiry.After(now.Add(assertionLife + skew)):
		return expiry, errAssertion
	case c.Before != nil && time.Unix(int64(*c.Before), 0).After(now.Add(skew)), c.Issued != nil && time.Unix(int64(*c.Issued), 0).After(now.Add(skew)):
		return expiry, errAssertion
	}
	return expiry, nil
}

// keyOf finds the key with which an app signs.
func (s *Server) keyOf(ctx context.Context, a app.App, kid, algorithm string) (any, error) {
	find := func(set jose.JSONWebKeySet) (any, bool) {
		for _, k := range set.Key(kid) {
			if k.IsPublic() && (k.Algorithm == "" || k.Algorithm == algorithm) && (k.Use == "" || k.Use == "sig") {
				return k.Key, true
			}
		}
		return nil, false
	}
	if a.JWKSURI == "" {
		set, err := app.Keys(a.JWKS)
		if err != nil {
			return nil, errAssertion
		}
		if key, ok := find(set); ok {
			return key, nil
		}
		return nil, errAssertion
	}
	for _, again := range []bool{false, true} {
		set, err := s.keySets.get(ctx, a.JWKSURI, again)
		if err != nil {
			return nil, failed("the key set of the app cannot be fetched")
		}
		if key, ok := find(set); ok {
			return key, nil
		}
	}
	return nil, errAssertion
}
