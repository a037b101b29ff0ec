package rest

import (
	"context"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// create answers POST [type] (http://hl7.org/fhir/R4/http.html#create). The
// server assigns the id; one in the body is ignored.
func (s *Service) create(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := prepare(rq); err != nil {
		return nil, err
	}
	if rq.IfNoneExist != "" {
		resp, err := s.existing(ctx, rq)
		if resp != nil || err != nil {
			return resp, err
		}
	}
	ref := fhir.Ref{Type: rq.Type, ID: fhir.ID(record.NewID())}
	rq.Content.SetID(ref.ID)
	rc, err := s.commitOne(ctx, rq, record.Change{Interaction: fhir.Create, Ref: ref, Content: rq.Content})
	if err != nil {
		return nil, err
	}
	return s.written(ctx, rq, rc), nil
}

// existing answers a conditional create whose condition something meets
// already (http://hl7.org/fhir/R4/http.html#ccreate); nil if nothing does. Only what
// the caller may find counts.
func (s *Service) existing(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	ids, err := s.match(ctx, rq, rq.Type, rq.IfNoneExist)
	if err != nil {
		return nil, err
	}
	switch len(ids) {
	case 0:
		return nil, nil
	case 1:
		return s.found(ctx, rq, fhir.Ref{Type: rq.Type, ID: ids[0]})
	default:
		return nil, errSeveral
	}
}

var errSeveral = outcome.New(outcome.Precondition, "the condition of the create meets several resources")

// found answers for the one resource that met the condition of a create.
func (s *Service) found(ctx context.Context, rq *respond.Request, ref fhir.Ref) (respond.Response, error) {
	out, err := s.representation(ctx, rq, ref, 0)
	if err != nil {
		return nil, err
	}
	return respond.Found(out[0]), nil
}

// prepare checks the body of a write against the path and makes its references local.
func prepare(rq *respond.Request) error {
	if rq.Content == nil {
		return errContent
	}
	if rq.Content.Type != rq.Type {
		return outcome.New(outcome.Invalid, "the resource in the body is not of the type in the path")
	}
	rq.Content.Localise(rq.Base)
	return noConditional(rq.Content)
}

var errContent = outcome.New(outcome.Invalid, "a resource is required as the body")

// noConditional refuses conditional references, which only a transaction resolves
// (http://hl7.org/fhir/R4/http.html#trules).
func noConditional(c *codec.Resource) error {
	var faults []outcome.Issue
	for _, l := range c.References() {
		if _, _, ok := conditional(l.Node.Text); ok {
			faults = append(faults, outcome.Issue{Category: outcome.Unprocessable, Path: l.Path, Text: "a conditional reference stands only in a transaction"})
		}
	}
	if faults != nil {
		return &outcome.Error{Issues: faults}
	}
	return nil
}
