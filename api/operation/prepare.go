package operation

import (
	"context"
	"net/url"
	"strings"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// prepare answers POST Consent/$prepare: a consent form of the practice, filled in for a
// patient, becomes a Consent that waits for its signature.
func (c *Ceremony) prepare(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	a, err := arguments(rq, "questionnaire", "patient", "answers", "cosigner")
	if err != nil {
		return nil, err
	}
	canonical, err := a.text("questionnaire")
	if err != nil {
		return nil, err
	}
	patient, err := a.text("patient")
	if err != nil {
		return nil, err
	}
	p := record.Preparation{}
	var ok bool
	if p.Patient, ok = fhir.ParseRef(strings.TrimPrefix(patient, rq.Base+"/")); !ok || p.Patient.Type != "Patient" {
		return nil, outcome.New(outcome.Required, "the operation needs the parameter patient, a reference to a Patient of this server")
	}
	if p.Answers, err = answers(rq, a); err != nil {
		return nil, err
	}
	for _, code := range a.texts["cosigner"] {
		switch code {
		case "parent":
			p.Parent = true
		case "witness":
			p.Witness = true
		default:
			return nil, outcome.New(outcome.Invalid, "the parameter cosigner is parent or witness")
		}
	}
	if p.Person, err = c.person(ctx, rq, p.Patient.ID); err != nil {
		return nil, err
	}
	receipts, err := c.commit(ctx, func() ([]record.Cleared, error) {
		template, err := c.template(ctx, rq, canonical)
		if err != nil {
			return nil, err
		}
		p.ID = fhir.ID(record.NewID())
		cleared, err := c.gate.Prepare(ctx, rq.Grant, template, p)
		return []record.Cleared{cleared}, err
	})
	if err != nil {
		return nil, err
	}
	if !rq.Prefer.Represent() {
		return respond.Written(receipts[0]), nil
	}
	out, err := c.version(ctx, rq, receipts[0])
	if err != nil {
		return respond.Written(receipts[0]), nil //nolint:nilerr // it is stored, whatever becomes of its echo
	}
	return respond.Written(receipts[0], out...), nil
}

// answers is the QuestionnaireResponse among the arguments, or nil.
func answers(rq *respond.Request, a args) (*codec.Resource, error) {
	switch n := a.nodes["answers"]; {
	case len(n) == 0 && len(a.texts["answers"]) == 0:
		return nil, nil //nolint:nilnil // a form may ask for nothing
	case len(n) != 1 || n[0].Kind != element.Object || n[0].Get("resourceType").String() != "QuestionnaireResponse":
		return nil, outcome.New(outcome.Invalid, "the parameter answers is a QuestionnaireResponse, in a Parameters resource that is posted")
	default:
		r, err := codec.Check(n[0])
		if err == nil {
			r.Localise(rq.Base)
		}
		return r, err
	}
}

// template finds the one form that a canonical names among those that the caller may read.
func (c *Ceremony) template(ctx context.Context, rq *respond.Request, canonical string) (record.Sealed, error) {
	u, version, _ := strings.Cut(canonical, "|")
	if u == "" {
		return record.Sealed{}, outcome.New(outcome.Required, "the operation needs the parameter questionnaire: the canonical URL of a consent form, as url|version")
	}
	asked := url.Values{"url": {u}, "status": {"active"}, "_count": {"2"}}
	if version != "" {
		asked.Set("version", version)
	}
	opt, err := c.pages.Searching(ctx, rq)
	if err != nil {
		return record.Sealed{}, err
	}
	q, _, err := search.Parse("Questionnaire", asked, opt)
	if err != nil {
		return record.Sealed{}, err
	}
	reach, err := c.engine.Reach(ctx, rq.Grant, fhir.Read, q.Types()...)
	if err != nil {
		return record.Sealed{}, err
	}
	page, err := c.store.Search(ctx, reach, q)
	switch {
	case err != nil:
		return record.Sealed{}, err
	case len(page.Entries) == 0:
		return record.Sealed{}, outcome.New(outcome.Undefined, "there is no active consent form of that url and version")
	case len(page.Entries) > 1 || page.More:
		return record.Sealed{}, outcome.New(outcome.BusinessRule, "several active consent forms have that url: name the version, as url|version")
	}
	return page.Entries[0], nil
}
