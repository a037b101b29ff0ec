package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloister-health/cloister/api/smart/postgres"
)

// TestTheRoleReachesNoRecord: whoever gets hold of the connections of sign-in reads no record, and
// those who serve records read no credential.
func TestTheRoleReachesNoRecord(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	tables := func(where string) (out []string) {
		rows, err := conn.Query(ctx, "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND "+where)
		if err != nil {
			t.Fatal(err)
		}
		if out, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			t.Fatal(err)
		}
		return out
	}
	refused := func(role, sql string) bool {
		_, err := conn.Exec(ctx, "SET ROLE "+role)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, err := conn.Exec(ctx, "RESET ROLE"); err != nil {
				t.Fatal(err)
			}
		}()
		_, err = conn.Exec(ctx, sql)
		var pg *pgconn.PgError
		return errors.As(err, &pg) && pg.Code == "42501"
	}
	others := tables("n.nspname NOT IN ('identity', 'pg_catalog', 'information_schema', 'pg_toast', 'public')")
	if len(others) < 20 {
		t.Fatalf("%d tables of other schemas: this test looks in the wrong place", len(others))
	}
	for _, name := range others {
		if !refused(postgres.Role, "SELECT * FROM "+name+" LIMIT 0") {
			t.Errorf("%s can read %s", postgres.Role, name)
		}
	}
	own := tables("n.nspname = 'identity'")
	for _, name := range own {
		for _, role := range []string{"cloister_app", "cloister_notes"} {
			if !refused(role, "SELECT * FROM "+name+" LIMIT 0") {
				t.Errorf("%s can read %s", role, name)
			}
		}
	}
	for _, sql := range []string{"UPDATE audit.security SET outcome = '0'", "DELETE FROM audit.security", "TRUNCATE audit.security"} {
		if !refused("cloister_app", sql) {
			t.Errorf("the server may %s", sql)
		}
	}
}

// TestNothingOfASecretIsStored looks for tokens, codes and secrets in the tables themselves.
func TestNothingOfASecretIsStored(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	_, secret, step := h.enrolled("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	codes := must(h.RecoveryCodes(ctx, step.Token, home))(t)
	if err := h.Recover(ctx, "tess@example.org", home); err != nil {
		t.Fatal(err)
	}
	link := h.token("tess@example.org")
	challenge := must(h.Password(ctx, "tess@example.org", goodPassword, home))(t).Challenge.ID
	text := h.dump(ctx)
	for what, s := range map[string]string{
		"session": step.Token, "device": step.Device, "totp secret": secret, "recovery code": strings.ReplaceAll(codes[0], "-", ""),
		"link": link, "challenge": challenge, "password": goodPassword,
	} {
		if s == "" || strings.Contains(text, s) {
			t.Errorf("the %s is stored in the clear", what)
		}
	}
	if !strings.Contains(text, "tess@example.org") {
		t.Error("the address is not stored: this test looks in the wrong place")
	}
	// Nor do events carry an address or a name.
	var events string
	conn, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, "SELECT string_agg(s::text, E'\n') FROM audit.security s").Scan(&events); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"tess@", "Somebody", "Firefox", secret, step.Token} {
		if strings.Contains(events, s) {
			t.Errorf("an event carries %q", s)
		}
	}
}

// dump is everything that the schema holds, as text, bytes included.
func (h *house) dump(ctx context.Context) string {
	h.t.Helper()
	conn, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "SET bytea_output = 'escape'"); err != nil {
		h.t.Fatal(err)
	}
	rows, err := conn.Query(ctx, "SELECT format('SELECT coalesce(string_agg(x::text, E''\\n''), '''') FROM identity.%I x', tablename) FROM pg_tables WHERE schemaname = 'identity'")
	if err != nil {
		h.t.Fatal(err)
	}
	queries, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatal(err)
	}
	var b strings.Builder
	for _, q := range queries {
		var s string
		if err := conn.QueryRow(ctx, q).Scan(&s); err != nil {
			h.t.Fatal(err)
		}
		b.WriteString(s + "\n")
	}
	return b.String()
}
