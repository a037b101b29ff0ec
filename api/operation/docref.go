package operation

import (
	"context"
	"net/url"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/api/rest"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// docref answers DocumentReference/$docref with the documents of a patient, by
// care date and type (US Core 7.0, OperationDefinition docref).
func (s *Service) docref(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	a, err := arguments(rq, "patient", "start", "end", "type", "on-demand", "_count", search.PageParam)
	if err != nil {
		return nil, err
	}
	patient, err := a.text("patient")
	if err != nil {
		return nil, err
	}
	if patient == "" {
		return nil, outcome.New(outcome.Required, "the operation needs the parameter patient")
	}
	onDemand, err := a.text("on-demand")
	if err != nil {
		return nil, err
	}
	if onDemand != "" && onDemand != "false" {
		return nil, outcome.New(outcome.Invalid, "documents are not made on demand here: leave on-demand out")
	}
	sub, err := s.as(rq, fhir.SearchType, "DocumentReference")
	if err != nil {
		return nil, err
	}
	asked, self := url.Values{"patient": {patient}}, url.Values{"patient": {patient}}
	for name, prefix := range map[string]string{"start": "ge", "end": "le"} {
		v, err := a.text(name)
		if err != nil {
			return nil, err
		}
		if v != "" {
			asked.Add("period", prefix+v)
			self.Set(name, v)
		}
	}
	for _, v := range a.texts["type"] {
		asked.Add("type", v)
		self.Add("type", v)
	}
	for _, v := range a.texts["_count"] {
		asked.Add("_count", v)
		self.Add("_count", v)
	}
	opt, err := s.pages.Searching(ctx, rq)
	if err != nil {
		return nil, err
	}
	q, _, err := search.Parse("DocumentReference", asked, opt)
	if err != nil {
		return nil, err
	}
	token, err := a.text(search.PageParam)
	if err != nil {
		return nil, err
	}
	return s.pages.Page(ctx, sub, rest.Listing{Path: "/DocumentReference/$docref", Query: q, Self: self, Token: token})
}
