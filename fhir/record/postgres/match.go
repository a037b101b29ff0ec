package postgres

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// Match finds the ids of at most query.Count matches: conditional references
// and conditional interactions need two to tell none, one and several apart.
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
func (s *Store) matchTx(ctx context.Context, tx querier, reach authz.Reach, query search.Query) ([]fhir.ID, error) {
	f := newFinder(s, reach, query)
	f.tx = tx
	if query.Type() == "" || len(f.legs) == 0 {
		return nil, nil
	}
	l := f.legs[0]
	if err := f.probe(ctx, l.t, l.where); err != nil {
		return nil, err
	}
	k := compile(reach)
	limit := strconv.Itoa(query.Count)
	var parts []string
	for _, schema := range schemas(reach.Of(l.t)) {
		parts = append(parts, "(SELECT r.id FROM "+schema+".resource r WHERE "+k.live("r", l.t)+k.where("r", schema, l.t, l.where)+" ORDER BY r.id LIMIT "+limit+")")
	}
	var ids []fhir.ID
	var id fhir.ID
	k.q.WriteString("SELECT id FROM (" + strings.Join(parts, " UNION ALL ") + ") AS found ORDER BY id LIMIT " + limit)
	err := forEach(ctx, tx, k.q.String(), k.q.args, []any{&id}, func() error { ids = append(ids, id); return nil })
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
