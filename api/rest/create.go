package rest

import (
	"context"
	"net/url"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// create answers POST [type] (http://hl7.org/fhir/R4/http.html#create). The
// server assigns the id; one in the body is ignored. With If-None-Exist it
// creates only what nothing that the caller may find is already
// (http://hl7.org/fhir/R4/http.html#ccreate).
func (s *Service) create(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := prepare(rq); err != nil {
		return nil, err
	}
	c := record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: rq.Type, ID: fhir.ID(record.NewID())}, Content: rq.Content}
	if rq.IfNoneExist != "" {
		q, err := s.condition(ctx, rq, rq.Type, criteria(rq.Type, rq.IfNoneExist, rq.Base))
		if err != nil {
			return nil, err
		}
		c.Condition = &q
	}
	rq.Content.SetID(c.Ref.ID)
	rc, err := s.commitOne(ctx, rq, c)
	if err != nil {
		return nil, err
	}
	return s.written(ctx, rq, rc), nil
}

// prepare checks the body of a write against the path and makes its references local.
func prepare(rq *respond.Request) error {
	if rq.Content == nil {
		return errContent
	}
	if rq.Content.Type != rq.Type {
		return outcome.New(outcome.Invalid, "the resource in the body is not of the type in the path")
	}
	if err := plain(rq); err != nil {
		return err
	}
	rq.Content.Localise(rq.Base)
	return noConditional(rq.Content)
}

// plain refuses search parameters of a change that is not conditional: to pass
// over them would be to change something else than was meant.
func plain(rq *respond.Request) error {
	if rq.Query == "" || rq.ID == "" && rq.Interaction != fhir.Create {
		return nil
	}
	q, err := url.ParseQuery(rq.Query)
	if err != nil {
		return errQuery
	}
	for name := range q {
		switch name {
		case "_format", "_pretty":
		default:
			if rq.Interaction == fhir.Create {
				return outcome.New(outcome.Invalid, "a create takes no search parameters: to create only what is not there yet, send them as the header If-None-Exist")
			}
			return outcome.New(outcome.Invalid, "a change of one resource takes no search parameters")
		}
	}
	return nil
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
