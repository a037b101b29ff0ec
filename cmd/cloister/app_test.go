package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	identities "github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// The public key of the key set that the page names.
const (
	p384x = "qofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3"
	p384y = "NhfeSpYmLG9dnpi_kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f"
)

// shellWords splits a command as a shell does, as far as the pages quote.
func shellWords(line string) (out []string) {
	var word strings.Builder
	var quote rune
	in := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, in = r, true
		case quote == 0 && r == ' ':
			if in {
				out = append(out, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if in {
		out = append(out, word.String())
	}
	return out
}

// unindented takes the indentation of a list away.
func unindented(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "   ")
	}
	return strings.Join(lines, "\n")
}

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
	smartPage := open(t, "smart.md").text
	t.Setenv("CLOISTER_DATABASE_URL", dsn)
	t.Setenv("CLOISTER_AUTH_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	run := func(line string) string {
		var out bytes.Buffer
		var c cli
		cmd, err := c.parser().Parse(shellWords(line))
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
	t.Chdir(t.TempDir())
	keys := `{"keys":[{"kty":"EC","crv":"P-384","use":"sig","alg":"ES384","kid":"one","x":"` + p384x + `","y":"` + p384y + `"}]}`
	if err := os.WriteFile("keys.json", []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, block := range console.FindAllStringSubmatch(smartPage, -1) {
		for _, part := range strings.Split(unindented(block[1]), "$ cloister ")[1:] {
			command, want, _ := strings.Cut(part, "\n")
			commands++
			if got := run(command); got != want {
				t.Errorf("%s says\n%s\nand the page\n%s", command, got, want)
			}
		}
	}
	if commands != 5 {
		t.Errorf("the page has %d commands", commands)
	}
	for _, c := range []struct{ line, want string }{
		{"app register my-app --name Again --redirect https://app.example.org/ --scope openid", "registered already"},
		{"app register desk --name Desk --auth client_secret_basic --redirect https://app.example.org/ --scope openid", "client_secret  "},
		{"app register bad --name Bad --redirect http://app.example.org/ --scope openid", "redirect_uris"},
		{"app register bad --name Bad --redirect https://app.example.org/ --scope openid --purpose NOTHING", "--purpose"},
		{"app approve nobody --practice harbor", "not registered"},
		{"app approve desk --practice nowhere", "no practice"},
		{"app list", "waits for approval"},
		{"app withdraw my-app --practice harbor", "withdrawn"},
		{"app approve my-app --practice harbor", "may be used"},
		{"app withdraw my-app", "withdrawn"},
		{"app approve my-app --practice harbor", "was withdrawn"},
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
	if a, err := store.App(ctx, "my-app"); err != nil || a.Active() {
		t.Errorf("%+v %v", a, err)
	}
	var events int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM audit.security WHERE kind IN ('app-registered', 'app-approved', 'app-refused', 'keys-rotated')").Scan(&events); err != nil || events < 7 {
		t.Errorf("%d events, %v", events, err)
	}
}
