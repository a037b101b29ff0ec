package postgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// finder answers one query.
type finder struct {
	s     *Store
	tx    querier
	reach authz.Reach
	query search.Query
	legs  []leg // those of which the caller reaches anything
}

type leg struct {
	t     fhir.ResourceType
	where []*term
}

func newFinder(s *Store, reach authz.Reach, query search.Query) *finder {
	f := &finder{s: s, reach: reach, query: query}
	for _, l := range query.Legs {
		if !reach.Of(l.Type).Empty() {
			f.legs = append(f.legs, leg{l.Type, terms(l.Where)})
		}
	}
	return f
}

var errNoLeg = outcome.New(outcome.Internal, "the server failed; its log says why").Because(errors.New("postgres: a query for no type"))

// Search finds one page of resources: the first, the one after or the one
// before query.After, with the resources that its includes add.
//
// What reach does not hold is not there: not as a match, not as a link of a
// chain, not in the order, in a total or among what is included.
func (s *Store) Search(ctx context.Context, reach authz.Reach, query search.Query) (record.Page, error) {
	p := record.Page{Total: -1}
	if query.Total != search.NoTotal {
		p.Total = 0
	}
	if len(query.Legs) == 0 {
		return p, errNoLeg
	}
	at, err := placeOf(query)
	if err != nil {
		return p, err
	}
	f := newFinder(s, reach, query)
	if len(f.legs) == 0 {
		return p, nil
	}
	pool := f.pool()
	if f.simple() {
		f.tx = pool
		err = f.fill(ctx, &p, at)
		return p, failed(err)
	}
	// All statements of one search see the same moment.
	err = pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		f.tx = tx
		for _, l := range f.legs {
			if err := f.probe(ctx, l.t, l.where); err != nil {
				return err
			}
		}
		return f.fill(ctx, &p, at)
	})
	return p, failed(err)
}

// pool has the role that the query needs. Where rows are found by a patient or
// an encounter, whatever else is asked for, there is nothing to plan anew each time.
func (f *finder) pool() *pgxpool.Pool {
	kept := f.query.Total == search.NoTotal && f.query.Last == 0 &&
		!slices.ContainsFunc(f.legs, func(l leg) bool { return !narrow(l.where) || linked(l.where) })
	switch notes := reachesNoteRows(f.reach, f.query); {
	case kept && notes:
		return f.s.noteReads.pool
	case kept:
		return f.s.appReads.pool
	case notes:
		return f.s.notes
	default:
		return f.s.app
	}
}

// simple says that one statement answers the query.
func (f *finder) simple() bool {
	return f.query.After == nil && len(f.query.Includes) == 0 && f.query.Total == search.NoTotal &&
		!slices.ContainsFunc(f.legs, func(l leg) bool { return linked(l.where) })
}

func linked(list []*term) bool {
	return slices.ContainsFunc(list, func(c *term) bool { return len(c.hops) > 0 || slices.ContainsFunc(c.groups, linked) })
}

func (f *finder) fill(ctx context.Context, p *record.Page, at place) error {
	if f.query.Count > 0 {
		if err := f.entries(ctx, p, at); err != nil {
			return err
		}
	}
	switch {
	case f.query.Total == search.NoTotal:
		return nil
	case f.query.Count > 0 && at.at == nil && !p.More:
		p.Total = len(p.Entries)
		return nil
	default:
		return f.count(ctx, &p.Total)
	}
}

// entries reads the page, one row more to know whether it goes on, and on the
// other side whether there is anything.
func (f *finder) entries(ctx context.Context, p *record.Page, at place) error {
	links := len(f.query.Includes) > 0
	hits, places, err := f.read(ctx, at, f.query.Count+1, links)
	if err != nil {
		return err
	}
	fit, split := f.fit(hits)
	if split && !at.rows {
		// Rows that bear one id have no order until a page ends between them.
		at.rows = true
		if hits, places, err = f.read(ctx, at, f.query.Count+1, links); err != nil {
			return err
		}
		fit, split = f.fit(hits)
	}
	beyond := len(hits) > fit
	if beyond {
		hits, places = hits[:fit], places[:fit]
	}
	if split {
		places[fit-1].Row = hits[fit-1].h.Row
	}
	if at.at != nil && at.at.Row != 0 && len(hits) > 0 && places[0].Type == at.at.Type && places[0].ID == at.at.ID {
		places[0].Row = hits[0].h.Row
	}
	behind := false
	if at.at != nil {
		back := at
		back.reverse, back.inclusive = !at.reverse, true
		rest, _, err := f.read(ctx, back, 1, false)
		if err != nil {
			return err
		}
		behind = len(rest) > 0
	}
	p.More, p.Less = beyond, behind
	if at.reverse {
		slices.Reverse(hits)
		slices.Reverse(places)
		p.More, p.Less = behind, beyond
	}
	if len(places) > 0 {
		p.First, p.Last = places[0], places[len(places)-1]
	}
	for i := range hits {
		x, err := f.seal(ctx, &hits[i])
		if err != nil {
			return err
		}
		p.Entries = append(p.Entries, x)
	}
	if links {
		return f.include(ctx, p, hits)
	}
	return nil
}

// fit is how many of the rows fill the page, and whether it ends between two rows of one id.
func (f *finder) fit(hits []hit) (n int, split bool) {
	n = min(f.query.Count, len(hits))
	if i := slices.IndexFunc(hits, func(x hit) bool { return x.over }); i >= 0 {
		n = min(n, i)
	}
	return n, 0 < n && n < len(hits) && hits[n-1].t == hits[n].t && hits[n-1].h.Ref.ID == hits[n].h.Ref.ID
}

// count counts the matches.
func (f *finder) count(ctx context.Context, total *int) error {
	q := f.countStatement()
	return forEach(ctx, f.tx, q.String(), q.args, []any{total}, func() error { return nil })
}

func (f *finder) countStatement() *statement {
	k := compile(f.reach)
	limit := ""
	if f.query.Total == search.Estimate {
		limit = " LIMIT " + strconv.Itoa(search.EstimateLimit)
	}
	var parts []string
	for _, l := range f.legs {
		for _, schema := range schemas(f.reach.Of(l.t)) {
			parts = append(parts, "(SELECT FROM "+schema+".resource r WHERE "+k.live("r", l.t)+k.where("r", schema, l.t, l.where)+f.latest(k, schema, l)+limit+")")
		}
	}
	k.q.WriteString("SELECT count(*) FROM (SELECT FROM (" + strings.Join(parts, " UNION ALL ") + ") AS each" + limit + ") AS found")
	return k.q
}

// mix keeps the index values of practices and types apart, so that one
// practice's posting lists say nothing about another's.
func mix(tenant int32, t int16, h int64) int64 {
	x := uint64(h) ^ (uint64(uint32(tenant))<<16|uint64(uint16(t)))*0x9e3779b97f4a7c15
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return int64(x)
}

// TokenIndex is what the column tokens holds for an index value (see
// [search.Index]), for measurements that write SQL of their own.
func TokenIndex(tenant int32, t fhir.ResourceType, hash int64) int64 {
	return mix(tenant, t.Code(), hash)
}
