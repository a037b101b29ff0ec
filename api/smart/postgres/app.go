package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/app"
)

var (
	_ smart.Store    = (*Store)(nil)
	_ smart.KeyStore = (*Store)(nil)
)

// appBody is the part of an app that no column has.
func appBody(a app.App) ([]byte, error) {
	a.Approvals, a.Everywhere, a.Withdrawn = nil, false, time.Time{}
	body, err := json.Marshal(a) //nolint:gosec // Secret is a hash
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return body, nil
}

// Register implements smart.Store.
func (s *Store) Register(ctx context.Context, a app.App) error {
	body, err := appBody(a)
	if err != nil {
		return err
	}
	_, err = s.pool.Exec(ctx, `INSERT INTO identity.app (id, body, everywhere, registered) VALUES ($1, $2::jsonb, $3, $4)`, a.ID, json.RawMessage(body), a.Everywhere, a.Registered)
	if unique(err) {
		return smart.ErrTaken
	}
	return private(err)
}

const appColumns = `a.body, a.everywhere, a.withdrawn, (SELECT coalesce(jsonb_agg(jsonb_build_object('Tenant', p.tenant, 'Practice', p.practice, 'By', p.approved_by, 'At', p.at) ORDER BY p.practice), '[]')
  FROM identity.app_approval p WHERE p.app = a.id) FROM identity.app a`

func scanApp(r pgx.Row) (app.App, error) {
	var body, approvals []byte
	var a app.App
	var everywhere bool
	var withdrawn *time.Time
	err := r.Scan(&body, &everywhere, &withdrawn, &approvals)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, smart.ErrNotFound
	}
	if err != nil {
		return a, private(err)
	}
	if err := errors.Join(json.Unmarshal(body, &a), json.Unmarshal(approvals, &a.Approvals)); err != nil {
		return app.App{}, errors.New("postgres: an app is stored badly")
	}
	a.Everywhere = everywhere
	if withdrawn != nil {
		a.Withdrawn = *withdrawn
	}
	return a, nil
}

// App implements smart.Store.
func (s *Store) App(ctx context.Context, id string) (app.App, error) {
	return scanApp(s.pool.QueryRow(ctx, `SELECT `+appColumns+` WHERE a.id = $1`, id))
}

// Apps lists all apps by their ids, withdrawn ones included.
func (s *Store) Apps(ctx context.Context) ([]app.App, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+appColumns+` ORDER BY a.id`)
	if err != nil {
		return nil, private(err)
	}
	defer rows.Close()
	var out []app.App
	for rows.Next() {
		a, err := scanApp(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, private(rows.Err())
}

// ApproveApp lets an app be used in a practice. An app that was withdrawn is ErrNotFound: it has to be registered anew.
func (s *Store) ApproveApp(ctx context.Context, id string, by app.Approval) error {
	found := false
	err := s.within(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO identity.app_approval (app, tenant, practice, approved_by, at)
			SELECT a.id, $2, $3, $4, $5 FROM identity.app a WHERE a.id = $1 AND a.withdrawn IS NULL
			ON CONFLICT (app, tenant) DO UPDATE SET approved_by = excluded.approved_by, at = excluded.at`, id, by.Tenant, by.Practice, by.By, by.At)
		found = tag.RowsAffected() > 0
		if err != nil || !found {
			return err //nolint:wrapcheck // within makes it private
		}
		_, err = tx.Exec(ctx, `DELETE FROM identity.ended WHERE key = $1`, smart.AppKey(id, by.Practice))
		return err //nolint:wrapcheck // within makes it private
	})
	if err == nil && !found {
		return smart.ErrNotFound
	}
	return err
}

// Origins implements smart.Store.
func (s *Store) Origins(ctx context.Context) ([]string, error) {
	apps, err := s.Apps(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, a := range apps {
		if !a.Active() {
			continue
		}
		for _, o := range a.AllowedOrigins() {
			if !slices.Contains(out, o) {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

// Assertion implements smart.Store.
func (s *Store) Assertion(ctx context.Context, client string, jti [32]byte, until time.Time) (bool, error) {
	return s.one(ctx, `INSERT INTO identity.assertion (app, jti, until) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, client, jti[:], until)
}
