package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/api/smart"
)

// PutTicket implements smart.Store.
func (s *Store) PutTicket(ctx context.Context, t smart.Ticket) error {
	_, err := s.exec(ctx, `INSERT INTO identity.ticket (kind, hash, body, until) VALUES ($1, $2, $3::jsonb, $4)`, string(t.Kind), t.Hash[:], json.RawMessage(t.Body), t.Until)
	return err
}

// LookTicket implements smart.Store.
func (s *Store) LookTicket(ctx context.Context, k smart.Kind, hash [32]byte, now time.Time) ([]byte, error) {
	return s.ticket(ctx, `SELECT body FROM identity.ticket WHERE kind = $1 AND hash = $2 AND until > $3`, k, hash, now)
}

// TakeTicket implements smart.Store.
func (s *Store) TakeTicket(ctx context.Context, k smart.Kind, hash [32]byte, now time.Time) ([]byte, error) {
	return s.ticket(ctx, `DELETE FROM identity.ticket WHERE kind = $1 AND hash = $2 AND until > $3 RETURNING body`, k, hash, now)
}

func (s *Store) ticket(ctx context.Context, sql string, k smart.Kind, hash [32]byte, now time.Time) ([]byte, error) {
	var body []byte
	err := s.pool.QueryRow(ctx, sql, string(k), hash[:], now).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, smart.ErrNotFound
	}
	return body, private(err)
}
