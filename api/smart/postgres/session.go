package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/identity"
)

const sessionColumns = "id::text, account::text, signed_in, methods, provider, practices, idle, absolute, client"

func scanSession(row pgx.CollectableRow) (v identity.Session, err error) {
	err = row.Scan(&v.ID, &v.Account, &v.SignedIn, &v.Methods, &v.Provider, &v.Practices, &v.Idle, &v.Absolute, &v.Client)
	return v, err
}

// OpenSession is false if the account is disabled: a trigger refuses the row.
func (s *Store) OpenSession(ctx context.Context, v identity.Session, hash []byte, subject, external string) (bool, error) {
	practices := v.Practices
	if v.Provider != "" && practices == nil {
		practices = []string{}
	}
	if v.Provider == "" {
		practices = nil
	}
	return s.one(ctx, `INSERT INTO identity.session (id, hash, account, signed_in, methods, provider, subject, sid, practices, idle, absolute, client)
VALUES ($1::uuid, $2, $3::uuid, $4, $5, $6, $7, $8, $9, least($10::timestamptz, $11), $11, $12)`,
		v.ID, hash, v.Account, v.SignedIn, v.Methods, v.Provider, subject, external, practices, v.Idle, v.Absolute, v.Client)
}

// idleSteps is how finely the idle limit is kept: a page with many requests moves it once.
const idleSteps = 10 * time.Second

// SessionByToken finds a session that has not ended, and moves its idle limit.
func (s *Store) SessionByToken(ctx context.Context, hash []byte, now, idle time.Time) (identity.Session, bool, error) {
	rows, err := s.pool.Query(ctx, "SELECT "+sessionColumns+" FROM identity.session WHERE hash = $1 AND idle > $2 AND absolute > $2", hash, now)
	if err != nil {
		return identity.Session{}, false, private(err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, scanSession)
	if errors.Is(err, pgx.ErrNoRows) {
		return identity.Session{}, false, nil
	}
	if err != nil {
		return identity.Session{}, false, private(err)
	}
	if idle.After(v.Absolute) {
		idle = v.Absolute
	}
	if idle.Sub(v.Idle) < idleSteps {
		return v, true, nil
	}
	ok, err := s.one(ctx, "UPDATE identity.session SET idle = greatest(idle, $2) WHERE hash = $1 AND idle > $3", hash, idle, now)
	v.Idle = idle
	return v, ok, err
}

// Sessions lists the sessions of an account, the newest first.
func (s *Store) Sessions(ctx context.Context, account string, now time.Time) ([]identity.Session, error) {
	rows, err := s.pool.Query(ctx, "SELECT "+sessionColumns+" FROM identity.session WHERE account = $1::uuid AND idle > $2 AND absolute > $2 ORDER BY signed_in DESC, id", account, now)
	if err != nil {
		return nil, private(err)
	}
	list, err := pgx.CollectRows(rows, scanSession)
	return list, private(err)
}

// EndSession is true for whoever ended it.
func (s *Store) EndSession(ctx context.Context, account, id string) (bool, error) {
	return s.one(ctx, "DELETE FROM identity.session WHERE account = $1::uuid AND id::text = $2", account, id)
}

// EndSessions ends all of an account but one.
func (s *Store) EndSessions(ctx context.Context, account, but string) ([]string, error) {
	rows, err := s.pool.Query(ctx, "DELETE FROM identity.session WHERE account = $1::uuid AND id::text <> $2 RETURNING id::text", account, but)
	if err != nil {
		return nil, private(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, private(err)
}

// EndProvided ends those that an identity provider opened.
func (s *Store) EndProvided(ctx context.Context, issuer, subject, sid string) ([]identity.Ended, error) {
	return s.over(ctx, "DELETE FROM identity.session WHERE provider = $1 AND provider <> '' AND ($2 = '' OR subject = $2) AND ($3 = '' OR sid = $3) AND ($2 <> '' OR $3 <> '') RETURNING account::text, id::text", issuer, subject, sid)
}

func (s *Store) over(ctx context.Context, sql string, args ...any) ([]identity.Ended, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, private(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e identity.Ended, err error) {
		err = row.Scan(&e.Account, &e.Session)
		return e, err
	})
	return list, private(err)
}

// Sweep removes what has expired.
func (s *Store) Sweep(ctx context.Context, now time.Time) ([]identity.Ended, error) {
	for _, sql := range []string{
		"DELETE FROM identity.pending WHERE expires <= $1",
		"DELETE FROM identity.attempt WHERE until <= $1 AND next <= $1",
		"DELETE FROM identity.device WHERE expires <= $1",
	} {
		if _, err := s.exec(ctx, sql, now); err != nil {
			return nil, err
		}
	}
	return s.over(ctx, "DELETE FROM identity.session WHERE idle <= $1 OR absolute <= $1 RETURNING account::text, id::text", now)
}
