package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/cloister-health/cloister/api/account"
	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/signin"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// openAuthorization wires the embedded authorization server of serve. issuers are those whose access tokens are accepted, too.
func openAuthorization(ctx context.Context, cfg config.Authorization, url, fhirBase string, issuers []oidc.Issuer, records *postgres.Store, log *slog.Logger) (*signin.SignIn, error) {
	box, err := cfg.Box()
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the variable
	}
	proxies, err := cfg.TrustedProxies()
	if err != nil {
		return nil, err //nolint:wrapcheck // as above
	}
	brands := &account.Brands{}
	if cfg.Branding != "" {
		if brands, err = account.ReadBrands(os.DirFS(cfg.Branding)); err != nil {
			return nil, fmt.Errorf("CLOISTER_BRANDING (--branding): %w", err)
		}
	}
	return signin.Open(ctx, signin.Config{
		URL: url, FHIRBase: fhirBase, Box: box, Auditor: records, Practices: records, Issuers: issuers, Brands: brands,
		Policy: smart.Policy(cfg.Registration), Address: smart.Address(proxies), KeyHosts: cfg.KeyHosts, Log: log, Now: time.Now,
	})
}
