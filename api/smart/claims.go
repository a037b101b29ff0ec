package smart

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/fhir"
)

// accessClaims are those of an access token (RFC 9068, 2.2), with the names that package authz/oidc reads.
type accessClaims struct {
	Issuer        string    `json:"iss"`
	Subject       string    `json:"sub"`
	Audience      string    `json:"aud"`
	Expiry        int64     `json:"exp"`
	Issued        int64     `json:"iat"`
	ID            string    `json:"jti"`
	Client        string    `json:"client_id"`
	Scope         string    `json:"scope"`
	Grant         string    `json:"sid"`
	Practice      string    `json:"practice"`
	Roles         []string  `json:"roles"`
	Organizations []fhir.ID `json:"organizations,omitempty"`
	Purpose       string    `json:"purpose_of_use"`
	Profile       string    `json:"release_profile,omitempty"`
	User          string    `json:"fhirUser,omitempty"`
	Patient       fhir.ID   `json:"patient,omitempty"`
	SignedIn      int64     `json:"auth_time,omitempty"`
}

// access makes an access token.
func (s *Server) access(ctx context.Context, g Grant, roles []string, organizations []fhir.ID, scopes []string, life time.Duration) (string, error) {
	now := s.Now()
	c := accessClaims{
		Issuer: s.Issuer, Subject: g.Account, Audience: s.FHIRBase, Expiry: now.Add(life).Unix(), Issued: now.Unix(), ID: newID(),
		Client: g.App, Scope: strings.Join(scopes, " "), Grant: g.ID, Practice: g.Practice, Roles: roles, Organizations: organizations,
		Purpose: g.Purpose, Profile: g.Profile, User: s.userURL(g.User), Patient: g.Patient,
	}
	if c.Subject == "" {
		c.Subject = g.App
	}
	if g.User.Type == "Person" { // it identifies a human, and is no party to care: no rule decides by it
		c.User = ""
	}
	if !g.SignedIn.IsZero() {
		c.SignedIn = g.SignedIn.Unix()
	}
	return s.Keys.sign(ctx, ForAccess, c)
}

func (s *Server) userURL(u fhir.Ref) string {
	if u == (fhir.Ref{}) {
		return ""
	}
	return s.FHIRBase + "/" + u.String()
}

// idClaims are those of an ID token (OpenID Connect Core 2; SMART App Launch 2.2, fhirUser).
type idClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	Expiry   int64    `json:"exp"`
	Issued   int64    `json:"iat"`
	SignedIn int64    `json:"auth_time"`
	Nonce    string   `json:"nonce,omitempty"`
	Methods  []string `json:"amr,omitempty"`
	Party    string   `json:"azp"`
	Grant    string   `json:"sid"`
	Access   string   `json:"at_hash"`
	User     string   `json:"fhirUser,omitempty"`
	Profile  string   `json:"profile,omitempty"`
	Name     string   `json:"name,omitempty"`
}

// idToken makes the ID token beside an access token.
func (s *Server) idToken(ctx context.Context, g Grant, account identity.Account, scopes []string, access string) (string, error) {
	now := s.Now()
	half := sha256.Sum256([]byte(access))
	c := idClaims{
		Issuer: s.Issuer, Subject: g.Account, Audience: g.App, Expiry: now.Add(idLife).Unix(), Issued: now.Unix(), SignedIn: g.SignedIn.Unix(),
		Nonce: g.Nonce, Methods: g.Methods, Party: g.App, Grant: g.ID, Access: base64.RawURLEncoding.EncodeToString(half[:16]),
	}
	s.describe(&c.User, &c.Profile, &c.Name, g, account, scopes)
	return s.Keys.sign(ctx, ForID, c)
}

// describe fills in what the scopes tell of the user.
func (s *Server) describe(user, profile, name *string, g Grant, account identity.Account, scopes []string) {
	if slices.Contains(scopes, scopeUser) {
		*user = s.userURL(g.User)
	}
	if slices.Contains(scopes, scopeProfile) {
		*profile, *name = s.userURL(g.User), account.Name
	}
}

var errNoToken = errors.New("smart: this is no token of this server")

// verify checks the signature of a token of this server.
func (s *Server) verify(ctx context.Context, u Use, kind, text string, claims any) error {
	if len(text) > maxAssertion {
		return errNoToken
	}
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{algorithms[u]})
	if err != nil || len(signed.Signatures) != 1 {
		return errNoToken
	}
	head := signed.Signatures[0].Protected
	if head.ExtraHeaders[jose.HeaderType] != kind {
		return errNoToken
	}
	var key crypto.PublicKey
	key, ok, err := s.Keys.find(ctx, u, head.KeyID)
	if err != nil {
		return err
	}
	if !ok {
		return errNoToken
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return errNoToken
	}
	if err := json.Unmarshal(payload, claims); err != nil {
		return fmt.Errorf("smart: %w", err)
	}
	return nil
}

// alive reads an access token that is good now; errNoToken is one that is not.
func (s *Server) alive(ctx context.Context, text string) (accessClaims, error) {
	var c accessClaims
	if err := s.verify(ctx, ForAccess, typeAccess, text, &c); err != nil {
		return c, err
	}
	if c.Issuer != s.Issuer || c.Audience != s.FHIRBase || !s.Now().Before(time.Unix(c.Expiry, 0)) {
		return c, errNoToken
	}
	ended, err := s.Ended.Any(c.Grant, AppKey(c.Client, ""), AppKey(c.Client, c.Practice), oidc.EndedKey(kidOf(text)))
	if err != nil {
		return c, err
	}
	if ended {
		return c, errNoToken
	}
	return c, nil
}

// kidOf reads the name of the key that signed a token which was verified.
func kidOf(text string) string {
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{algorithms[ForAccess]})
	if err != nil {
		return ""
	}
	return signed.Signatures[0].Protected.KeyID
}

// The typ of our tokens.
const (
	typeAccess = "at+jwt"
	typeID     = "JWT"
)
