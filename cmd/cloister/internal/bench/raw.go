package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"github.com/cloister-health/cloister/fhir"
)

// What somebody would write by hand who asks nobody: one statement, no
// identity, no policy, no audit. It reads the same table by the same key.
const rawReadSQL = `SELECT body FROM record.resource WHERE tenant = $1 AND type = $2 AND id = $3 AND shadow = 0`

const mediaType = "application/fhir+json"

// asked is a statement of the server with its arguments.
type asked struct {
	sql  string
	args []any
	kept bool // its plan is kept
}

// spy sees the statements that a house of its own runs, for one request after
// the other. For the operator, whom the policy restricts in nothing, they are
// the SQL of that search and no more: the raw side runs them by hand.
type spy struct {
	house  *house
	client *client

	mu   sync.Mutex
	seen []asked
}

// TraceQueryStart implements [pgx.QueryTracer].
func (s *spy) TraceQueryStart(ctx context.Context, c *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	if text := strings.TrimLeft(d.SQL, "( \n"); strings.HasPrefix(text, "SELECT") || strings.HasPrefix(text, "WITH") {
		s.mu.Lock()
		s.seen = append(s.seen, asked{d.SQL, d.Args, c.Config().RuntimeParams[planMode] == keptPlans})
		s.mu.Unlock()
	}
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (s *spy) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// watch sends a request and gives the statements that answered it; none where it was not answered.
func (s *spy) watch(path, token string) ([]asked, error) {
	s.mu.Lock()
	s.seen = nil
	s.mu.Unlock()
	status, err := s.client.do(get(s.house.address, path, token))
	if err != nil || status != http.StatusOK {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen, nil
}

// raw is the ceiling: an Echo server that runs statements, and nothing else.
type raw struct {
	b        *bench
	searches *pgxpool.Pool
	plans    []plan // by the number in the path
}

// plan is what the raw side runs for one path.
type plan struct {
	asked []asked
	most  int // resources of a page: the SQL finds one more, to know whether there is a next one
}

func (x *raw) handler() http.Handler {
	e := echo.New()
	e.GET("/fhir/:type/:id", func(c echo.Context) error {
		var body []byte
		t := fhir.ResourceType(c.Param("type")).Code()
		if err := x.b.sql.QueryRow(c.Request().Context(), rawReadSQL, x.b.tenant, t, c.Param("id")).Scan(&body); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		return c.Blob(http.StatusOK, mediaType, body)
	})
	e.GET("/search/:plan", func(c echo.Context) error {
		n, err := strconv.Atoi(c.Param("plan"))
		if err != nil || n < 0 || n >= len(x.plans) {
			return echo.ErrNotFound
		}
		out := append(make([]byte, 0, 16<<10), `{"resourceType":"Bundle","type":"searchset","entry":[`...)
		left := x.plans[n].most
		for _, q := range x.plans[n].asked {
			if out, err = x.splice(c.Request().Context(), q, out, &left); err != nil {
				return fmt.Errorf("bench: %w", err)
			}
		}
		return c.Blob(http.StatusOK, mediaType, append(out, `]}`...))
	})
	return e
}

const unknown = -2

// pool plans a statement as the server does.
func (x *raw) pool(q asked) *pgxpool.Pool {
	if q.kept {
		return x.b.sql
	}
	return x.searches
}

// splice appends the bodies that a statement finds, as many as are left of a page.
func (x *raw) splice(ctx context.Context, q asked, out []byte, left *int) ([]byte, error) {
	rows, err := x.pool(q).Query(ctx, q.sql, q.args...)
	if err != nil {
		return out, err
	}
	defer rows.Close()
	at := unknown
	for rows.Next() {
		if at == unknown {
			at = slices.IndexFunc(rows.FieldDescriptions(), func(f pgconn.FieldDescription) bool { return f.Name == "body" })
		}
		if at < 0 || len(rows.RawValues()[at]) == 0 || *left == 0 {
			continue
		}
		if out[len(out)-1] == '}' {
			out = append(out, ',')
		}
		*left--
		out = append(append(append(out, `{"resource":`...), rows.RawValues()[at]...), '}') // pgx asks for jsonb as text
	}
	return out, rows.Err()
}

// explained is how many requests of a family have their plans written.
const explained = 5

// explain appends the plans of statements, as the database runs them, to the
// file of a family.
func (st *stage) explain(ctx context.Context, name, path string, statements []asked) (err error) {
	if st.Plans == "" {
		return nil
	}
	w, err := os.OpenFile(filepath.Join(st.Plans, strings.ReplaceAll(name, " ", "-")+".txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for _, q := range statements {
		if _, err := fmt.Fprintf(w, "-- %s\n%s\n%v\n\n", path, q.sql, q.args); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		rows, err := st.raw.pool(q).Query(ctx, "EXPLAIN (ANALYZE, BUFFERS) "+q.sql, q.args...)
		if err != nil {
			return fmt.Errorf("bench: %s: %w", path, err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("bench: %s: %w", path, err)
		}
		if _, err := fmt.Fprintf(w, "%s\n\n", strings.Join(lines, "\n")); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	return nil
}
