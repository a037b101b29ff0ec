package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

// Imports keeps the jobs of bulk imports.
func (s *Store) Imports() intake.Jobs { return imports{s} }

type imports struct{ s *Store }

const intakeColumns = "j.id, j.tenant, j.owner, j.sealed, j.kek, j.wrapped, j.state, j.reason, j.input, j.fetched, j.fetched_lines, j.validator, j.round, j.phase, j.chunk, j.progress, j.lines, j.settled, j.attempts, COALESCE(j.turn, 0), j.lease, j.created, j.loading, j.finished, j.expires"

func scanIntake(r pgx.Row) (j intake.Job, err error) {
	var owner []byte
	var loading, finished *time.Time
	if err := r.Scan(&j.ID, &j.Tenant, &owner, &j.Sealed, &j.KEK, &j.Wrapped, &j.State, &j.Reason, &j.Input, &j.Fetched, &j.Before, &j.Validator, &j.Round, &j.Phase, &j.Chunk, &j.Progress,
		&j.Lines, &j.Settled, &j.Attempts, &j.Turn, &j.Lease, &j.Created, &loading, &finished, &j.Expires); err != nil {
		return j, err
	}
	if copy(j.Owner[:], owner) != len(j.Owner) {
		return j, errors.New("postgres: an import without an owner")
	}
	if loading != nil {
		j.Loading = loading.UTC()
	}
	if finished != nil {
		j.Finished = finished.UTC()
	}
	return j, nil
}

// Enqueue implements [intake.Jobs].
func (x imports) Enqueue(ctx context.Context, j intake.Job, uploaded []intake.Chunk, most int) error {
	return failed(pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error {
		// One at a time: nobody begins more than so many at once.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "intake "+strconv.Itoa(int(j.Tenant))+" "+hex.EncodeToString(j.Owner[:])); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM intake.job WHERE tenant = $1 AND owner = $2 AND state IN ('accepted', 'running') AND expires > $3", j.Tenant, j.Owner[:], x.s.now().UTC()).Scan(&n); err != nil {
			return err
		}
		if n >= most {
			return outcome.New(outcome.Throttled, "too many imports of yours are under way: wait for one of them, or cancel it")
		}
		if _, err := tx.Exec(ctx, "INSERT INTO intake.job (id, tenant, owner, sealed, kek, wrapped, state, input, lease, created, expires) VALUES ($1, $2, $3, $4, $5, $6, 'accepted', $7, $8, $9, $10)",
			j.ID, j.Tenant, j.Owner[:], j.Sealed, j.KEK, j.Wrapped, j.Input, j.Lease, j.Created, j.Expires); err != nil {
			return err
		}
		for _, c := range uploaded {
			if err := appendChunk(ctx, tx, j.ID, c); err != nil {
				return err
			}
		}
		return nil
	}))
}

// appendChunk makes an object a chunk of a job, unless it is about to be removed.
func appendChunk(ctx context.Context, tx pgx.Tx, job string, c intake.Chunk) error {
	tag, err := tx.Exec(ctx, "DELETE FROM intake.object WHERE name = $1 AND NOT doomed", c.Name)
	if err := intakeTurn(tag.RowsAffected(), err); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO intake.chunk (job, number, input, first, lines, name) SELECT $1::uuid, COALESCE(max(number), 0) + 1, $2::integer, $3::integer, $4::integer, $5::uuid FROM intake.chunk WHERE job = $1", job, c.Input, c.First, c.Lines, c.Name); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE intake.job SET lines = lines + $2 WHERE id = $1", job, c.Lines)
	return err
}

// intakeTurn is the fate of what goes by a turn.
func intakeTurn(rows int64, err error) error {
	if err == nil && rows != 1 {
		return intake.ErrOver
	}
	if errors.Is(err, intake.ErrOver) {
		return err
	}
	return failed(err)
}

// Find implements [intake.Jobs].
func (x imports) Find(ctx context.Context, tenant int32, owner [32]byte, id string) (intake.Job, error) {
	if !fhir.ID(id).Valid() || len(id) != 36 {
		return intake.Job{}, errNotFound
	}
	j, err := scanIntake(x.s.side.QueryRow(ctx, "SELECT "+intakeColumns+" FROM intake.job j WHERE j.id::text = $1 AND j.tenant = $2 AND j.owner = $3 AND j.expires > $4", id, tenant, owner[:], x.s.now().UTC()))
	if errors.Is(err, pgx.ErrNoRows) {
		return j, errNotFound
	}
	return j, failed(err)
}

// Counts implements [intake.Jobs].
func (x imports) Counts(ctx context.Context, j intake.Job) (map[int]intake.Tally, map[int]int, error) {
	out, found := map[int]intake.Tally{}, map[int]int{}
	var input, lines int
	var k intake.Key
	var n int64
	err := forEach(ctx, x.s.side, "SELECT input, type, what, n FROM intake.tally WHERE job = $1", []any{j.ID}, []any{&input, &k.Type, &k.What, &n}, func() error {
		if out[input] == nil {
			out[input] = intake.Tally{}
		}
		out[input][k] = n
		return nil
	})
	if err == nil {
		err = forEach(ctx, x.s.side, "SELECT input, sum(lines)::integer FROM intake.finding WHERE job = $1 GROUP BY input", []any{j.ID}, []any{&input, &lines}, func() error { found[input] = lines; return nil })
	}
	return out, found, failed(err)
}

// Findings implements [intake.Jobs].
func (x imports) Findings(ctx context.Context, j intake.Job, input int, after int64) (text string, next int64, err error) {
	err = x.s.side.QueryRow(ctx, "SELECT id, text FROM intake.finding WHERE job = $1 AND input = $2 AND id > $3 ORDER BY id LIMIT 1", j.ID, input, after).Scan(&next, &text)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", 0, nil
	}
	return text, next, failed(err)
}

// Take implements [intake.Jobs]. Owners take turns: whose last turn was longest ago comes first,
// and of one owner's jobs the one whose was.
func (x imports) Take(ctx context.Context, lease time.Duration) (intake.Job, bool, error) {
	now := x.s.now().UTC()
	j, err := scanIntake(x.s.side.QueryRow(ctx, `UPDATE intake.job j SET turn = nextval('intake.turn'), state = 'running', attempts = j.attempts + 1, lease = $2
FROM (SELECT o.id FROM intake.job o WHERE o.state IN ('accepted', 'running') AND o.lease <= $1 AND o.expires > $1
 ORDER BY (SELECT max(w.turn) FROM intake.job w WHERE w.tenant = o.tenant AND w.owner = o.owner) NULLS FIRST, o.turn NULLS FIRST, o.created, o.id
 LIMIT 1 FOR UPDATE SKIP LOCKED) AS n WHERE j.id = n.id RETURNING `+intakeColumns, now, now.Add(lease)))
	if errors.Is(err, pgx.ErrNoRows) {
		return intake.Job{}, false, nil
	}
	if err != nil {
		return j, false, failed(err)
	}
	// What another process has taken in can have labels that nothing had before: lines of this turn may refer to it.
	return j, true, x.s.refreshClasses(ctx)
}

// set changes the job whose turn this is; the placeholders begin with $3.
func (x imports) set(ctx context.Context, tx execer, j intake.Job, what string, args ...any) error {
	tag, err := tx.Exec(ctx, "UPDATE intake.job SET "+what+" WHERE "+onTurn, append([]any{j.ID, j.Turn}, args...)...)
	return intakeTurn(tag.RowsAffected(), err)
}

// Extend implements [intake.Jobs].
func (x imports) Extend(ctx context.Context, j intake.Job, until time.Time) error {
	return x.set(ctx, x.s.side, j, "lease = $3", until)
}

// Reserve implements [intake.Jobs].
func (x imports) Reserve(ctx context.Context, name string, until time.Time) error {
	_, err := x.s.side.Exec(ctx, "INSERT INTO intake.object (name, until) VALUES ($1, $2)", name, until)
	return failed(err)
}

// Append implements [intake.Jobs].
func (x imports) Append(ctx context.Context, j intake.Job, c intake.Chunk, at intake.Fetch, until time.Time) error {
	return intakeTurn(1, pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error {
		if err := x.set(ctx, tx, j, "fetched = $3, fetched_lines = $4, validator = $5, lease = $6, attempts = 0", at.Fetched, at.Before, at.Validator, until); err != nil {
			return err
		}
		return appendChunk(ctx, tx, j.ID, c)
	}))
}

// Fetched implements [intake.Jobs].
func (x imports) Fetched(ctx context.Context, j intake.Job, at intake.Fetch, finding string) error {
	return intakeTurn(1, pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error {
		if err := x.set(ctx, tx, j, "input = $3, fetched = 0, fetched_lines = 0, validator = '', attempts = 0, lease = $4", at.Input, x.s.now().UTC()); err != nil || finding == "" {
			return err
		}
		return addFinding(ctx, tx, j, at.Input, finding)
	}))
}

func addFinding(ctx context.Context, tx pgx.Tx, j intake.Job, input int, text string) error {
	_, err := tx.Exec(ctx, "INSERT INTO intake.finding (job, input, lines, text) VALUES ($1::uuid, $2::integer, length($3::text) - length(replace($3::text, E'\\n', '')), $3::text)", j.ID, input, text)
	return err
}

// Restart implements [intake.Jobs].
func (x imports) Restart(ctx context.Context, j intake.Job) error {
	return intakeTurn(1, pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error {
		if err := x.set(ctx, tx, j, "fetched = 0, fetched_lines = 0, validator = '', lines = lines - COALESCE((SELECT sum(c.lines) FROM intake.chunk c WHERE c.job = $1 AND c.input = $3), 0)", j.Input+1); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO intake.object (name, until, doomed) SELECT name, $3::timestamptz, true FROM intake.chunk WHERE job = $1 AND input = $2", j.ID, j.Input+1, x.s.now().UTC()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM intake.chunk WHERE job = $1 AND input = $2", j.ID, j.Input+1)
		return err
	}))
}

// Chunks implements [intake.Jobs].
func (x imports) Chunks(ctx context.Context, j intake.Job, after, most int) (out []intake.Chunk, err error) {
	var c intake.Chunk
	var waiting []int32
	err = forEach(ctx, x.s.side, "SELECT number, input, first, lines, name, waiting FROM intake.chunk WHERE job = $1 AND number > $2 AND (waiting IS NULL OR waiting <> '{}') ORDER BY number LIMIT $3", []any{j.ID, after, most},
		[]any{&c.Number, &c.Input, &c.First, &c.Lines, &c.Name, &waiting}, func() error {
			one := c
			if waiting != nil {
				one.Waiting = make([]int, len(waiting))
				for i, n := range waiting {
					one.Waiting[i] = int(n)
				}
			}
			out = append(out, one)
			return nil
		})
	return out, failed(err)
}

// Expected implements [intake.Jobs].
func (x imports) Expected(ctx context.Context, j intake.Job, digests [][16]byte) (map[[16]byte]bool, error) {
	out := map[[16]byte]bool{}
	var name []byte
	err := forEach(ctx, x.s.side, "SELECT name FROM intake.brought WHERE job = $1 AND name = ANY ($2::bytea[])", []any{j.ID, bytesOf(digests)}, []any{&name}, func() error {
		out[[16]byte(name)] = true
		return nil
	})
	return out, failed(err)
}

func bytesOf(digests [][16]byte) [][]byte {
	out := make([][]byte, len(digests))
	for i := range digests {
		out[i] = digests[i][:]
	}
	return out
}

// Advance implements [intake.Jobs].
func (x imports) Advance(ctx context.Context, j intake.Job, cleared []record.Cleared, dry bool, expected map[fhir.Ref]bool, o intake.Outcome) ([]record.Receipt, error) {
	advance := func(ctx context.Context, tx pgx.Tx, receipts []record.Receipt) error {
		return x.advance(ctx, tx, j, o, receipts)
	}
	if len(cleared) == 0 {
		return nil, intakeTurn(1, pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error { return advance(ctx, tx, nil) }))
	}
	receipts, err := x.s.commit(ctx, cleared, also{intake: &intaking{rehearsal: dry, expected: expected, advance: advance}})
	if errors.Is(err, intake.ErrOver) {
		err = intake.ErrOver
	}
	return receipts, err
}

func (x imports) advance(ctx context.Context, tx pgx.Tx, j intake.Job, o intake.Outcome, receipts []record.Receipt) error {
	now := x.s.now().UTC()
	// Whoever is late stores nothing: the turn is the first that is asked for, and held until the end.
	if err := x.set(ctx, tx, j, "chunk = $3, settled = settled + $4, progress = progress OR $4 > 0, attempts = 0, lease = $5, loading = COALESCE(loading, $5)", o.Next, o.Settled, now); err != nil {
		return err
	}
	for _, number := range sortedKeys(o.Waiting) {
		waiting := make([]int32, 0, len(o.Waiting[number]))
		for _, n := range o.Waiting[number] {
			waiting = append(waiting, int32(n))
		}
		if _, err := tx.Exec(ctx, "UPDATE intake.chunk SET waiting = $3 WHERE job = $1 AND number = $2", j.ID, number, waiting); err != nil {
			return err
		}
	}
	counts := o.Counted(receipts)
	for _, input := range sortedKeys(counts) {
		var types, whats []string
		var ns []int64
		for k, n := range counts[input] {
			types, whats, ns = append(types, k.Type), append(whats, k.What), append(ns, n)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO intake.tally AS t (job, input, type, what, n) SELECT $1::uuid, $2::integer, a, b, c FROM unnest($3::text[], $4::text[], $5::bigint[]) AS u(a, b, c) ON CONFLICT (job, input, type, what) DO UPDATE SET n = t.n + excluded.n",
			j.ID, input, types, whats, ns); err != nil {
			return err
		}
	}
	for _, input := range sortedKeys(o.Findings) {
		if o.Findings[input] == "" {
			continue
		}
		if err := addFinding(ctx, tx, j, input, o.Findings[input]); err != nil {
			return err
		}
	}
	if len(o.Brought) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, "INSERT INTO intake.brought (job, name) SELECT $1::uuid, unnest($2::bytea[]) ON CONFLICT DO NOTHING", j.ID, bytesOf(o.Brought))
	return err
}

func sortedKeys[V any](m map[int]V) []int {
	out := make([]int, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// NextRound implements [intake.Jobs].
func (x imports) NextRound(ctx context.Context, j intake.Job, phase intake.Phase) error {
	return x.set(ctx, x.s.side, j, "round = round + 1, phase = $3, chunk = 0, progress = false, attempts = 0, lease = $4", int(phase), x.s.now().UTC())
}

// Finish implements [intake.Jobs].
func (x imports) Finish(ctx context.Context, j intake.Job, state intake.State, reason intake.Reason, expires time.Time) error {
	return intakeTurn(1, pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error {
		if err := x.set(ctx, tx, j, "state = $3, reason = $4, expires = $5, finished = $6", string(state), string(reason), expires, x.s.now().UTC()); err != nil {
			return err
		}
		if err := x.doom(ctx, tx, []string{j.ID}); err != nil {
			return err
		}
		for _, table := range []string{"chunk", "brought"} {
			if _, err := tx.Exec(ctx, "DELETE FROM intake."+table+" WHERE job = $1", j.ID); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (x imports) doom(ctx context.Context, tx pgx.Tx, jobs []string) error {
	_, err := tx.Exec(ctx, "INSERT INTO intake.object (name, until, doomed) SELECT name, $2::timestamptz, true FROM intake.chunk WHERE job = ANY ($1::uuid[])", jobs, x.s.now().UTC())
	return err
}

// Yield implements [intake.Jobs].
func (x imports) Yield(ctx context.Context, j intake.Job, at time.Time) error {
	return x.set(ctx, x.s.side, j, "lease = $3", at)
}

// Drop implements [intake.Jobs].
func (x imports) Drop(ctx context.Context, tenant int32, owner [32]byte, id string) error {
	j, err := x.Find(ctx, tenant, owner, id)
	if err != nil {
		return err
	}
	return failed(x.drop(ctx, "id = $1", j.ID))
}

// drop forgets jobs, and leaves their inputs to be removed.
func (x imports) drop(ctx context.Context, which string, arg any) error {
	return pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error {
		// The jobs are locked before their chunks are read: no turn adds one in between.
		var ids []string
		var id string
		if err := forEach(ctx, tx, "SELECT id FROM intake.job WHERE "+which+" ORDER BY id FOR UPDATE", []any{arg}, []any{&id}, func() error { ids = append(ids, id); return nil }); err != nil || ids == nil {
			return err
		}
		if err := x.doom(ctx, tx, ids); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM intake.job WHERE id = ANY ($1::uuid[])", ids)
		return err
	})
}

// Orphans implements [intake.Jobs].
func (x imports) Orphans(ctx context.Context, most int) ([]string, error) {
	now := x.s.now().UTC()
	if err := x.drop(ctx, "expires <= $1", now); err != nil {
		return nil, failed(err)
	}
	var names []string
	var name string
	// A doomed object cannot become part of a job any more.
	err := forEach(ctx, x.s.side, "UPDATE intake.object o SET doomed = true FROM (SELECT name FROM intake.object WHERE doomed OR until <= $1 ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED) AS n WHERE o.name = n.name RETURNING o.name",
		[]any{now, most}, []any{&name}, func() error { names = append(names, name); return nil })
	return names, failed(err)
}

// Forget implements [intake.Jobs].
func (x imports) Forget(ctx context.Context, name string) error {
	_, err := x.s.side.Exec(ctx, "DELETE FROM intake.object WHERE name = $1 AND doomed", name)
	return failed(err)
}
