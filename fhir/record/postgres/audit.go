package postgres

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz/audit"
)

// recorder commits audit events in groups: requests that wait at the same
// moment share one commit, so a durable record costs each of them little.
type recorder struct {
	pool  *pgxpool.Pool
	queue chan pending
	done  sync.WaitGroup

	mu     sync.RWMutex
	closed bool
}

type pending struct {
	event audit.Event
	saved chan error
}

const (
	auditWriters = 1   // one fills while the other commits
	auditGroup   = 256 // events in one commit
)

func newRecorder(p *pgxpool.Pool) *recorder {
	r := &recorder{pool: p, queue: make(chan pending, auditGroup)}
	for range auditWriters {
		r.done.Add(1)
		go r.run()
	}
	return r
}

func (r *recorder) run() {
	defer r.done.Done()
	for first := range r.queue {
		runtime.Gosched() // those who are about to ask come along
		group := []pending{first}
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
		events := make([]audit.Event, len(group))
		for i, p := range group {
			events[i] = p.event
		}
		// The group outlives the request of any one waiter.
		err := insertEvents(context.Background(), r.pool, events)
		for _, p := range group {
			p.saved <- err
		}
	}
}

func (r *recorder) close() {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.queue)
	}
	r.mu.Unlock()
	r.done.Wait()
}

func (r *recorder) record(ctx context.Context, e audit.Event) error {
	p := pending{e, make(chan error, 1)}
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
func (s *Store) Record(ctx context.Context, e audit.Event) error { return s.audit.record(ctx, e) }

type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// The array columns travel as array literals, because unnest flattens arrays of arrays.
const insertEventsSQL = `
INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients)
SELECT tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles::text[], purpose, policy, request, entities::text[], labels::integer[], patients::text[]
FROM unnest($1::integer[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[])
AS e(tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients)`

func insertEvents(ctx context.Context, x execer, events []audit.Event) error {
	n := len(events)
	var (
		tenants                                                                       = make([]int32, n)
		at                                                                            = make([]any, n)
		ids, outcomes, interactions, types, subjects, clients, users, roles, purposes = make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
		policies, requests, entities, labels, patients                                = make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	)
	for i, e := range events {
		c := e.Caller
		tenants[i], at[i], ids[i], outcomes[i], interactions[i], types[i] = c.Tenant, e.At, e.ID, string(e.Outcome), string(e.Interaction), string(e.Type)
		subjects[i], clients[i], users[i], roles[i], purposes[i] = c.Subject, c.Client, c.User.String(), textArray(c.Roles), c.Purpose
		policies[i], requests[i] = c.PolicyVersion, c.RequestID
		refs, pats, labs := make([]string, len(e.Entities)), make([]string, len(e.Entities)), make([]int64, len(e.Entities))
		for j, x := range e.Entities {
			refs[j] = x.Ref.String() + "/_history/" + x.Version.String()
			pats[j], labs[j] = string(x.Patient), int64(x.Labels)
		}
		entities[i], labels[i], patients[i] = textArray(refs), intArray(labs), textArray(pats)
	}
	_, err := x.Exec(ctx, insertEventsSQL, tenants, at, ids, outcomes, interactions, types, subjects, clients, users, roles, purposes, policies, requests, entities, labels, patients)
	return private(err)
}
