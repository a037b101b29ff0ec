// Package rest has one file per FHIR RESTful interaction (http://hl7.org/fhir/R4/http.html).
package rest

import (
	"context"
	"net/http"

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
	// History lists versions, the newest first, from below the version before (0: from the top).
	History(ctx context.Context, r authz.Restriction, id fhir.ID, count int, before fhir.VersionID) (record.Page, error)
	Search(context.Context, authz.Reach, search.Query) (record.Page, error)
	// Match gives the ids of at most two matches: enough to tell one from several.
	Match(context.Context, authz.Reach, search.Query) ([]fhir.ID, error)
	// Commit writes all changes or none; a *record.ChangeError names the one that failed.
	Commit(context.Context, []record.Cleared) ([]record.Receipt, error)
}

// Service answers the interactions.
type Service struct {
	engine  *authz.Engine
	gate    *record.Gate
	store   Store
	cursors [32]byte
	upsert  bool
}

// New wires the interactions. cursors is the secret key that seals paging
// links; upsert lets an update create (R4 http.html, "update as create").
func New(e *authz.Engine, g *record.Gate, s Store, cursors [32]byte, upsert bool) *Service {
	return &Service{engine: e, gate: g, store: s, cursors: cursors, upsert: upsert}
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
	case fhir.HistoryInstance:
		h = s.history
	case fhir.SearchType:
		h = s.search
	case fhir.Create:
		h = s.create
	case fhir.Update:
		h = s.update
	case fhir.Delete:
		h = s.delete
	case fhir.Batch:
		h = s.batch
	case fhir.Transaction:
		h = s.transaction
	default:
		return nil, false
	}
	return s.Audited(h), true
}

// Refuse records the refusal err of a request that never reached a handler and
// returns what to answer.
func (s *Service) Refuse(ctx context.Context, rq *respond.Request, err error) error {
	if !refusal(err) || !rq.Grant.Valid() {
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

func refusal(err error) bool {
	if err == nil {
		return false
	}
	status := outcome.Of(err).Status()
	return status == http.StatusNotFound || status == http.StatusForbidden
}

// release opens what the store read for rq.
func (s *Service) release(ctx context.Context, rq *respond.Request, in ...record.Sealed) ([]record.Released, error) {
	return s.gate.Release(ctx, rq.Grant, rq.Type, in...)
}
