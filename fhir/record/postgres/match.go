package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// Match finds at most two ids, which is enough to tell none, one and several
// apart: conditional references and conditional creates.
func (s *Store) Match(ctx context.Context, reach authz.Reach, query search.Query) (ids []fhir.ID, err error) {
	pool := s.app
	if reachesNoteRows(reach, query) {
		pool = s.notes
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		ids, err = s.matchTx(ctx, tx, reach, query)
		return err
	})
	return ids, failed(err)
}

// matchTx is Match inside a transaction, which must run under RoleNotes where
// [reachesNoteRows]. It locks nothing.
func (s *Store) matchTx(ctx context.Context, tx pgx.Tx, reach authz.Reach, query search.Query) ([]fhir.ID, error) {
	r := reach.Of(query.Type())
	if r.Empty() {
		return nil, nil
	}
	var q statement
	x := restrict(&q, r)
	q.WriteString("SELECT id FROM (")
	legs(&q, r, func(schema string) {
		q.WriteString("SELECT r.id FROM " + schema + ".resource r WHERE NOT r.deleted AND " + x.where("r"))
		x.criteria("r", schema, query.Legs[0].Where)
		q.WriteString(" LIMIT 2")
	})
	q.WriteString(") AS found LIMIT 2")
	var ids []fhir.ID
	var id fhir.ID
	err := forEach(ctx, tx, q.String(), q.args, []any{&id}, func() error { ids = append(ids, id); return nil })
	return ids, err
}

// reachesNoteRows reports whether answering query takes the role that reaches notes.
func reachesNoteRows(reach authz.Reach, query search.Query) bool {
	for _, t := range query.Types() {
		if reach.Of(t).Notes() != 0 {
			return true
		}
	}
	return false
}
