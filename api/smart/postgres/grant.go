package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/api/smart"
)

const grantColumns = `g.id::text, g.app, g.account::text, g.session::text, g.tenant, g.practice, g.keep, g.body, g.created, g.until, g.ended`

func scanGrant(r pgx.Row, more ...any) (smart.Grant, error) {
	var g smart.Grant
	var id, client, account, session, practice, keep string
	var tenant int32
	var body []byte
	var created, until time.Time
	var ended *time.Time
	err := r.Scan(append([]any{&id, &client, &account, &session, &tenant, &practice, &keep, &body, &created, &until, &ended}, more...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return g, smart.ErrNotFound
	}
	if err != nil {
		return g, private(err)
	}
	if err := json.Unmarshal(body, &g); err != nil {
		return smart.Grant{}, errors.New("postgres: a grant is stored badly")
	}
	g.ID, g.App, g.Account, g.Session, g.Tenant, g.Practice, g.Keep, g.Created, g.Until = id, client, account, session, tenant, practice, smart.Keep(keep), created, until
	if ended != nil {
		g.Ended = *ended
	}
	return g, nil
}

// BeginGrant implements smart.Store.
func (s *Store) BeginGrant(ctx context.Context, interaction [32]byte, g smart.Grant, c smart.Code) error {
	body, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	taken := false
	err = s.within(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM identity.ticket WHERE kind = $1 AND hash = $2 AND until > $3`, string(smart.KindInteraction), interaction[:], g.Created)
		if taken = tag.RowsAffected() == 1; err != nil || !taken {
			return err //nolint:wrapcheck // within makes it private
		}
		if _, err := tx.Exec(ctx, `INSERT INTO identity.app_grant (id, app, account, session, tenant, practice, keep, body, created, until, used)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10, $9)`,
			g.ID, g.App, g.Account, g.Session, g.Tenant, g.Practice, string(g.Keep), json.RawMessage(body), g.Created, g.Until); err != nil {
			return err //nolint:wrapcheck // within makes it private
		}
		_, err = tx.Exec(ctx, `INSERT INTO identity.code (hash, app_grant, app, redirect, challenge, until) VALUES ($1, $2, $3, $4, $5, $6)`,
			c.Hash[:], c.Grant, c.App, c.Redirect, c.Challenge, c.Until)
		return err //nolint:wrapcheck // within makes it private
	})
	if err == nil && !taken {
		return smart.ErrNotFound
	}
	return err
}

// end ends one grant in a transaction that holds its row.
func end(ctx context.Context, tx pgx.Tx, id string, now time.Time) error {
	if _, err := tx.Exec(ctx, `UPDATE identity.app_grant SET ended = $2 WHERE id = $1 AND ended IS NULL`, id, now); err != nil {
		return err //nolint:wrapcheck // within makes it private
	}
	_, err := tx.Exec(ctx, `INSERT INTO identity.ended (key, at) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING`, id, now)
	return err //nolint:wrapcheck // within makes it private
}

// RedeemCode implements smart.Store.
func (s *Store) RedeemCode(ctx context.Context, hash [32]byte, now time.Time) (c smart.Code, g smart.Grant, err error) {
	var verdict error
	err = s.within(ctx, func(tx pgx.Tx) error {
		c.Hash = hash
		var used *time.Time
		err := tx.QueryRow(ctx, `SELECT c.app_grant::text, c.app, c.redirect, c.challenge, c.until, c.used FROM identity.code c WHERE c.hash = $1 FOR UPDATE`, hash[:]).
			Scan(&c.Grant, &c.App, &c.Redirect, &c.Challenge, &c.Until, &used)
		if errors.Is(err, pgx.ErrNoRows) {
			verdict = smart.ErrNotFound
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // within makes it private
		}
		if g, err = scanGrant(tx.QueryRow(ctx, `SELECT `+grantColumns+` FROM identity.app_grant g WHERE g.id = $1 FOR UPDATE`, c.Grant)); err != nil {
			return err
		}
		switch {
		case used != nil:
			verdict = smart.ErrReused
			return end(ctx, tx, c.Grant, now)
		case !now.Before(c.Until) || !g.Ended.IsZero():
			verdict = smart.ErrNotFound
		}
		if _, err := tx.Exec(ctx, `UPDATE identity.code SET used = $2 WHERE hash = $1`, hash[:], now); err != nil {
			return err //nolint:wrapcheck // within makes it private
		}
		_, err = tx.Exec(ctx, `UPDATE identity.app_grant SET redeemed = true, used = $2 WHERE id = $1`, c.Grant, now)
		return err //nolint:wrapcheck // within makes it private
	})
	if err == nil {
		err = verdict
	}
	return c, g, err
}

// StartRefresh implements smart.Store.
func (s *Store) StartRefresh(ctx context.Context, grant string, r smart.RefreshToken, now time.Time) error {
	started := false
	err := s.within(ctx, func(tx pgx.Tx) error {
		g, err := scanGrant(tx.QueryRow(ctx, `SELECT `+grantColumns+` FROM identity.app_grant g WHERE g.id = $1 FOR UPDATE`, grant))
		if errors.Is(err, smart.ErrNotFound) || err == nil && (!g.Ended.IsZero() || !now.Before(g.Until)) {
			return nil
		}
		if err != nil {
			return err
		}
		started = true
		_, err = tx.Exec(ctx, `INSERT INTO identity.refresh_token (hash, app_grant, until) VALUES ($1, $2, $3)`, r.Hash[:], grant, r.Until)
		return err //nolint:wrapcheck // within makes it private
	})
	if err == nil && !started {
		return smart.ErrNotFound
	}
	return err
}

// Refreshing implements smart.Store.
func (s *Store) Refreshing(ctx context.Context, hash [32]byte) (smart.Grant, error) {
	return scanGrant(s.pool.QueryRow(ctx, `SELECT `+grantColumns+` FROM identity.refresh_token r JOIN identity.app_grant g ON g.id = r.app_grant WHERE r.hash = $1`, hash[:]))
}

// Refreshable implements smart.Store.
func (s *Store) Refreshable(ctx context.Context, hash [32]byte, now time.Time) (smart.Grant, time.Time, error) {
	var until time.Time
	g, err := scanGrant(s.pool.QueryRow(ctx, `SELECT `+grantColumns+`, r.until FROM identity.refresh_token r JOIN identity.app_grant g ON g.id = r.app_grant
		WHERE r.hash = $1 AND r.used IS NULL AND r.until > $2 AND g.ended IS NULL AND g.until > $2`, hash[:], now), &until)
	return g, until, err
}

// RotateRefresh implements smart.Store. The row of the grant is held while its family is looked at, so that of
// several requests with one token one gets the next, and the second ends the grant.
func (s *Store) RotateRefresh(ctx context.Context, hash [32]byte, next smart.RefreshToken, now time.Time) (g smart.Grant, err error) {
	var verdict error
	err = s.within(ctx, func(tx pgx.Tx) error {
		var err error
		g, err = scanGrant(tx.QueryRow(ctx, `SELECT `+grantColumns+` FROM identity.app_grant g
			WHERE g.id = (SELECT r.app_grant FROM identity.refresh_token r WHERE r.hash = $1) FOR UPDATE`, hash[:]))
		if errors.Is(err, smart.ErrNotFound) {
			verdict = smart.ErrNotFound
			return nil
		}
		if err != nil {
			return err
		}
		var used *time.Time
		var until time.Time
		if err := tx.QueryRow(ctx, `SELECT r.used, r.until FROM identity.refresh_token r WHERE r.hash = $1`, hash[:]).Scan(&used, &until); err != nil {
			return err //nolint:wrapcheck // within makes it private
		}
		switch {
		case !g.Ended.IsZero():
			verdict = smart.ErrNotFound
			return nil
		case used != nil:
			verdict = smart.ErrReused
			return end(ctx, tx, g.ID, now)
		case !now.Before(until) || !now.Before(g.Until):
			verdict = smart.ErrNotFound
			return nil
		}
		if _, err := tx.Exec(ctx, `UPDATE identity.refresh_token SET used = $2 WHERE hash = $1`, hash[:], now); err != nil {
			return err //nolint:wrapcheck // within makes it private
		}
		if _, err := tx.Exec(ctx, `INSERT INTO identity.refresh_token (hash, app_grant, until) VALUES ($1, $2, $3)`, next.Hash[:], g.ID, next.Until); err != nil {
			return err //nolint:wrapcheck // within makes it private
		}
		_, err = tx.Exec(ctx, `UPDATE identity.app_grant SET used = $2 WHERE id = $1`, g.ID, now)
		return err //nolint:wrapcheck // within makes it private
	})
	if err == nil {
		err = verdict
	}
	return g, err
}

// Grant implements smart.Store.
func (s *Store) Grant(ctx context.Context, id string) (smart.Grant, error) {
	return scanGrant(s.pool.QueryRow(ctx, `SELECT `+grantColumns+` FROM identity.app_grant g WHERE g.id::text = $1`, id))
}

// Grants implements smart.Store.
func (s *Store) Grants(ctx context.Context, account string, now time.Time) ([]smart.GrantSummary, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+grantColumns+`, g.used, a.body->>'Name' FROM identity.app_grant g JOIN identity.app a ON a.id = g.app
		WHERE g.account::text = $1 AND g.ended IS NULL AND g.redeemed AND g.until > $2 ORDER BY g.created DESC, g.id`, account, now)
	if err != nil {
		return nil, private(err)
	}
	defer rows.Close()
	var out []smart.GrantSummary
	for rows.Next() {
		var used time.Time
		var name string
		g, err := scanGrant(rows, &used, &name)
		if err != nil {
			return nil, err
		}
		out = append(out, smart.GrantSummary{
			ID: g.ID, App: g.App, Name: name, Practice: g.Practice, Scopes: g.Scopes, Patient: g.Patient, Keep: g.Keep, Created: g.Created, LastUsed: used, Until: g.Until,
		})
	}
	return out, private(rows.Err())
}
