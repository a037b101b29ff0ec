// Package postgres keeps accounts, sessions, apps, grants and keys in PostgreSQL, under a role that reaches no record.
package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz/identity"
)

// Role is under what this store talks to the database. It has rights on the schema identity alone.
const Role = "cloister_identity"

// DefaultMaxConns is the size of the pool where nothing else is said.
const DefaultMaxConns = 8

// Store keeps identities. All methods are safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

var _ identity.Store = (*Store)(nil)

// Options of [Open].
type Options struct {
	URL      string // connection string of a login that is a member of [Role]
	MaxConns int    // 0 means DefaultMaxConns
}

// Open connects. The schema must be there (cloister migrate).
func Open(ctx context.Context, o Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, errors.New("postgres: the database URL cannot be read")
	}
	if o.MaxConns == 0 {
		o.MaxConns = DefaultMaxConns
	}
	cfg.MaxConns = int32(o.MaxConns) //nolint:gosec // a number of connections
	cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
	cfg.ConnConfig.RuntimeParams["search_path"] = "pg_catalog"
	cfg.ConnConfig.RuntimeParams["application_name"] = "cloister identity"
	cfg.ConnConfig.RuntimeParams["jit"] = "off"
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SET ROLE "+Role)
		return err
	}
	p, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres: connect as %s: %w", Role, private(err))
	}
	if err := p.Ping(ctx); err != nil {
		p.Close()
		return nil, fmt.Errorf("postgres: connect as %s: %w", Role, private(err))
	}
	return &Store{pool: p}, nil
}

// Close closes all connections.
func (s *Store) Close() { s.pool.Close() }

// private takes what a database error carries of values out of it: it goes into the log.
func private(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Errorf("SQLSTATE %s %s %s", pg.Code, pg.ConstraintName, pg.Routine)
	}
	return err
}

// unique says that err is a second row under the same key.
func unique(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505"
}

// exec runs a statement and says how many rows it changed.
func (s *Store) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := s.pool.Exec(ctx, sql, args...)
	return tag.RowsAffected(), private(err)
}

// one says whether a statement changed a row.
func (s *Store) one(ctx context.Context, sql string, args ...any) (bool, error) {
	n, err := s.exec(ctx, sql, args...)
	return n > 0, err
}

// within runs several statements in one transaction.
func (s *Store) within(ctx context.Context, do func(pgx.Tx) error) error {
	return private(pgx.BeginFunc(ctx, s.pool, do))
}
