package oidc

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/cloister-health/cloister/authz/identity"
)

const claimVerified = "email_verified"

func (c Claims) email() string {
	if c.Email == "" {
		return "email"
	}
	return c.Email
}

func (c Claims) name() string {
	if c.Name == "" {
		return "name"
	}
	return c.Name
}

// external is who somebody is, from an ID token that was checked.
func (c *client) external(token *oidc.IDToken, claims reader, v identity.Visit) (identity.External, error) {
	x := identity.External{
		Issuer: c.Issuer, Subject: token.Subject, Practices: slices.Clone(c.Practices),
		Email: claims.text(c.Claims.email(), false), EmailVerified: c.Claims.Trusted || claims.yes(claimVerified), Name: claims.text(c.Claims.name(), false),
		ACR: claims.text("acr", false), AMR: claims.list("amr"), SessionID: claims.text("sid", false), SignedIn: claims.moment(claimSignedIn),
	}
	if len(c.Claims.Roles) > 0 {
		x.Roles = c.Claims.roles(claims)
	}
	if err := claims.err(); err != nil {
		return identity.External{}, err
	}
	if x.Subject == "" {
		return identity.External{}, errors.New("oidc: the ID token names nobody")
	}
	if v.MaxAge != nil {
		switch {
		case x.SignedIn.IsZero():
			return identity.External{}, errors.New("oidc: the provider does not say when she signed in, which it was asked")
		case x.SignedIn.Before(v.Begun.Add(-*v.MaxAge - skew)):
			return identity.External{}, errors.New("oidc: she signed in too long ago")
		case *v.MaxAge == 0 && x.SignedIn.Before(v.Begun): // by its clock
			x.SignedIn = v.Begun
		}
	}
	return x, nil
}

// roles are what the names in the provider's claim stand for; not nil.
func (c Claims) roles(claims reader) []string {
	at := claims[c.Roles[0]]
	for _, name := range c.Roles[1:] {
		var object map[string]json.RawMessage
		if json.Unmarshal(at, &object) != nil {
			return []string{}
		}
		at = object[name]
	}
	var names []string
	if json.Unmarshal(at, &names) != nil {
		var one string
		if json.Unmarshal(at, &one) != nil {
			return []string{}
		}
		names = []string{one}
	}
	out := []string{}
	for _, n := range names {
		for _, role := range c.Map[n] {
			if !slices.Contains(out, role) {
				out = append(out, role)
			}
		}
	}
	slices.Sort(out)
	return out
}

// yes reads a boolean, which some providers write as a string. Anything else is no.
func (r reader) yes(name string) bool {
	var b bool
	if json.Unmarshal(r[name], &b) == nil {
		return b
	}
	return string(r[name]) == `"true"`
}
