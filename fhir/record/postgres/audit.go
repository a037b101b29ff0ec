package postgres

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// recorder commits audit events in groups: requests that wait at the same
// moment share one commit, so a durable record costs each of them little.
type recorder[E any] struct {
	pool   *pgxpool.Pool
	insert func(context.Context, *pgx.Conn, []E) error
	queue  chan pending[E]
	done   sync.WaitGroup

	mu     sync.RWMutex
	closed bool
}

type pending[E any] struct {
	event E
	saved chan error
}

const (
	auditWriters = 1   // one fills while the other commits
	auditGroup   = 256 // events in one commit
)

func newRecorder[E any](p *pgxpool.Pool, insert func(context.Context, *pgx.Conn, []E) error) *recorder[E] {
	r := &recorder[E]{pool: p, insert: insert, queue: make(chan pending[E], auditGroup)}
	for range auditWriters {
		r.done.Add(1)
		go r.run()
	}
	return r
}

func (r *recorder[E]) run() {
	defer r.done.Done()
	for first := range r.queue {
		runtime.Gosched() // those who are about to ask come along
		group := []pending[E]{first}
	drain:
		for len(group) < auditGroup {
			select {
			case p, ok := <-r.queue:
				if !ok {
					break drain
				}
				group = append(group, p)
			default:
				break drain
			}
		}
		r.save(group)
	}
}

// save commits a group, which outlives the request of any one waiter. An event
// that the database refuses takes only its own request along.
func (r *recorder[E]) save(group []pending[E]) {
	events := make([]E, len(group))
	for i, p := range group {
		events[i] = p.event
	}
	ctx := context.Background()
	err := r.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return r.insert(ctx, c.Conn(), events) })
	if err != nil && len(group) > 1 {
		for i := range group {
			r.save(group[i : i+1])
		}
		return
	}
	for _, p := range group {
		p.saved <- err
	}
}

func (r *recorder[E]) close() {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.queue)
	}
	r.mu.Unlock()
	r.done.Wait()
}

func (r *recorder[E]) record(ctx context.Context, e E) error {
	p := pending[E]{e, make(chan error, 1)}
	r.mu.RLock()
	if r.closed {
		r.mu.RUnlock()
		return errors.New("postgres: the audit log is closed")
	}
	select {
	case r.queue <- p:
		r.mu.RUnlock()
	case <-ctx.Done():
		r.mu.RUnlock()
		return ctx.Err()
	}
	select {
	case err := <-p.saved:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Record makes an event durable before it returns.
func (s *Store) Record(ctx context.Context, e audit.Event) error {
	if err := s.underEmergency(ctx, &e); err != nil {
		return err
	}
	return s.audit.record(ctx, e)
}

// marks are the columns of a table of the trail, and what proves that a server wrote a row.
type marks struct {
	columns []string
	layout  *trail.Layout
	sql     string
}

func newMarks(kind trail.Kind, columns ...string) *marks {
	return &marks{columns, trail.NewLayout(kind, columns), "COPY audit." + kind.String() + " (" + strings.Join(columns, ", ") + ", " + trail.ColumnMac + ") FROM STDIN (FORMAT binary)"}
}

var (
	eventMarks = newMarks(trail.Event, "tenant", "at", "id", "outcome", "interaction", "type", "subject", "client", "fhir_user", "roles", "purpose", "policy", "request", "entities", "labels", "patients", "consents", "organizations", "facts", "sessions")
	// securityMarks and downgradeMarks are in the order in which rows of theirs are written.
	securityMarks  = newMarks(trail.Security, "tenant", "at", "id", "kind", "outcome", "reason", "account", "fhir_user", "actor", "client", "session", "methods", "address")
	downgradeMarks = newMarks(trail.Downgrade, "tenant", "at", "event", "entity", "labels_old", "labels_new", "rules")
)

// errUnmarked says that rows without a mark would count as forged.
var errUnmarked = errors.New("postgres: the audit trail of this database is signed, and CLOISTER_AUDIT_KEY (--audit-key) is not set: what is recorded without the key of the servers would count as forged")

// add writes rows of the trail, each of which row fills in the order of the columns, in the transaction
// that the connection is in, or in one of their own.
func (s *Store) add(ctx context.Context, conn *pgx.Conn, m *marks, n, size int, row func(c *copyRows, i int) error) error {
	if s.trail == nil && s.trailSigned {
		return errUnmarked
	}
	rows := newCopyRows(int16(len(m.columns)+1), size)
	values := make([][]byte, len(m.columns))
	for i := range n {
		rows.row()
		at := len(rows.b)
		if err := row(rows, i); err != nil {
			return err
		}
		if s.trail == nil {
			rows.null()
			continue
		}
		rows.values(at, values)
		rows.bytes(s.trail.Mac(m.layout, values))
	}
	_, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(rows.end()), m.sql)
	return private(err)
}

// insertEvents writes events in the transaction that the connection is in, or in one of their own.
func (s *Store) insertEvents(ctx context.Context, conn *pgx.Conn, events []audit.Event) error {
	return s.add(ctx, conn, eventMarks, len(events), 512*(len(events)+1), func(rows *copyRows, i int) error {
		e := events[i]
		c, n := e.Caller, len(e.Entities)
		rows.int4(c.Tenant)
		rows.timestamptz(e.At)
		if err := rows.uuid(e.ID); err != nil {
			return err
		}
		for _, text := range []string{string(e.Outcome), string(e.Interaction), string(e.Type), c.Subject, c.Client, c.User.String()} {
			rows.text(text)
		}
		rows.array(oidText, len(c.Roles), func(i int) { rows.text(c.Roles[i]) })
		for _, text := range []string{c.Purpose, c.PolicyVersion, c.RequestID} {
			rows.text(text)
		}
		rows.array(oidText, n, func(i int) {
			x := e.Entities[i]
			rows.text(x.Ref.String() + "/_history/" + x.Version.String())
		})
		rows.array(oidInt4, n, func(i int) { rows.int4(int32(e.Entities[i].Labels)) })
		rows.array(oidText, n, func(i int) { rows.text(string(e.Entities[i].Patient)) })
		rows.array(oidText, consents(e.Entities), func(i int) { rows.text(joined(e.Entities[i].Consents)) })
		rows.array(oidText, len(c.Organizations), func(i int) { rows.text(c.Organizations[i]) })
		rows.array(oidInt4, n, func(i int) { rows.int4(int32(e.Entities[i].Facts)) })
		sessions := sessionsOf(e)
		rows.array(oidText, len(sessions), func(i int) { rows.text(sessions[i]) })
		return nil
	})
}

// inserted writes the event of what a transaction does into it. Where it cannot,
// the transaction must come to nothing; refusal tells the client so.
func (s *Store) inserted(ctx context.Context, tx pgx.Tx, e audit.Event, refusal string) error {
	if err := s.insertEvents(ctx, tx.Conn(), []audit.Event{e}); err != nil {
		return outcome.New(outcome.Unavailable, refusal).Because(err)
	}
	return nil
}

// sessionsOf is what the column sessions lists: that of each entity, or none where
// nothing happened in an emergency. An event without entities lists its acts.
func sessionsOf(e audit.Event) []string {
	if len(e.Entities) == 0 {
		return e.Acts
	}
	if !slices.ContainsFunc(e.Entities, func(x audit.Entity) bool { return x.Session != "" }) {
		return nil
	}
	out := make([]string, len(e.Entities))
	for i, x := range e.Entities {
		out[i] = x.Session
	}
	return out
}

// consents is how many entities the column consents lists: all, or none where no
// disclosure rests on consent.
func consents(list []audit.Entity) int {
	if slices.ContainsFunc(list, func(e audit.Entity) bool { return len(e.Consents) > 0 }) {
		return len(list)
	}
	return 0
}

// joined are references to Consents, parted by a space.
func joined(list []fhir.ID) string {
	out := make([]string, len(list))
	for i, id := range list {
		out[i] = fhir.Ref{Type: "Consent", ID: id}.String()
	}
	return strings.Join(out, " ")
}
