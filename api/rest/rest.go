// Package rest has one file per FHIR RESTful interaction (http://hl7.org/fhir/R4/http.html).
package rest

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// Store is what the interactions need of the place where resources are kept.
// Every read is bounded by a Restriction, whose type is the type that is read.
// A resource that is hidden and one that is absent are the same outcome.NotFound.
type Store interface {
	// Read gives the current version; a deleted resource is a tombstone.
	Read(context.Context, authz.Restriction, fhir.ID) (record.Sealed, error)
	VRead(context.Context, authz.Restriction, fhir.ID, fhir.VersionID) (record.Sealed, error)
	History(context.Context, authz.Reach, record.History) (record.Page, error)
	Search(context.Context, authz.Reach, search.Query) (record.Page, error)
	// Parameters are the search parameters of a caller who may read SearchParameter under the Restriction; nil is those of R4.
	Parameters(context.Context, authz.Restriction) (*search.Registry, error)
	// Match gives the ids of at most Query.Count matches.
	Match(context.Context, authz.Reach, search.Query) ([]fhir.ID, error)
	// Commit writes all changes or none; a *record.ChangeError names the one that failed.
	Commit(context.Context, []record.Cleared) ([]record.Receipt, error)
	// CommitOnce is Commit for an attempt that Begin has let in.
	CommitOnce(context.Context, []record.Cleared, record.Once) ([]record.Receipt, error)
	// Begin lets an attempt in, or says what became of the first one.
	Begin(context.Context, record.Once) (*record.Done, error)
	// Settle keeps what became of an attempt that committed nothing.
	Settle(context.Context, record.Once, record.Done) error
	// Abandon forgets an attempt that committed nothing.
	Abandon(context.Context, record.Once) error
	// Enqueue keeps a request that is put off; a caller has at most so many.
	Enqueue(ctx context.Context, j record.Job, most int) error
	Job(ctx context.Context, tenant int32, caller [32]byte, id string) (record.Job, error)
	// LeaseJob reports whether this process may work on a job.
	LeaseJob(context.Context, record.Job, time.Duration) (bool, error)
	EndJob(ctx context.Context, j record.Job, failure bool) error
	DropJob(context.Context, record.Job) error
}

// Options say how the interactions behave where the specification leaves it open.
type Options struct {
	Cursors [32]byte // secret key that seals paging links
	Upsert  bool     // an update may create (R4 http.html, "update as create")
	// Several lets a conditional delete take several resources, MaxCount at most.
	Several bool
	// Integrity refuses deletes that would leave references of visible resources dangling.
	Integrity bool
	// KeyLife is for how long a repeated Idempotency-Key gives the first answer.
	KeyLife time.Duration
	// Lease is after how long a request is no longer under way, whatever became of it.
	Lease time.Duration
	// Terminology answers :in, :not-in, :above and :below of searches; nil refuses them.
	Terminology search.Terminology
}

// Service answers the interactions.
type Service struct {
	engine    *authz.Engine
	gate      *record.Gate
	store     Store
	cursors   [32]byte
	upsert    bool
	several   bool
	integrity bool
	keyLife   time.Duration
	lease     time.Duration

	terminology search.Terminology
	slots       chan struct{} // batches in the background
	working     sync.Map      // by the id of a job that this process works on: how to stop
}

// New wires the interactions.
func New(e *authz.Engine, g *record.Gate, s Store, o Options) *Service {
	return &Service{
		engine: e, gate: g, store: s, cursors: o.Cursors, upsert: o.Upsert, several: o.Several,
		integrity: o.Integrity, keyLife: o.KeyLife, lease: o.Lease, slots: make(chan struct{}, background),
		terminology: o.Terminology,
	}
}

var errNotFound = outcome.New(outcome.NotFound, "")

// Handler is the handler of an interaction; ok is false for one that is not served.
//
// What comes to nothing is recorded before it is answered: see [Service.Audited].
func (s *Service) Handler(i fhir.Interaction) (h respond.Handler, ok bool) {
	switch i {
	case fhir.Read:
		h = s.read
	case fhir.VRead:
		h = s.vread
	case fhir.HistoryInstance, fhir.HistoryType, fhir.HistorySystem:
		h = s.history
	case fhir.SearchType, fhir.SearchSystem:
		h = s.search
	case fhir.Create:
		h = s.create
	case fhir.Update:
		h = s.update
	case fhir.Patch:
		h = s.patch
	case fhir.Delete:
		h = s.delete
	case fhir.Batch:
		h = s.batch
	case fhir.Transaction:
		h = s.transaction
	default:
		return nil, false
	}
	if changes(i) {
		h = s.once(h)
	}
	if asynchronous(i) {
		h = s.putOff(h)
	}
	return s.Audited(h), true
}

// changes reports an interaction that may change something.
func changes(i fhir.Interaction) bool {
	switch i {
	case fhir.Create, fhir.Update, fhir.Patch, fhir.Delete, fhir.Batch, fhir.Transaction:
		return true
	}
	return false
}

// Refuse records the refusal err of a request that never reached a handler and
// returns what to answer.
func (s *Service) Refuse(ctx context.Context, rq *respond.Request, err error) error {
	if !refusal(rq.Interaction, err) || !rq.Grant.Valid() {
		return err
	}
	if failed := s.gate.Refuse(ctx, rq.Grant, rq.Type); failed != nil {
		return outcome.New(outcome.Unavailable, "the access could not be recorded: try again").Because(failed)
	}
	return err
}

// Audited records every refusal of h. It is the same for a hidden and an absent
// resource, in its content and in its cost.
func (s *Service) Audited(h respond.Handler) respond.Handler {
	return func(ctx context.Context, rq *respond.Request) (respond.Response, error) {
		resp, err := h(ctx, rq)
		if err != nil {
			return nil, s.Refuse(ctx, rq, err)
		}
		return resp, nil
	}
}

// refusal reports what is recorded: whatever is not found or forbidden, and
// every change that was tried in vain.
func refusal(i fhir.Interaction, err error) bool {
	if err == nil {
		return false
	}
	switch status := outcome.Of(err).Status(); status {
	case http.StatusNotFound, http.StatusForbidden:
		return true
	default:
		return changes(i) && status >= 400 && status < 500
	}
}

// release opens what the store read for rq.
func (s *Service) release(ctx context.Context, rq *respond.Request, in ...record.Sealed) ([]record.Released, error) {
	return s.gate.Release(ctx, rq.Grant, rq.Type, in...)
}
