package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/importer"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/profile"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/intake"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// defaultReport is where the refused resources go.
const defaultReport = "cloister-import.tsv"

// importCmd loads files in bulk, as the operator.
type importCmd struct {
	config.Database
	config.Care
	config.Labels
	config.Keys
	config.Trail
	Validation profile.Mode `name:"validation" env:"CLOISTER_VALIDATION" default:"warn" help:"What becomes of a resource that breaks a rule of R4 or a profile that it declares: off checks nothing, warn lets a dry run tell, enforce refuses it."`
	Paths      []string     `arg:"" name:"path" type:"existingpath" help:"Files, or directories that are searched for them: transaction Bundles (.json) and NDJSON (.ndjson), plain or compressed (.gz, .bz2, .zst)."`
	Practice   string       `name:"practice" env:"CLOISTER_PRACTICE" placeholder:"SLUG" help:"The practice that gets the records."`
	Create     bool         `name:"create-practice" help:"Add the practice if the database does not know it."`
	BaseURL    string       `name:"base-url" env:"CLOISTER_BASE_URL" placeholder:"URL" help:"Address of the FHIR endpoint as clients see it: absolute references to it become relative."`
	Workers    int          `name:"workers" placeholder:"N" help:"How many files are loaded at once. Default: one per processor."`
	Report     string       `name:"report" default:"cloister-import.tsv" help:"Gets one line per refused resource: file, place in it, resource, reason. Lines are added to what an earlier run wrote. A dry run writes its report there anew, as NDJSON (by default to cloister-import.ndjson)."`
	DryRun     bool         `name:"dry-run" help:"Store nothing, and report what would become of everything."`
	Quiet      bool         `name:"quiet" short:"q" help:"Show no progress."`
}

// Help is shown below the summary.
func (importCmd) Help() string {
	return `Each Bundle, and each 500 lines of NDJSON, is one transaction. A resource that is refused
goes into the report, and the rest goes in. Records are validated, labelled and indexed as if a
client had sent them; they keep their ids. Notes of sessions need CLOISTER_NOTES_KEY, or they
are refused. An import that was stopped goes on where it stopped
when it is started again: the database remembers what is done.`
}

// Validate refuses a bad configuration before anything starts.
func (c *importCmd) Validate() error {
	errs := []error{c.Database.Check(true), c.Care.Check(), c.Labels.Check(), c.Keys.Check(false)}
	if c.Practice == "" {
		errs = append(errs, errors.New("CLOISTER_PRACTICE (--practice) is not set: it names the practice that gets the records"))
	}
	if c.Workers < 0 || c.Workers > 256 {
		errs = append(errs, fmt.Errorf("--workers is %d: set it between 1 and 256, or leave it out", c.Workers))
	}
	if c.Report == "" {
		errs = append(errs, errors.New("--report is empty: name the file that gets the refused resources"))
	}
	return errors.Join(errs...)
}

// workers is the number of files that are loaded at once.
func (c *importCmd) workers() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// Run imports, and says how much and how fast.
func (c *importCmd) Run(ctx context.Context, out io.Writer) (err error) {
	keys, err := c.Keys.Open()
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	marks, err := c.Trail.Open(true)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	store, err := postgres.Open(ctx, careOptions(c.Care, postgres.Options{URL: c.URL, MaxConns: c.workers() + 2, Keys: keys, Trail: marks}))
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer store.Close()
	tenant, ok := store.Tenant(c.Practice)
	if !ok && c.Create {
		tenant, err = store.EnsureTenant(ctx, c.Practice, c.Practice)
		ok = err == nil
	}
	if !ok {
		return errors.Join(err, fmt.Errorf("import: the database knows no practice %q: check CLOISTER_PRACTICE (--practice), or add it with --create-practice", c.Practice))
	}
	labels, err := c.Classifier()
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	core, err := server.NewCore(store, time.Now)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	core = core.Labelling(labels)
	gate := core.Gate
	if c.DryRun || c.Validation == profile.Enforce {
		gate = gate.Holding(profile.New(core.Definitions, core.Terminology, time.Now).Door(c.Validation))
	}
	if c.DryRun {
		return c.rehearse(ctx, out, store, core.Engine, gate, tenant)
	}
	report, err := os.OpenFile(c.Report, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("import: --report: %w", err)
	}
	defer func() { err = errors.Join(err, report.Close()) }()
	if err := noted(ctx, store, audit.RecordsImported, "import", tenant); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	m := &importer.Importer{
		Store: store, Engine: core.Engine, Gate: gate, Principal: server.Operator(tenant, "import"),
		Workers: c.workers(), Base: c.BaseURL, Report: report, Validated: c.Validation == profile.Enforce,
	}
	took, err := c.run(ctx, m)
	st := m.Stats()
	_, _ = fmt.Fprintf(out, "%s; %d the same as before, %d refused, %d items were in already\n", importer.Rate(st.Resources.Load(), took), st.Same.Load(), st.Refused.Load(), st.Skipped.Load())
	if err != nil {
		return fmt.Errorf("import: stopped, and goes on from here when it is started again: %w", err)
	}
	if n := st.Refused.Load(); n > 0 {
		_, _ = fmt.Fprintf(out, "what was refused, and why, is in %s\n", c.Report)
	}
	return nil
}

// run imports, and says how long it took.
func (c *importCmd) run(ctx context.Context, m *importer.Importer) (time.Duration, error) {
	if !c.Quiet {
		total, err := importer.Size(c.Paths...)
		if err != nil {
			return 0, err
		}
		bar := progress(total, "importing", true)
		m.Progress = bar
		defer func() { _ = bar.Finish() }()
	}
	start := time.Now()
	err := m.Run(ctx, c.Paths...)
	return time.Since(start), err
}

// rehearse reports what an import would do.
func (c *importCmd) rehearse(ctx context.Context, out io.Writer, store *postgres.Store, engine *authz.Engine, gate *record.Gate, tenant int32) (err error) {
	path := c.Report
	if path == defaultReport {
		path = strings.TrimSuffix(path, filepath.Ext(path)) + ".ndjson"
	}
	// The counts come first, and are known last.
	lines, err := os.CreateTemp(filepath.Dir(path), ".cloister-import-*")
	if err != nil {
		return fmt.Errorf("import: --report: %w", err)
	}
	defer func() { err = errors.Join(err, lines.Close(), os.Remove(lines.Name())) }()
	buffer := bufio.NewWriter(lines)
	r := intake.NewRehearsal(buffer)
	m := &importer.Importer{
		Store: store, Engine: engine, Gate: gate, Principal: server.Operator(tenant, "import"),
		Workers: c.workers(), Base: c.BaseURL, Rehearsal: r,
	}
	if _, err := c.run(ctx, m); err != nil {
		return fmt.Errorf("import: the dry run stopped: %w", err)
	}
	tally, err := r.End()
	if err == nil {
		err = buffer.Flush()
	}
	if err == nil {
		_, err = lines.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("import: --report: %w", err)
	}
	report, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("import: --report: %w", err)
	}
	if _, err = report.Write(tally.Summary("dry run, nothing was stored")); err == nil {
		_, err = io.Copy(report, lines)
	}
	if err = errors.Join(err, report.Close()); err != nil {
		return fmt.Errorf("import: --report: %w", err)
	}
	_, _ = fmt.Fprintf(out, "dry run: nothing was stored\n%sline by line it is in %s\n", tally.Text(), path)
	return nil
}
