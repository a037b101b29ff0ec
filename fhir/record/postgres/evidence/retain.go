package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/audit/trail"
)

// Retention says what need not be kept any longer.
type Retention struct {
	// Options connect; the login must be a member of RoleOwner, too.
	Options
	Before time.Time // months that ended by then are dropped
	// Note adds the months to the trail, before they go. It is not called where there are none.
	Note func(ctx context.Context, months []trail.Month) error
	// Dry says that nothing is changed.
	Dry bool
}

// Retain drops whole months: it notes them in the trail, signs a checkpoint that says so and how each of them ended, and then drops the
// tables. The rest of the trail stays verifiable. Stopped, it goes on where it was when it is called again. It gives the months that it dropped.
func Retain(ctx context.Context, r Retention) ([]trail.Head, error) {
	s, err := New(ctx, r.Options)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	owner, err := connect(ctx, r.URL, RoleOwner, 1)
	if err != nil {
		return nil, err
	}
	defer owner.Close()
	if err := s.settleAll(ctx); err != nil {
		return nil, err
	}
	heads, months, err := s.ended(ctx, r.Before)
	if err != nil || r.Dry {
		return heads, err
	}
	if len(months) > 0 {
		if err := r.Note(ctx, months); err != nil {
			return nil, err
		}
		if err := s.settleAll(ctx); err != nil {
			return nil, err
		}
		// Only the months that were noted: what is sealed into one of them meanwhile goes with it.
		if err := s.drop(ctx, months, r.Before); err != nil {
			return nil, err
		}
	}
	return heads, s.remove(ctx, owner, r.Before)
}

// settleAll seals all that there is, in turn with the sealers of servers.
func (s *Sealer) settleAll(ctx context.Context) error {
	for begun := time.Now(); ; {
		hi, err := handed(ctx, s.pool)
		if err != nil {
			return err
		}
		if err := s.Seal(ctx, true); err != nil {
			return err
		}
		through, err := sealed(ctx, s.pool)
		// Numbers that came to nothing leave no link behind.
		if err != nil || through >= hi || s.done >= hi {
			return err
		}
		if time.Since(begun) > time.Minute {
			return errBusy
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ended are the months that were over before that moment, as the last checkpoint has them.
func (s *Sealer) ended(ctx context.Context, before time.Time) (heads []trail.Head, months []trail.Month, err error) {
	if err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return s.load(ctx, tx) }); err != nil {
		return nil, nil, private(err)
	}
	for name, h := range s.state.heads {
		m, err := trail.ParseMonth(name)
		if err != nil {
			return nil, nil, err
		}
		if !m.Next().After(before) {
			heads, months = append(heads, h), append(months, m)
		}
	}
	slices.SortFunc(months, func(a, b trail.Month) int { return a.Compare(b.Time) })
	slices.SortFunc(heads, func(a, b trail.Head) int {
		if a.Month < b.Month {
			return -1
		}
		return 1
	})
	return heads, months, nil
}

// drop signs that the months end.
func (s *Sealer) drop(ctx context.Context, months []trail.Month, before time.Time) error {
	var after func()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockSealing)); err != nil {
			return err
		}
		// Checkpoints of before the first that names all months and is as old as what ends go, too.
		var first int64
		if err := tx.QueryRow(ctx, "SELECT COALESCE(max(number), 0) FROM audit.checkpoint WHERE number % $1 = 0 AND at < $2", wholeEvery, before).Scan(&first); err != nil {
			return err
		}
		if err := s.load(ctx, tx); err != nil {
			return err
		}
		s.state.first = max(s.state.first, first)
		for more := true; more; {
			var err error
			if more, after, err = s.step(ctx, tx, true, months); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("evidence: that months end could not be signed: %w", private(err))
	}
	if after == nil {
		return errors.New("evidence: that months end could not be signed")
	}
	after()
	return nil
}

// remove drops what the checkpoints say has ended, what an earlier call did not come to included.
func (s *Sealer) remove(ctx context.Context, owner querier, before time.Time) error {
	rows, err := s.pool.Query(ctx, "SELECT DISTINCT month FROM audit.link WHERE month < $1", before)
	if err != nil {
		return private(err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return private(err)
	}
	var done any
	for _, at := range stored {
		m := trail.MonthOf(at)
		if !s.state.gone(m) {
			continue
		}
		if err := owner.QueryRow(ctx, "SELECT audit.drop_month($1)::text", m.Time).Scan(&done); err != nil {
			return fmt.Errorf("evidence: %s could not be dropped: %w", m, private(err))
		}
	}
	if err := owner.QueryRow(ctx, "SELECT audit.drop_checkpoints($1)::text", s.state.first).Scan(&done); err != nil {
		return fmt.Errorf("evidence: old checkpoints could not be dropped: %w", private(err))
	}
	return nil
}
