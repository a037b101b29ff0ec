package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

var shownProvider = regexp.MustCompile("(?s)```json\n(.*?)```")

// TestDocsShowProviders reads the file of docs/providers.md as serve does, and runs its commands.
func TestDocsShowProviders(t *testing.T) {
	p := open(t, "providers.md")
	shown := shownProvider.FindAllStringSubmatch(p.text, -1)
	if len(shown) != 1 {
		t.Fatalf("the page shows %d files", len(shown))
	}
	list, err := config.ReadProviders(fstest.MapFS{"harbor.json": {Data: []byte(shown[0][1])}, "harbor.secret": {Data: []byte("s3cr3t\n")}}, func(string) string { return "" }, false)
	if err != nil {
		t.Fatal(err)
	}
	c := list[0]
	if c.Name != "harbor" || c.Title != "Harbor staff" || string(c.Secret) != "s3cr3t" || c.MaxAge != 12*time.Hour || c.Assurance.Own || !slices.Equal(c.Practices, []string{"harbor"}) ||
		!slices.Equal(c.Claims.Map["Clinical supervisors"], []string{"therapist", "supervisor"}) || len(c.Assurance.ACR) != 1 || c.Claims.Trusted {
		t.Errorf("%+v", c)
	}

	ctx := context.Background()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "INSERT INTO record.tenant (slug, name) VALUES ('harbor', 'Harbor')"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CLOISTER_DATABASE_URL", dsn)
	t.Setenv("CLOISTER_BASE_URL", "https://fhir.example.org/fhir")
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
			_, _ = fmt.Fprintln(&out, err)
		}
		return anID.ReplaceAllString(out.String(), "ACCOUNT")
	}
	ran := 0
	const indent = "   "
	want := regexp.MustCompile("(?s)   ```console\n(.*?)   ```").ReplaceAllStringFunc(p.text, func(block string) string {
		var b strings.Builder
		b.WriteString(indent + "```console\n")
		for _, line := range strings.Split(block, "\n") {
			command, ok := strings.CutPrefix(line, indent+"$ cloister ")
			if !ok {
				continue
			}
			ran++
			b.WriteString(line + "\n")
			if said := strings.TrimSuffix(run(command), "\n"); said != "" {
				b.WriteString(indent + strings.ReplaceAll(said, "\n", "\n"+indent) + "\n")
			}
		}
		return b.String() + indent + "```"
	})
	if ran < 4 {
		t.Errorf("the page shows %d commands", ran)
	}
	p.check(t, want)
	var subject, account string
	if err := conn.QueryRow(ctx, `SELECT x.subject, a.email FROM identity.external x JOIN identity.account a ON a.id = x.account WHERE x.issuer = 'https://id.harbor.example'`).Scan(&subject, &account); err != nil || subject != "00u1a2b3c4" || account != "tess@harbor.example" {
		t.Errorf("%s is linked to %s: %v", subject, account, err)
	}
	var actor string
	if err := conn.QueryRow(ctx, `SELECT actor FROM audit.security WHERE kind = 'account-linked'`).Scan(&actor); err != nil || actor != byOperator {
		t.Errorf("the event of the link says %q: %v", actor, err)
	}
}
