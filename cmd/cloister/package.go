package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/vocabulary"
	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// packageCmd looks after the definitions that the server knows.
type packageCmd struct {
	Install packageInstallCmd `cmd:"" help:"Install FHIR packages (.tgz, or directories): profiles, value sets, code systems, search parameters."`
	List    packageListCmd    `cmd:"" help:"List the installed packages, and what they need that is not installed."`
}

// packageInstallCmd stores packages in the database.
type packageInstallCmd struct {
	config.Database
	config.Trail
	Paths []string `arg:"" optional:"" name:"path" type:"existingpath" help:"Packages: .tgz files, or directories with package.json and the definitions. Default: the code systems of Cloister itself."`
	Quiet bool     `name:"quiet" short:"q" help:"Show no progress."`
}

// Help is shown below the summary.
func (packageInstallCmd) Help() string {
	return `Run it as a role that owns the schema, as migrate. Each package goes in whole or not at all; one
that is in already, by name and version, stays as it is. Running servers see it within a second.
Definitions are the same for all practices; examples in a package are left out.`
}

// Validate refuses a bad configuration before anything starts.
func (c *packageInstallCmd) Validate() error { return c.Database.Check(true) }

// Run installs, and says what went in and what is missing.
func (c *packageInstallCmd) Run(ctx context.Context, out io.Writer) error {
	if err := notedInAll(ctx, c.URL, c.Trail, audit.PackageInstalled, "package"); err != nil {
		return fmt.Errorf("package install: %w", err)
	}
	if len(c.Paths) == 0 {
		p, err := vocabulary.Package()
		if err != nil {
			return fmt.Errorf("package install: %w", err)
		}
		if err := install(ctx, out, c.URL, p, c.Quiet); err != nil {
			return err
		}
	}
	if err := installFiles(ctx, out, c.URL, c.Paths, c.Quiet); err != nil {
		return err
	}
	all, err := installed(ctx, c.URL)
	if err != nil {
		return err
	}
	for _, p := range all {
		if missing := p.Missing(all); len(missing) > 0 {
			_, _ = fmt.Fprintf(out, "%s#%s needs %s, not installed\n", p.Name, p.Version, strings.Join(missing, ", "))
		}
	}
	return nil
}

func installFiles(ctx context.Context, out io.Writer, url string, paths []string, quiet bool) error {
	for _, path := range paths {
		p, err := definition.Load(path, definition.DefaultLimits)
		if err != nil {
			return fmt.Errorf("package install: %s: %w", path, err)
		}
		if len(p.Artifacts) == 0 {
			return fmt.Errorf("package install: %s: %s has no definitions", path, p.ID())
		}
		if err := install(ctx, out, url, p, quiet); err != nil {
			return err
		}
	}
	return nil
}

func install(ctx context.Context, out io.Writer, url string, p *definition.Package, quiet bool) error {
	var each func()
	if !quiet {
		bar := progress(int64(len(p.Artifacts)), p.ID(), false)
		defer func() { _ = bar.Finish() }()
		each = func() { _ = bar.Add(1) } // a terminal that cannot be written to shows no progress
	}
	added, err := postgres.InstallPackage(ctx, url, p, each)
	switch {
	case err != nil:
		return fmt.Errorf("package install: %w", err)
	case added:
		_, err = fmt.Fprintf(out, "%s: %d definitions installed\n", p.ID(), len(p.Artifacts))
	default:
		_, err = fmt.Fprintf(out, "%s: installed already\n", p.ID())
	}
	return err //nolint:wrapcheck // writing to the terminal
}

// packageListCmd reads what is installed.
type packageListCmd struct {
	config.Database
}

// Validate refuses a bad configuration before anything starts.
func (c *packageListCmd) Validate() error { return c.Check(true) }

// Run prints one line per package.
func (c *packageListCmd) Run(ctx context.Context, out io.Writer) error {
	all, err := installed(ctx, c.URL)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "no package is installed: cloister package install FILE.tgz")
		return err //nolint:wrapcheck // writing to the terminal
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PACKAGE\tFHIR\tDEFINITIONS\tKB\tINSTALLED\tNOT INSTALLED, BUT NEEDED")
	for _, p := range all {
		_, _ = fmt.Fprintf(w, "%s#%s\t%s\t%d\t%d\t%s\t%s\n", p.Name, p.Version, strings.Join(p.FHIRVersions, ","), p.Artifacts, p.Bytes/1000,
			p.At.UTC().Format("2006-01-02"), strings.Join(p.Missing(all), " "))
	}
	return w.Flush() //nolint:wrapcheck // writing to the terminal
}

func installed(ctx context.Context, url string) (all []postgres.Installed, err error) {
	store, err := postgres.Open(ctx, postgres.Options{URL: url, MaxConns: 1})
	if err != nil {
		return nil, fmt.Errorf("package: %w", err)
	}
	defer store.Close()
	if all, err = store.Packages(ctx); err != nil {
		return nil, fmt.Errorf("package: %w", errors.Join(err, errors.Unwrap(err)))
	}
	return all, nil
}
