package evidence

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz/audit/trail"
)

// Options of a [Sealer].
type Options struct {
	URL  string      // connection string of a login that is a member of RoleSeal
	Keys *trail.Keys // the first is private
	Now  func() time.Time
	// Outside is a file that gets a line for each checkpoint; "" for none.
	Outside string
	Log     *slog.Logger // or nil
	// Every is how often rows are sealed, SignEvery and SignRows after what time or how many rows a checkpoint is signed. 0 means the default.
	Every, SignEvery time.Duration
	SignRows         int64
}

// Defaults of [Options].
const (
	DefaultEvery     = time.Second
	DefaultSignEvery = time.Minute
	DefaultSignRows  = 10_000
)

// Sealer chains rows and signs checkpoints. Any number of them may run: one works at a time, and the end of one is nobody's loss.
type Sealer struct {
	Options
	pool *pgxpool.Pool

	prepared time.Time // when the months ahead were made
	done     int64     // up to where this sealer knows everything to be sealed and signed
	own      []mine    // links that it made last
	ownSign  trail.Signed
	ownCheck int64 // number of ownSign
	suspects []trail.Suspect
	state    state
}

// mine is a link that must still be there.
type mine struct {
	month trail.Month
	n     int64
	hash  trail.Digest
}

// New connects.
func New(ctx context.Context, o Options) (*Sealer, error) {
	if !o.Keys.CanSign() {
		return nil, errors.New("evidence: the key set of the audit trail holds no private key in its first place")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Every, o.SignEvery, o.SignRows = cmp.Or(o.Every, DefaultEvery), cmp.Or(o.SignEvery, DefaultSignEvery), cmp.Or(o.SignRows, DefaultSignRows)
	if err := probe(o.Outside); err != nil {
		return nil, err
	}
	pool, err := connect(ctx, o.URL, RoleSeal, 2)
	if err != nil {
		return nil, err
	}
	return &Sealer{Options: o, pool: pool, done: math.MinInt64}, nil
}

// ReachedByLogin reports whether the login could change the trail, whatever role it works under.
func (s *Sealer) ReachedByLogin(ctx context.Context) (reaches bool, err error) {
	err = s.pool.QueryRow(ctx, "SELECT rolsuper OR rolcreaterole OR pg_has_role(oid, $1, 'MEMBER') FROM pg_roles WHERE rolname = session_user", RoleOwner).Scan(&reaches)
	return reaches, private(err)
}

// Close gives the connections back. What is not signed yet, another sealer signs, or the next start.
func (s *Sealer) Close() { s.pool.Close() }

// Run seals until ctx ends, and then signs what there is.
func (s *Sealer) Run(ctx context.Context) {
	t := time.NewTicker(s.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			s.finish(context.WithoutCancel(ctx))
			return
		case <-t.C:
			if err := s.Seal(ctx, false); err != nil && ctx.Err() == nil {
				s.Log.Error("the audit trail could not be sealed", "error", err)
			}
		}
	}
}

// finish signs what there is.
func (s *Sealer) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.Seal(ctx, true); err != nil {
		s.Log.Warn("the audit trail could not be signed at the end; the next start does it", "error", err)
	}
}

// lockSealing is the advisory lock of whoever seals.
const lockSealing = 4711026002

// batch is how many rows of a table are sealed in one transaction at most.
const batch = 2000

// errBusy says that a transaction which writes to the trail has been open for long.
var errBusy = errors.New("evidence: a transaction that writes to the audit trail does not end; nothing after it can be sealed")

// Seal seals what was committed, unless another sealer is at it, and signs a checkpoint when
// one is due, or in any case.
func (s *Sealer) Seal(ctx context.Context, sign bool) error {
	if now := s.Now(); now.Sub(s.prepared) > 24*time.Hour || now.Before(s.prepared) {
		if _, err := s.pool.Exec(ctx, "SELECT audit.prepare()"); err != nil {
			return fmt.Errorf("evidence: the months ahead cannot be made: %w", private(err))
		}
		s.prepared = now
	}
	hi, err := handed(ctx, s.pool)
	if err != nil {
		return err
	}
	if hi == s.done && len(s.suspects) == 0 {
		return nil
	}
	for {
		more := false
		var after func()
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
			more, after, err = s.step(ctx, tx, sign, nil)
			return err
		})
		if err != nil {
			return private(err)
		}
		if after != nil {
			after()
		}
		if !more {
			return nil
		}
	}
}

// step seals one batch and, where there is none left, signs. What is to be done after the commit is after.
func (s *Sealer) step(ctx context.Context, tx pgx.Tx, sign bool, dropped []trail.Month) (more bool, after func(), err error) {
	var held bool
	if err := tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", int64(lockSealing)).Scan(&held); err != nil || !held {
		return false, nil, err
	}
	if err := errors.Join(s.load(ctx, tx), s.audit(ctx, tx)); err != nil {
		return false, nil, err
	}
	last, err := sealed(ctx, tx)
	if err != nil {
		return false, nil, err
	}
	hi, err := handed(ctx, tx)
	if err != nil {
		return false, nil, err
	}
	var links []mine
	if hi > last {
		if err := settled(ctx, tx); err != nil {
			return false, nil, err
		}
		if links, more, err = s.seal(ctx, tx, last, hi); err != nil {
			return false, nil, err
		}
	}
	if more && s.state.number > 0 { // before the first checkpoint nothing is evidence of anything
		return true, func() { s.own = links }, nil
	}
	written, err := s.sign(ctx, tx, sign, dropped)
	if err != nil {
		return false, nil, err
	}
	return more, func() {
		if links != nil {
			s.own = links
		}
		if written != nil {
			s.published(*written)
		}
		if s.state.unsigned == 0 {
			s.done = hi
		}
	}, nil
}

// settled waits until every transaction has ended that might still commit a row with a number that was handed out
// before: each of them holds a lock on a table of the trail that those who insert take, and took it before the number.
func settled(ctx context.Context, tx pgx.Tx) error {
	const writers = `FROM pg_locks WHERE locktype = 'relation' AND granted AND mode = 'RowExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND relation IN ('audit.event'::regclass, 'audit.security'::regclass, 'audit.downgrade'::regclass)`
	var holders []string
	if err := tx.QueryRow(ctx, "SELECT COALESCE(array_agg(DISTINCT virtualtransaction), '{}') "+writers).Scan(&holders); err != nil {
		return err
	}
	wait := 2 * time.Millisecond
	for begun := time.Now(); len(holders) > 0; wait = min(2*wait, 100*time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			return errBusy
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if err := tx.QueryRow(ctx, "SELECT COALESCE(array_agg(DISTINCT virtualtransaction), '{}') "+writers+" AND virtualtransaction = ANY ($1)", holders).Scan(&holders); err != nil {
			return err
		}
	}
	return nil
}

// seal chains rows behind last, up to hi.
func (s *Sealer) seal(ctx context.Context, tx pgx.Tx, last, hi int64) (links []mine, more bool, err error) {
	all, err := tables(ctx, tx)
	if err != nil {
		return nil, false, err
	}
	type sealable struct {
		month trail.Month
		trail.Entry
	}
	var entries []sealable
	through := hi
	for i := range all {
		t := &all[i]
		rows, err := t.read(ctx, tx, "WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3", last, hi, batch)
		if err != nil {
			return nil, false, err
		}
		n := 0
		var seq int64
		for rows.Next() {
			r, values, err := t.scan(rows)
			if err != nil {
				rows.Close()
				return nil, false, err
			}
			e := trail.Entry{Kind: t.kind, Mark: trail.Strange, Seq: r.seq, ID: r.id, Digest: r.digest}
			switch {
			case s.Keys.Wrote(t.layout, values):
				e.Mark = trail.Written
			case r.seq <= 0: // these are asked for once, before any other
				e.Mark = trail.Found
			default:
				s.Log.Error("a row of the audit trail was not written by a server", "table", t.kind.String(), "id", uuid(r.id))
			}
			entries = append(entries, sealable{trail.MonthOf(r.at), e})
			seq, n = r.seq, n+1
		}
		if err := rows.Err(); err != nil {
			return nil, false, err
		}
		if n == batch && seq < hi {
			through, more = min(through, seq), true
		}
	}
	entries = slices.DeleteFunc(entries, func(e sealable) bool { return e.Seq > through })
	slices.SortFunc(entries, func(a, b sealable) int {
		return cmp.Or(a.month.Compare(b.month.Time), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Kind, b.Kind))
	})
	for len(entries) > 0 {
		n := slices.IndexFunc(entries, func(e sealable) bool { return !e.month.Equal(entries[0].month.Time) })
		if n < 0 {
			n = len(entries)
		}
		packed := make([]byte, 0, n*trail.EntrySize)
		for _, e := range entries[:n] {
			packed = e.Append(packed)
		}
		link, err := s.append(ctx, tx, trail.Link{Month: entries[0].month, Through: through, Entries: packed})
		if err != nil {
			return nil, false, err
		}
		links, entries = append(links, link), entries[n:]
	}
	return links, more, nil
}

// append adds a link to the chain of its month.
func (s *Sealer) append(ctx context.Context, tx pgx.Tx, l trail.Link) (mine, error) {
	var prev []byte
	err := tx.QueryRow(ctx, "SELECT n, hash FROM audit.link WHERE month = $1 ORDER BY n DESC LIMIT 1", l.Month.Time).Scan(&l.N, &prev)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return mine{}, err
	}
	copy(l.Prev[:], prev)
	l.N++
	l.At = s.Now().UTC().Truncate(time.Microsecond)
	hash := l.Hash()
	_, err = tx.Exec(ctx, "INSERT INTO audit.link (month, n, at, through, rows, entries, prev, hash, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		l.Month.Time, l.N, l.At, l.Through, l.Rows(), l.Entries, l.Prev[:], hash[:], s.Keys.MacLink(hash))
	return mine{l.Month, l.N, hash}, err
}

// audit looks whether what this sealer wrote last is still there. What is not, the next checkpoint names.
func (s *Sealer) audit(ctx context.Context, tx pgx.Tx) error {
	for _, m := range s.own {
		var hash []byte
		err := tx.QueryRow(ctx, "SELECT hash FROM audit.link WHERE month = $1 AND n = $2", m.month.Time, m.n).Scan(&hash)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if !bytes.Equal(hash, m.hash[:]) && !s.state.gone(m.month) {
			s.suspect(trail.Suspect{Month: m.month.String(), N: m.n})
		}
	}
	s.own = nil
	if s.ownCheck < max(s.state.first, 1) {
		return nil // none, or retention ended it
	}
	var have trail.Signed
	err := tx.QueryRow(ctx, "SELECT body, signature FROM audit.checkpoint WHERE number = $1", s.ownCheck).Scan(&have.Body, &have.Signature)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if have.Hash() != s.ownSign.Hash() {
		s.suspect(trail.Suspect{N: s.ownCheck})
	}
	s.ownCheck = 0
	return nil
}

func (s *Sealer) suspect(x trail.Suspect) {
	s.Log.Error("the audit trail was changed from outside: run cloister audit verify", "month", x.Month, "number", x.N)
	s.suspects = append(s.suspects, x)
}
