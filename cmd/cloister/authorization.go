package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/api/smart"
	accounts "github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

const (
	// endedInterval is how late this process learns that another one ended a grant.
	endedInterval = time.Second
	// upkeepInterval is how often signing keys are looked after, and what has expired is forgotten.
	upkeepInterval = 5 * time.Minute
)

// authorization is the embedded authorization server with what it stands on.
type authorization struct {
	cfg     config.Authorization
	base    string // BASE of the URLs: what stands before /fhir and /smart
	records *postgres.Store
	log     *slog.Logger

	Store  *accounts.Store
	Box    *identity.Box
	Ring   *smart.Ring
	Ended  *oidc.Ended
	People *identity.Service
	Server *smart.Server
}

// openAuthorization connects, opens the signing keys, and begins to watch for grants that end. fhirBase is the base
// URL of the FHIR server. mail may be nil.
func openAuthorization(ctx context.Context, cfg config.Authorization, url, fhirBase string, records *postgres.Store, mail identity.Mailer, log *slog.Logger) (*authorization, error) {
	base, ok := strings.CutSuffix(fhirBase, "/fhir")
	if !ok {
		return nil, errors.New("the base URL does not end in /fhir")
	}
	a := &authorization{cfg: cfg, base: base, records: records, log: log}
	var err error
	if a.Box, err = cfg.Box(); err != nil {
		return nil, err //nolint:wrapcheck // it names the variable
	}
	if a.Store, err = accounts.Open(ctx, accounts.Options{URL: url}); err != nil {
		return nil, err //nolint:wrapcheck // it says what
	}
	if a.Ring, err = smart.NewRing(ctx, a.Store, a.Box, time.Now); err != nil {
		a.Close()
		return nil, err //nolint:wrapcheck // it says what
	}
	if a.People, err = identity.New(identity.Config{Store: a.Store, Box: a.Box, Audit: records, Mail: mail, Now: time.Now, Log: log, Pages: a.issuer()}); err != nil {
		a.Close()
		return nil, err //nolint:wrapcheck // it says what
	}
	a.Ended = oidc.NewEnded(a.Store.Ended, time.Now)
	go a.Ended.Watch(ctx, endedInterval, func(err error) { log.Warn("the grants that ended could not be read again", "error", err) })
	go a.upkeep(ctx)
	return a, nil
}

func (a *authorization) issuer() string { return a.base + "/smart" }

// Close closes the connections.
func (a *authorization) Close() { a.Store.Close() }

// local is the issuer as the FHIR API checks its tokens.
func (a *authorization) local() oidc.Local {
	return oidc.Local{Issuer: oidc.Issuer{URL: a.issuer(), Audience: a.base + "/fhir"}, Keys: a.Ring, Ended: a.Ended}
}

// serve makes the server. tokens are those that POST /smart/launch accepts.
func (a *authorization) serve(tokens smart.Authenticator) error {
	proxies, err := a.cfg.TrustedProxies()
	if err != nil {
		return err //nolint:wrapcheck // it names the variable
	}
	a.Server, err = smart.New(smart.Config{
		Issuer: a.issuer(), FHIRBase: a.base + "/fhir", SignIn: a.issuer() + "/interaction", SignOut: a.issuer() + "/account",
		Store: a.Store, Keys: a.Ring, People: a.People, Practices: a.records, Ended: a.Ended, Authenticator: tokens, Audit: a.records,
		Registration: smart.Policy(a.cfg.Registration), Address: smart.Address(proxies), KeyHosts: a.cfg.KeyHosts, Log: a.log, Now: time.Now,
	})
	if err != nil {
		return fmt.Errorf("authorization server: %w", err)
	}
	a.People.OnEnd(func(ctx context.Context, e identity.Ended) error {
		if e.Session == "" {
			return a.Server.EndAccount(ctx, e.Account)
		}
		return a.Server.EndSession(ctx, e.Account, e.Session)
	})
	return nil
}

// mount puts the authorization server beside the FHIR API. pages answer what is left of /smart: sign-in, choice and consent.
func (a *authorization) mount(fhir, pages http.Handler) http.Handler {
	const prefix = "/smart"
	own := http.StripPrefix(prefix, a.Server.Handler())
	paths := smart.Paths()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, below := strings.CutPrefix(r.URL.Path, prefix)
		switch {
		case below && slices.Contains(paths, rest):
			own.ServeHTTP(w, r)
		case below && strings.HasPrefix(rest, "/") && pages != nil:
			pages.ServeHTTP(w, r)
		default:
			fhir.ServeHTTP(w, r)
		}
	})
}

// configuration is what [base]/.well-known/smart-configuration says.
func (a *authorization) configuration() *api.SMART {
	c := a.Server.Configuration()
	return &api.SMART{
		Issuer: c.Issuer, JWKS: c.JWKS, AuthorizationEndpoint: c.Authorization, TokenEndpoint: c.Token,
		IntrospectionEndpoint: c.Introspection, RevocationEndpoint: c.Revocation, RegistrationEndpoint: c.Registration,
		GrantTypes: c.GrantTypes, TokenAuthMethods: c.AuthMethods, TokenAuthAlgorithms: c.AuthAlgorithms, ResponseTypes: c.ResponseTypes,
		ChallengeMethods: c.Challenges, Scopes: c.Scopes, Capabilities: c.Capabilities,
	}
}

// upkeep makes signing keys before they are needed, and forgets what has expired.
func (a *authorization) upkeep(ctx context.Context) {
	tick := time.NewTicker(upkeepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := errors.Join(a.Ring.Maintain(ctx), a.Store.SweepGrants(ctx, time.Now()), a.People.Sweep(ctx)); err != nil && ctx.Err() == nil {
			a.log.Warn("signing keys or expired grants could not be looked after", "error", err)
		}
	}
}
