package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/oidc"
)

const keyColumns = `SELECT k.id, k.use, k.public, k.sealed, k.created, k.starts, k.until FROM identity.signing_key k`

func scanKeys(rows pgx.Rows, err error) ([]smart.SigningKey, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []smart.SigningKey
	for rows.Next() {
		var k smart.SigningKey
		var until *time.Time
		if err := rows.Scan(&k.ID, &k.Use, &k.Public, &k.Sealed, &k.Created, &k.From, &until); err != nil {
			return nil, err //nolint:wrapcheck // callers make it private
		}
		if until != nil {
			k.Until = *until
		}
		out = append(out, k)
	}
	return out, rows.Err() //nolint:wrapcheck // callers make it private
}

// SigningKeys implements smart.KeyStore.
func (s *Store) SigningKeys(ctx context.Context, now time.Time) ([]smart.SigningKey, error) {
	rows, err := s.pool.Query(ctx, keyColumns+` WHERE k.until IS NULL OR k.until > $1 ORDER BY k.starts, k.id`, now)
	keys, err := scanKeys(rows, err)
	return keys, private(err)
}

// ChangeKeys implements smart.KeyStore.
func (s *Store) ChangeKeys(ctx context.Context, change func([]smart.SigningKey) ([]smart.SigningKey, error)) error {
	return s.within(ctx, func(tx pgx.Tx) error {
		// Two processes that start at once must not make two keys.
		if _, err := tx.Exec(ctx, `LOCK TABLE identity.signing_key IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err //nolint:wrapcheck // within makes it private
		}
		have, err := scanKeys(tx.Query(ctx, keyColumns+` ORDER BY k.starts, k.id`))
		if err != nil {
			return err
		}
		changed, err := change(have)
		if err != nil {
			return err
		}
		for _, k := range changed {
			var until *time.Time
			if !k.Until.IsZero() {
				until = &k.Until
			}
			if _, err := tx.Exec(ctx, `INSERT INTO identity.signing_key (id, use, public, sealed, created, starts, until) VALUES ($1, $2, $3::jsonb, $4, $5, $6, $7)
				ON CONFLICT (id) DO UPDATE SET until = excluded.until`, k.ID, string(k.Use), json.RawMessage(k.Public), k.Sealed, k.Created, k.From, until); err != nil {
				return err //nolint:wrapcheck // within makes it private
			}
			if !k.Lost {
				continue
			}
			if _, err := tx.Exec(ctx, `INSERT INTO identity.ended (key, at) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING`, oidc.EndedKey(k.ID), k.Until); err != nil {
				return err //nolint:wrapcheck // within makes it private
			}
		}
		return nil
	})
}
