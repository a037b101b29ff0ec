package operation

import (
	"context"
	"net/url"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/api/rest"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// supporting are the types outside of any patient's compartment that come along
// with what refers to them.
var supporting = []fhir.ResourceType{"Device", "HealthcareService", "Location", "Medication", "Organization", "Practitioner", "PractitionerRole", "Substance"}

// everything answers Patient/[id]/$everything and Encounter/[id]/$everything
// with what this caller may see of the compartment, and what it refers to
// (http://hl7.org/fhir/R4/patient-operation-everything.html).
func (s *Service) everything(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	known := []string{"_since", "_type", "_count", search.PageParam}
	if rq.Type == "Patient" {
		known = append(known, "start", "end")
	}
	a, err := arguments(rq, known...)
	if err != nil {
		return nil, err
	}
	one := map[string]string{}
	self := url.Values{}
	for _, name := range known {
		v, err := a.text(name)
		if err != nil {
			return nil, err
		}
		if one[name] = v; v != "" && name != search.PageParam {
			self.Set(name, v)
		}
	}
	sub, err := s.as(rq, fhir.SearchSystem, rq.Type)
	if err != nil {
		return nil, err
	}
	if err := s.there(ctx, rq); err != nil {
		return nil, err
	}
	asked := url.Values{"_count": {"1000"}}
	if v := one["_since"]; v != "" {
		asked.Set("_lastUpdated", "ge"+v)
	}
	for _, name := range []string{"_type", "_count"} {
		if v := one[name]; v != "" {
			asked.Set(name, v)
		}
	}
	opt, err := s.pages.Searching(ctx, rq)
	if err != nil {
		return nil, err
	}
	q, _, err := search.ParseCompartment(fhir.Ref{Type: rq.Type, ID: rq.ID}, search.Every, asked, opt)
	if err != nil {
		return nil, err
	}
	if err := cared(&q, one["start"], one["end"], opt); err != nil {
		return nil, err
	}
	if q.Asked == nil {
		for _, t := range supporting {
			q.Includes = append(q.Includes, search.Include{Param: "*", Target: t})
		}
	}
	return s.pages.Page(ctx, sub, rest.Listing{
		Path: "/" + string(rq.Type) + "/" + string(rq.ID) + "/$everything", Query: q, Self: self, Token: one[search.PageParam],
	})
}

// there finds whether the caller may see the resource that rq names. Nothing is
// disclosed yet: the answer is the same for hidden and absent.
func (s *Service) there(ctx context.Context, rq *respond.Request) error {
	g, err := s.engine.Extend(rq.Grant, fhir.Read, rq.Type)
	if err != nil {
		return err
	}
	r, err := s.engine.Plan(ctx, g, fhir.Read, rq.Type)
	if err != nil {
		return err
	}
	_, err = s.store.Read(ctx, r, rq.ID)
	return err
}

// cared narrows the types that have a clinical date to care between start and
// end; the others, such as the Patient, have no place in time and stay.
func cared(q *search.Query, start, end string, opt search.Options) error {
	values := []string{}
	if start != "" {
		values = append(values, "ge"+start)
	}
	if end != "" {
		values = append(values, "le"+end)
	}
	if len(values) == 0 {
		return nil
	}
	for i := range q.Legs {
		l := &q.Legs[i]
		code, ok := search.ClinicalDate(l.Type)
		if !ok {
			continue
		}
		dated, _, err := search.Parse(l.Type, url.Values{code: values}, opt)
		if err != nil {
			return err
		}
		l.Where = append(l.Where, dated.Legs[0].Where...)
	}
	return nil
}
