// Package signin assembles the embedded authorization server: accounts, registered apps, the endpoints and the pages.
package signin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/api/account"
	"github.com/cloister-health/cloister/api/scim"
	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/authz/oidc"
)

// Auditor makes security events durable.
type Auditor interface {
	RecordSecurity(ctx context.Context, e audit.Security) error
}

// Config is what the assembly needs.
type Config struct {
	URL      string // of the database
	FHIRBase string // as clients write it; it ends in /fhir
	// People is how they sign in; its Box seals everything secret at rest. Store, Audit, Pages, Log and Now are those of the assembly.
	People    identity.Config
	Auditor   Auditor
	Practices oidc.Tenants
	Issuers   []oidc.Issuer // whose access tokens are accepted beside our own
	Providers []oidc.Client // by which people can sign in
	Brands    *account.Brands
	Policy    smart.Policy
	Address   func(*http.Request) netip.Addr // see smart.Address; nil takes that of the connection
	KeyHosts  []string                       // see smart.Config
	Origins   []string                       // see smart.Config
	// GroupRoles gives the roles that the members of a group of a practice's directory have, see scim.Config; nil gives none.
	GroupRoles func(practice, group string) []string
	Every      Intervals // the zero value means DefaultIntervals
	Log        *slog.Logger
	Now        func() time.Time
}

// SignIn is the authorization server with all that it stands on.
type SignIn struct {
	Identity      *identity.Service
	Server        *smart.Server
	Store         *postgres.Store
	Authenticator *oidc.Authenticator

	cfg   Config
	party *oidc.Party // nil: no identity providers
	base  string      // origin and prefix
	ring  *smart.Ring
	ended *oidc.Ended
	forms [32]byte

	stop       context.CancelFunc // ends what is done in the background
	background sync.WaitGroup
}

// Open connects to the database and wires everything. Close gives it back.
func Open(ctx context.Context, c Config) (*SignIn, error) {
	base, ok := strings.CutSuffix(c.FHIRBase, "/fhir")
	if !ok {
		return nil, errors.New("signin: the base URL does not end in /fhir, which is where the API answers")
	}
	if c.People.Box == nil {
		return nil, errors.New("signin: nothing seals secrets at rest")
	}
	if c.Every == (Intervals{}) {
		c.Every = DefaultIntervals
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: c.URL})
	if err != nil {
		return nil, fmt.Errorf("signin: %w", err)
	}
	s := &SignIn{cfg: c, base: base, Store: store, forms: [32]byte(c.People.Box.Mark("forms of the pages"))}
	if err := s.wire(ctx); err != nil {
		store.Close()
		return nil, fmt.Errorf("signin: %w", err)
	}
	return s, nil
}

func (s *SignIn) wire(ctx context.Context) (err error) {
	c, issuer := s.cfg, s.base+"/smart"
	if s.party, err = c.party(s.base); err != nil {
		return err
	}
	people := c.People
	people.Store, people.Audit, people.Pages, people.Log, people.Now, people.Assured = s.Store, c.Auditor, issuer, c.Log, c.Now, s.party.Assured
	if s.Identity, err = identity.New(people); err != nil {
		return err //nolint:wrapcheck // Open wraps it
	}
	if s.ring, err = smart.NewRing(ctx, s.Store, people.Box, c.Now); err != nil {
		return err //nolint:wrapcheck // as above
	}
	s.ended = oidc.NewEnded(s.Store.Ended, c.Now)
	if err := s.ended.Refresh(ctx); err != nil { // before the first request asks
		return err //nolint:wrapcheck // as above
	}
	s.Authenticator, err = oidc.New(c.Issuers, c.Practices, c.Now, oidc.Local{Issuer: oidc.Issuer{URL: issuer, Audience: c.FHIRBase}, Keys: s.ring, Ended: s.ended})
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	s.Server, err = smart.New(smart.Config{
		Issuer: issuer, FHIRBase: c.FHIRBase, SignIn: issuer + "/interaction", SignOut: issuer + "/signed-out",
		Store: s.Store, Keys: s.ring, People: s.Identity, Practices: c.Practices, Ended: s.ended, Authenticator: s.Authenticator, Audit: c.Auditor,
		Registration: c.Policy, Address: c.Address, Origins: c.Origins, KeyHosts: c.KeyHosts, Log: c.Log, Now: c.Now,
	})
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	s.Identity.OnEnd(func(ctx context.Context, e identity.Ended) error {
		if e.Session == "" {
			return s.Server.EndAccount(ctx, e.Account)
		}
		return s.Server.EndSession(ctx, e.Account, e.Session)
	})
	return nil
}

// SMART is what the API says of the authorization server.
func (s *SignIn) SMART() *api.SMART {
	c := s.Server.Configuration()
	return &api.SMART{
		Issuer: c.Issuer, JWKS: c.JWKS, AuthorizationEndpoint: c.Authorization, TokenEndpoint: c.Token,
		IntrospectionEndpoint: c.Introspection, RevocationEndpoint: c.Revocation, RegistrationEndpoint: c.Registration,
		GrantTypes: c.GrantTypes, TokenAuthMethods: c.AuthMethods, TokenAuthAlgorithms: c.AuthAlgorithms, ResponseTypes: c.ResponseTypes,
		ChallengeMethods: c.Challenges, Scopes: c.Scopes, Capabilities: c.Capabilities,
	}
}

// Handler puts the endpoints, the pages and the provisioning of accounts beside the API.
func (s *SignIn) Handler(fhir http.Handler) (http.Handler, error) {
	pages, err := account.New(account.Config{
		Base: s.base, Identity: s.Identity, Server: s.Server, FHIR: fhir, Providers: s.providers(), Brands: s.cfg.Brands, Address: s.cfg.Address, Key: s.forms, Log: s.cfg.Log, Now: s.cfg.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("signin: %w", err)
	}
	const below, directories = "/smart", "/scim/v2"
	provisioning := scim.Handler(scim.Config{
		Store: s.Store, Accounts: s.Identity, Base: s.base + directories, Roles: s.cfg.GroupRoles, Now: s.cfg.Now, Log: s.cfg.Log,
	})
	endpoints := http.StripPrefix(below, s.Server.Handler())
	ours := map[string]bool{}
	for _, path := range smart.Paths() {
		ours[below+path] = true
	}
	return s.backChannel(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case ours[r.URL.Path]:
			endpoints.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, below+"/"):
			pages.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, directories+"/"):
			provisioning.ServeHTTP(w, r)
		default:
			fhir.ServeHTTP(w, r)
		}
	})), nil
}

// Refresh learns at once which grants other processes ended; a started SignIn does so every second.
func (s *SignIn) Refresh(ctx context.Context) error { return s.ended.Refresh(ctx) } //nolint:wrapcheck // says what failed

// Intervals say how often what is done in the background.
type Intervals struct {
	Ended time.Duration // how late this process may learn of a grant that another process ended
	Sweep time.Duration // how late what has expired is forgotten
	Keys  time.Duration // how late the next signing keys are made
}

// DefaultIntervals are those of a server. What is known of ended grants is good for five seconds, see [oidc.Ended].
var DefaultIntervals = Intervals{Ended: time.Second, Sweep: time.Minute, Keys: 5 * time.Minute}

// Start keeps known what other processes change, forgets what has expired and looks after the signing keys, until Close: as long as
// requests under way may finish, their tokens have to be checked.
func (s *SignIn) Start() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.background.Go(func() {
		s.ended.Watch(ctx, s.cfg.Every.Ended, s.report("the grants that ended could not be read again"))
	})
	s.background.Go(func() {
		repeat(ctx, s.cfg.Every.Sweep, func() error {
			return errors.Join(s.Identity.Sweep(ctx), s.Store.SweepGrants(ctx, s.cfg.Now()))
		}, s.report("what has expired could not be removed"))
	})
	s.background.Go(func() {
		repeat(ctx, s.cfg.Every.Keys, func() error { return s.ring.Maintain(ctx) }, s.report("the signing keys could not be looked after"))
	})
}

// repeat does something at every tick until ctx ends.
func repeat(ctx context.Context, every time.Duration, do func() error, report func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := do(); err != nil && ctx.Err() == nil {
				report(err)
			}
		}
	}
}

func (s *SignIn) report(what string) func(error) {
	return func(err error) { s.cfg.Log.Warn(what, "error", err) }
}

// Close ends what Start began, waits for mails under way and closes the connections, in this order.
func (s *SignIn) Close() {
	if s.stop != nil {
		s.stop()
	}
	s.background.Wait()
	s.Identity.Close()
	s.Store.Close()
}

// KeyFile reads the key of secrets at rest (32 bytes in base64) from a file, which it makes if there is none.
func KeyFile(path string) ([]byte, error) {
	text, err := os.ReadFile(path) //nolint:gosec // in the caller's own data directory
	if errors.Is(err, os.ErrNotExist) {
		key := make([]byte, identity.KeySize)
		_, _ = rand.Read(key) // it never fails
		if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("signin: %w", err)
		}
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("signin: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != identity.KeySize {
		return nil, fmt.Errorf("signin: %s holds no key of %d bytes in base64", path, identity.KeySize)
	}
	return key, nil
}
