package postgres

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/search"
)

// filled is a practice of 200 patients with 100 Observations each, written by
// SQL alone: the planner looks at columns, not at bodies.
var filled = cluster.Template{Name: "filled", Prepare: func(ctx context.Context, dsn string) error {
	if _, err := Migrate(ctx, dsn); err != nil {
		return err
	}
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	const tenant = 1
	observation := fhir.ResourceType("Observation")
	var codes, patients []int64
	for i := range 20 {
		q, _, err := search.Parse(observation, url.Values{"code": {codeAt(i)}}, search.Options{})
		if err != nil {
			return err
		}
		codes = append(codes, mix(tenant, observation.Code(), q.Legs[0].Where[0].Any[0].Hash))
	}
	for i := range 200 {
		q, _, err := search.Parse(observation, url.Values{"patient": {patientAt(i)}}, search.Options{})
		if err != nil {
			return err
		}
		patients = append(patients, mix(tenant, 0, q.Legs[0].Where[0].Any[0].Hash)^search.ParamKey("patient"))
	}
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{"INSERT INTO record.tenant (slug, name) VALUES ('harbor', 'Harbor')", nil},
		{"INSERT INTO record.label_class (labels) VALUES (0)", nil},
		{`INSERT INTO record.resource (tenant, type, id, pk, version, updated, label_class, patient, tokens, refs, body, self)
SELECT 1, $1, 'o-' || p || '-' || o, p * 100 + o, 1, timestamptz '2026-01-01' + make_interval(mins => p * 7 + o), (SELECT id FROM record.label_class WHERE labels = 0),
       'p-' || p, ARRAY[($2::bigint[])[1 + o % 20]], ARRAY[($3::bigint[])[1 + p]], '{}', p * 100 + o
FROM generate_series(0, 199) p, generate_series(0, 99) o`, []any{observation.Code(), codes, patients}},
		{`INSERT INTO record.relation (tenant, kind, member, patient, source) SELECT 1, 1, 'Practitioner/me', 'p-' || p, p FROM generate_series(0, 39) p`, nil},
		{"ANALYZE", nil},
	} {
		if _, err := c.Exec(ctx, s.sql, s.args...); err != nil {
			return err
		}
	}
	return nil
}}

func codeAt(i int) string    { return fmt.Sprintf("http://loinc.org|code-%d", i) }
func patientAt(i int) string { return fmt.Sprintf("Patient/p-%d", i) }

// TestRestrictedSearchKeepsItsIndex asks PostgreSQL how it would run the search
// by patient and code: by an index, whatever the caller's Restriction adds.
func TestRestrictedSearchKeepsItsIndex(t *testing.T) {
	ctx := context.Background()
	s, err := Open(ctx, Options{URL: cluster.NewDatabase(t, filled), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	engine := authz.NewEngine(policy, s, time.Now)
	me, _ := fhir.ParseRef("Practitioner/me")
	for name, p := range map[string]authz.Principal{
		"hie":       {Roles: []string{"hie"}},
		"therapist": {Roles: []string{"therapist"}, User: me},
		"granular":  {Roles: []string{"therapist"}, User: me, Scopes: smart.Parse("user/Observation.rs?code=" + codeAt(7) + " user/Observation.rs?code=" + codeAt(8))},
	} {
		p.Tenant, p.Subject, p.Purpose = 1, "test|"+name, "TREAT"
		if p.Scopes == nil {
			p.Scopes = smart.Parse("system/*.rs user/*.rs")
		}
		g, err := engine.Authorize(ctx, p, fhir.SearchType, "Observation")
		if err != nil {
			t.Fatal(err)
		}
		r, err := engine.Plan(ctx, g, fhir.SearchType, "Observation")
		if err != nil {
			t.Fatal(err)
		}
		for what, v := range map[string]url.Values{
			"patient and code": {"patient": {patientAt(7)}, "code": {codeAt(7)}, "_count": {"20"}},
			"patient":          {"patient": {patientAt(7)}},
		} {
			query, _, err := search.Parse("Observation", v, search.Options{})
			if err != nil {
				t.Fatal(err)
			}
			page, err := s.Search(ctx, authz.ReachOf(r), query)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]int{"patient and code": 5, "patient": 20}[what]
			if name == "granular" {
				want = min(want, 10) // of two codes
			}
			if len(page.Entries) != want {
				t.Errorf("%s, %s: %d resources, want %d", name, what, len(page.Entries), want)
			}
			first := firstPage(t, s, r, query)
			if written := strings.Contains(first.String(), "arrayoverlap(r.tokens"); written != (name == "granular") {
				t.Errorf("%s, %s: a condition on tokens for the scopes: %v", name, what, written)
			}
			plan := explain(t, s, r, first)
			if strings.Contains(plan, "Seq Scan on resource ") || !strings.Contains(plan, "Index") {
				t.Errorf("%s, %s: the table is read from end to end:\n%s", name, what, plan)
			}
			if rows := widest(t, plan); rows > 250 {
				t.Errorf("%s, %s: %d rows are read:\n%s", name, what, rows, plan)
			}
		}
		if plan := explainRead(t, s, r, readStatement(&statement{columns: true}, r, "o-7-7")); strings.Contains(plan, "Seq Scan on resource ") || !strings.Contains(plan, "resource_pkey") {
			t.Errorf("%s: a read by id does not go by the primary key:\n%s", name, plan)
		}
	}
}

func firstPage(t *testing.T, s *Store, r authz.Restriction, query search.Query) *statement {
	t.Helper()
	at, err := placeOf(query)
	if err != nil {
		t.Fatal(err)
	}
	return newFinder(s, authz.ReachOf(r), query).pageStatement(at, query.Count+1, false)
}

func explain(t *testing.T, s *Store, r authz.Restriction, q *statement) string {
	t.Helper()
	rows, err := s.pool(r).Query(context.Background(), "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, SUMMARY OFF) "+q.String(), q.args...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// explainRead asks for the kept plan of a read that shares its statement with none.
func explainRead(t *testing.T, s *Store, r authz.Restriction, q *statement) string {
	t.Helper()
	sql, err := q.shared()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.point(r).pool.Query(context.Background(), "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, SUMMARY OFF) "+sql, columnsOf([]*waiter{{args: q.args}})...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

var yield = regexp.MustCompile(` on resource r\w* \(actual rows=(\d+)`)

// widest is the largest number of rows that a step of the plan takes out of the table.
func widest(t *testing.T, plan string) (rows int) {
	t.Helper()
	for _, m := range yield.FindAllStringSubmatch(plan, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		rows = max(rows, n)
	}
	return rows
}
