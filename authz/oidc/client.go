package oidc

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/identity"
)

// Secret is a client_secret. It prints as something else, however it is printed.
type Secret string

const noSecret = "[secret]"

// String implements fmt.Stringer.
func (Secret) String() string { return noSecret }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return noSecret }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(noSecret), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(noSecret) }

// Client is the registration of this server at an identity provider, and what is made of the provider's word.
type Client struct {
	Name       string // in addresses: lower case letters, digits and hyphens, 32 at most
	Title      string // on the button: Sign in with …
	Issuer     string // as in its ID tokens; https, or http on the loopback interface
	ID         string // client_id
	Secret     Secret // client_secret; "" for a public client
	Algorithms []string
	Scopes     []string // asked for beside openid
	// Practices are those that the provider speaks for, by slug: its sign-ins open these and no others.
	Practices []string
	// Assurance is what counts as a second factor there; its values of acr are also what is asked for.
	Assurance identity.Assurance
	// MaxAge bounds how long ago people signed in at the provider; 0 leaves it to the provider.
	MaxAge time.Duration
	Claims Claims
}

// Claims say where the claims of a provider are.
type Claims struct {
	Email string // "" means email
	// Trusted takes every address of the provider as verified, for one that sends no email_verified and
	// lets nobody choose an address. Without it the claim email_verified decides.
	Trusted bool
	Name    string // "" means name
	// Roles is the path to a claim with names of groups or roles, outermost first; empty where the provider says nothing of roles.
	Roles []string
	// Map gives each of these names the roles that it stands for. Names that are not in it count for nothing.
	Map map[string][]string
}

// A FieldError says what is wrong with one field of a [Client].
type FieldError struct{ Field, Text string }

// Error implements error.
func (f FieldError) Error() string { return f.Field + " " + f.Text }

// The names that some fields have in faults, which are those of the configuration.
const (
	fieldRoles = "roles"
	fieldName  = "name"
)

// Validate says all that is wrong with the client, as [FieldError]s that are joined.
func (c Client) Validate() error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, FieldError{field, fmt.Sprintf(format, args...)})
	}
	if c.Name == "" || len(c.Name) > 32 || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		fault(fieldName, "is %q: it is part of addresses, so write lower case letters, digits and hyphens", c.Name)
	}
	if n := utf8.RuneCountInString(c.Title); n == 0 || n > 60 || !utf8.ValidString(c.Title) || strings.ContainsFunc(c.Title, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		fault("title", "is what the button is called: 1 to 60 characters on one line")
	}
	if err := (Issuer{URL: c.Issuer, Audience: "-", Algorithms: c.Algorithms}).Validate(); err != nil {
		fault("issuer", "is wrong: %v", err)
	}
	if c.ID == "" {
		fault("client_id", "is missing: it is what the provider calls this server")
	}
	for _, s := range c.Scopes {
		if s == "" || strings.ContainsAny(s, " \"\\") {
			fault("scopes", "holds %q: write scopes one by one", s)
		}
	}
	if len(c.Practices) == 0 {
		fault("practices", "is empty: the provider speaks for nobody")
	}
	if slices.Contains(c.Practices, "") || len(slices.Compact(slices.Sorted(slices.Values(c.Practices)))) != len(c.Practices) {
		fault("practices", "names a practice twice, or one without a name")
	}
	if slices.ContainsFunc(c.Assurance.ACR, func(v string) bool { return v == "" || strings.Contains(v, " ") }) {
		fault("acr", "holds a value that is empty or has a space")
	}
	if c.MaxAge < 0 || c.MaxAge%time.Second != 0 {
		fault("max_age", "is %s: write whole seconds, such as 8h", c.MaxAge)
	}
	errs = append(errs, c.Claims.validate())
	return errors.Join(errs...)
}

func (c Claims) validate() error {
	if slices.Contains(c.Roles, "") {
		return FieldError{fieldRoles, "has a claim without a name"}
	}
	if (len(c.Roles) == 0) != (len(c.Map) == 0) {
		return FieldError{fieldRoles, "needs both a claim and what its values stand for"}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Map)) {
		if name == "" || len(c.Map[name]) == 0 {
			errs = append(errs, FieldError{fieldRoles, fmt.Sprintf("gives %q no role", name)})
		}
		for _, r := range c.Map[name] {
			switch {
			case !word(r, 'a', 'z') || r == authz.Operator:
				errs = append(errs, FieldError{fieldRoles, fmt.Sprintf("gives %q the role %q, which is none", name, r)})
			case r == "patient" || r == "proxy":
				errs = append(errs, FieldError{fieldRoles, fmt.Sprintf("gives %q the role %q: whose record somebody may see is no matter of a provider", name, r)})
			}
		}
	}
	return errors.Join(errs...)
}

// Offer is a provider on the page of sign-in.
type Offer struct {
	Name, Title string
	Practices   []string
}

// Party signs people in through identity providers, as a relying party of OpenID Connect. It is safe for concurrent use.
type Party struct {
	clients  []*client
	redirect string
	now      func() time.Time
}

// NewParty makes the relying party. redirect is where providers send browsers back to. It reaches out to no provider: one that is
// down keeps neither the server from starting nor anybody from the others.
func NewParty(clients []Client, redirect string, now func() time.Time) (*Party, error) {
	if u, err := url.Parse(redirect); err != nil || u.Host == "" || now == nil {
		return nil, errors.New("oidc: a relying party needs the address of its callback, and a clock")
	}
	p := &Party{redirect: redirect, now: now}
	for _, c := range clients {
		if err := c.Validate(); err != nil {
			return nil, fmt.Errorf("oidc: provider %s: %w", c.Name, err)
		}
		if p.named(c.Name) != nil {
			return nil, fmt.Errorf("oidc: provider %s: %w", c.Name, FieldError{fieldName, "is that of another provider"})
		}
		if p.issued(c.Issuer) != nil {
			return nil, fmt.Errorf("oidc: provider %s: %w", c.Name, FieldError{"issuer", "is that of another provider"})
		}
		p.clients = append(p.clients, newClient(c, redirect, now))
	}
	return p, nil
}

func (p *Party) named(name string) *client {
	for _, c := range p.clients {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func (p *Party) issued(issuer string) *client {
	for _, c := range p.clients {
		if c.Issuer == issuer {
			return c
		}
	}
	return nil
}

// Offers lists the providers, in the order of the configuration. The caller owns it.
func (p *Party) Offers() []Offer {
	out := make([]Offer, 0, len(p.clients))
	for _, c := range p.clients {
		out = append(out, Offer{c.Name, c.Title, slices.Clone(c.Practices)})
	}
	return out
}

// Assured is what counts as a second factor at an issuer. A nil Party knows none.
func (p *Party) Assured(issuer string) identity.Assurance {
	if p == nil {
		return identity.Assurance{}
	}
	if c := p.issued(issuer); c != nil {
		return c.Assurance
	}
	return identity.Assurance{}
}
