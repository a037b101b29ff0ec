package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/api/smart"
)

// EndGrants implements smart.Store.
func (s *Store) EndGrants(ctx context.Context, e smart.End, now time.Time) ([]string, error) {
	var where string
	var args []any
	var keys []string
	switch {
	case e.Grant != "":
		where, args = `g.id::text = $2`, []any{e.Grant}
		keys = []string{e.Grant} // also where there is no row: a backend service's
	case e.Account != "":
		where, args = `g.account::text = $2`, []any{e.Account}
	case e.Session != "":
		where, args = `g.session::text = $2 AND g.keep <> 'offline'`, []any{e.Session}
	case e.App != "" && e.Practice != "":
		where, args = `g.app = $2 AND g.practice = $3`, []any{e.App, e.Practice}
		keys = []string{smart.AppKey(e.App, e.Practice)}
	case e.App != "":
		where, args = `g.app = $2`, []any{e.App}
		keys = []string{smart.AppKey(e.App, "")}
	default:
		return nil, errors.New("postgres: nothing is named that ends")
	}
	err := s.within(ctx, func(tx pgx.Tx) error {
		if err := withdraw(ctx, tx, e, now); err != nil {
			return err
		}
		args = append([]any{now}, args...)
		if _, err := tx.Exec(ctx, `UPDATE identity.app_grant g SET ended = $1 WHERE `+where+` AND g.ended IS NULL`, args...); err != nil {
			return err //nolint:wrapcheck // within makes it private
		}
		// Also what a trigger ended before, which this process may not know.
		rows, err := tx.Query(ctx, `SELECT g.id::text FROM identity.app_grant g WHERE `+where+` AND g.ended > $1::timestamptz - interval '15 minutes'`, args...)
		if err != nil {
			return err //nolint:wrapcheck // within makes it private
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err //nolint:wrapcheck // within makes it private
		}
		keys = append(keys, ids...)
		_, err = tx.Exec(ctx, `INSERT INTO identity.ended (key, at) SELECT DISTINCT k, $2::timestamptz FROM unnest($1::text[]) k ON CONFLICT (key) DO UPDATE SET at = excluded.at`, keys, now)
		return err //nolint:wrapcheck // within makes it private
	})
	return keys, err
}

// withdraw takes an app out of use, everywhere or in one practice.
func withdraw(ctx context.Context, tx pgx.Tx, e smart.End, now time.Time) error {
	var err error
	switch {
	case e.App == "":
	case e.Practice != "":
		_, err = tx.Exec(ctx, `DELETE FROM identity.app_approval WHERE app = $1 AND practice = $2`, e.App, e.Practice)
	default:
		_, err = tx.Exec(ctx, `UPDATE identity.app SET withdrawn = $2 WHERE id = $1 AND withdrawn IS NULL`, e.App, now)
	}
	return err //nolint:wrapcheck // within makes it private
}

// Ended implements smart.Store. What a trigger ended bears the clock of the database.
func (s *Store) Ended(ctx context.Context, since time.Time) ([]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT key FROM identity.ended WHERE at > $1`, since)
	if err != nil {
		return nil, private(err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return keys, private(err)
}

const (
	// endedKept is how long an end is kept; processes ask for less.
	endedKept = time.Hour
	// usedKept is how long a refresh token that was used is remembered: within that time its reuse ends the grant.
	usedKept = 30 * 24 * time.Hour
	// grantKept is how long a grant is kept beyond its end, for what refers to it.
	grantKept = 24 * time.Hour
)

// SweepGrants implements smart.Store.
func (s *Store) SweepGrants(ctx context.Context, now time.Time) error {
	for _, x := range []struct {
		sql    string
		before time.Time
	}{
		{`DELETE FROM identity.ticket WHERE until <= $1`, now},
		{`DELETE FROM identity.assertion WHERE until <= $1`, now},
		{`DELETE FROM identity.ended WHERE at <= $1`, now.Add(-endedKept)},
		{`DELETE FROM identity.refresh_token WHERE used <= $1`, now.Add(-usedKept)},
		{`DELETE FROM identity.app_grant WHERE until <= $1 OR ended <= $1 OR NOT redeemed AND created <= $1`, now.Add(-grantKept)},
		{`DELETE FROM identity.signing_key WHERE until <= $1`, now.Add(-grantKept)},
	} {
		if _, err := s.exec(ctx, x.sql, x.before); err != nil {
			return err
		}
	}
	return nil
}
