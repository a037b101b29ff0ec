package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// What writes plans its statements once and not for every resource, and reads no table from end to end by
// a plan that was made while it was short; what a condition searches by is planned with its values.
func TestWritesKeepTheirPlans(t *testing.T) {
	h := clinic(t)
	ctx := context.Background()
	owner, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = owner.Close(ctx) }()
	if _, err := owner.Exec(ctx, "ANALYZE"); err != nil { // so short that reading all of it is cheaper
		t.Fatal(err)
	}
	if h.store, err = postgres.Open(ctx, postgres.Options{URL: h.dsn, Now: h.now, MaxConns: 1, Keys: envelopetest.Keys()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.store.Close)
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	h.engine = authz.NewEngine(policy, h.store, h.now)
	h.gate = record.NewGate(h.engine, h.store, h.now).Explaining(h.store)

	scanned := func() (n int64) {
		t.Helper()
		if err := h.store.OnApp(ctx, func(c *pgx.Conn) error {
			if _, err := c.Exec(ctx, "SELECT pg_stat_force_next_flush()"); err != nil {
				return err
			}
			_, err := c.Exec(ctx, "SELECT 1")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := owner.QueryRow(ctx, "SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE schemaname = 'record' AND relname IN ('resource', 'relation', 'consent_grant')").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := scanned()
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	for range 3 {
		ref := h.mustCreate(dora, observation(""))
		if _, err := h.update(dora, observation(",'id':'"+string(ref.ID)+"','note':[{'text':'again'}]")); err != nil {
			t.Fatal(err)
		}
	}
	if n := scanned() - before; n != 0 {
		t.Errorf("writes read tables from end to end %d times", n)
	}
	query, err := parseQuery("Observation", "status=preliminary")
	if err != nil {
		t.Fatal(err)
	}
	query.Count = 2
	for range 2 {
		r := h.resource(observation(""))
		rs, err := h.write(dora, record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: r.Type}, Content: r, Condition: &query})
		if err != nil || !rs[0].Created {
			t.Fatalf("a conditional create: %+v, %v", rs, err)
		}
	}

	kept, searches := 0, 0
	var text string
	var generic, custom int
	if err := h.store.OnApp(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, "SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements WHERE generic_plans + custom_plans > 0 AND statement LIKE '%$1%' AND statement NOT LIKE '%advisory%'") //nolint:rowserrcheck // ForEachRow returns it
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&text, &generic, &custom}, func() error {
			switch search := strings.Contains(text, "SELECT id FROM ("); {
			case search && generic == 0:
				searches++
			case !search && custom == 0:
				kept++
			default:
				t.Errorf("%d kept plans and %d made for their values: %.200s", generic, custom, text)
			}
			return nil
		})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if searches != 1 || kept < 8 {
		t.Errorf("%d statements keep their plans, and %d searches do not", kept, searches)
	}
}
