package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// PointRead is one read by id, or of one version, as a test gives it to [Store.Together].
type PointRead struct {
	Context     context.Context
	Restriction authz.Restriction
	ID          fhir.ID
	Version     fhir.VersionID // 0: the current one
}

func (p PointRead) statement(q *statement) *statement {
	if p.Version != 0 {
		return versionStatement(q, p.Restriction, p.ID, p.Version)
	}
	return readStatement(q, p.Restriction, p.ID)
}

// PointAnswer is what one of them gave.
type PointAnswer struct {
	Sealed record.Sealed
	Err    error
}

// Alone is the read without the coalescing: a statement of its own, whose
// arguments are parameters.
func (s *Store) Alone(p PointRead) PointAnswer {
	pool := s.app
	if p.Restriction.Notes() != 0 {
		pool = s.notes
	}
	found, err := s.sealed(p.Context, pool, p.Restriction, p.statement(&statement{}))
	if err == nil && len(found) == 0 {
		err = errNotFound
	}
	if err != nil {
		return PointAnswer{Err: err}
	}
	return PointAnswer{Sealed: found[0]}
}

// Together answers the reads in as few statements as their texts allow, in
// order; batches says how many those were.
func (s *Store) Together(reads []PointRead) (answers []PointAnswer, batches int) {
	type key struct {
		x   *reader
		sql string
	}
	all := make([]*waiter, len(reads))
	by := map[key][]*waiter{}
	for i, p := range reads {
		q := p.statement(&statement{columns: true})
		sql, err := q.shared()
		if err != nil {
			panic(err)
		}
		all[i] = &waiter{p.Context, p.Restriction, q.args, make(chan answer, 1)}
		k := key{s.point(p.Restriction), sql}
		by[k] = append(by[k], all[i])
	}
	for k, batch := range by {
		k.x.answer(k.sql, batch)
	}
	for _, w := range all {
		select {
		case a := <-w.answer:
			answers = append(answers, PointAnswer{a.sealed, a.err})
		default:
			answers = append(answers, PointAnswer{Err: w.ctx.Err()})
		}
	}
	return answers, len(by)
}

// Waiting is how many reads are queued and under way.
func (s *Store) Waiting() (queued, statements int) {
	for _, x := range []*reader{s.appReads, s.noteReads} {
		x.mu.Lock()
		for _, q := range x.queues {
			queued, statements = queued+len(q.waiting), statements+q.running
		}
		x.mu.Unlock()
	}
	return queued, statements
}

// WithoutProbes asks each row, as if all that is looked up beforehand were too much.
func WithoutProbes(t testing.TB) {
	t.Helper()
	set(t, &probeLimit, -1)
	set(t, &guardLimit, -1)
}

// WithIncludes makes a page include n resources at most.
func WithIncludes(t testing.TB, n int) {
	t.Helper()
	set(t, &includeLimit, n)
}

func set(t testing.TB, limit *int, n int) {
	t.Helper()
	was := *limit
	*limit = n
	t.Cleanup(func() { *limit = was })
}

// ReindexBatch is one batch of [Store.Reindex] by the server of that name, a UUID.
func (s *Store) ReindexBatch(ctx context.Context, me string) (busy bool, err error) {
	return s.reindexBatch(ctx, me)
}

// WithoutJointLegs gives each type of a search a SELECT of its own.
func WithoutJointLegs(t testing.TB) {
	t.Helper()
	set(t, &jointLeast, 1000)
}

// RelabelDue begins what is due by the rules of c, and does one batch of [Store.Relabel].
func (s *Store) RelabelDue(ctx context.Context, c *label.Classifier, me string) (busy bool, err error) {
	return s.relabelDue(ctx, c, me)
}

// FactsOf are the facts, of those asked for, that hold for a row, and the column consents.
func (s *Store) FactsOf(ctx context.Context, r authz.Restriction, id fhir.ID, ask authz.Fact) (facts authz.Fact, consents []string, err error) {
	// By its key and among others, a row has the same facts.
	for _, keyed := range []bool{false, true} {
		var q statement
		x := restrict(&q, r)
		x.keyed = keyed
		q.WriteString("SELECT " + x.facts("r", ask) + " AS facts, " + x.consents("r", ask) + " FROM record.resource r WHERE r.id = " + q.arg(string(id)) + " AND " + x.scope("r"))
		was, rests := facts, consents
		var f int32
		if err := forEach(ctx, s.app, q.String(), q.args, []any{&f, &consents}, func() error { facts = authz.Fact(f); return nil }); err != nil {
			return 0, nil, err
		}
		if keyed && (facts != was || !slices.Equal(consents, rests)) {
			return 0, nil, fmt.Errorf("by its key %s has facts %v by %v, else %v by %v", id, facts, consents, was, rests)
		}
	}
	return facts, consents, nil
}

// AsksForConsent reports whether the policy asks for the fact consent for a row.
func (s *Store) AsksForConsent(ctx context.Context, r authz.Restriction, id fhir.ID) (asks bool) {
	var q statement
	x := restrict(&q, r)
	var class int16
	q.WriteString("SELECT r.label_class FROM record.resource r WHERE r.id = " + q.arg(string(id)) + " AND " + x.scope("r"))
	err := forEach(ctx, s.app, q.String(), q.args, []any{&class}, func() error { return nil })
	for _, a := range r.Arms() {
		asks = asks || err == nil && a.Needs.Has(authz.Consent) && slices.Contains(a.Classes, class)
	}
	return asks
}

// Related are the patients of some that the caller of r stands to in the relation of
// that kind: as a statement of its own says it, and as the function of the schema does.
func (s *Store) Related(ctx context.Context, r authz.Restriction, kind int, patients []string) (inline, function []string, err error) {
	var q statement
	x := restrict(&q, r)
	q.WriteString("SELECT COALESCE(array_agg(p) FILTER (WHERE EXISTS (SELECT " + x.relations(kind) + " AND rel.patient = p)), '{}')," +
		" COALESCE(array_agg(p) FILTER (WHERE record.related(" + x.tenant + ", " + strconv.Itoa(kind) + ", " + x.arg("user", nil) + ", " + x.arg("now", nil) + ", ARRAY[p])), '{}') FROM unnest(" + q.arg(patients) + "::text[]) AS p")
	err = forEach(ctx, s.app, q.String(), q.args, []any{&inline, &function}, func() error { return nil })
	return inline, function, err
}

// KeyTables are the tables whose keys [RewrapKeys] wraps anew.
func KeyTables() (out []string) {
	for _, k := range keyKinds {
		out = append(out, k.table)
	}
	return out
}

// OnApp does something on a connection of those that write.
func (s *Store) OnApp(ctx context.Context, do func(*pgx.Conn) error) error {
	return s.app.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return do(c.Conn()) })
}
