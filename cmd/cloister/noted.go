package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// noted records in the audit trail of practices that an operator is about to do something; what
// cannot be recorded is not done.
func noted(ctx context.Context, store *postgres.Store, k audit.Kind, command string, practices ...int32) error {
	for _, tenant := range practices {
		e := audit.Security{ID: record.NewID(), At: time.Now().UTC(), Kind: k, Outcome: audit.Success, Tenant: tenant, By: "operator|" + command}
		if err := store.RecordSecurity(ctx, e); err != nil {
			return fmt.Errorf("the audit trail cannot be written: %w", err)
		}
	}
	return nil
}

// notedInAll is noted for what concerns all practices.
func notedInAll(ctx context.Context, url string, marks config.Trail, k audit.Kind, command string) error {
	keys, err := marks.Open(true)
	if err != nil {
		return err //nolint:wrapcheck // it names the variable
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: url, MaxConns: 1, Trail: keys})
	if err != nil {
		return err //nolint:wrapcheck // its caller does
	}
	defer store.Close()
	return noted(ctx, store, k, command, slices.Sorted(maps.Values(store.Practices()))...)
}

// policiesRead records in every practice that the server has read policies anew.
func policiesRead(ctx context.Context, store *postgres.Store, log *slog.Logger) {
	if err := noted(ctx, store, audit.PoliciesRead, "serve", slices.Sorted(maps.Values(store.Practices()))...); err != nil {
		log.Error("that policies were read again could not be recorded", "error", err)
	}
}
