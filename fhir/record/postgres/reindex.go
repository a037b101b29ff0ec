package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// whole stands for all that a practice stores, where a SearchParameter could stand.
const whole = 0

var reindexing = walk{table: "reindex", key: "pk", only: "true", order: "pk = 0, tenant, pk"}

// enqueue begins to index the types anew, for one SearchParameter or the whole.
func enqueue(ctx context.Context, x execer, tenant int32, pk int64, types []int16) error {
	_, err := x.Exec(ctx, `INSERT INTO record.reindex (tenant, pk, run, types, planned, schema, id, shadow)
VALUES ($1, $2, gen_random_uuid(), $3, cardinality($3::smallint[]), 'record', '', 0)
ON CONFLICT (tenant, pk) DO UPDATE SET run = excluded.run, types = excluded.types, planned = excluded.planned, schema = 'record', id = '', shadow = 0, holder = NULL, lease = NULL`,
		tenant, pk, types)
	return err
}

var errUnused = outcome.New(outcome.BusinessRule, "this SearchParameter is not in use: it needs the status active, and a definition that can be used here")

// BeginReindex computes anew what the index holds of the practice's resources: of
// all of them, or of those that one SearchParameter is for. r is a Restriction
// for SearchParameter, which bounds which of them the caller knows. It goes on in
// the background ([Store.Reindex]), and changes neither versions nor labels.
func (s *Store) BeginReindex(ctx context.Context, r authz.Restriction, id fhir.ID) (record.Reindexing, error) {
	tenant := r.Grant().Caller().Tenant
	err := pgx.BeginFunc(ctx, s.app, func(tx pgx.Tx) error {
		pk, types := int64(whole), make([]int16, 0, 150)
		if id == "" {
			for _, t := range fhir.ResourceTypes() {
				types = append(types, t.Code())
			}
		} else {
			var err error
			if pk, types, err = parameterOf(ctx, tx, r, id); err != nil {
				return err
			}
			if types == nil {
				return errUnused
			}
		}
		return enqueue(ctx, tx, tenant, pk, types)
	})
	if err != nil {
		return record.Reindexing{}, failed(err)
	}
	return s.Reindexing(ctx, r, id)
}

// Reindexing says how far it is: see [Store.BeginReindex]. It counts types, and
// not resources, of which the caller may see none.
func (s *Store) Reindexing(ctx context.Context, r authz.Restriction, id fhir.ID) (record.Reindexing, error) {
	out := record.Reindexing{State: record.ReindexCompleted, Percent: 100}
	pk := int64(whole)
	if id != "" {
		var types []int16
		var err error
		if pk, types, err = parameterOf(ctx, s.app, r, id); err != nil {
			return out, failed(err)
		}
		if types == nil {
			return out, errUnused
		}
	}
	var left, planned int
	var held bool
	err := s.app.QueryRow(ctx, "SELECT cardinality(types), planned, holder IS NOT NULL FROM record.reindex WHERE tenant = $1 AND pk = $2", r.Grant().Caller().Tenant, pk).Scan(&left, &planned, &held)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return out, nil
	case err != nil:
		return out, failed(err)
	}
	out.State, out.Percent = record.ReindexRequested, 100*(planned-left)/max(planned, 1)
	if held {
		out.State = record.ReindexInProgress
	}
	return out, nil
}

// parameterOf finds a SearchParameter that the caller may reach; types is nil for one that is not in use.
func parameterOf(ctx context.Context, tx querier, r authz.Restriction, id fhir.ID) (pk int64, types []int16, err error) {
	if r.Empty() {
		return 0, nil, errNotFound
	}
	var q statement
	x := restrict(&q, r)
	q.WriteString("SELECT r.pk, sp.types FROM record.resource r LEFT JOIN record.search_parameter sp ON sp.tenant = r.tenant AND sp.pk = r.pk WHERE NOT r.deleted AND r.id = " +
		q.arg(string(id)) + " AND " + x.where("r") + " ORDER BY r.shadow LIMIT 1")
	err = forEach(ctx, tx, q.String(), q.args, []any{&pk, &types}, func() error { return nil })
	if err == nil && pk == 0 {
		err = errNotFound
	}
	return pk, types, err
}

// Reindex does what is to be indexed anew, looking for it every so often, until
// ctx ends. Several servers share the work: each takes what no other one holds,
// and what a server held that has ended goes on from its last batch.
func (s *Store) Reindex(ctx context.Context, every time.Duration, failure func(error)) {
	me := record.NewID()
	persist(ctx, every, failure, func() (bool, error) { return s.reindexBatch(ctx, me) })
}

// reindexBatch takes some work and does one batch of it; without any it is not busy.
func (s *Store) reindexBatch(ctx context.Context, me string) (busy bool, err error) {
	w := &write{s: s}
	var pk int64
	busy, err = w.batch(ctx, reindexing, me, &pk, func(ctx context.Context) error { return w.reindex(ctx, pk, me) })
	if busy && err == nil {
		s.learn(w.practice)
	}
	return busy, err
}

func (w *write) reindex(ctx context.Context, pk int64, me string) error {
	var revision int64
	if err := w.tx.QueryRow(ctx, "SELECT record.search_definitions($1, false)", w.practice).Scan(&revision); err != nil {
		return err
	}
	var err error
	if w.registry, err = w.s.indexing(ctx, w.tx, w.practice, revision); err != nil {
		return err
	}
	ended, err := w.advance(ctx, reindexing, me, pk, w.reindexSome)
	if err != nil || !ended {
		return err
	}
	_, err = w.tx.Exec(ctx, "UPDATE record.search_parameter SET ready = true WHERE tenant = $1 AND pk = $2", w.practice, pk)
	return err
}

// reindexSome indexes the next resources of the type and schema at hand, and
// moves on to the next ones after the last.
func (w *write) reindexSome(ctx context.Context, at *standing, limit int) (int, error) {
	var rows []*row
	var pk int64
	var version fhir.VersionID
	var body []byte // pgx makes it anew for each row
	t := fhir.TypeOf(at.types[0])
	if err := w.next(ctx, at, limit, "pk, version, body", "NOT deleted", []any{&pk, &version, &body}, func() error {
		rows = append(rows, &row{pk: pk, version: version, body: body, c: vault.Clearance{Ref: fhir.Ref{Type: t, ID: fhir.ID(at.id)}}})
		return nil
	}); err != nil {
		return 0, err
	}
	read := make([]*row, 0, len(rows))
	for _, r := range rows {
		ok, err := w.read(ctx, at.schema, r)
		if err != nil {
			return 0, err
		}
		if ok {
			read = append(read, r)
		}
	}
	if len(read) > 0 {
		if err := w.indexAnew(ctx, at.schema, read); err != nil {
			return 0, err
		}
	}
	at.passed(len(rows) == limit)
	return len(rows), nil
}

// read computes the index of a row from its body. A note that does not open,
// whatever becomes of its key, keeps the index that it has.
func (w *write) read(ctx context.Context, schema string, r *row) (ok bool, err error) {
	r.c.Content, err = w.content(ctx, schema, r.c.Ref, r.version, r.body)
	switch {
	case errors.Is(err, errNoteBody):
		return false, nil
	case err != nil:
		return false, err
	}
	if schema == "notes" {
		r.index = noteIndex(r.c.Ref.Type, r.c.Content.Root)
	} else {
		r.index = search.Options{Registry: w.registry, Context: ctx}.Extract(r.c.Ref.Type, r.c.Content.Root)
	}
	r.body = nil
	return true, nil
}

const indexAnewSQL = `.resource r SET tokens = n.tokens::bigint[], refs = n.refs::bigint[], canonical = n.canonical, at_lo = n.at_lo, at_hi = n.at_hi
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[]) AS n(pk, tokens, refs, canonical, at_lo, at_hi)
WHERE r.pk = n.pk AND r.tenant = $1 AND (r.tokens, r.refs, r.canonical, r.at_lo, r.at_hi) IS DISTINCT FROM (n.tokens::bigint[], n.refs::bigint[], n.canonical, n.at_lo, n.at_hi)`

// indexAnew writes the index of rows that stay what they are.
func (w *write) indexAnew(ctx context.Context, schema string, rows []*row) error {
	n := len(rows)
	pks, canonicals := make([]int64, n), make([]*int64, n)
	tokens, refs := make([]string, n), make([]string, n)
	from, to := make([]*time.Time, n), make([]*time.Time, n)
	for i, r := range rows {
		pks[i], canonicals[i] = r.pk, w.canonical(r.c.Ref.Type, r.c.Content.Root)
		tokens[i], refs[i] = intArray(w.mixed(r.c.Ref.Type.Code(), r.index.Tokens)), intArray(w.linked(r.index.Refs))
		if at := r.index; !at.AtHi.IsZero() {
			from[i], to[i] = &at.AtLo, &at.AtHi
		}
	}
	if _, err := w.tx.Exec(ctx, "UPDATE "+schema+indexAnewSQL, w.practice, pks, tokens, refs, canonicals, from, to); err != nil {
		return err
	}
	for _, table := range indexTables {
		if _, err := w.tx.Exec(ctx, "DELETE FROM "+schema+"."+table+" WHERE tenant = $1 AND pk = ANY ($2::bigint[])", w.practice, pks); err != nil {
			return err
		}
	}
	return w.indexRows(ctx, schema, rows)
}
