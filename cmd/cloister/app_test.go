package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	identities "github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// TestDocsShowApps runs the commands of docs/smart.md, and those that end what they began.
func TestDocsShowApps(t *testing.T) {
	ctx := t.Context()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(ctx, "INSERT INTO record.tenant (slug, name) VALUES ('harbor', 'Harbor')"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CLOISTER_DATABASE_URL", dsn)
	t.Setenv("CLOISTER_AUTH_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	run := func(line string) string {
		var out bytes.Buffer
		var c cli
		cmd, err := c.parser().Parse(strings.Fields(line))
		if err == nil {
			cmd.BindTo(ctx, (*context.Context)(nil))
			cmd.BindTo(&out, (*io.Writer)(nil))
			err = cmd.Run()
		}
		if err != nil {
			fmt.Fprintln(&out, err)
		}
		return out.String()
	}
	var said []string
	for _, line := range strings.Split(open(t, "smart.md").text, "\n") {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ cloister "); ok {
			said = append(said, run(command))
		}
	}
	if want := []string{"client_id      chart\n", "chart may be used in harbor\n", "chart  Chart  none  harbor\n"}; strings.Join(said, "|") != strings.Join(want, "|") {
		t.Fatalf("%q", said)
	}
	for _, c := range []struct{ line, want string }{
		{"app register chart --name Again --redirect https://app.example.org/ --scope openid", "registered already"},
		{"app register desk --name Desk --auth client_secret_basic --redirect https://app.example.org/ --scope openid", "client_secret  "},
		{"app register bad --name Bad --redirect http://app.example.org/ --scope openid", "redirect_uris"},
		{"app register bad --name Bad --redirect https://app.example.org/ --scope openid --purpose NOTHING", "--purpose"},
		{"app approve nobody --practice harbor", "not registered"},
		{"app approve desk --practice nowhere", "no practice"},
		{"app list", "waits for approval"},
		{"app withdraw chart --practice harbor", "withdrawn"},
		{"app approve chart --practice harbor", "may be used"},
		{"app withdraw chart", "withdrawn"},
		{"app approve chart --practice harbor", "was withdrawn"},
		{"app withdraw nobody", "not registered"},
		{"app keys rotate", "in a day"},
		{"app keys rotate --now", "from now on"},
		{"app keys rotate --auth-key short", "CLOISTER_AUTH_KEY"},
	} {
		if got := run(c.line); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.line, got, c.want)
		}
	}
	store, err := identities.Open(ctx, identities.Options{URL: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if a, err := store.App(ctx, "chart"); err != nil || a.Active() {
		t.Errorf("%+v %v", a, err)
	}
	var events int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM audit.security WHERE kind IN ('app-registered', 'app-approved', 'app-refused', 'keys-rotated')").Scan(&events); err != nil || events < 7 {
		t.Errorf("%d events, %v", events, err)
	}
}
