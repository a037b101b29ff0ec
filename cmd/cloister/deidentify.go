package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/releaser"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// deidentifyCmd makes a de-identified release of a practice, as the operator.
type deidentifyCmd struct {
	config.Database
	config.Care
	config.Trail
	Practice      string   `name:"practice" env:"CLOISTER_PRACTICE" placeholder:"SLUG" help:"The practice whose records are released."`
	Policies      string   `name:"policies" env:"CLOISTER_POLICIES" type:"existingdir" placeholder:"DIR" help:"Directory with the policies of practices; releases.json in that of the practice holds its agreements, determinations and codes."`
	Profile       string   `name:"profile" default:"safe-harbor" help:"The release profile: safe-harbor, limited-data-set or expert-determination, with or without |version."`
	Recipient     string   `name:"recipient" default:"cloister" placeholder:"CLIENT" help:"Who gets the release, as the agreement or the determination names it."`
	Purpose       string   `name:"purpose" default:"HOPERAT" help:"What the recipient gets a limited data set for: HRESCH, PUBHLTH or HOPERAT."`
	Agreement     string   `name:"agreement" placeholder:"REFERENCE" help:"The data use agreement by which a limited data set is made, such as Contract/dua-7."`
	Determination string   `name:"determination" placeholder:"REFERENCE" help:"The expert's determination by which a release is made, such as DocumentReference/expert-2."`
	Type          []string `name:"type" placeholder:"TYPE,..." help:"Resource types. Default: all of which something is released."`
	tableFlags
	Out    string `name:"out" required:"" placeholder:"DIR" help:"Directory for the release. It must not be there yet, or be empty."`
	Report string `name:"report" default:"cloister-deidentify.json" help:"Gets the report for whoever answers for the release. It is no part of the release, and cannot be in its directory."`
	Quiet  bool   `name:"quiet" short:"q" help:"Show no progress."`
}

// Help is shown below the summary.
func (deidentifyCmd) Help() string {
	return `The release is a directory: one file of NDJSON for each resource type, tables of views, and manifest.json. All patients are
in it but those who opted out. Ids are random, and the keys that lead back are erased at the end. A release that
was stopped leaves nothing that could go on: it is made again.`
}

// Validate refuses a bad configuration before anything starts.
func (c *deidentifyCmd) Validate() error {
	errs := []error{c.Database.Check(true), c.Care.Check()}
	if c.Practice == "" {
		errs = append(errs, errors.New("CLOISTER_PRACTICE (--practice) is not set: it names the practice whose records are released"))
	}
	p, ok := deident.Asked(c.Profile)
	if !ok {
		errs = append(errs, fmt.Errorf("--profile is %q: there is no such profile", c.Profile))
	}
	for _, x := range []struct {
		flag, value string
		of          deident.Method
	}{{"--agreement", c.Agreement, deident.LimitedSet}, {"--determination", c.Determination, deident.Expert}} {
		switch _, good := fhir.ParseRef(x.value); {
		case x.value == "" && ok && p.Method == x.of:
			errs = append(errs, fmt.Errorf("%s is not set: %s is released by a document on file", x.flag, p.Name))
		case x.value != "" && !good:
			errs = append(errs, fmt.Errorf("%s is %q: write a reference, such as Contract/dua-7", x.flag, x.value))
		case x.value != "" && ok && p.Method != x.of:
			errs = append(errs, fmt.Errorf("%s is of no use for %s", x.flag, p.Name))
		}
	}
	for _, t := range c.Type {
		if ok && !slices.Contains(deident.TypesOf(p), fhir.ResourceType(t)) {
			errs = append(errs, fmt.Errorf("--type is %q: nothing of it is released under %s", t, p.Name))
		}
	}
	if ok {
		_, err := c.content(c.types(p))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// types are those of the release.
func (c *deidentifyCmd) types(p deident.Profile) []fhir.ResourceType {
	if len(c.Type) == 0 {
		return deident.TypesOf(p)
	}
	var out []fhir.ResourceType
	for _, t := range c.Type {
		out = append(out, fhir.ResourceType(t))
	}
	return out
}

// reference is the document by which the release is made.
func (c *deidentifyCmd) reference() fhir.Ref {
	ref, _ := fhir.ParseRef(c.Agreement + c.Determination) // one of them at most
	return ref
}

// Run makes the release, and says how much and how fast.
func (c *deidentifyCmd) Run(ctx context.Context, out io.Writer, log *slog.Logger) (err error) {
	marks, err := c.Trail.Open(true)
	if err != nil {
		return fmt.Errorf("deidentify: %w", err)
	}
	store, err := postgres.Open(ctx, careOptions(c.Care, postgres.Options{URL: c.URL, Trail: marks}))
	if err != nil {
		return fmt.Errorf("deidentify: %w", err)
	}
	defer store.Close()
	tenant, ok := store.Tenant(c.Practice)
	if !ok {
		return fmt.Errorf("deidentify: the database knows no practice %q: check CLOISTER_PRACTICE (--practice)", c.Practice)
	}
	laid, err := openTerms(ctx, c.Policies, store.Tenant, log)
	if err != nil {
		return fmt.Errorf("deidentify: CLOISTER_POLICIES (--policies): %w", err)
	}
	core, err := server.NewCore(store, time.Now)
	if err != nil {
		return fmt.Errorf("deidentify: %w", err)
	}
	s, err := export.ForReleases(export.Config{
		Engine: core.Engine, Gate: core.Gate, Records: store, Releases: store.Releases(), OptOuts: store, Terms: laid, Log: log, Now: time.Now,
	})
	if err != nil {
		return fmt.Errorf("deidentify: %w", err)
	}
	p, _ := deident.Asked(c.Profile)
	content, err := c.content(c.types(p))
	if err != nil {
		return fmt.Errorf("deidentify: %w", err)
	}
	to, err := releaser.Create(c.Out, c.Report, content)
	if err != nil {
		return fmt.Errorf("deidentify: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	who := server.Operator(tenant, "deidentify")
	who.Client = c.Recipient
	o := export.Order{Profile: c.Profile, Reference: c.reference(), Purpose: c.Purpose, To: to}
	for _, t := range c.Type {
		o.Types = append(o.Types, fhir.ResourceType(t))
	}
	if !c.Quiet {
		bar := progress(-1, "de-identifying", false)
		o.Progress = func(_ bool, _ fhir.ResourceType, n int) { _ = bar.Add(n) }
		defer func() { _ = bar.Finish() }()
	}
	start := time.Now()
	made, err := s.Make(ctx, who, o)
	if err != nil {
		return fmt.Errorf("deidentify: %w", errors.Join(err, to.Reset()))
	}
	if err := to.Finish(made); err != nil {
		return fmt.Errorf("deidentify: %w", errors.Join(err, to.Reset()))
	}
	lines := 0
	for _, n := range made.Lines {
		lines += n
	}
	took := time.Since(start)
	_, _ = fmt.Fprintf(out, "%s: %d resources in %s (%.0f per second)\nthe report for whoever answers for the release is in %s\n", made.Profile, lines, took.Round(time.Millisecond), float64(lines)/took.Seconds(), c.Report)
	return nil
}
