package rest

import (
	"context"
	"errors"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// written answers a change that is stored, or a conditional create that met
// something. A representation is what the caller may read of that version:
// whoever may write more than she may read gets none.
func (s *Service) written(ctx context.Context, rq *respond.Request, rc record.Receipt) respond.Response {
	if !rq.Prefer.Represent() {
		return respond.Written(rc)
	}
	out, err := s.representation(ctx, rq, rc.Ref, rc.Version)
	if err != nil {
		return respond.Written(rc) // the change is stored, whatever becomes of its echo
	}
	return respond.Written(rc, out...)
}

// representation reads a version of a resource under the read permission of rq's caller.
func (s *Service) representation(ctx context.Context, rq *respond.Request, ref fhir.Ref, v fhir.VersionID) ([]record.Released, error) {
	g, err := s.engine.Extend(rq.Grant, fhir.Read, ref.Type)
	if err != nil {
		return nil, err
	}
	r, err := s.engine.Plan(ctx, g, fhir.Read, ref.Type)
	if err != nil {
		return nil, err
	}
	sealed, err := s.store.VRead(ctx, r, ref.ID, v)
	if err != nil {
		return nil, err
	}
	return s.gate.Release(ctx, g, ref.Type, sealed)
}

// ifMatch reads the If-Match header of a write: 0 without one. A tag that this
// server cannot have written matches no version.
func ifMatch(header string) (fhir.VersionID, error) {
	if header == "" || header == "*" {
		return 0, nil
	}
	v, ok := respond.ParseETag(header)
	if !ok {
		return 0, outcome.New(outcome.Precondition, `If-Match names no version of this server: its form is W/"1"`)
	}
	return v, nil
}

// advice is where the gate says what it let pass, for a client that asked for an OperationOutcome.
func advice(rq *respond.Request) *[]outcome.Issue {
	if !rq.Prefer.Outcome() {
		return nil
	}
	return &rq.Advice
}

// commitOne admits and stores one change.
func (s *Service) commitOne(ctx context.Context, rq *respond.Request, c record.Change) (record.Receipt, error) {
	if len(rq.Done) == 1 {
		return rq.Done[0], nil
	}
	c.Advice = advice(rq)
	rcs, err := s.commit(ctx, rq, func() ([]record.Cleared, error) {
		cleared, err := s.gate.Admit(ctx, rq.Grant, c)
		return []record.Cleared{cleared}, err
	})
	if err != nil {
		return record.Receipt{}, err
	}
	return rcs[0], nil
}

// commit admits the changes of a request and stores them, under its key where it has one.
func (s *Service) commit(ctx context.Context, rq *respond.Request, admit func() ([]record.Cleared, error)) ([]record.Receipt, error) {
	const tries = 4
	for try := 1; ; try++ {
		cleared, err := admit()
		if err != nil {
			return nil, err
		}
		var rcs []record.Receipt
		if rq.Once != nil {
			rcs, err = s.store.CommitOnce(ctx, cleared, *rq.Once)
		} else {
			rcs, err = s.store.Commit(ctx, cleared)
		}
		if try == tries || !errors.Is(err, record.ErrReplan) {
			return rcs, err
		}
	}
}
