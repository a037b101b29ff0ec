package postgres

import (
	"context"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/record/redact"
)

// Withheld compares resources, all of the type of r, with the fuller views of the same
// version that r covers, and says which of their lists have more items there. Current
// versions are compared with what the fuller view is now: it may have been changed less often.
func (s *Store) Withheld(ctx context.Context, r authz.Restriction, in []record.Sealed) ([]vault.Withheld, error) {
	if r.Empty() || len(in) == 0 {
		return nil, nil
	}
	at, rows, versions := make([]int32, len(in)), make([]int64, len(in)), make([]int32, len(in))
	for i, x := range in {
		h := vault.Head(x)
		at[i], rows[i], versions[i] = int32(i), h.Row, int32(h.Version)
	}
	var q statement
	x := restrict(&q, r)
	x.keyed = true
	was := func(alias string) string {
		return "SELECT o.body FROM record.resource_history o WHERE n.version <> r.version AND o.tenant = " + alias + ".tenant AND o.pk = " + alias + ".pk AND o.version = n.version"
	}
	q.WriteString("SELECT n.at, m.label_class, " + x.facts("m", needed(r)) + ", CASE WHEN m.co_patients IS NULL THEN m.patient END, shown.body, fuller.body FROM unnest(" +
		q.arg(at) + "::integer[], " + q.arg(rows) + "::bigint[], " + q.arg(versions) + "::integer[]) AS n(at, pk, version) JOIN record.resource r ON r.pk = n.pk AND r.tenant = " + x.tenant +
		" AND r.view > 0 JOIN record.resource m ON m.family = r.family AND m.view > r.view AND " + x.scope("m") + " AND " + x.arms("m") +
		" CROSS JOIN LATERAL (SELECT r.body WHERE n.version = r.version UNION ALL " + was("r") + ") AS shown" +
		" CROSS JOIN LATERAL (SELECT m.body WHERE n.version = r.version OR n.version = m.version UNION ALL " + was("m") + ") AS fuller" +
		" WHERE shown.body IS NOT NULL AND fuller.body IS NOT NULL ORDER BY n.at, m.view")
	var out []vault.Withheld
	var n, facts int32
	var class int16
	var patient *string
	var shown, fuller []byte
	err := forEach(ctx, s.app, q.String(), q.args, []any{&n, &class, &facts, &patient, &shown, &fuller}, func() error {
		less, err := tree(shown)
		if err != nil {
			return err
		}
		more, err := tree(fuller)
		if err != nil {
			return err
		}
		w := vault.Withheld{At: int(n), Facts: authz.Fact(facts), Lists: redact.Withheld(r.Type(), less, more)}
		if w.Lists == nil {
			return nil
		}
		if patient != nil {
			w.Patient = fhir.ID(*patient)
		}
		w.Labels, err = s.labels(ctx, class)
		out = append(out, w)
		return err
	})
	if err != nil {
		return nil, failed(err)
	}
	return out, nil
}

// unmask takes out of what a caller sends back the marks that she was shown. What
// her view itself holds stays: it came with what somebody stored.
func (w *write) unmask(ctx context.Context) error {
	for _, r := range w.rows {
		if !r.c.Marked || r.old == nil || r.unchanged || r.c.Content == nil || r.old.schema != "record" || !redact.Marked(r.c.Ref.Type, r.c.Content.Root) {
			continue
		}
		before := r.old.body
		if before == nil {
			var body []byte
			if err := w.tx.QueryRow(ctx, "SELECT body FROM record.resource WHERE pk = $1", r.old.pk).Scan(&body); err != nil {
				return err
			}
			var err error
			if before, err = tree(body); err != nil {
				return err
			}
		}
		redact.Unmark(r.c.Ref.Type, r.c.Content.Root, before)
	}
	return nil
}
