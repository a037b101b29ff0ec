package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// intaking is how a commit of an import differs from others.
type intaking struct {
	rehearsal bool // nothing is stored in the end
	// expected are what a rehearsal takes for stored: the other inputs would bring them.
	expected map[fhir.Ref]bool
	// advance moves on whoever counts the import, in the same transaction.
	advance func(context.Context, pgx.Tx, []record.Receipt) error
	refused []*record.ChangeError
}

// Import is Commit that also remembers the digest of what was imported, and tells of all
// changes that are refused at once, by a [record.RefusedError], where it can.
func (s *Store) Import(ctx context.Context, cleared []record.Cleared, digest []byte) ([]record.Receipt, error) {
	return s.commit(ctx, cleared, also{digest: digest, intake: &intaking{}})
}

// Imported reports whether an import of that digest is complete.
func (s *Store) Imported(ctx context.Context, tenant int32, digest []byte) (bool, error) {
	var done bool
	err := s.side.QueryRow(ctx, "SELECT EXISTS (SELECT FROM record.import_item WHERE tenant = $1 AND digest = $2)", tenant, digest).Scan(&done)
	return done, failed(err)
}

// remember keeps the digest of what was imported.
func (w *write) remember(ctx context.Context) error {
	if w.digest == nil {
		return nil
	}
	_, err := w.tx.Exec(ctx, "INSERT INTO record.import_item (tenant, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING", w.tenant(), w.digest)
	return err
}

// Rehearse is Import that stores nothing: it says what would become of the changes. expected
// are resources that count as stored.
func (s *Store) Rehearse(ctx context.Context, cleared []record.Cleared, expected map[fhir.Ref]bool) ([]record.Receipt, error) {
	return s.commit(ctx, cleared, also{intake: &intaking{rehearsal: true, expected: expected}})
}

func (w *write) rehearsal() bool { return w.intake != nil && w.intake.rehearsal }

func (w *write) expected(ref fhir.Ref) bool { return w.rehearsal() && w.intake.expected[ref] }

// rehearsed does what is to be undone where nothing is to be stored.
func (w *write) rehearsed(ctx context.Context, do func() error) error {
	if !w.rehearsal() {
		return do()
	}
	outer := w.tx
	inner, err := outer.Begin(ctx)
	if err != nil {
		return err
	}
	w.tx = inner
	defer func() { w.tx = outer }()
	if err := do(); err != nil {
		return err
	}
	return inner.Rollback(ctx)
}

// recordRehearsal records which stored resources a rehearsal has told something of.
func (w *write) recordRehearsal(ctx context.Context, e audit.Event) error {
	e.Interaction = fhir.Operation
	for _, r := range w.rows {
		if r.old != nil && !r.old.deleted {
			e.Entities = append(e.Entities, audit.Entity{Ref: r.c.Ref, Version: r.old.version, Labels: r.old.labels})
		}
	}
	return w.s.inserted(ctx, w.tx, e, "the access record cannot be written, so nothing was told: try again")
}

// counted lets whoever counts the import go on.
func (w *write) counted(ctx context.Context) error {
	if w.intake == nil || w.intake.advance == nil {
		return nil
	}
	return w.intake.advance(ctx, w.tx, w.receipts())
}

// collected keeps the refusal of one change of an import, so that those of the others are found, too.
func (w *write) collected(err error) bool {
	var ce *record.ChangeError
	if err == nil {
		return true
	}
	if w.intake == nil || !errors.As(err, &ce) {
		return false
	}
	w.intake.refused = append(w.intake.refused, ce)
	return true
}

// refusals are those that were collected.
func (w *write) refusals() error {
	if w.intake == nil || w.intake.refused == nil {
		return nil
	}
	slices.SortFunc(w.intake.refused, func(a, b *record.ChangeError) int { return a.Index - b.Index })
	return &record.RefusedError{Changes: w.intake.refused}
}

// same finds the updates that would change nothing: the caller sees stored what she sends.
// Numbers are compared as they are written: 1.0 is not 1.00 (R4 datatypes, decimal).
func (w *write) same(ctx context.Context) error {
	byType := map[fhir.ResourceType][]*row{}
	for _, r := range w.rows {
		if r.c.IfChanged && r.c.Interaction == fhir.Update && r.c.Content != nil && r.c.Signature == nil && !r.unchanged && r.old != nil && !r.old.deleted &&
			r.schema == "record" && r.old.labels.Has(r.c.Labels) && !r.c.Visible.Empty() {
			byType[r.c.Ref.Type] = append(byType[r.c.Ref.Type], r)
		}
	}
	for _, rows := range byType {
		var q statement
		x := restrict(&q, rows[0].c.Visible)
		x.keyed = true
		pks, bodies, byPK := make([]int64, len(rows)), make([]string, len(rows)), map[int64]*row{}
		for i, r := range rows {
			r.c.Content.SetID(r.c.Ref.ID)
			r.c.Content.SetMeta(r.old.version, r.old.updated)
			pks[i], bodies[i], byPK[r.pk] = r.pk, string(r.c.Content.Root.AppendJSON(nil)), r
		}
		q.WriteString("SELECT r.pk FROM unnest(" + q.arg(pks) + "::bigint[], " + q.arg(bodies) + "::jsonb[]) AS n(pk, body) JOIN record.resource r ON r.pk = n.pk WHERE r.body::text = n.body::text AND " + x.where("r"))
		var pk int64
		if err := forEach(ctx, w.tx, q.String(), q.args, []any{&pk}, func() error {
			byPK[pk].leave()
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// leave lets a row be as it is.
func (r *row) leave() {
	r.same, r.unchanged = true, true
	r.version, r.updated, r.labels, r.programs = r.old.version, r.old.updated.UTC(), r.old.labels, r.old.programs
	r.c.Content, r.c.References, r.c.URLs = nil, nil, nil
}

func (w *write) each(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}
