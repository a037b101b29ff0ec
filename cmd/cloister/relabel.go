package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// relabelCmd brings the labels of what is stored up to the content rules.
type relabelCmd struct {
	config.Database
	config.Labels
	config.Trail
	Practice  string `name:"practice" env:"CLOISTER_PRACTICE" placeholder:"SLUG" help:"The practice whose records are classified anew. Default: every one."`
	Status    bool   `name:"status" xor:"what" help:"Only say by which rules the practices are classified."`
	Downgrade bool   `name:"downgrade" xor:"what" help:"Drop the sensitivity labels that the rules no longer give. Every record that loses one is audited."`
	Quiet     bool   `name:"quiet" short:"q" help:"Show no progress."`
}

// Help is shown below the summary.
func (relabelCmd) Help() string {
	return `A server does this by itself, in the background, when it starts with other rules than before: the
command is for knowing when it is done, and for after a change that servers made one by one.
It needs the rules of the servers: the same CLOISTER_LABEL_... variables. One that was stopped goes
on where it stopped. Labels are only added, until --downgrade, while which the practice's
writes wait.`
}

// Validate refuses a bad configuration before anything starts.
func (c *relabelCmd) Validate() error { return errors.Join(c.Database.Check(true), c.Labels.Check()) }

// relabelPoll is how often the command looks at what another server does.
const relabelPoll = 200 * time.Millisecond

// Run relabels the practices, one after the other.
func (c *relabelCmd) Run(ctx context.Context, out io.Writer) error {
	rules, err := c.Classifier()
	if err != nil {
		return fmt.Errorf("relabel: %w", err)
	}
	keys, err := c.Trail.Open(true)
	if err != nil {
		return fmt.Errorf("relabel: %w", err)
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: c.URL, MaxConns: 2, Trail: keys})
	if err != nil {
		return fmt.Errorf("relabel: %w", err)
	}
	defer store.Close()
	practices := store.Practices()
	if c.Practice != "" {
		id, ok := store.Tenant(c.Practice)
		if !ok {
			return fmt.Errorf("relabel: the database knows no practice %q: check CLOISTER_PRACTICE (--practice)", c.Practice)
		}
		practices = map[string]int32{c.Practice: id}
	}
	if c.Status {
		return relabelStatus(ctx, out, store, practices, rules)
	}
	for _, slug := range slices.Sorted(maps.Keys(practices)) {
		do := c.relabel
		if c.Downgrade {
			do = c.downgrade
		}
		if err := noted(ctx, store, audit.RecordsRelabeled, "relabel", practices[slug]); err != nil {
			return fmt.Errorf("relabel: %s: %w", slug, err)
		}
		if err := do(ctx, out, store, slug, practices[slug], rules); err != nil {
			return fmt.Errorf("relabel: %s: %w", slug, err)
		}
	}
	return nil
}

func relabelStatus(ctx context.Context, out io.Writer, store *postgres.Store, practices map[string]int32, rules *label.Classifier) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PRACTICE\tCLASSIFIED BY\tUNDER WAY") // Flush says what failed
	for _, slug := range slices.Sorted(maps.Keys(practices)) {
		at, err := store.Relabelling(ctx, practices[slug])
		if err != nil {
			return fmt.Errorf("relabel: %w", err)
		}
		by, next := "nothing yet", "-"
		if at.Rules != "" {
			by = "rules " + at.Rules
		}
		if at.Next != "" {
			next = fmt.Sprintf("rules %s, %d%%", at.Next, at.Percent)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", slug, by, next)
	}
	_, _ = fmt.Fprintf(w, "this configuration: rules %s\n", rules.Version())
	return w.Flush() //nolint:wrapcheck // writing to the terminal
}

// relabel goes on with what is under way by the same rules, or begins.
func (c *relabelCmd) relabel(ctx context.Context, out io.Writer, store *postgres.Store, slug string, practice int32, rules *label.Classifier) error {
	at, err := store.Relabelling(ctx, practice)
	if err != nil {
		return err //nolint:wrapcheck // the caller says what failed
	}
	if at.Next != rules.Version() {
		if err := store.BeginRelabel(ctx, practice, rules); err != nil {
			return err //nolint:wrapcheck // likewise
		}
	}
	show := func(int) {}
	if !c.Quiet {
		bar := progress(100, slug, false)
		defer func() { _ = bar.Finish() }()
		show = func(percent int) { _ = bar.Set(percent) } // a terminal that cannot be written to shows no progress
	}
	me := record.NewID()
	for {
		busy, err := store.RelabelBatch(ctx, rules, me)
		if err != nil {
			return err //nolint:wrapcheck // likewise
		}
		at, err := store.Relabelling(ctx, practice)
		switch {
		case err != nil:
			return err //nolint:wrapcheck // likewise
		case at.Next == "" && at.Rules == rules.Version():
			_, err = fmt.Fprintf(out, "%s: classified by rules %s\n", slug, at.Rules)
			return err //nolint:wrapcheck // writing to the terminal
		case at.Next != rules.Version():
			return errors.New("a server with other rules has taken over: give all of them the same CLOISTER_LABEL_... variables")
		}
		show(at.Percent)
		if !busy {
			select {
			case <-ctx.Done():
				return ctx.Err() //nolint:wrapcheck // it was stopped
			case <-time.After(relabelPoll):
			}
		}
	}
}

func (c *relabelCmd) downgrade(ctx context.Context, out io.Writer, store *postgres.Store, slug string, practice int32, rules *label.Classifier) error {
	core, err := server.NewCore(store, time.Now)
	if err != nil {
		return err //nolint:wrapcheck // the caller says what failed
	}
	g, err := core.Engine.Authorize(ctx, server.Operator(practice, "relabel"), fhir.Update, "Patient")
	if err != nil {
		return err //nolint:wrapcheck // likewise
	}
	n, err := store.Downgrade(ctx, g, rules)
	if errors.Is(err, postgres.ErrNotClassified) {
		return errors.New("not all of it is classified by these rules: run cloister relabel first, without --downgrade")
	}
	if err != nil {
		return err //nolint:wrapcheck // likewise
	}
	_, err = fmt.Fprintf(out, "%s: %d records have fewer labels by rules %s\n", slug, n, rules.Version())
	return err //nolint:wrapcheck // writing to the terminal
}
