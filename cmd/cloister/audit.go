package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

// auditCmd is what an operator and an auditor do with the audit trail.
type auditCmd struct {
	Verify auditVerifyCmd `cmd:"" help:"Find whatever was changed, removed or put in after it was sealed."`
	Report auditReportCmd `cmd:"" help:"Accesses to look at: bursts, own records, colleagues, same names, VIPs, after hours, emergencies without review."`
	Retain auditRetainCmd `cmd:"" help:"Drop the months that need not be kept any longer."`
	Key    struct {
		Create auditKeyCreateCmd `cmd:"" help:"Make the key that signs the trail, in a file."`
		Public auditKeyPublicCmd `cmd:"" help:"Print the public keys, which are all that an auditor needs."`
	} `cmd:"" help:"Make and show the keys of the trail."`
}

// auditKeyCreateCmd makes a key.
type auditKeyCreateCmd struct {
	Path  string `arg:"" name:"file" help:"The file to make. One that is there already stays as it is."`
	Older string `name:"older" placeholder:"FILE" help:"Key set until now, whose keys the new file takes over behind the new one: so a key is changed."`
}

// Help is shown below the summary.
func (auditKeyCreateCmd) Help() string {
	return `Keep the file where the database and its backups are not: who has both can write the trail anew.
All servers and commands that record something use the same one. To change the key, make a new file with
--older, and start them with it.`
}

// Run makes the file, and says how it is named.
func (c *auditKeyCreateCmd) Run(out io.Writer) error {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	var older *trail.Keys
	if c.Older != "" {
		if older, err = trail.ReadFile(c.Older); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	if err := trail.Create(path, older); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	_, err = fmt.Fprintf(out, "CLOISTER_AUDIT_KEY=%s\n", path)
	return err //nolint:wrapcheck // writing to the terminal
}

// auditKeyPublicCmd prints what verifies.
type auditKeyPublicCmd struct {
	config.Trail
}

// Validate refuses a bad configuration before anything starts.
func (c *auditKeyPublicCmd) Validate() error { return c.Check(true) }

// Run prints the keys.
func (c *auditKeyPublicCmd) Run(out io.Writer) error {
	keys, err := c.Open(false)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	text, err := keys.Public()
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	_, err = out.Write(text)
	return err //nolint:wrapcheck // writing to the terminal
}

// auditVerifyCmd verifies.
type auditVerifyCmd struct {
	config.Database
	Key         string `name:"key" env:"CLOISTER_AUDIT_KEY" placeholder:"FILE" help:"Keys of the trail; the public ones do. With the private key it is also seen of the newest rows, which are not sealed yet, whether a server wrote them."`
	From        string `name:"from" placeholder:"MONTH" help:"First month to verify, such as 2026-01. Checkpoints are always verified."`
	To          string `name:"to" placeholder:"MONTH" help:"Last month to verify."`
	Checkpoints string `name:"checkpoints" env:"CLOISTER_AUDIT_CHECKPOINTS" placeholder:"FILE" help:"Checkpoints that were kept outside of the database. Without them it is not seen when the end of the trail, or all of it, was replaced by an earlier state."`
	Quiet       bool   `name:"quiet" short:"q" help:"Show no progress."`
}

// Help is shown below the summary.
func (auditVerifyCmd) Help() string {
	return `It reads the whole trail, or the months asked for, and prints a line for each fault, with table, month, id and number of the
row. It changes nothing, and servers go on meanwhile. The status is 1 when something is wrong.`
}

// Validate refuses a bad configuration before anything starts.
func (c *auditVerifyCmd) Validate() error {
	errs := []error{c.Database.Check(true)}
	if c.Key == "" {
		errs = append(errs, errors.New("CLOISTER_AUDIT_KEY (--key) is not set: it names the file with the keys of the trail, of which the public ones do (cloister audit key public)"))
	}
	for _, m := range []string{c.From, c.To} {
		if _, err := month(m); err != nil {
			errs = append(errs, fmt.Errorf("--from or --to is %q: write a month as 2026-01", m))
		}
	}
	return errors.Join(errs...)
}

// month reads a month; "" leaves it open.
func month(s string) (trail.Month, error) {
	if s == "" {
		return trail.Month{}, nil
	}
	return trail.ParseMonth(s)
}

// errNotEvidence is what a trail is that does not verify.
var errNotEvidence = errors.New("audit: the trail is not what was recorded")

// Run verifies, and says what was verified.
func (c *auditVerifyCmd) Run(ctx context.Context, out io.Writer) error {
	keys, err := trail.ReadFile(c.Key)
	if err != nil {
		return fmt.Errorf("audit: CLOISTER_AUDIT_KEY (--key): %w", err)
	}
	v := evidence.Verification{URL: c.URL, Keys: keys, Finding: func(f evidence.Finding) { _, _ = fmt.Fprintln(out, f) }}
	v.From, _ = month(c.From) // checked when the flags were parsed
	v.To, _ = month(c.To)
	if c.Checkpoints != "" {
		f, err := os.Open(c.Checkpoints)
		if err != nil {
			return fmt.Errorf("audit: CLOISTER_AUDIT_CHECKPOINTS (--checkpoints): %w", err)
		}
		defer func() { _ = f.Close() }()
		v.Outside = lines(f)
	}
	if !c.Quiet {
		bar := progress(-1, "rows of the audit trail", false)
		v.Progress = func(n int64) { _ = bar.Set64(n) } // a terminal that cannot be written to shows no progress
		defer func() { _ = bar.Finish() }()
	}
	r, err := evidence.Verify(ctx, v)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	printReport(out, r, c.Checkpoints != "")
	if r.Findings > 0 {
		return errNotEvidence
	}
	return nil
}

// lines reads checkpoints that were kept in a file.
func lines(f io.Reader) func() (trail.Signed, error) {
	in := bufio.NewReader(f)
	return func() (trail.Signed, error) {
		for {
			line, err := in.ReadBytes('\n')
			if len(strings.TrimSpace(string(line))) > 0 {
				return trail.ParseLine(line)
			}
			if err != nil {
				return trail.Signed{}, err //nolint:wrapcheck // io.EOF is the end
			}
		}
	}
}

func printReport(out io.Writer, r evidence.Report, outside bool) {
	span := "no month"
	if n := len(r.Months); n > 0 {
		span = r.Months[0] + " to " + r.Months[n-1]
	}
	_, _ = fmt.Fprintf(out, "%d rows in %d links of %s, %d checkpoints\n", r.Rows, r.Links, span, r.Checkpoints)
	if r.Checkpoints > 0 {
		_, _ = fmt.Fprintf(out, "last checkpoint: number %d of %s, key %s\n", r.Last.Number, r.Last.At.Format(time.RFC3339), r.Last.Key)
	}
	if len(r.Dropped) > 0 {
		_, _ = fmt.Fprintf(out, "dropped at the end of retention: %s\n", strings.Join(r.Dropped, " "))
	}
	if r.Found > 0 {
		_, _ = fmt.Fprintf(out, "not covered: %d rows of before the trail was sealed, as they were then\n", r.Found)
	}
	if r.Unsealed > 0 {
		_, _ = fmt.Fprintf(out, "not covered yet: %d rows that are not sealed, the oldest of %s\n", r.Unsealed, r.Oldest.Format(time.RFC3339))
	}
	if r.Unsigned > 0 {
		_, _ = fmt.Fprintf(out, "not covered yet: %d sealed rows that no checkpoint signs\n", r.Unsigned)
	}
	if !outside {
		_, _ = fmt.Fprintln(out, "not covered: that the end of the trail was not cut off (give --checkpoints)")
	}
	if r.Findings == 0 {
		_, _ = fmt.Fprintln(out, "nothing was changed")
	} else {
		_, _ = fmt.Fprintf(out, "faults: %d\n", r.Findings)
	}
}

// auditRetainCmd ends what need not be kept.
type auditRetainCmd struct {
	config.Database
	config.Trail
	Keep        string `name:"keep" default:"6y" placeholder:"TIME" help:"How long a month is kept after its end, in years (6y) or months (72m)."`
	Force       bool   `name:"force" help:"Accept less than the six years of 45 CFR 164.316(b)(2) and 164.528."`
	Dry         bool   `name:"dry-run" help:"Only say which months would go."`
	Checkpoints string `name:"audit-checkpoints" env:"CLOISTER_AUDIT_CHECKPOINTS" placeholder:"FILE" help:"File that gets a line for each signed checkpoint, as the servers have it."`
}

// Help is shown below the summary.
func (auditRetainCmd) Help() string {
	return `Run it as the login that migrates, with the key of the servers, which go on meanwhile. Each month is noted in
the trail, a checkpoint signs that it ends and how it ended, and then it is dropped whole. The rest stays
verifiable. Stopped, it goes on where it was when it is started again.`
}

// sixYears are those of 45 CFR 164.316(b)(2)(i) and 164.528(a).
const sixYears = 6 * 12

// keep reads a number of months.
func keep(s string) (months int, err error) {
	if s != "" {
		n, err := strconv.Atoi(s[:len(s)-1])
		unit := map[byte]int{'y': 12, 'm': 1}[s[len(s)-1]]
		if err == nil && n > 0 && n < 1200 && unit > 0 {
			return n * unit, nil
		}
	}
	return 0, fmt.Errorf("--keep is %q: write it in years or months, such as 6y or 90m", s)
}

// Validate refuses a bad configuration before anything starts.
func (c *auditRetainCmd) Validate() error {
	errs := []error{c.Database.Check(true), c.Trail.Check(true)}
	n, err := keep(c.Keep)
	if err == nil && n < sixYears && !c.Force {
		err = fmt.Errorf("--keep is %s: 45 CFR 164.316(b)(2) and 164.528 ask for six years; --force does it all the same", c.Keep)
	}
	return errors.Join(append(errs, err)...)
}

// Run drops months, and names them.
func (c *auditRetainCmd) Run(ctx context.Context, out io.Writer) error {
	keys, err := c.Trail.Open(true)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: c.URL, MaxConns: 1, Trail: keys})
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer store.Close()
	months, _ := keep(c.Keep) // checked when the flags were parsed
	heads, err := evidence.Retain(ctx, evidence.Retention{
		Options: evidence.Options{URL: c.URL, Keys: keys, Outside: c.Checkpoints},
		Before:  time.Now().UTC().AddDate(0, -months, 0), Dry: c.Dry,
		Note: func(ctx context.Context, list []trail.Month) error {
			for _, m := range list {
				if err := store.RecordSecurity(ctx, audit.Security{ID: record.NewID(), At: time.Now().UTC(), Kind: audit.MonthDropped, Outcome: audit.Success, By: byOperator, Session: m.String()}); err != nil {
					return err //nolint:wrapcheck // the caller names what was done
				}
			}
			return nil
		},
	})
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	what := "dropped"
	if c.Dry {
		what = "would go"
	}
	for _, h := range heads {
		_, _ = fmt.Fprintf(out, "%s: %s, %d rows\n", what, h.Month, h.Rows)
	}
	if len(heads) == 0 {
		_, _ = fmt.Fprintln(out, "no month is old enough")
	}
	return nil
}
