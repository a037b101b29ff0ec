package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/cmd/cloister/internal/logging"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"cloister": main}) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: filepath.Join("..", "..", "testdata", "scripts")})
}

// TestServeHasNoOtherSwitches fails where a flag is added to serve, so that somebody asks what it can switch off.
func TestServeHasNoOtherSwitches(t *testing.T) {
	want := []string{
		"age-of-majority", "allow-upsert", "app-key-hosts", "app-registration", "audit-checkpoints", "audit-forward", "audit-key", "audit-sign-every", "auth-key", "authorization-server", "base-url", "branding", "breached-passwords", "client-certificate-header", "conditional-delete", "cors-origins", "dangling-references", "database-url", "emergency-session", "emergency-sign-in", "export-dir", "export-s3", "help", "idempotency-life", "import-dir", "import-hosts", "import-networks", "invitation-life", "issuers", "label-set", "label-tobacco", "label-unknown", "listen",
		"log-format", "log-level", "mail-from", "mail-server", "max-body", "notes-key", "notes-older-keys", "page-key", "patient-factor", "policies", "providers", "recovery-life", "request-timeout", "scim-roles", "security-labels",
		"session-absolute", "session-idle", "shutdown-grace", "signing-keys", "treating-after-appointment", "treating-after-encounter", "treating-before-appointment", "trusted-proxies", "validation", "webhook-hosts", "webhook-private-hosts",
	}
	var c cli
	var got []string
	for _, node := range c.parser().Model.Children {
		if node.Name == "serve" {
			for _, group := range node.AllFlags(false) {
				for _, f := range group {
					got = append(got, f.Name)
				}
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("serve has the flags %v, want %v", got, want)
	}
}

func TestLogIsForMachinesWhereAServerWritesIt(t *testing.T) {
	for command, want := range map[string]logging.Format{"serve": logging.JSON, "dev": logging.Text, "import <path>": logging.Text} {
		if got := defaultFormat(command); got != want {
			t.Errorf("%s logs %s, want %s", command, got, want)
		}
	}
}

func TestFlagsBecomeAQuestion(t *testing.T) {
	var c cli
	if _, err := c.parser().Parse([]string{"policy", "explain", "--role=therapist,supervisor", "--type=Observation", "--labels=42CFRPart2+SUD"}); err != nil {
		t.Fatal(err)
	}
	want := authz.Question{
		Roles: []string{"therapist", "supervisor"}, Purpose: "TREAT", Action: authz.ActionRead, Type: "Observation", Labels: label.Part2 | label.SUD,
	}
	if d := cmp.Diff(want, c.Policy.Explain.question()); d != "" {
		t.Error(d)
	}
	if (&importCmd{Workers: 3}).workers() != 3 || (&importCmd{}).workers() < 1 {
		t.Error("workers")
	}
}

func TestVersion(t *testing.T) {
	got := version(&debug.BuildInfo{
		Main:     debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: strings.Repeat("ab", 20)}, {Key: "vcs.modified", Value: "true"}},
	})
	if !strings.HasPrefix(got, "cloister v1.2.3 commit abababababab (modified) go1.") {
		t.Error(got)
	}
	if !strings.HasPrefix(version(nil), "cloister (devel) go1.") {
		t.Error(version(nil))
	}
}

func TestOwnDatabaseIsUsedWhereOneIsConfigured(t *testing.T) {
	d, err := openDatabase(context.Background(), "postgres://db/x", "", false, slog.New(slog.DiscardHandler))
	if err != nil || d.DSN != "postgres://db/x" || d.Close() != nil || d.Done() != nil {
		t.Errorf("%+v %v", d, err)
	}
}

func TestPrivateDatabaseOutlivesTheSignal(t *testing.T) {
	dir, err := os.MkdirTemp("", "cloister-dev-") // t.TempDir is closed to the cluster's user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := devCmd{Data: filepath.Join(dir, "data")}
	if c.Data, err = c.dataDir(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Reachable(filepath.Join(c.Data, "postgres")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d, err := openDatabase(ctx, "", c.Data, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	// Requests under way still need it after the signal.
	conn, err := pgx.Connect(context.Background(), d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(context.Background())
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	<-d.Done()
	if _, err := openDatabase(ctx, "", c.Data, false, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("started although it was interrupted")
	}
}
