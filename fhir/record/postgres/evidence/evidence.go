// Package evidence seals the audit trail that PostgreSQL keeps, verifies it, ends what need not be kept, and tells receivers of it.
package evidence

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz/audit/trail"
)

// Roles of the trail: one chains what was added and reads, the other owns the schema.
const (
	RoleSeal  = "cloister_seal"
	RoleOwner = "cloister_audit"
)

func connect(ctx context.Context, url, role string, conns int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("evidence: the database URL cannot be read")
	}
	cfg.MaxConns = conns
	for name, value := range map[string]string{
		"timezone": "UTC", "search_path": "pg_catalog", "application_name": "cloister audit", "jit": "off",
		"plan_cache_mode": "force_generic_plan", // planning over many months takes longer than the statement
		// The lock of a sealer whose machine is gone ends with its connection.
		"idle_in_transaction_session_timeout": "60s",
	} {
		cfg.ConnConfig.RuntimeParams[name] = value
	}
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SET ROLE "+role)
		return err
	}
	p, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("evidence: connect as %s: %w", role, private(err))
	}
	if err := p.Ping(ctx); err != nil {
		p.Close()
		return nil, fmt.Errorf("evidence: connect as %s, of which the login has to be a member: %w", role, private(err))
	}
	return p, nil
}

// private keeps of a database error what holds no data.
func private(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Errorf("SQLSTATE %s %s %s", pg.Code, pg.ConstraintName, pg.Routine)
	}
	return err
}

// table is one table of the trail, as it is read.
type table struct {
	kind        trail.Kind
	layout      *trail.Layout
	columns     []string
	seq, at, id int // where these columns are
}

// tables reads which columns there are, so that one that is added later is covered, too.
func tables(ctx context.Context, db querier) ([]table, error) {
	var out []table
	for _, kind := range trail.Kinds {
		rows, err := db.Query(ctx, "SELECT attname::text FROM pg_attribute WHERE attrelid = ('audit.' || $1::text)::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum", kind.String())
		if err != nil {
			return nil, private(err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, private(err)
		}
		t := table{kind: kind, layout: trail.NewLayout(kind, names), columns: names}
		id := "id"
		if kind == trail.Downgrade {
			id = "event"
		}
		found := 0
		for i, name := range names {
			switch name {
			case trail.ColumnSeq:
				t.seq = i
			case "at":
				t.at = i
			case id:
				t.id = i
			case trail.ColumnMac:
			default:
				continue
			}
			found++
		}
		if found != 4 {
			return nil, fmt.Errorf("evidence: audit.%s lacks a column: run cloister migrate", kind)
		}
		out = append(out, t)
	}
	return out, nil
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// forEach runs a query, and calls each for every row after it was scanned.
func forEach(ctx context.Context, db querier, sql string, args, scan []any, each func() error) error {
	rows, err := db.Query(ctx, sql, args...) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, scan, each)
	return err
}

// read asks for rows with all their columns in binary form.
func (t table) read(ctx context.Context, db querier, where string, args ...any) (pgx.Rows, error) {
	quoted := make([]string, len(t.columns))
	for i, c := range t.columns {
		quoted[i] = pgx.Identifier{c}.Sanitize()
	}
	rows, err := db.Query(ctx, "SELECT "+strings.Join(quoted, ", ")+" FROM audit."+t.kind.String()+" "+where, append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, args...)...) //nolint:rowserrcheck // whoever reads to the end asks for it
	return rows, private(err)
}

// row is a row of the trail as far as chaining looks at it.
type row struct {
	table  *table
	seq    int64
	at     time.Time
	id     [16]byte
	digest trail.Digest
}

// scan reads a row; its values are good until the next one is read.
func (t *table) scan(rows pgx.Rows) (r row, values [][]byte, err error) {
	values = rows.RawValues()
	if len(values[t.seq]) != 8 || len(values[t.at]) != 8 || len(values[t.id]) != 16 {
		return r, nil, fmt.Errorf("evidence: audit.%s has a column of another type: run cloister migrate", t.kind)
	}
	return row{t, int64(binary.BigEndian.Uint64(values[t.seq])), moment(values[t.at]), [16]byte(values[t.id]), t.layout.Digest(values)}, values, nil
}

// epoch is where the timestamps of PostgreSQL start, in microseconds.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// moment reads a timestamp. What lies beyond the calendar, which no server writes, is at its end.
func moment(b []byte) time.Time {
	us := int64(binary.BigEndian.Uint64(b))
	if us > math.MaxInt64-epoch {
		us = math.MaxInt64 - epoch
	}
	t := time.UnixMicro(us + epoch).UTC()
	if t.Year() > 9999 || t.Year() < 1 {
		return time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	}
	return t
}

func uuid(b [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// sealed is the number up to which all rows are in links; there is none at the beginning.
func sealed(ctx context.Context, db querier) (through int64, err error) {
	err = db.QueryRow(ctx, "SELECT COALESCE(max(through), $1) FROM audit.link", int64(math.MinInt64)).Scan(&through)
	return through, private(err)
}

// handed is the last number that the sequence has handed out, 0 where it has none.
func handed(ctx context.Context, db querier) (n int64, err error) {
	err = db.QueryRow(ctx, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM audit.seq").Scan(&n)
	return n, private(err)
}
