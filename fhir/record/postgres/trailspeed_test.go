package postgres_test

import (
	"context"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// busy is a practice whose trail has so many rows, of which the general practice's officer may know about
// nine in ten: accesses to one record, searches that found twenty, and refusals.
func busy(t *testing.T, rows int) *saga {
	t.Helper()
	s := newSaga(t)
	h := s.h
	const people, each = 400, 25
	like := func(id, from, patient string) string {
		return "INSERT INTO record.resource SELECT (jsonb_populate_record(r, jsonb_build_object('pk', nextval('record.pk'), 'id', " + id + ", 'patient', " + patient + "))).* FROM record.resource r, generate_series(1, " +
			strconv.Itoa(people) + ") AS p(p), generate_series(1, $2) AS n(n) WHERE r.tenant = $1 AND r.id = '" + from + "'"
	}
	h.behind(like("'p' || p", "anna", "'p' || p"), h.tenant, 1)
	h.behind(like("'o' || p || '-' || n", "o2", "'p' || p"), h.tenant, each)
	h.behind(like("'s' || p || '-' || n", "o1", "'p' || p"), h.tenant, 3)
	h.behind("SELECT audit.add_month(m) FROM unnest(ARRAY['2026-02-01', '2026-03-01']::date[]) AS m")
	// Every tenth access is to records of the program.
	h.behind(`INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients, facts)
SELECT $1, $2::timestamptz - i * interval '20 seconds', gen_random_uuid(), CASE WHEN i % 10 = 3 THEN '4' ELSE '0' END, CASE WHEN i % 10 IN (4, 5) THEN 'search-type' ELSE 'read' END, 'Observation', 's', 'app',
  'Practitioner/dora', '{therapist}', 'TREAT', 'p', 'r', x.entities, x.labels, x.patients, x.facts
FROM generate_series(1, $3::integer) AS i, LATERAL (
  SELECT COALESCE(array_agg(CASE WHEN i % 10 = 7 THEN 'Observation/s' || of || '-' || 1 + (i / 10 + n) % 3 ELSE 'Observation/o' || of || '-' || 1 + (i / 10 + n) % 25 END || '/_history/1'), '{}') AS entities,
    COALESCE(array_agg(CASE WHEN i % 10 = 7 THEN $4::integer ELSE 0 * n END), '{}') AS labels, COALESCE(array_agg('p' || of), '{}') AS patients, COALESCE(array_agg(0), '{}') AS facts
  FROM generate_series(1, CASE WHEN i % 10 = 3 THEN 0 WHEN i % 10 IN (4, 5) THEN 20 ELSE 1 END) AS n, LATERAL (SELECT 1 + (i / 7 + CASE WHEN i % 10 = 4 THEN n ELSE 0 END) % 400 AS of) AS o) AS x`, h.tenant, h.now().Add(-time.Minute), rows,
		h.count("SELECT c.labels FROM record.label_class c JOIN record.resource r ON c.id = r.label_class WHERE r.tenant = $1 AND r.id = 'o1'", h.tenant))
	h.behind("ANALYZE record.resource; ANALYZE audit.event")
	return s
}

// How long a page of the trail takes: CLOISTER_TRAIL_ROWS says of how long a trail.
func TestTrailPagesTake(t *testing.T) {
	rows, err := strconv.Atoi(os.Getenv("CLOISTER_TRAIL_ROWS"))
	if err != nil {
		t.Skip("CLOISTER_TRAIL_ROWS says of how long a trail")
	}
	from := time.Now()
	s := busy(t, rows)
	h := s.h
	t.Logf("made in %s", time.Since(from))
	took := func(name string, ask func() error) {
		list := make([]time.Duration, 15)
		for i := range list {
			from := time.Now()
			if err := ask(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			list[i] = time.Since(from)
		}
		slices.Sort(list)
		t.Logf("%-28s median %6.1f ms, least %6.1f ms", name, list[len(list)/2].Seconds()*1e3, list[0].Seconds()*1e3)
	}
	page := func(q record.Traces, matches bool) func() error {
		return func() error {
			n, err := h.onePage(s.officer, q)
			if err == nil && n == 0 && !matches {
				t.Errorf("nothing in %v", q)
			}
			return err
		}
	}
	old := h.now().Add(-time.Duration(rows/2) * 20 * time.Second)
	took("the newest 50", page(record.Traces{Count: 50}, false))
	took("the newest 200", page(record.Traces{Count: 200}, false))
	took("50 before a day", page(record.Traces{Count: 50, Until: old}, false))
	took("the oldest 50", page(record.Traces{Count: 50, Oldest: true}, false))
	took("50 refusals", page(record.Traces{Count: 50, Outcomes: []string{"4"}}, false))
	took("50 of a patient", page(record.Traces{Count: 50, Patients: []fhir.ID{"p7"}, EventsOnly: true}, false))
	took("50 of a record", page(record.Traces{Count: 50, Entities: []fhir.Ref{{Type: "Observation", ID: "o7-3"}}, EventsOnly: true}, false))
	took("the report to the officer", func() error { return h.oneReport(s.officer, "p7", 50) })
	took("the report to the patient", func() error { return h.oneReport(h.as("patient", "PATRQT", "Patient/p7"), "p7", 50) })
	took("the accounting", func() error { _, _, err := h.account(s.officer); return err })
}

// onePage is how many AuditEvents are on the first page of a search.
func (h *house) onePage(p authz.Principal, q record.Traces) (int, error) {
	ctx := context.Background()
	g, err := h.engine.Authorize(ctx, p, fhir.SearchType, "AuditEvent")
	if err != nil {
		return 0, err
	}
	page, err := h.gate.Search(ctx, g, record.TrailSearch{Traces: q})
	return len(page.Entries), err
}

// oneReport asks for the first page of a patient's report.
func (h *house) oneReport(p authz.Principal, patient fhir.ID, count int) error {
	ctx := context.Background()
	g, err := h.engine.Authorize(ctx, p, fhir.Operation, "")
	if err != nil {
		return err
	}
	r, err := h.engine.Plan(ctx, g, fhir.Read, "Patient")
	if err != nil {
		return err
	}
	sealed, err := h.store.Read(ctx, r, patient)
	if err != nil {
		return err
	}
	_, err = h.gate.AccessReport(ctx, g, sealed, record.Traces{Count: count})
	return err
}
