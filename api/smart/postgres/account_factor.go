package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/identity"
)

// lockAccount makes whoever changes the factors of an account wait for each other, and says
// whether it has one.
func lockAccount(ctx context.Context, tx pgx.Tx, account string) (has bool, err error) {
	if _, err := tx.Exec(ctx, "SELECT FROM identity.account WHERE id = $1::uuid FOR NO KEY UPDATE", account); err != nil {
		return false, err
	}
	err = tx.QueryRow(ctx, "SELECT totp IS NOT NULL OR EXISTS (SELECT FROM identity.passkey p WHERE p.account = a.id) FROM identity.account a WHERE id = $1::uuid", account).Scan(&has)
	return has, err
}

// SetTOTP replaces the secret.
func (s *Store) SetTOTP(ctx context.Context, account string, sealed []byte, step int64, first bool) (done bool, err error) {
	err = s.within(ctx, func(tx pgx.Tx) error {
		has, err := lockAccount(ctx, tx, account)
		if err != nil || has && first {
			return err
		}
		tag, err := tx.Exec(ctx, "UPDATE identity.account SET totp = $2, totp_step = $3 WHERE id = $1::uuid", account, sealed, step)
		done = tag.RowsAffected() > 0
		return err
	})
	return done && err == nil, err
}

// RemoveTOTP takes the secret away.
func (s *Store) RemoveTOTP(ctx context.Context, account string) error {
	_, err := s.exec(ctx, "UPDATE identity.account SET totp = NULL WHERE id = $1::uuid", account)
	return err
}

// UseTOTP is true once per step.
func (s *Store) UseTOTP(ctx context.Context, account string, step int64) (bool, error) {
	return s.one(ctx, "UPDATE identity.account SET totp_step = $2 WHERE id = $1::uuid AND totp_step < $2", account, step)
}

// AddPasskey adds a passkey.
func (s *Store) AddPasskey(ctx context.Context, account string, k identity.Key, first bool) (done bool, err error) {
	err = s.within(ctx, func(tx pgx.Tx) error {
		has, err := lockAccount(ctx, tx, account)
		if err != nil || has && first {
			return err
		}
		tag, err := tx.Exec(ctx, "INSERT INTO identity.passkey (id, account, name, count, data, created) VALUES ($1, $2::uuid, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
			k.ID, account, k.Name, int64(k.Count), k.Data, k.Created)
		done = tag.RowsAffected() > 0
		return err
	})
	return done && err == nil, err
}

// RemovePasskey takes a passkey away.
func (s *Store) RemovePasskey(ctx context.Context, account string, id []byte) error {
	_, err := s.exec(ctx, "DELETE FROM identity.passkey WHERE account = $1::uuid AND id = $2", account, id)
	return err
}

// UsePasskey is true if the counter went up, or if there is none.
func (s *Store) UsePasskey(ctx context.Context, account string, id []byte, count uint32, data []byte, now time.Time) (bool, error) {
	return s.one(ctx, "UPDATE identity.passkey SET count = $3, data = $4, used = $5 WHERE account = $1::uuid AND id = $2 AND (count < $3 OR count = 0 AND $3 = 0)", account, id, int64(count), data, now)
}

// SetCodes replaces the recovery codes.
func (s *Store) SetCodes(ctx context.Context, account string, hashes [][]byte) error {
	return s.within(ctx, func(tx pgx.Tx) error {
		if _, err := lockAccount(ctx, tx, account); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM identity.recovery_code WHERE account = $1::uuid", account); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO identity.recovery_code (account, hash) SELECT $1::uuid, unnest($2::bytea[])", account, hashes)
		return err
	})
}

// UseCode is true once per code.
func (s *Store) UseCode(ctx context.Context, account string, hash []byte) (bool, error) {
	return s.one(ctx, "DELETE FROM identity.recovery_code WHERE account = $1::uuid AND hash = $2", account, hash)
}

// Know remembers a device of an account.
func (s *Store) Know(ctx context.Context, account string, device []byte, until time.Time) error {
	_, err := s.exec(ctx, "INSERT INTO identity.device (account, hash, expires) VALUES ($1::uuid, $2, $3) ON CONFLICT (account, hash) DO UPDATE SET expires = EXCLUDED.expires", account, device, until)
	return err
}

// Known asks for a device of an account.
func (s *Store) Known(ctx context.Context, account string, device []byte, now time.Time) (known bool, err error) {
	err = s.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM identity.device WHERE account = $1::uuid AND hash = $2 AND expires > $3)", account, device, now).Scan(&known)
	return known, private(err)
}
