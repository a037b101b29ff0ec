package postgres

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// Exports keeps the jobs of bulk exports.
func (s *Store) Exports() export.Jobs { return exports{s} }

type exports struct{ s *Store }

const exportColumns = "j.id, j.tenant, j.owner, j.sealed, j.kek, j.wrapped, j.policy, j.transaction, j.state, j.reason, j.step, j.after, j.lines, j.explained, j.attempts, COALESCE(j.turn, 0), j.lease, j.created, j.expires, j.parts, j.pages, j.polled, j.haste"

// exportRow reads what [exportColumns] select.
type exportRow struct {
	j         export.Job
	owner     []byte
	after     []byte
	explained []string
	pages     []int32
	polled    *time.Time
}

func (x *exportRow) scan() []any {
	j := &x.j
	return []any{&j.ID, &j.Tenant, &x.owner, &j.Sealed, &j.KEK, &j.Wrapped, &j.Policy, &j.Transaction, &j.State, &j.Reason,
		&j.Step, &x.after, &j.Lines, &x.explained, &j.Attempts, &j.Turn, &j.Lease, &j.Created, &j.Expires, &j.Parts, &x.pages, &x.polled, &j.Haste}
}

func (x *exportRow) job() (export.Job, error) {
	j := x.j
	if copy(j.Owner[:], x.owner) != len(j.Owner) {
		return j, errors.New("postgres: an export without an owner")
	}
	j.Transaction = j.Transaction.UTC()
	for _, p := range x.pages {
		j.Pages = append(j.Pages, int(p))
	}
	if x.polled != nil {
		j.Polled = *x.polled
	}
	for _, id := range x.explained {
		j.Explained = append(j.Explained, fhir.ID(id))
	}
	if x.after != nil {
		var b blockPlace
		if err := json.Unmarshal(x.after, &b); err != nil {
			return j, errors.New("postgres: the place of an export does not read")
		}
		if j.Of, j.In, j.Begun, j.Then, j.After = b.Block, b.Done, b.Begun, b.Then, b.Within; b.Block == "" {
			if err := json.Unmarshal(x.after, &j.After); err != nil {
				return j, errors.New("postgres: the place of an export does not read")
			}
		}
	}
	return j, nil
}

// blockPlace is a place within the block of a patient, as it is kept in place of a cursor.
type blockPlace struct {
	Block  fhir.ID        `json:"block"`
	Done   int            `json:"done"`
	Begun  bool           `json:"begun"`
	Then   *search.Cursor `json:"then"`
	Within *search.Cursor `json:"within"`
}

// exportPlace is what is kept of a position besides its step, nil for the beginning.
func exportPlace(p export.Position) ([]byte, error) {
	switch {
	case p.Of != "":
		return json.Marshal(blockPlace{p.Of, p.In, p.Begun, p.Then, p.After}) //nolint:wrapcheck // wrapped by the caller
	case p.After != nil:
		return json.Marshal(p.After) //nolint:wrapcheck // wrapped by the caller
	}
	return nil, nil
}

// Enqueue implements [export.Jobs].
func (x exports) Enqueue(ctx context.Context, j export.Job, most int) error {
	return failed(pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error {
		// One at a time: nobody begins more than so many at once.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "export "+strconv.Itoa(int(j.Tenant))+" "+hex.EncodeToString(j.Owner[:])); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM export.job WHERE tenant = $1 AND owner = $2 AND state IN ('accepted', 'running') AND expires > $3", j.Tenant, j.Owner[:], x.s.now().UTC()).Scan(&n); err != nil {
			return err
		}
		if n >= most {
			return outcome.New(outcome.Throttled, "too many exports of yours are under way: wait for one of them, or cancel it").After(time.Minute)
		}
		_, err := tx.Exec(ctx, "INSERT INTO export.job (id, tenant, owner, sealed, kek, wrapped, policy, transaction, state, lease, created, expires) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'accepted', $9, $10, $11)",
			j.ID, j.Tenant, j.Owner[:], j.Sealed, j.KEK, j.Wrapped, j.Policy, j.Transaction, j.Lease, j.Created, j.Expires)
		return err
	}))
}

// Find implements [export.Jobs].
func (x exports) Find(ctx context.Context, tenant int32, owner [32]byte, id string) (j export.Job, parts []export.Part, err error) {
	if !fhir.ID(id).Valid() || len(id) != 36 {
		return j, nil, errNotFound
	}
	// Both see the same moment.
	err = pgx.BeginTxFunc(ctx, x.s.side, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		row := &exportRow{}
		err := tx.QueryRow(ctx, "SELECT "+exportColumns+" FROM export.job j WHERE j.id::text = $1 AND j.tenant = $2 AND j.owner = $3 AND j.expires > $4", id, tenant, owner[:], x.s.now().UTC()).Scan(row.scan()...)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotFound
		}
		if err == nil {
			j, err = row.job()
		}
		if err != nil {
			return err
		}
		var p export.Part
		var sum []byte
		return forEach(ctx, tx, "SELECT number, file, kind, type, name, lines, bytes, sha256, noticed, COALESCE(view, ''), COALESCE(format, '') FROM export.part WHERE job = $1 ORDER BY number", []any{j.ID},
			[]any{&p.Number, &p.File, &p.Kind, &p.Type, &p.Name, &p.Lines, &p.Bytes, &sum, &p.Noticed, &p.View, &p.Format}, func() error {
				part := p
				copy(part.SHA256[:], sum)
				parts = append(parts, part)
				return nil
			})
	})
	return j, parts, failed(err)
}

// Lines implements [export.Jobs].
func (x exports) Lines(ctx context.Context, job string, p *export.Part) error {
	var ids []string
	var versions []int32
	p.IDs, p.Versions = nil, nil
	var types, blocks []string
	err := x.s.side.QueryRow(ctx, "SELECT ids, versions, rows, lengths, types, blocks FROM export.part WHERE job = $1 AND number = $2", job, p.Number).Scan(&ids, &versions, &p.Rows, &p.Lengths, &types, &blocks)
	if errors.Is(err, pgx.ErrNoRows) {
		return errNotFound
	}
	n, lengths := p.Lines, p.Lines
	if p.View != "" { // rows are not told apart
		n, lengths = len(ids), 0
	}
	if err == nil && (len(types) > 0 && len(types) != n || len(blocks) != len(types) || len(ids) != n || len(versions) != n || len(p.Rows) != n || len(p.Lengths) != lengths) {
		err = errors.New("postgres: a part of an export does not say what is in each line")
	}
	if err != nil {
		return failed(err)
	}
	for i, id := range ids {
		p.IDs, p.Versions = append(p.IDs, fhir.ID(id)), append(p.Versions, fhir.VersionID(versions[i]))
	}
	p.Types, p.Blocks = nil, nil
	for i, t := range types {
		p.Types, p.Blocks = append(p.Types, fhir.ResourceType(t)), append(p.Blocks, fhir.ID(blocks[i]))
	}
	return nil
}

// Take implements [export.Jobs]. Owners take turns: whose last turn was longest ago comes first,
// and of one owner's jobs the one whose was.
func (x exports) Take(ctx context.Context, lease time.Duration) (export.Job, bool, error) {
	now := x.s.now().UTC()
	row := &exportRow{}
	err := x.s.side.QueryRow(ctx, `UPDATE export.job j SET turn = nextval('export.turn'), state = 'running', attempts = j.attempts + 1, lease = $2
FROM (SELECT o.id FROM export.job o WHERE o.state IN ('accepted', 'running') AND o.lease <= $1 AND o.expires > $1
 ORDER BY (SELECT max(w.turn) FROM export.job w WHERE w.tenant = o.tenant AND w.owner = o.owner) NULLS FIRST, o.turn NULLS FIRST, o.created, o.id
 LIMIT 1 FOR UPDATE SKIP LOCKED) AS n WHERE j.id = n.id RETURNING `+exportColumns, now, now.Add(lease)).Scan(row.scan()...)
	if errors.Is(err, pgx.ErrNoRows) {
		return export.Job{}, false, nil
	}
	if err != nil {
		return export.Job{}, false, failed(err)
	}
	j, err := row.job()
	if err != nil {
		return j, false, failed(err)
	}
	// What has labels that another process was the first to give belongs to the export, too.
	return j, true, x.s.refreshClasses(ctx)
}

// onTurn is the condition that a turn of a job is not over; its arguments are $1 and $2.
const onTurn = "id = $1 AND turn = $2 AND state = 'running'"

// Reserve implements [export.Jobs].
func (x exports) Reserve(ctx context.Context, j export.Job, name string, until time.Time) error {
	tag, err := x.s.side.Exec(ctx, "INSERT INTO export.object (name, until) SELECT $3::uuid, $4::timestamptz FROM export.job WHERE "+onTurn, j.ID, j.Turn, name, until)
	return one(tag.RowsAffected(), err)
}

// one is the fate of what goes by a turn.
func one(rows int64, err error) error {
	if err == nil && rows != 1 {
		return export.ErrOver
	}
	if errors.Is(err, export.ErrOver) || errors.Is(err, export.ErrDrift) {
		return err
	}
	return failed(err)
}

// Publish implements [export.Jobs].
func (x exports) Publish(ctx context.Context, j export.Job, next export.Position, parts []export.Part, explained []fhir.ID, longest int) error {
	return one(1, pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error {
		after, err := exportPlace(next)
		if err != nil {
			return err
		}
		lines := 0
		for _, p := range parts {
			if p.Kind == export.Output {
				lines += p.Lines
			}
		}
		tag, err := tx.Exec(ctx, "UPDATE export.job SET step = $3, after = $4::jsonb, lines = lines + $5, explained = explained || $6::text[], attempts = 0, lease = $7, parts = parts + $8 WHERE "+onTurn,
			j.ID, j.Turn, next.Step, after, lines, texts(explained), x.s.now().UTC(), len(parts))
		if err != nil || tag.RowsAffected() != 1 {
			return one(tag.RowsAffected(), err)
		}
		for _, p := range parts {
			if err := publish(ctx, tx, j.ID, p, longest); err != nil {
				return err
			}
		}
		return nil
	}))
}

// publish makes an object a part of a job: of the last file of its kind and type, or of a new one.
func publish(ctx context.Context, tx pgx.Tx, job string, p export.Part, longest int) error {
	tag, err := tx.Exec(ctx, "DELETE FROM export.object WHERE name = $1 AND NOT doomed", p.Name)
	if err != nil || tag.RowsAffected() != 1 {
		return one(tag.RowsAffected(), err)
	}
	versions := make([]int32, len(p.Versions))
	for i, v := range p.Versions {
		versions[i] = int32(v)
	}
	if p.Joins() { // it goes on with what is at the end of the last file
		longest = math.MaxInt32
	}
	if p.View != "" { // it is a file of its own
		longest = -1
	}
	var types, blocks []string
	if len(p.Types) > 0 {
		blocks = texts(p.Blocks)
		for _, t := range p.Types {
			types = append(types, string(t))
		}
	}
	_, err = tx.Exec(ctx, `INSERT INTO export.part (job, number, file, kind, type, name, lines, bytes, sha256, noticed, ids, versions, rows, lengths, types, blocks, view, format)
SELECT $1::uuid, l.number + 1, COALESCE((SELECT f.file FROM (SELECT p.file, sum(p.lines) AS lines FROM export.part p WHERE p.job = $1 AND p.kind = $2 AND p.type = $3 AND p.file > COALESCE((SELECT j.pages[cardinality(j.pages)] FROM export.job j WHERE j.id = $1), 0) GROUP BY p.file ORDER BY p.file DESC LIMIT 1) AS f WHERE f.lines + $5 <= $12::bigint), l.file + 1),
 $2::text, $3::text, $4::uuid, $5::integer, $6::bigint, $7::bytea, $8::boolean, $9::text[], $10::integer[], $11::bigint[], $13::integer[], $14::text[], $15::text[], NULLIF($16::text, ''), NULLIF($17::text, '') FROM (SELECT COALESCE(max(number), 0) AS number, COALESCE(max(file), 0) AS file FROM export.part WHERE job = $1) AS l`,
		job, string(p.Kind), string(p.Type), p.Name, p.Lines, p.Bytes, p.SHA256[:], p.Noticed, texts(p.IDs), versions, notNull(p.Rows), longest, notNull(p.Lengths), types, blocks, p.View, p.Format)
	return err
}

// notNull is an array also where there is nothing in it.
func notNull[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func texts(ids []fhir.ID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out
}

// Restart implements [export.Jobs].
func (x exports) Restart(ctx context.Context, j export.Job, next export.Position) error {
	return one(1, pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error {
		now := x.s.now().UTC()
		tag, err := tx.Exec(ctx, "UPDATE export.job SET step = $3, after = NULL, lines = 0, attempts = 0, lease = $4 WHERE "+onTurn, j.ID, j.Turn, next.Step, now)
		if err != nil || tag.RowsAffected() != 1 {
			return one(tag.RowsAffected(), err)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO export.object (name, until, doomed) SELECT name, $2::timestamptz, true FROM export.part WHERE job = $1", j.ID, now); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM export.part WHERE job = $1", j.ID)
		return err
	}))
}

// Finish implements [export.Jobs].
func (x exports) Finish(ctx context.Context, j export.Job, state export.State, reason export.Reason, expires time.Time) error {
	tag, err := x.s.side.Exec(ctx, "UPDATE export.job SET state = $3, reason = $4, expires = $5 WHERE "+onTurn, j.ID, j.Turn, string(state), string(reason), expires)
	return one(tag.RowsAffected(), err)
}

// Yield implements [export.Jobs].
func (x exports) Yield(ctx context.Context, j export.Job, at time.Time) error {
	tag, err := x.s.side.Exec(ctx, "UPDATE export.job SET lease = $3 WHERE "+onTurn, j.ID, j.Turn, at)
	return one(tag.RowsAffected(), err)
}

// Polled implements [export.Jobs].
func (x exports) Polled(ctx context.Context, j export.Job, at time.Time, haste int) error {
	_, err := x.s.side.Exec(ctx, "UPDATE export.job SET polled = $2, haste = $3 WHERE id = $1", j.ID, at, haste)
	return failed(err)
}

// Cut implements [export.Jobs]. Whoever publishes at this moment has locked the job, and more parts when it lets go.
func (x exports) Cut(ctx context.Context, j export.Job, file int) error {
	shown := make([]int32, len(j.Pages)) // not nil, which would be NULL
	for i, p := range j.Pages {
		shown[i] = int32(p)
	}
	_, err := x.s.side.Exec(ctx, "UPDATE export.job SET pages = pages || $4::integer WHERE id = $1 AND parts = $2 AND pages = $3", j.ID, j.Parts, shown, file)
	return failed(err)
}

// Wait implements [export.Jobs].
func (x exports) Wait(ctx context.Context, j export.Job, at time.Time) error {
	tag, err := x.s.side.Exec(ctx, "UPDATE export.job SET lease = $3, attempts = 0 WHERE "+onTurn, j.ID, j.Turn, at)
	return one(tag.RowsAffected(), err)
}

// A transaction that writes resources holds a lock from its beginning to its end, which
// says in which second it began. Nobody waits for these locks: they are there to be seen.
const beganLock = 0x436c6f69 // "Cloi"

var beganZero = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) // second 0

func beganSecond(at time.Time) int64 { return at.Unix() - beganZero.Unix() }

// begins is the beginning of a transaction that writes resources. What it stores changes
// at this moment or later.
func begins(now time.Time) string {
	return "BEGIN; " + byKeys + "; SELECT pg_advisory_xact_lock_shared(" + strconv.Itoa(beganLock) + ", " + strconv.FormatInt(beganSecond(now), 10) + ")"
}

// Settled implements [export.Jobs].
func (x exports) Settled(ctx context.Context, at time.Time) (settled bool, err error) {
	err = x.s.side.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid = $1::bigint::oid AND objid::bigint <= $2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
		beganLock, beganSecond(at)).Scan(&settled)
	if err != nil || !settled {
		return false, failed(err)
	}
	return true, x.s.refreshClasses(ctx) // what came to its end since the turn was taken has labels, too
}

// Drop implements [export.Jobs].
func (x exports) Drop(ctx context.Context, tenant int32, owner [32]byte, id string) error {
	j, _, err := x.Find(ctx, tenant, owner, id)
	if err != nil {
		return err
	}
	return failed(x.drop(ctx, "id = $1", j.ID))
}

// drop forgets jobs, and leaves what they wrote to be removed.
func (x exports) drop(ctx context.Context, which string, arg any) error {
	return pgx.BeginFunc(ctx, x.s.side, func(tx pgx.Tx) error {
		// The jobs are locked before their parts are read: no turn adds one in between.
		var ids []string
		var id string
		if err := forEach(ctx, tx, "SELECT id FROM export.job WHERE "+which+" ORDER BY id FOR UPDATE", []any{arg}, []any{&id}, func() error { ids = append(ids, id); return nil }); err != nil || ids == nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO export.object (name, until, doomed) SELECT name, $2::timestamptz, true FROM export.part WHERE job = ANY ($1::uuid[])", ids, x.s.now().UTC()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM export.job WHERE id = ANY ($1::uuid[])", ids)
		return err
	})
}

// Orphans implements [export.Jobs].
func (x exports) Orphans(ctx context.Context, most int) ([]string, error) {
	now := x.s.now().UTC()
	if err := x.drop(ctx, "expires <= $1", now); err != nil {
		return nil, failed(err)
	}
	var names []string
	var name string
	// A doomed object cannot be published any more.
	err := forEach(ctx, x.s.side, "UPDATE export.object o SET doomed = true FROM (SELECT name FROM export.object WHERE doomed OR until <= $1 ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED) AS n WHERE o.name = n.name RETURNING o.name",
		[]any{now, most}, []any{&name}, func() error { names = append(names, name); return nil })
	return names, failed(err)
}

// Forget implements [export.Jobs].
func (x exports) Forget(ctx context.Context, name string) error {
	_, err := x.s.side.Exec(ctx, "DELETE FROM export.object WHERE name = $1 AND doomed", name)
	return failed(err)
}

// Failed implements [export.Jobs].
func (x exports) Failed(ctx context.Context, ids []string) (out []string, err error) {
	var id string
	err = forEach(ctx, x.s.side, "SELECT id FROM export.job WHERE id = ANY ($1::text[]::uuid[]) AND state = 'failed'", []any{ids}, []any{&id}, func() error {
		out = append(out, id)
		return nil
	})
	return out, failed(err)
}

// Current gives of these resources those that are visible under r, also as deleted. It reads no content but where a scope asks for it.
func (s *Store) Current(ctx context.Context, r authz.Restriction, ids []fhir.ID) (map[fhir.ID][]record.Sealed, error) {
	out := map[fhir.ID][]record.Sealed{}
	if r.Empty() || len(ids) == 0 {
		return out, nil
	}
	q := &statement{}
	x := restrict(q, r)
	in := q.arg(texts(ids))
	columns := x.columns("r")
	if !authz.Constrained(r.Grant(), r.Grant().Interaction(), r.Type()) {
		columns = strings.Replace(columns, ", r.body, ", ", NULL::jsonb, ", 1)
	}
	legs(q, r, func(schema string) {
		q.WriteString("SELECT " + columns + " FROM " + schema + ".resource r WHERE r.id = ANY (" + in + "::text[]) AND " + x.where("r"))
	})
	found, err := s.sealed(ctx, s.pool(r), r, q)
	if err != nil {
		return nil, err
	}
	for _, x := range found {
		id := vault.Head(x).Ref.ID
		out[id] = append(out[id], x)
	}
	return out, nil
}

// Tombstones gives, by their ids, at most so many resources that r covers and that were
// deleted between these moments, behind that place.
func (s *Store) Tombstones(ctx context.Context, r authz.Restriction, from, to time.Time, after *search.Cursor, most int) ([]record.Sealed, error) {
	if r.Empty() {
		return nil, nil
	}
	q := &statement{}
	x := restrict(q, r)
	beyond := ""
	if after != nil {
		beyond = " AND (r.id, r.pk) > (" + q.arg(string(after.ID)) + ", " + q.arg(after.Row) + ")"
	}
	q.WriteString("SELECT * FROM (")
	legs(q, r, func(schema string) {
		q.WriteString("SELECT " + x.columns("r") + " FROM " + schema + ".resource r WHERE r.deleted AND r.updated >= " + q.arg(from) + " AND r.updated <= " + q.arg(to) + beyond + " AND " + x.where("r"))
	})
	q.WriteString(") AS t ORDER BY t.id, t.pk LIMIT " + strconv.Itoa(most))
	return s.sealed(ctx, s.pool(r), r, q)
}
