package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/identity"
)

const pendingColumns = "hash, purpose, coalesce(account::text, ''), email, tenant, data, expires"

func scanPending(row pgx.CollectableRow) (p identity.Pending, err error) {
	err = row.Scan(&p.Hash, &p.Purpose, &p.Account, &p.Email, &p.Tenant, &p.Data, &p.Expires)
	return p, err
}

func (s *Store) pending(ctx context.Context, sql string, args ...any) (identity.Pending, bool, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return identity.Pending{}, false, private(err)
	}
	p, err := pgx.CollectExactlyOneRow(rows, scanPending)
	if errors.Is(err, pgx.ErrNoRows) {
		return identity.Pending{}, false, nil
	}
	return p, err == nil, private(err)
}

// PutPending keeps a step that was begun, in place of one of the same hash.
func (s *Store) PutPending(ctx context.Context, p identity.Pending) error {
	data := p.Data
	if data == nil {
		data = []byte{}
	}
	_, err := s.exec(ctx, `INSERT INTO identity.pending (hash, purpose, account, email, tenant, data, expires) VALUES ($1, $2, nullif($3, '')::uuid, $4, $5, $6, $7)
ON CONFLICT (hash, purpose) DO UPDATE SET account = EXCLUDED.account, email = EXCLUDED.email, tenant = EXCLUDED.tenant, data = EXCLUDED.data, expires = EXCLUDED.expires, tries = 0`,
		p.Hash, p.Purpose, p.Account, p.Email, p.Tenant, data, p.Expires)
	return err
}

// TryPending finds one, and counts.
func (s *Store) TryPending(ctx context.Context, hash []byte, purpose identity.Purpose, most int, now time.Time) (identity.Pending, bool, error) {
	return s.pending(ctx, "UPDATE identity.pending SET tries = tries + 1 WHERE hash = $1 AND purpose = $2 AND tries < $3 AND expires > $4 RETURNING "+pendingColumns, hash, purpose, most, now)
}

// TakePending removes one.
func (s *Store) TakePending(ctx context.Context, hash []byte, purpose identity.Purpose, now time.Time) (identity.Pending, bool, error) {
	return s.pending(ctx, "DELETE FROM identity.pending WHERE hash = $1 AND purpose = $2 AND expires > $3 RETURNING "+pendingColumns, hash, purpose, now)
}

// OpenInvitations lists those to an address, the oldest first.
func (s *Store) OpenInvitations(ctx context.Context, email string, now time.Time) ([]identity.Pending, error) {
	rows, err := s.pool.Query(ctx, "SELECT "+pendingColumns+" FROM identity.pending WHERE email = $1 AND email <> '' AND purpose = 'invitation' AND expires > $2 ORDER BY expires, hash", email, now)
	if err != nil {
		return nil, private(err)
	}
	list, err := pgx.CollectRows(rows, scanPending)
	return list, private(err)
}

// DropPending removes all of a purpose for an account.
func (s *Store) DropPending(ctx context.Context, account string, purpose identity.Purpose) error {
	_, err := s.exec(ctx, "DELETE FROM identity.pending WHERE account = $1::uuid AND purpose = $2", account, purpose)
	return err
}

// attemptSQL counts where the limit allows it, in one statement: of a thousand at a time no more
// than the limit pass. A window that is over begins anew; a delay must have passed; without a delay the count is the limit.
const attemptSQL = `INSERT INTO identity.attempt AS a (key, count, began, next, until)
VALUES ($1, 1, $2::timestamptz, $2::timestamptz, $2::timestamptz + $3::interval)
ON CONFLICT (key) DO UPDATE SET
  count = CASE WHEN a.until <= $2::timestamptz THEN 1 ELSE a.count + 1 END,
  began = CASE WHEN a.until <= $2::timestamptz THEN $2::timestamptz ELSE a.began END,
  until = CASE WHEN a.until <= $2::timestamptz THEN $2::timestamptz + $3::interval ELSE a.until END,
  next = CASE WHEN a.until <= $2::timestamptz OR a.count + 1 < $4::integer OR $5::interval = interval '0' THEN $2::timestamptz
    ELSE $2::timestamptz + least($6::interval, $5::interval * (2::double precision ^ least(a.count + 1 - $4::integer, 30))) END
WHERE a.until <= $2::timestamptz OR CASE WHEN $5::interval = interval '0' THEN a.count < $4::integer ELSE a.next <= $2::timestamptz END`

// Attempt counts an attempt, if the limit allows one now.
func (s *Store) Attempt(ctx context.Context, key []byte, l identity.Limit, now time.Time) (bool, error) {
	return s.one(ctx, attemptSQL, key, now, l.Window, l.Free, l.Base, l.Max)
}

// Forgive takes one attempt back.
func (s *Store) Forgive(ctx context.Context, key []byte) error {
	_, err := s.exec(ctx, "UPDATE identity.attempt SET count = greatest(count - 1, 0) WHERE key = $1", key)
	return err
}

// Forget takes all attempts back.
func (s *Store) Forget(ctx context.Context, key []byte) error {
	_, err := s.exec(ctx, "DELETE FROM identity.attempt WHERE key = $1", key)
	return err
}
