package evidence

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz/audit/forward"
	"github.com/cloister-health/cloister/authz/audit/trail"
)

// Forwarder tells one receiver of what is sealed, in the order of the numbers, at least once each. How far it has come is kept in the
// database; no request waits for it. Of several of a receiver, one works at a time.
type Forwarder struct {
	Name string // of the receiver: the position is kept by it
	To   forward.Receiver
	Log  *slog.Logger
	// Every is how often it looks for something new; after a failure it waits longer and longer, up to a minute.
	Every time.Duration

	pool *pgxpool.Pool
}

// Connect opens the database.
func (f *Forwarder) Connect(ctx context.Context, url string) (err error) {
	f.Every = cmp.Or(f.Every, time.Second)
	f.pool, err = connect(ctx, url, RoleSeal, 2)
	return err
}

// Close gives the connections back.
func (f *Forwarder) Close() { f.pool.Close() }

// Run forwards until ctx ends.
func (f *Forwarder) Run(ctx context.Context) {
	wait := f.Every
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		err := f.Forward(ctx)
		switch {
		case err == nil:
			wait = f.Every
		case ctx.Err() == nil:
			f.Log.Error("the audit trail could not be forwarded; it goes on from there", "receiver", f.Name, "error", err)
			wait = min(2*wait, time.Minute)
		}
	}
}

// delivery is how many rows go at a time.
const delivery = 500

// lockForwarding is the class of the advisory locks of forwarders.
const lockForwarding = 471102600

// Forward sends what is new, unless another forwarder of the receiver is at it.
func (f *Forwarder) Forward(ctx context.Context) error {
	// The lock is the session's: no transaction stays open while the receiver takes its time.
	conn, err := f.pool.Acquire(ctx)
	if err != nil {
		return private(err)
	}
	defer conn.Release()
	var held bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, hashtext($2))", lockForwarding, f.Name).Scan(&held); err != nil || !held {
		return private(err)
	}
	defer func() {
		if _, err := conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1, hashtext($2))", lockForwarding, f.Name); err != nil {
			_ = conn.Conn().Close(context.WithoutCancel(ctx)) // the lock ends with it
		}
	}()
	through, err := sealed(ctx, conn)
	if err != nil {
		return err
	}
	// A receiver that is new hears of what comes from now on.
	var at int64
	err = conn.QueryRow(ctx, "SELECT seq FROM audit.forwarded WHERE receiver = $1", f.Name).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		at = through
		_, err = conn.Exec(ctx, "INSERT INTO audit.forwarded (receiver, seq, at) VALUES ($1, $2, now())", f.Name, at)
	}
	if err != nil {
		return private(err)
	}
	for at < through {
		list, next, err := messages(ctx, conn, at, through)
		if err != nil {
			return private(err)
		}
		if len(list) > 0 {
			err := f.To.Send(ctx, list)
			if forward.Rejected(err) {
				f.Log.Error("the receiver rejects a part of the audit trail for good", "receiver", f.Name, "after", at, "through", next)
			} else if err != nil {
				return err
			}
		}
		if _, err := conn.Exec(ctx, "UPDATE audit.forwarded SET seq = $2, at = now() WHERE receiver = $1", f.Name, next); err != nil {
			return private(err)
		}
		at = next
	}
	return nil
}

// what goes out of each table; nothing else is read.
var forwarded = map[trail.Kind]string{
	trail.Event:     "SELECT seq, id::text, at, interaction, tenant, outcome, type, client, purpose, policy, '', cardinality(entities) FROM audit.event",
	trail.Security:  "SELECT seq, id::text, at, kind, tenant, outcome, '', client, '', '', reason, 0 FROM audit.security",
	trail.Downgrade: "SELECT seq, event::text, at, 'downgrade', tenant, '0', '', '', '', rules, '', 1 FROM audit.downgrade",
}

// messages are those of the next rows, and up to which number they are all there are.
func messages(ctx context.Context, db querier, at, through int64) (list []forward.Message, next int64, err error) {
	next = through
	for _, kind := range trail.Kinds {
		m := forward.Message{Kind: kind.String()}
		n := 0
		if err := forEach(ctx, db, forwarded[kind]+" WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3", []any{at, through, delivery}, []any{&m.Seq, &m.ID, &m.At, &m.Name, &m.Practice, &m.Outcome, &m.Type, &m.Client, &m.Purpose, &m.Policy, &m.Reason, &m.Entities}, func() error {
			m.At = m.At.UTC()
			list, n = append(list, m), n+1
			return nil
		}); err != nil {
			return nil, 0, err
		}
		if n == delivery {
			next = min(next, m.Seq)
		}
	}
	list = slices.DeleteFunc(list, func(m forward.Message) bool { return m.Seq > next })
	slices.SortFunc(list, func(a, b forward.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	return list, next, nil
}
