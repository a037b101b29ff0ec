package operation

import (
	"context"
	"net/url"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// versions is how many versions of a Consent, and how many Provenances of it, are looked at.
const versions = 100

// verify answers Consent/[id]/$verify-signature with what the signatures of the
// Consent come to, as far as the caller may see its versions and their Provenances.
func (c *Ceremony) verify(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if _, err := arguments(rq); err != nil {
		return nil, err
	}
	current, err := c.current(ctx, rq)
	if err != nil {
		return nil, err
	}
	sub, err := c.as(rq, fhir.Read, rq.Type)
	if err != nil {
		return nil, err
	}
	reach, err := c.engine.Reach(ctx, sub.Grant, fhir.Read, rq.Type)
	if err != nil {
		return nil, err
	}
	history, err := c.store.History(ctx, reach, record.History{Types: []fhir.ResourceType{rq.Type}, ID: rq.ID, Count: versions})
	if err != nil {
		return nil, err
	}
	opt, err := c.pages.Searching(ctx, rq)
	if err != nil {
		return nil, err
	}
	q, _, err := search.Parse("Provenance", url.Values{"target": {string(rq.Type) + "/" + string(rq.ID)}, "_count": {"100"}}, opt)
	if err != nil {
		return nil, err
	}
	if reach, err = c.engine.Reach(ctx, sub.Grant, fhir.Read, q.Types()...); err != nil {
		return nil, err
	}
	page, err := c.store.Search(ctx, reach, q)
	if err != nil {
		return nil, err
	}
	if history.More || page.More {
		return nil, outcome.New(outcome.TooCostly, "the Consent has more versions or more Provenances than one answer can check")
	}
	standing, err := c.standing(ctx, rq)
	if err != nil {
		return nil, err
	}
	v, err := c.gate.Verify(ctx, sub.Grant, current, standing, history.Entries, page.Entries)
	if err != nil {
		return nil, err
	}
	return respond.Found(verified(v)), nil
}

// verified is v as Parameters.
func verified(v record.Verification) *element.Node {
	p := parametersOf(param("state", "valueCode", string(v.State)))
	for _, s := range v.Awaited {
		addParam(p, param("awaited", "valueCode", string(s)))
	}
	for _, s := range v.Signatures {
		part := []*element.Node{
			param("state", "valueCode", string(s.State)),
			paramReference("provenance", s.Provenance.String()),
			param("version", "valueId", s.Version),
			param("type", "valueCode", s.Type),
			paramReference("who", s.Who),
		}
		if s.OnBehalf != "" {
			part = append(part, paramReference("onBehalfOf", s.OnBehalf))
		}
		if s.Witness != "" {
			part = append(part, paramReference("witness", s.Witness))
		}
		if !s.At.IsZero() {
			part = append(part, param("when", "valueInstant", s.At.UTC().Format(time.RFC3339)))
		}
		addParam(p, paramParts("signature", part...))
	}
	return p
}
