package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// imported runs cloister import as a process of its own: this test binary by another name.
func imported(ctx context.Context, dir, dsn string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0]) //nolint:gosec // it is this very program
	c.Args = append([]string{"cloister", "import", "--practice=harbor", "--create-practice", "--quiet", "--workers=2"}, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "CLOISTER_DATABASE_URL="+dsn)
	return c
}

// An import that is killed goes on when it is started again; no line is lost and none comes in twice.
func TestImportSurvivesKill(t *testing.T) {
	ctx := t.Context()
	dsn := cluster.NewDatabase(t, cluster.Template{Name: "import-kill", Prepare: func(ctx context.Context, dsn string) error {
		_, err := postgres.Migrate(ctx, dsn)
		return err
	}})
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	count := func(query string) (n int) {
		t.Helper()
		if err := conn.QueryRow(ctx, query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	dir := t.TempDir()
	const files, lines = 4, 1500
	for f := range files {
		var b strings.Builder
		for i := range lines {
			fmt.Fprintf(&b, `{"resourceType":"Observation","id":"n%d-%d","status":"final","code":{"text":"x"},"derivedFrom":[{"reference":"Observation/n%d-%d"}]}`+"\n", f, i, (f+1)%files, i)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.ndjson", f)), []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const stored = "SELECT count(*) FROM record.resource"
	last := 0
	for kill := range 3 {
		c := imported(ctx, dir, dsn, ".")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "some progress", func() bool { return count(stored) > last })
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait() // it was killed
		time.Sleep(100 * time.Millisecond)
		last = count(stored)
		t.Logf("killed for the %d. time at %d of %d", kill+1, last, files*lines)
		if last == files*lines {
			break // it was faster
		}
	}
	if out, err := imported(ctx, dir, dsn, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := count(stored); n != files*lines {
		t.Errorf("%d are stored, want %d", n, files*lines)
	}
	if n := count("SELECT count(*) FROM record.resource WHERE version > 1") + count("SELECT count(*) FROM record.resource_history"); n != 0 {
		t.Errorf("%d were written twice", n)
	}

	// A dry run says what would come, and leaves everything as it is.
	if err := os.WriteFile(filepath.Join(dir, "0.ndjson"), []byte(`{"resourceType":"Observation","id":"n0-0","status":"final","code":{"text":"y"}}`+"\n"+`{"resourceType":"Patient","id":"p","gender":"CANARY"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := imported(ctx, dir, dsn, "--dry-run", "0.ndjson").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Observation    0 new, 1 changed, 0 same, 0 refused") || !strings.Contains(string(out), "cloister-import.ndjson") {
		t.Errorf("%v\n%s", err, out)
	}
	report, err := os.ReadFile(filepath.Join(dir, "cloister-import.ndjson"))
	if err != nil || strings.Count(string(report), "\n") != 2 || !strings.Contains(string(report), "line 2: Patient/p") || strings.Contains(string(report)+string(out), "CANARY") {
		t.Errorf("%v\n%s", err, report)
	}
	if n := count("SELECT count(*) FROM record.resource WHERE version > 1"); n != 0 {
		t.Error("a dry run stored something")
	}
}
