package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

// announce writes down what the transaction has made, if anybody of the practice has
// subscribed to anything. Notes are not written down.
func (w *write) announce(ctx context.Context) error {
	var types []int16
	var ids []string
	var pks []int64
	var versions []int32
	var deleted []bool
	for _, r := range w.all() {
		if r.unchanged || r.schema != "record" {
			continue
		}
		types, ids, pks = append(types, r.c.Ref.Type.Code()), append(ids, string(r.c.Ref.ID)), append(pks, r.pk)
		versions, deleted = append(versions, int32(r.version)), append(deleted, r.body == nil)
	}
	if ids == nil {
		return nil
	}
	_, err := w.tx.Exec(ctx, `INSERT INTO notify.pending (tenant, type, id, pk, version, deleted)
SELECT $1, n.type, n.id, n.pk, n.version, n.deleted FROM unnest($2::smallint[], $3::text[], $4::bigint[], $5::integer[], $6::boolean[]) WITH ORDINALITY AS n(type, id, pk, version, deleted, place)
WHERE EXISTS (SELECT FROM notify.subscription WHERE tenant = $1 AND status <> 'off') ORDER BY n.place`, w.tenant(), types, ids, pks, versions, deleted)
	return err
}

// Subscriptions keeps the subscriptions, and what is to be told to them.
func (s *Store) Subscriptions() notify.Subscriptions { return subscriptions{s} }

type subscriptions struct{ s *Store }

const subscriptionColumns = "s.id, s.tenant, s.owner, s.version, s.updated, s.sealed, s.kek, s.wrapped, s.channel, s.types, s.status, s.reason, s.position IS NOT NULL, COALESCE(s.position, 0), s.events, s.sent, s.failures, s.beat, s.spoke, COALESCE(s.turn, 0), s.expires"

// subscriptionRow reads what [subscriptionColumns] select.
type subscriptionRow struct {
	x     notify.Subscription
	owner []byte
	types []int16
	beat  int
}

func (r *subscriptionRow) scan() []any {
	x := &r.x
	return []any{&x.ID, &x.Tenant, &r.owner, &x.Version, &x.Updated, &x.Sealed, &x.KEK, &x.Wrapped, &x.Channel, &r.types, &x.Status, &x.Reason,
		&x.Begun, &x.Position, &x.Events, &x.Sent, &x.Failures, &r.beat, &x.Spoke, &x.Turn, &x.Expires}
}

func (r *subscriptionRow) subscription() (notify.Subscription, error) {
	x := r.x
	if copy(x.Owner[:], r.owner) != len(x.Owner) {
		return x, errors.New("postgres: a subscription without an owner")
	}
	x.Types = nil
	for _, t := range r.types {
		x.Types = append(x.Types, fhir.TypeOf(t))
	}
	x.Beat = time.Duration(r.beat) * time.Second
	x.Updated, x.Spoke, x.Expires = x.Updated.UTC(), x.Spoke.UTC(), x.Expires.UTC()
	return x, nil
}

func codesOf(types []fhir.ResourceType) []int16 {
	out := make([]int16, len(types))
	for i, t := range types {
		out[i] = t.Code()
	}
	return out
}

// Add implements [notify.Subscriptions].
func (n subscriptions) Add(ctx context.Context, x notify.Subscription, most int) error {
	return failed(pgx.BeginFunc(ctx, n.s.side, func(tx pgx.Tx) error {
		// One at a time: nobody has more than so many.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "subscription "+strconv.Itoa(int(x.Tenant))+" "+hex.EncodeToString(x.Owner[:])); err != nil {
			return err
		}
		var have int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM notify.subscription WHERE tenant = $1 AND owner = $2", x.Tenant, x.Owner[:]).Scan(&have); err != nil {
			return err
		}
		if have >= most {
			return outcome.New(outcome.TooCostly, "you have too many Subscriptions: delete those that you do not need")
		}
		_, err := tx.Exec(ctx, `INSERT INTO notify.subscription (id, tenant, owner, version, updated, sealed, kek, wrapped, channel, types, status, reason, beat, spoke, due, lease, expires, since)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $5, $5, $15, $5)`,
			x.ID, x.Tenant, x.Owner[:], x.Version, x.Updated, x.Sealed, x.KEK, x.Wrapped, string(x.Channel), codesOf(x.Types), string(x.Status), string(x.Reason), int(x.Beat/time.Second), x.Spoke, x.Expires)
		return err
	}))
}

// Replace implements [notify.Subscriptions]. Its position is kept as long as the changes behind it are.
func (n subscriptions) Replace(ctx context.Context, x notify.Subscription) error {
	tag, err := n.s.side.Exec(ctx, `UPDATE notify.subscription SET version = $5, updated = $6, sealed = $7, kek = $8, wrapped = $9, channel = $10, types = $11,
 position = CASE WHEN status = 'off' OR $12::text = 'off' THEN NULL ELSE position END, barrier = CASE WHEN status = 'off' OR $12::text = 'off' THEN NULL ELSE barrier END,
 since = CASE WHEN status = $12 THEN since ELSE $6 END, status = $12, reason = $13, beat = $14, expires = $15, failures = 0, due = $6, lease = $6, turn = nextval('notify.turn')
WHERE id = $1 AND tenant = $2 AND owner = $3 AND version = $4`, x.ID, x.Tenant, x.Owner[:], x.Version-1,
		x.Version, x.Updated, x.Sealed, x.KEK, x.Wrapped, string(x.Channel), codesOf(x.Types), string(x.Status), string(x.Reason), int(x.Beat/time.Second), x.Expires)
	if err == nil && tag.RowsAffected() != 1 {
		return outcome.New(outcome.Conflict, "the resource was changed at the same moment: read it and try again")
	}
	return failed(err)
}

// Owned implements [notify.Subscriptions].
func (n subscriptions) Owned(ctx context.Context, tenant int32, owner [32]byte, id string) (out []notify.Subscription, err error) {
	row := &subscriptionRow{}
	err = forEach(ctx, n.s.side, "SELECT "+subscriptionColumns+" FROM notify.subscription s WHERE s.tenant = $1 AND s.owner = $2 AND ($3 = '' OR s.id::text = $3) ORDER BY s.updated, s.id",
		[]any{tenant, owner[:], id}, row.scan(), func() error {
			x, err := row.subscription()
			out = append(out, x)
			return err
		})
	return out, failed(err)
}

// Remove implements [notify.Subscriptions].
func (n subscriptions) Remove(ctx context.Context, tenant int32, owner [32]byte, id string) error {
	tag, err := n.s.side.Exec(ctx, "DELETE FROM notify.subscription WHERE tenant = $1 AND owner = $2 AND id::text = $3", tenant, owner[:], id)
	if err == nil && tag.RowsAffected() != 1 {
		return errNotFound
	}
	return failed(err)
}

// sequencing is the lock of whoever gives positions.
const sequencing = "SELECT pg_advisory_xact_lock(hashtextextended('notify.change', 0))"

// Sequence implements [notify.Subscriptions].
func (n subscriptions) Sequence(ctx context.Context) error {
	return failed(pgx.BeginFunc(ctx, n.s.side, func(tx pgx.Tx) error { return sequence(ctx, tx) }))
}

// sequence gives positions, one process at a time: what is visible after the lock is had was
// committed, and so has everything that it follows.
func sequence(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, sequencing); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `WITH p AS (DELETE FROM notify.pending RETURNING *)
INSERT INTO notify.change (tenant, type, id, pk, version, deleted) SELECT tenant, type, id, pk, version, deleted FROM p ORDER BY seq`)
	return err
}

// Take implements [notify.Subscriptions]. Turns that came to nothing do not count: what is hidden must
// not tell by the order in which one client's subscriptions are served.
func (n subscriptions) Take(ctx context.Context, c notify.Channel, lease time.Duration) (notify.Subscription, bool, error) {
	return n.take(ctx, lease, "o.channel = $3 AND "+waits, string(c))
}

// waits is the condition that a subscription has something to do.
const waits = `o.status IN ('requested', 'active') AND o.due <= $1 AND (o.expires <= $1 OR o.status = 'requested' OR o.sent < o.events OR o.position IS NULL
 OR o.beat > 0 AND o.spoke + o.beat * interval '1 second' <= $1
 OR EXISTS (SELECT FROM notify.change c WHERE c.tenant = o.tenant AND c.position > o.position AND c.type = ANY (o.types)))`

// TakeOne implements [notify.Subscriptions].
func (n subscriptions) TakeOne(ctx context.Context, id string, greet bool, lease time.Duration) (notify.Subscription, bool, error) {
	if greet {
		return n.take(ctx, lease, "o.id::text = $3 AND o.status IN ('requested', 'active')", id)
	}
	return n.take(ctx, lease, "o.id::text = $3 AND "+waits, id)
}

// Bind implements [notify.Subscriptions].
func (n subscriptions) Bind(ctx context.Context, digest [32]byte, ids []string, until time.Time) error {
	_, err := n.s.side.Exec(ctx, "INSERT INTO notify.binding (digest, subscriptions, until) VALUES ($1, $2::text[]::uuid[], $3)", digest[:], ids, until)
	return failed(err)
}

// Bound implements [notify.Subscriptions].
func (n subscriptions) Bound(ctx context.Context, digest [32]byte) (ids []string, until time.Time, err error) {
	err = n.s.side.QueryRow(ctx, "SELECT subscriptions::text[], until FROM notify.binding WHERE digest = $1 AND until > $2", digest[:], n.s.now().UTC()).Scan(&ids, &until)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, until, errNotFound
	}
	return ids, until, failed(err)
}

func (n subscriptions) take(ctx context.Context, lease time.Duration, which string, arg any) (notify.Subscription, bool, error) {
	now := n.s.now().UTC()
	row := &subscriptionRow{}
	err := n.s.side.QueryRow(ctx, `UPDATE notify.subscription s SET turn = nextval('notify.turn'), lease = $2
FROM (SELECT o.id FROM notify.subscription o WHERE o.lease <= $1 AND `+which+` ORDER BY o.spoke, o.updated, o.id LIMIT 1 FOR UPDATE SKIP LOCKED) AS n
WHERE s.id = n.id RETURNING `+subscriptionColumns, now, now.Add(lease), arg).Scan(row.scan()...)
	if errors.Is(err, pgx.ErrNoRows) {
		return notify.Subscription{}, false, nil
	}
	if err != nil {
		return notify.Subscription{}, false, failed(err)
	}
	x, err := row.subscription()
	return x, err == nil, failed(err)
}

// heldTurn is the condition that a turn is not over; its arguments are $1 and $2.
const heldTurn = "id = $1 AND turn = $2"

// turned is the fate of what goes by a turn.
func turned(rows int64, err error) error {
	if err == nil && rows != 1 {
		return notify.ErrOver
	}
	if errors.Is(err, notify.ErrOver) {
		return err
	}
	return failed(err)
}

// Begin implements [notify.Subscriptions]. A transaction that looked for subscriptions before
// this one was there has a number below the barrier.
func (n subscriptions) Begin(ctx context.Context, x notify.Subscription) (position int64, ready bool, err error) {
	err = pgx.BeginFunc(ctx, n.s.side, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE notify.subscription SET barrier = COALESCE(barrier, pg_snapshot_xmax(pg_current_snapshot())::text::bigint) WHERE "+heldTurn, x.ID, x.Turn)
		if err != nil || tag.RowsAffected() != 1 {
			return turned(tag.RowsAffected(), err)
		}
		return nil
	})
	if err != nil {
		return 0, false, turned(1, err)
	}
	err = pgx.BeginFunc(ctx, n.s.side, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= barrier FROM notify.subscription WHERE "+heldTurn, x.ID, x.Turn).Scan(&ready); err != nil || !ready {
			return err
		}
		if err := sequence(ctx, tx); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, "UPDATE notify.subscription SET position = (SELECT COALESCE(max(position), 0) FROM notify.change) WHERE "+heldTurn+" RETURNING position", x.ID, x.Turn).Scan(&position)
		if errors.Is(err, pgx.ErrNoRows) {
			return notify.ErrOver
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = notify.ErrOver
	}
	return position, ready && err == nil, turned(1, err)
}

// Changes implements [notify.Subscriptions].
func (n subscriptions) Changes(ctx context.Context, x notify.Subscription, after int64, most int) (out []notify.Change, err error) {
	var c notify.Change
	var t int16
	err = forEach(ctx, n.s.side, "SELECT position, type, id, pk, version, deleted FROM notify.change WHERE tenant = $1 AND position > $2 AND type = ANY ($3::smallint[]) ORDER BY position LIMIT $4",
		[]any{x.Tenant, after, codesOf(x.Types), most}, []any{&c.Position, &t, &c.ID, &c.Row, &c.Version, &c.Deleted}, func() error {
			c.Type = fhir.TypeOf(t)
			out = append(out, c)
			return nil
		})
	return out, failed(err)
}

// Told implements [notify.Subscriptions].
func (n subscriptions) Told(ctx context.Context, x notify.Subscription, rows []int64) (map[int64]bool, error) {
	out := map[int64]bool{}
	var row int64
	err := forEach(ctx, n.s.side, "SELECT DISTINCT pk FROM notify.event WHERE subscription = $1 AND pk = ANY ($2::bigint[])", []any{x.ID, rows}, []any{&row}, func() error { out[row] = true; return nil })
	return out, failed(err)
}

// Number implements [notify.Subscriptions].
func (n subscriptions) Number(ctx context.Context, x notify.Subscription, position int64, events []notify.Event, lease time.Duration) error {
	return turned(1, pgx.BeginFunc(ctx, n.s.side, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE notify.subscription SET position = $3, events = events + $4, lease = $7 WHERE "+heldTurn+" AND position = $5 AND events = $6", x.ID, x.Turn, position, len(events), x.Position, x.Events, n.s.now().UTC().Add(lease))
		if err != nil || tag.RowsAffected() != 1 {
			return turned(tag.RowsAffected(), err)
		}
		rows := make([][]any, len(events))
		for i, e := range events {
			rows[i] = []any{x.ID, x.Events + int64(i) + 1, e.Type.Code(), string(e.ID), e.Row, int32(e.Version), e.At}
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"notify", "event"}, []string{"subscription", "number", "type", "id", "pk", "version", "at"}, pgx.CopyFromRows(rows))
		return err
	}))
}

// List implements [notify.Subscriptions].
func (n subscriptions) List(ctx context.Context, x notify.Subscription, from, to int64, most int) (out []notify.Event, err error) {
	var e notify.Event
	var t int16
	err = forEach(ctx, n.s.side, "SELECT number, type, id, pk, version, at FROM notify.event WHERE subscription = $1 AND number BETWEEN $2 AND $3 ORDER BY number LIMIT $4",
		[]any{x.ID, from, to, most}, []any{&e.Number, &t, &e.ID, &e.Row, &e.Version, &e.At}, func() error {
			e.Type, e.At = fhir.TypeOf(t), e.At.UTC()
			out = append(out, e)
			return nil
		})
	return out, failed(err)
}

// Delivered implements [notify.Subscriptions].
func (n subscriptions) Delivered(ctx context.Context, x notify.Subscription, sent int64, status notify.Status) error {
	now := n.s.now().UTC()
	tag, err := n.s.side.Exec(ctx, "UPDATE notify.subscription SET sent = $3, since = CASE WHEN status = $4 THEN since ELSE $5 END, status = $4, failures = 0, spoke = $5, due = $5, lease = $5 WHERE "+heldTurn, x.ID, x.Turn, sent, string(status), now)
	return turned(tag.RowsAffected(), err)
}

// Undelivered implements [notify.Subscriptions].
func (n subscriptions) Undelivered(ctx context.Context, x notify.Subscription, due time.Time) error {
	tag, err := n.s.side.Exec(ctx, "UPDATE notify.subscription SET failures = failures + 1, due = $3, lease = $4 WHERE "+heldTurn, x.ID, x.Turn, due, n.s.now().UTC())
	return turned(tag.RowsAffected(), err)
}

// Turned implements [notify.Subscriptions].
func (n subscriptions) Turned(ctx context.Context, x notify.Subscription, status notify.Status, why notify.Reason) error {
	now := n.s.now().UTC()
	tag, err := n.s.side.Exec(ctx, "UPDATE notify.subscription SET status = $3, reason = $4, since = $5, lease = $5 WHERE "+heldTurn, x.ID, x.Turn, string(status), string(why), now)
	return turned(tag.RowsAffected(), err)
}

// Yield implements [notify.Subscriptions].
func (n subscriptions) Yield(ctx context.Context, x notify.Subscription, due time.Time) error {
	tag, err := n.s.side.Exec(ctx, "UPDATE notify.subscription SET due = $3, lease = $4 WHERE "+heldTurn, x.ID, x.Turn, due, n.s.now().UTC())
	return turned(tag.RowsAffected(), err)
}

// Sweep implements [notify.Subscriptions].
func (n subscriptions) Sweep(ctx context.Context, before time.Time) error {
	for _, sql := range []string{
		"UPDATE notify.subscription SET status = 'off', reason = 'stale', position = NULL, barrier = NULL WHERE status = 'error' AND since < $1 OR channel = 'websocket' AND status <> 'off' AND spoke < $1",
		"DELETE FROM notify.binding WHERE until < $1",
		"DELETE FROM notify.event e USING notify.subscription s WHERE s.id = e.subscription AND e.number <= s.sent AND e.at < $1",
	} {
		if _, err := n.s.side.Exec(ctx, sql, before); err != nil {
			return failed(err)
		}
	}
	// Whom none of the changes concerns has looked at them all.
	_, err := n.s.side.Exec(ctx, `UPDATE notify.subscription s SET position = m.position FROM (SELECT max(position) AS position FROM notify.change) AS m
WHERE s.status <> 'off' AND s.position < m.position AND NOT EXISTS (SELECT FROM notify.change c WHERE c.tenant = s.tenant AND c.position > s.position AND c.type = ANY (s.types))`)
	if err != nil {
		return failed(err)
	}
	// A subscription that has not begun needs none that are here.
	_, err = n.s.side.Exec(ctx, `DELETE FROM notify.change c WHERE NOT EXISTS (SELECT FROM notify.subscription s WHERE s.tenant = c.tenant AND s.status <> 'off' AND s.position < c.position)`)
	return failed(err)
}
