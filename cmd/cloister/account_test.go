package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// mailbox takes mail on this machine, and keeps nothing of it but how much came.
func mailbox(t *testing.T) (address string, got <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	mails := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = fmt.Fprint(c, "220 test\r\n")
				var body strings.Builder
				data := false
				for in := bufio.NewScanner(c); in.Scan(); {
					switch line := in.Text(); {
					case data && line == ".":
						data = false
						mails <- body.String()
						_, _ = fmt.Fprint(c, "250 taken\r\n")
					case data:
						body.WriteString(line + "\n")
					case line == "DATA":
						data = true
						_, _ = fmt.Fprint(c, "354 go\r\n")
					default:
						_, _ = fmt.Fprint(c, "250 ok\r\n")
					}
				}
			}()
		}
	}()
	return l.Addr().String(), mails
}

var (
	console = regexp.MustCompile("(?s)```console\n(.*?)```")
	anID    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
)

// TestDocsShowAccounts runs the example of docs/accounts.md, command by command.
func TestDocsShowAccounts(t *testing.T) {
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
	smtp, mails := mailbox(t)
	t.Setenv("CLOISTER_DATABASE_URL", dsn)
	t.Setenv("CLOISTER_BASE_URL", "https://fhir.example.org/fhir")
	t.Setenv("CLOISTER_AUTH_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	t.Setenv("CLOISTER_MAIL_SERVER", "smtp://"+smtp)
	t.Setenv("CLOISTER_MAIL_FROM", "no-reply@example.org")
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
		return anID.ReplaceAllString(out.String(), "ACCOUNT")
	}
	p := open(t, "accounts.md")
	ran := 0
	want := console.ReplaceAllStringFunc(p.text, func(block string) string {
		var b strings.Builder
		b.WriteString("```console\n")
		for _, line := range strings.Split(block, "\n") {
			if command, ok := strings.CutPrefix(line, "$ cloister "); ok {
				ran++
				b.WriteString(line + "\n" + run(command))
			}
		}
		return b.String() + "```"
	})
	if ran < 8 {
		t.Errorf("the page shows %d commands", ran)
	}
	p.check(t, want)
	if mail := strings.ReplaceAll(<-mails, "=\n", ""); !strings.Contains(mail, "https://fhir.example.org/smart/invitation?token=3D") {
		t.Errorf("no link in\n%s", mail)
	}

	events := run("account events --practice harbor")
	kinds := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(events), "\n") {
		var e struct {
			ResourceType string
			Subtype      []struct{ Code string }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ResourceType != "AuditEvent" {
			t.Fatalf("%v: %s", err, line)
		}
		kinds[e.Subtype[len(e.Subtype)-1].Code]++
	}
	for _, k := range []string{"invited", "account-created", "account-disabled", "account-enabled", "sessions-ended"} {
		if kinds[k] != 1 {
			t.Errorf("%d events %s", kinds[k], k)
		}
	}
	if strings.Contains(events, "example.org\"") || strings.Contains(events, "Ria") {
		t.Errorf("events name people:\n%s", events)
	}
	if token := strings.TrimSpace(run("account scim-token --practice harbor")); len(token) != 43 {
		t.Errorf("token %q", token)
	}
	for line, want := range map[string]string{
		"account list --practice nowhere":       "there is no practice nowhere",
		"account disable nobody@example.org":    "there is no such account",
		"account events --kind made-up":         "--kind is none of",
		"account list --auth-key short":         "CLOISTER_AUTH_KEY is not 32 bytes",
		"account list --session-idle 1s":        "CLOISTER_SESSION_IDLE is 1s",
		"account list --mail-server= ":          "CLOISTER_MAIL_FROM and CLOISTER_MAIL_SERVER go together",
		"account list --patient-factor=perhaps": "CLOISTER_PATIENT_FACTOR",
	} {
		if got := run(line); !strings.Contains(got, want) {
			t.Errorf("%s says %q", line, got)
		}
	}
}
