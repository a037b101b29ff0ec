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
	"time"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/api/account"
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
	URL       string        // of the database
	FHIRBase  string        // as clients write it; it ends in /fhir
	Box       *identity.Box // seals secrets at rest
	Auditor   Auditor
	Practices oidc.Tenants
	Issuers   []oidc.Issuer // whose access tokens are accepted beside our own
	Mail      identity.Mailer
	Brands    *account.Brands
	Title     string // how passkeys and authenticator apps name this server
	Policy    smart.Policy
	Address   func(*http.Request) netip.Addr // see smart.Address; nil takes that of the connection
	KeyHosts  []string                       // see smart.Config
	Log       *slog.Logger
	Now       func() time.Time
}

// SignIn is the authorization server with all that it stands on.
type SignIn struct {
	Identity      *identity.Service
	Server        *smart.Server
	Store         *postgres.Store
	Authenticator *oidc.Authenticator

	cfg   Config
	base  string // origin and prefix
	ring  *smart.Ring
	ended *oidc.Ended
	forms [32]byte
}

// Open connects to the database and wires everything. Close gives it back.
func Open(ctx context.Context, c Config) (*SignIn, error) {
	base, ok := strings.CutSuffix(c.FHIRBase, "/fhir")
	if !ok {
		return nil, errors.New("signin: the base URL does not end in /fhir, which is where the API answers")
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: c.URL})
	if err != nil {
		return nil, fmt.Errorf("signin: %w", err)
	}
	s := &SignIn{cfg: c, base: base, Store: store, forms: [32]byte(c.Box.Mark("forms of the pages"))}
	if err := s.wire(ctx); err != nil {
		store.Close()
		return nil, fmt.Errorf("signin: %w", err)
	}
	return s, nil
}

func (s *SignIn) wire(ctx context.Context) (err error) {
	c, issuer := s.cfg, s.base+"/smart"
	s.Identity, err = identity.New(identity.Config{Store: s.Store, Box: c.Box, Audit: c.Auditor, Mail: c.Mail, Now: c.Now, Log: c.Log, Pages: issuer, Title: c.Title})
	if err != nil {
		return err //nolint:wrapcheck // Open wraps it
	}
	if s.ring, err = smart.NewRing(ctx, s.Store, c.Box, c.Now); err != nil {
		return err //nolint:wrapcheck // as above
	}
	s.ended = oidc.NewEnded(s.Store.Ended, c.Now)
	s.Authenticator, err = oidc.New(c.Issuers, c.Practices, c.Now, oidc.Local{Issuer: oidc.Issuer{URL: issuer, Audience: c.FHIRBase}, Keys: s.ring, Ended: s.ended})
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	s.Server, err = smart.New(smart.Config{
		Issuer: issuer, FHIRBase: c.FHIRBase, SignIn: issuer + "/interaction", SignOut: issuer + "/signed-out",
		Store: s.Store, Keys: s.ring, People: s.Identity, Practices: c.Practices, Ended: s.ended, Authenticator: s.Authenticator, Audit: c.Auditor,
		Registration: c.Policy, Address: c.Address, KeyHosts: c.KeyHosts, Log: c.Log, Now: c.Now,
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

// Handler puts the endpoints and the pages beside the API.
func (s *SignIn) Handler(fhir http.Handler) (http.Handler, error) {
	pages, err := account.New(account.Config{
		Base: s.base, Identity: s.Identity, Server: s.Server, FHIR: fhir, Brands: s.cfg.Brands, Address: s.cfg.Address, Key: s.forms, Log: s.cfg.Log, Now: s.cfg.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("signin: %w", err)
	}
	const below = "/smart"
	endpoints := http.StripPrefix(below, s.Server.Handler())
	ours := map[string]bool{}
	for _, path := range smart.Paths() {
		ours[below+path] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case ours[r.URL.Path]:
			endpoints.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, below+"/"):
			pages.ServeHTTP(w, r)
		default:
			fhir.ServeHTTP(w, r)
		}
	}), nil
}

// Refresh learns at once which grants other processes ended; Run does so every second.
func (s *SignIn) Refresh(ctx context.Context) error { return s.ended.Refresh(ctx) } //nolint:wrapcheck // says what failed

const (
	endedInterval = time.Second // how late this process may learn of a grant that another process ended
	sweepInterval = time.Minute
	keyInterval   = 5 * time.Minute
)

// Run keeps what other processes change known, and forgets what has expired, until ctx ends.
func (s *SignIn) Run(ctx context.Context) {
	go s.ended.Watch(ctx, endedInterval, s.report("the grants that ended could not be read again"))
	sweep, keys := time.NewTicker(sweepInterval), time.NewTicker(keyInterval)
	defer sweep.Stop()
	defer keys.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			if err := errors.Join(s.Identity.Sweep(ctx), s.Store.SweepGrants(ctx, s.cfg.Now())); err != nil && ctx.Err() == nil {
				s.report("what has expired could not be removed")(err)
			}
		case <-keys.C:
			if err := s.ring.Maintain(ctx); err != nil && ctx.Err() == nil {
				s.report("the signing keys could not be looked after")(err)
			}
		}
	}
}

func (s *SignIn) report(what string) func(error) {
	return func(err error) { s.cfg.Log.Warn(what, "error", err) }
}

// Close waits for mails under way and closes the connections.
func (s *SignIn) Close() {
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
