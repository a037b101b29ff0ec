package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/pressly/goose/v3"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// migrateCmd changes the schema.
type migrateCmd struct {
	config.Database
	To     int64 `name:"to" default:"-1" placeholder:"VERSION" help:"Stop at this version of the schema, forwards or backwards; 0 removes everything. Default: the newest."`
	Status bool  `name:"status" help:"Only say which versions are applied."`
}

// Help is shown below the summary.
func (migrateCmd) Help() string {
	return `Run it before serve, once per new version of the program, as a role that owns the schema.
Going backwards drops what the newer version added, with its data.`
}

// Validate refuses a bad configuration before anything starts.
func (c *migrateCmd) Validate() error {
	errs := []error{c.Check(true)}
	if c.To < -1 {
		errs = append(errs, errors.New("--to is negative: name a version of the schema, or leave it out for the newest"))
	}
	if c.Status && c.To != -1 {
		errs = append(errs, errors.New("--status changes nothing, so it does not go with --to"))
	}
	return errors.Join(errs...)
}

// Run migrates, and says what it did.
func (c *migrateCmd) Run(ctx context.Context, out io.Writer) error {
	if c.Status {
		all, err := postgres.Migrations(ctx, c.URL)
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		for _, m := range all {
			_, _ = fmt.Fprintf(out, "%-8s %s\n", m.State, filepath.Base(m.Source.Path))
		}
		return nil
	}
	do := postgres.Migrate
	if c.To >= 0 {
		do = func(ctx context.Context, url string) ([]*goose.MigrationResult, error) {
			return postgres.MigrateTo(ctx, url, c.To)
		}
	}
	done, err := do(ctx, c.URL)
	for _, m := range done {
		_, _ = fmt.Fprintf(out, "%-4s %s (%s)\n", m.Direction, filepath.Base(m.Source.Path), m.Duration)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if len(done) == 0 {
		_, _ = fmt.Fprintln(out, "the schema is up to date")
	}
	return nil
}
