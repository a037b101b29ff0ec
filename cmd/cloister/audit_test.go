package main

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

// auditKey makes a key of the trail.
func auditKey(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit-key.jwks")
	if err := trail.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// An operator's life with the trail: verify, drop old months, verify again, and find what somebody changed.
func TestAuditCommands(t *testing.T) {
	ctx := context.Background()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if _, err := postgres.Migrate(ctx, dsn); err != nil {
		t.Fatal(err)
	}
	key, outside := auditKey(t), filepath.Join(t.TempDir(), "checkpoints")
	keys, err := trail.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: dsn, Trail: keys, MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now().UTC()
	for _, years := range []int{0, 1, 5, 7, 8} {
		if err := store.RecordSecurity(ctx, audit.Security{ID: record.NewID(), At: now.AddDate(-years, 0, -1), Kind: audit.SignIn, Outcome: audit.Success, Address: netip.MustParseAddr("192.0.2.1")}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := evidence.New(ctx, evidence.Options{URL: dsn, Keys: keys, Outside: outside})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Seal(ctx, true); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		t.Helper()
		var out bytes.Buffer
		c := parse(t, append([]string{"audit", args[0], "--database-url", dsn}, args[1:]...)...)
		err := c.Audit.Verify.Run(ctx, &out)
		return out.String(), err
	}
	verify := func() (string, error) {
		t.Helper()
		return run("verify", "--key", key, "--checkpoints", outside, "--quiet")
	}
	if out, err := verify(); err != nil || !strings.Contains(out, "5 rows in 5 links") || !strings.Contains(out, "nothing was changed") {
		t.Fatalf("%v\n%s", err, out)
	}
	retain := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		c := parse(t, append([]string{"audit", "retain", "--database-url", dsn, "--audit-key", key, "--audit-checkpoints", outside}, args...)...)
		if err := c.Audit.Retain.Run(ctx, &out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if out := retain("--dry-run"); strings.Count(out, "would go: ") != 2 {
		t.Errorf("dry: %s", out)
	}
	if out := retain(); strings.Count(out, "dropped: ") != 2 || !strings.Contains(out, ", 1 rows") {
		t.Errorf("%s", out)
	}
	out, err := verify()
	if err != nil || !strings.Contains(out, "5 rows in 4 links") || !strings.Contains(out, "dropped at the end of retention: ") { // two are the notes of what went
		t.Fatalf("%v\n%s", err, out)
	}
	if out := retain(); !strings.Contains(out, "no month is old enough") {
		t.Errorf("again: %s", out)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var noted int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM audit.security WHERE kind = 'trail-month-dropped' AND actor = 'operator' AND session ~ '^[0-9]{4}-[0-9]{2}$'").Scan(&noted); err != nil || noted != 2 {
		t.Errorf("%d months are noted, %v", noted, err)
	}
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM audit.security WHERE at < now() - interval '6 years'").Scan(&noted); err != nil || noted != 0 {
		t.Errorf("%d old rows are left, %v", noted, err)
	}
	// What is recorded without the key is refused where the trail is signed.
	bare, err := postgres.Open(ctx, postgres.Options{URL: dsn, MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	if err := bare.RecordSecurity(ctx, audit.Security{ID: record.NewID(), At: now, Kind: audit.SignIn, Outcome: audit.Success}); err == nil || !strings.Contains(err.Error(), "CLOISTER_AUDIT_KEY") {
		t.Errorf("a row without a mark: %v", err)
	}
	if _, err := conn.Exec(ctx, "ALTER TABLE audit.security_default DISABLE TRIGGER append_only; UPDATE audit.security SET address = '198.51.100.7' WHERE at < now() - interval '4 years'; ALTER TABLE audit.security_default ENABLE TRIGGER append_only"); err == nil {
		t.Fatal("the trigger of the whole table let it pass")
	}
	if _, err := conn.Exec(ctx, "ALTER TABLE audit.security_default DISABLE TRIGGER append_only; UPDATE audit.security_default SET address = '198.51.100.7' WHERE at < now() - interval '4 years'; ALTER TABLE audit.security_default ENABLE TRIGGER append_only"); err != nil {
		t.Fatal(err)
	}
	out, err = verify()
	if !errors.Is(err, errNotEvidence) || strings.Count(out, "altered: "+trail.MonthOf(now.AddDate(-5, 0, -1)).String()+" audit.security ") != 1 || !strings.Contains(out, "faults: 1") {
		t.Errorf("%v\n%s", err, out)
	}
	// The month alone, and all but it.
	if out, err := run("verify", "--key", key, "--quiet", "--from", trail.MonthOf(now.AddDate(-1, 0, -1)).String()); err != nil || !strings.Contains(out, "give --checkpoints") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.WriteFile(outside, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(); err == nil {
		t.Error("a file of checkpoints that holds none is accepted")
	}
}

var (
	steps   = regexp.MustCompile("(?s)```(console|sql)\n(.*?)```")
	moments = regexp.MustCompile(`20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z`)
	ids     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	keyIDs  = regexp.MustCompile(`key [A-Za-z0-9_-]{43}`)
	months  = regexp.MustCompile(`\b20[0-9]{2}-[0-9]{2}\b`)
)

// The example of the page is what the commands print, in that order, on a trail that was made as the page says.
func TestDocsShowTheAuditTrail(t *testing.T) {
	ctx := context.Background()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if _, err := postgres.Migrate(ctx, dsn); err != nil {
		t.Fatal(err)
	}
	p := open(t, "audit.md")
	dir := t.TempDir()
	if err := trail.Create(filepath.Join(dir, "audit-key.jwks"), nil); err != nil {
		t.Fatal(err)
	}
	keys, err := trail.ReadFile(filepath.Join(dir, "audit-key.jwks"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: dsn, Trail: keys, MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s, err := evidence.New(ctx, evidence.Options{URL: dsn, Keys: keys, Outside: filepath.Join(dir, "checkpoints")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, who := range []string{"anna", "nosy", "dora", "emil"} {
		e := audit.Event{ID: record.NewID(), At: time.Date(2026, 11, 2, 9, i, 0, 0, time.UTC), Interaction: fhir.Read, Type: "Observation", Outcome: audit.Success, Caller: authz.Caller{Tenant: 1, Subject: "https://id.example.org|" + who, Purpose: "TREAT"}}
		if err := store.Record(ctx, e); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			if err := s.Seal(ctx, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	head, rest, ok := strings.Cut(p.text, "\n## Verify\n")
	if !ok {
		t.Fatal("the page has no example")
	}
	shown := 0
	rest = steps.ReplaceAllStringFunc(rest, func(block string) string {
		m := steps.FindStringSubmatch(block)
		if m[1] == "sql" {
			if _, err := conn.Exec(ctx, m[2]); err != nil {
				t.Fatalf("%s: %v", m[2], err)
			}
			return block
		}
		shown++
		line, _, _ := strings.Cut(m[2], "\n")
		args := strings.Fields(strings.NewReplacer("$ cloister ", "", " checkpoints ", " "+filepath.Join(dir, "checkpoints")+" ", "audit-key.jwks", filepath.Join(dir, "audit-key.jwks")).Replace(line))
		c := parse(t, append(args, "--quiet", "--database-url", dsn)...)
		var out bytes.Buffer
		err := c.Audit.Verify.Run(ctx, &out)
		if (err == nil) != (shown == 1) {
			t.Errorf("%s: %v", line, err)
		}
		text := moments.ReplaceAllString(out.String(), "…")
		text = keyIDs.ReplaceAllString(ids.ReplaceAllString(text, "…"), "key …")
		return "```console\n" + line + "\n" + months.ReplaceAllString(text, "2026-11") + "```"
	})
	if shown != 2 {
		t.Errorf("%d commands are shown", shown)
	}
	p.check(t, head+"\n## Verify\n"+rest)
}
