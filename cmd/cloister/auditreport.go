package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cloister-health/cloister/api/operation"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit/anomaly"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// auditReportCmd says what is out of the ordinary among the accesses of a practice.
type auditReportCmd struct {
	config.Database
	config.Trail
	Policies     string   `name:"policies" env:"CLOISTER_POLICIES" placeholder:"DIR" help:"The policies of practices, as for serve."`
	Practice     string   `name:"practice" env:"CLOISTER_PRACTICE" required:"" placeholder:"SLUG" help:"The practice."`
	Organization []string `name:"organization" placeholder:"ID,..." help:"Organizations whose privacy officer reads the report, Part 2 programs among them: of accesses to the records of other programs it does not tell."`
	From         string   `name:"from" placeholder:"DATE" help:"From this day on. Default: seven days before --to."`
	To           string   `name:"to" placeholder:"DATE" help:"Up to this day. Default: now."`
	Zone         string   `name:"zone" placeholder:"ZONE" help:"Time zone of the practice, such as America/New_York. Default: UTC."`
	Opens        string   `name:"opens" placeholder:"HH:MM" help:"When its day begins. Default: 07:00."`
	Closes       string   `name:"closes" placeholder:"HH:MM" help:"When its day ends. Default: 20:00."`
	Closed       string   `name:"closed" placeholder:"DAY,..." help:"Weekdays on which it is closed, or never. Default: saturday,sunday."`
	VIP          []string `name:"vip" placeholder:"ID,..." help:"Patients who are to be taken for VIPs, beside those whose meta.tag says so."`
	JSON         bool     `name:"json" help:"Write a JSON array."`
}

// Help is shown below the summary.
func (auditReportCmd) Help() string {
	return `Each finding has the ids of its events, which the privacy officer reads as AuditEvents. That the
report was made is itself in the audit trail.`
}

// Validate refuses a bad configuration before anything starts.
func (c *auditReportCmd) Validate() error { return c.Database.Check(true) }

// Run writes the report.
func (c *auditReportCmd) Run(ctx context.Context, out io.Writer, log *slog.Logger) error {
	if err := c.run(ctx, out, log); err != nil {
		return fmt.Errorf("audit report: %w", err)
	}
	return nil
}

func (c *auditReportCmd) run(ctx context.Context, out io.Writer, log *slog.Logger) error {
	q := record.Anomalous{Until: time.Now().UTC(), Before: operation.AnomalyHistory}
	var err error
	if q.Rules, err = anomaly.ParseRules(c.Zone, c.Opens, c.Closes, c.Closed); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	if c.To != "" {
		at, err := time.ParseInLocation(time.DateOnly, c.To, q.Rules.Hours.Zone)
		if err != nil {
			return errors.New("--to is a day, such as 2026-01-31")
		}
		q.Until = at.AddDate(0, 0, 1)
	}
	q.From = q.Until.AddDate(0, 0, -7)
	if c.From != "" {
		if q.From, err = time.ParseInLocation(time.DateOnly, c.From, q.Rules.Hours.Zone); err != nil || !q.From.Before(q.Until) {
			return errors.New("--from is a day, such as 2026-01-31, before --to")
		}
	}
	for _, id := range c.VIP {
		q.VIPs = append(q.VIPs, fhir.ID(strings.TrimPrefix(id, "Patient/")))
	}
	keys, err := c.Trail.Open(true)
	if err != nil {
		return err //nolint:wrapcheck // it names the variable
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: c.URL, MaxConns: 2, Trail: keys})
	if err != nil {
		return err //nolint:wrapcheck // Run does
	}
	defer store.Close()
	tenant, ok := store.Tenant(c.Practice)
	if !ok {
		return fmt.Errorf("there is no practice %q: check CLOISTER_PRACTICE (--practice)", c.Practice)
	}
	found, err := c.findings(ctx, store, tenant, q, log)
	if err != nil {
		return err
	}
	return c.write(out, found)
}

// findings asks as the privacy officer of the organizations that the flags name: whoever has
// the database at hand may be told no more by the report than she is.
func (c *auditReportCmd) findings(ctx context.Context, store *postgres.Store, tenant int32, q record.Anomalous, log *slog.Logger) ([]anomaly.Finding, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	policies, err := openPolicies(ctx, c.Policies, store.Tenant, log)
	if err != nil {
		return nil, err
	}
	core, err := server.NewCoreUnder(policies, store, time.Now)
	if err != nil {
		return nil, err //nolint:wrapcheck // Run does
	}
	p := authz.Principal{Tenant: tenant, Subject: "operator|audit", Client: "cloister", Roles: []string{"privacy-officer"}, Purpose: "HOPERAT", Scopes: smart.Parse("system/*.rs"), RequestID: record.NewID()}
	for _, o := range c.Organization {
		p.Organizations = append(p.Organizations, fhir.ID(o))
	}
	g, err := core.Engine.Authorize(ctx, p, fhir.Operation, "")
	if err != nil {
		return nil, err //nolint:wrapcheck // Run does
	}
	a, err := core.Gate.Anomalies(ctx, g, q)
	if err != nil {
		return nil, err //nolint:wrapcheck // Run does
	}
	return a.Findings(), nil
}

func (c *auditReportCmd) write(out io.Writer, found []anomaly.Finding) error {
	if c.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if err := e.Encode(found); err != nil {
			return err //nolint:wrapcheck // Run does
		}
		return nil
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(out, "nothing is out of the ordinary")
		return err //nolint:wrapcheck // Run does
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "DAY\tWHAT\tWHO\tPATIENT\tWHY") // Flush says what failed
	for _, f := range found {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Day, f.Kind, f.User, cmp.Or(f.Patient, "-"), f.Why)
		for _, id := range f.Events {
			_, _ = fmt.Fprintf(w, "\t\t\t\tAuditEvent/%s\n", id)
		}
	}
	return w.Flush() //nolint:wrapcheck // Run does
}
