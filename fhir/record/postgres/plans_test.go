package postgres

import (
	"context"
	"fmt"
	"net/url"
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

// measured is a practice of 400 patients with 100 Observations each, an hour
// apart, each with a quantity: written by SQL, for the planner looks at columns.
var measured = cluster.Template{Name: "measured", Prepare: func(ctx context.Context, dsn string) error {
	if _, err := Migrate(ctx, dsn); err != nil {
		return err
	}
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	observation, patient := fhir.ResourceType("Observation"), fhir.ResourceType("Patient")
	first := func(t fhir.ResourceType, name, literal string) search.Value {
		q, _, err := search.Parse(t, url.Values{name: {literal}}, search.Options{})
		if err != nil {
			panic(err)
		}
		return q.Legs[0].Where[0].Any[0]
	}
	var codes, keys, selves []int64
	for i := range 21 {
		codes = append(codes, mix(1, observation.Code(), first(observation, "code", codeAt(i)).Hash))
		keys = append(keys, first(observation, "code-value-quantity", codeAt(i)+"$1").Key)
	}
	for i := range 400 {
		selves = append(selves, mix(1, 0, search.TargetHash(fhir.Ref{Type: patient, ID: fhir.ID(fmt.Sprintf("p-%d", i))})))
	}
	final := mix(1, observation.Code(), first(observation, "status", "final").Hash)
	unit := first(observation, "value-quantity", "1|http://unitsofmeasure.org|kg").Unit
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{"INSERT INTO record.tenant (slug, name) VALUES ('harbor', 'Harbor')", nil},
		{"INSERT INTO record.label_class (labels) VALUES (0)", nil},
		{`INSERT INTO record.resource (tenant, type, id, pk, version, updated, label_class, patient, tokens, refs, body, self)
SELECT 1, $1, 'p-' || p, 1000000 + p, 1, timestamptz '2026-01-01' + make_interval(mins => p), (SELECT id FROM record.label_class WHERE labels = 0),
       'p-' || p, '{}', '{}', '{}', ($2::bigint[])[1 + p] FROM generate_series(0, 399) p`, []any{patient.Code(), selves}},
		{`INSERT INTO record.resource_string (tenant, type, param, pk, text, exact) SELECT 1, $1, 'name', 1000000 + p, 'name' || p, 'Name' || p FROM generate_series(0, 399) p`, []any{patient.Code()}},
		// Every twentieth code is as frequent as the others, but one that only ten have.
		{`INSERT INTO record.resource (tenant, type, id, pk, version, updated, label_class, patient, tokens, refs, body, self, at_lo, at_hi)
SELECT 1, $1, 'o-' || p || '-' || o, p * 100 + o, 1, timestamptz '2026-01-01' + make_interval(mins => p * 7 + o), (SELECT id FROM record.label_class WHERE labels = 0),
       'p-' || p, ARRAY[($2::bigint[])[CASE WHEN o = 7 AND p < 10 THEN 21 ELSE 1 + o % 20 END], $5], ARRAY[($3::bigint[])[1 + p], ($3::bigint[])[1 + p] # $4::bigint], '{}', -(p * 100 + o),
       timestamptz '2020-01-01' + make_interval(hours => o * 400 + p), timestamptz '2020-01-01 00:00:01' + make_interval(hours => o * 400 + p)
FROM generate_series(0, 399) p, generate_series(0, 99) o`, []any{observation.Code(), codes, selves, search.ParamKey("patient"), final}},
		{`INSERT INTO record.resource_quantity (tenant, type, param, pk, key, key_system, lo, unit, unit_lo)
SELECT 1, $1, 'value-quantity', p * 100 + o, ($2::bigint[])[1 + o % 20], 0, p, $3, p * 1000 FROM generate_series(0, 399) p, generate_series(0, 99) o`, []any{observation.Code(), keys, unit}},
		{`INSERT INTO record.relation (tenant, kind, member, patient, source) SELECT 1, 1, 'Practitioner/me', 'p-' || p, p FROM generate_series(0, 399) p`, nil},
		{"ANALYZE", nil},
	} {
		if _, err := c.Exec(ctx, s.sql, s.args...); err != nil {
			return fmt.Errorf("%s: %w", s.sql, err)
		}
	}
	return nil
}}

// TestPlans asks PostgreSQL how it answers each family of searches: by an
// index, reading a small part of what is there, whatever the caller's
// Restriction adds.
func TestPlans(t *testing.T) {
	ctx := context.Background()
	s, err := Open(ctx, Options{URL: cluster.NewDatabase(t, measured), MaxConns: 2})
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
	} {
		p.Tenant, p.Subject, p.Purpose, p.Scopes = 1, "test|"+name, "TREAT", smart.Parse("system/*.rs user/*.rs")
		for _, c := range []struct {
			query string
			found int
			index string // what the plan goes by; alternatives with |
			rows  int    // that a step takes out of the table at most
		}{
			{"Observation?patient=Patient/p-7&code=" + codeAt(3), 5, "resource_refs", 100},
			{"Observation?patient=Patient/p-7&code=" + codeAt(3) + "&_sort=-date", 5, "resource_refs", 100},
			{"Observation?patient=Patient/p-7&date=ge2020-06&date=lt2021", 12, "resource_refs", 100},
			{"Observation?code=" + codeAt(20), 10, "resource_tokens", 10},
			{"Observation?code=" + codeAt(20) + "&_sort=-date", 10, "resource_tokens", 10},
			{"Observation?code=" + codeAt(3) + "&_sort=-date", 20, "resource_at", 2100},
			{"Observation?status=final&_sort=-date", 20, "resource_at", 30},
			{"Observation?status=final&_sort=date", 20, "resource_at", 30},
			{"Observation?status=final", 20, "resource_updated", 30},
			{"Observation?_sort=-date", 20, "resource_at", 30},
			{"Observation?date=2020-03-01", 20, "resource_at", 60},
			{"Observation?date=ge2020-03-01&date=lt2020-03-03&_sort=-date", 20, "resource_at", 60},
			{"Observation?date=ge2024&_sort=date", 20, "resource_at", 60},
			{"Observation?value-quantity=gt398000|http://unitsofmeasure.org|g", 20, "resource_quantity_unit", 110},
			{"Observation?value-quantity=5", 20, "resource_quantity_lo", 110},
			{"Observation?value-quantity=ge0|http://unitsofmeasure.org|kg", 20, "resource_updated", 30},
			{"Observation?code-value-quantity=" + codeAt(3)[len("http://loinc.org|"):] + "$gt398|http://unitsofmeasure.org|kg", 5, "resource_quantity_key", 10},
			{"Observation?patient.name:exact=Name7&code=" + codeAt(3), 5, "resource_refs", 100},
			{"Patient?_has:Observation:patient:code=" + codeAt(20), 10, "resource_self", 20},
			{"Patient?_has:Observation:patient:status=final", 20, "resource_refs", 60},
			{"Patient?name=name7", 11, "resource_string_text", 20},
		} {
			path, rest, _ := strings.Cut(c.query, "?")
			v, err := url.ParseQuery(rest)
			if err != nil {
				t.Fatal(err)
			}
			query, _, err := search.Parse(fhir.ResourceType(path), v, search.Options{})
			if err != nil {
				t.Fatal(err)
			}
			g, err := engine.Authorize(ctx, p, fhir.SearchType, query.Type())
			if err != nil {
				t.Fatal(err)
			}
			reach, err := engine.Reach(ctx, g, fhir.SearchType, query.Types()...)
			if err != nil {
				t.Fatal(err)
			}
			page, err := s.Search(ctx, reach, query)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Entries) != c.found {
				t.Errorf("%s, %s: %d found, want %d", name, c.query, len(page.Entries), c.found)
			}
			at, err := placeOf(query)
			if err != nil {
				t.Fatal(err)
			}
			f := newFinder(s, reach, query)
			f.tx = s.app
			if err := f.probe(ctx, f.legs[0].t, f.legs[0].where); err != nil {
				t.Fatal(err)
			}
			plan := explain(t, s, reach.Of(query.Type()), f.pageStatement(at, query.Count+1, false))
			if strings.Contains(plan, "Seq Scan on resource ") || !strings.Contains(plan, c.index+" ") {
				t.Errorf("%s, %s: not by %s:\n%s", name, c.query, c.index, plan)
			}
			if rows := widest(t, plan); rows > c.rows {
				t.Errorf("%s, %s: %d rows are read, more than %d:\n%s", name, c.query, rows, c.rows, plan)
			}
		}
		included(ctx, t, s, engine, p)
	}
}

// included asks how a _revinclude and an _include are answered.
func included(ctx context.Context, t *testing.T, s *Store, engine *authz.Engine, p authz.Principal) {
	t.Helper()
	for text, index := range map[string]string{"Patient?_revinclude=Observation:patient": "resource_refs", "Observation?_include=Observation:patient": "resource_self"} {
		path, rest, _ := strings.Cut(text, "?")
		v, _ := url.ParseQuery(rest)
		query, _, err := search.Parse(fhir.ResourceType(path), v, search.Options{})
		if err != nil {
			t.Fatal(err)
		}
		query.Count = 2
		g, err := engine.Authorize(ctx, p, fhir.SearchType, query.Type())
		if err != nil {
			t.Fatal(err)
		}
		reach, err := engine.Reach(ctx, g, fhir.SearchType, query.Types()...)
		if err != nil {
			t.Fatal(err)
		}
		f := newFinder(s, reach, query)
		f.tx = s.app
		hits, _, err := f.read(ctx, place{by: orderOf(query)}, query.Count, true)
		if err != nil {
			t.Fatal(err)
		}
		plan := explain(t, s, reach.Of(query.Type()), f.includeStatement(query.Includes[0], hits, []int64{}, includeLimit))
		if strings.Contains(plan, "Seq Scan on resource ") || !strings.Contains(plan, index+" ") || widest(t, plan) > 250 {
			t.Errorf("%s, %s: not by %s:\n%s", p.Subject, text, index, plan)
		}
	}
}
