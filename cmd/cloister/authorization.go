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
func openAuthorization(ctx context.Context, cfg config.Authorization, url, fhirBase string, issuers []oidc.Issuer, origins []string, records *postgres.Store, log *slog.Logger) (*signin.SignIn, error) {
	people, err := cfg.Service()
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
	for _, g := range cfg.Groups {
		if _, ok := records.Tenant(g.Practice); !ok {
			return nil, fmt.Errorf("CLOISTER_SCIM_ROLES (--scim-roles): there is no practice %s", g.Practice)
		}
	}
	providers, err := cfg.Providers.Read(false)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the variable, the file and the field
	}
	return signin.Open(ctx, signin.Config{
		URL: url, FHIRBase: fhirBase, People: people, Auditor: records, Practices: records, Issuers: issuers, Providers: providers, Brands: brands,
		Policy: smart.Policy(cfg.Registration), Address: smart.Address(proxies), Origins: origins, KeyHosts: cfg.KeyHosts, GroupRoles: cfg.Directories.Roles, Log: log, Now: time.Now,
	})
}
