package operation

import (
	"bytes"
	"context"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/profile"
)

// Validator checks a resource against the rules of R4 and against profiles.
type Validator interface {
	Validate(context.Context, *codec.Resource, profile.Options) ([]outcome.Issue, error)
}

// Validation answers $validate (http://hl7.org/fhir/R4/resource-operation-validate.html).
//
// What it says of a resource comes from that resource and from published definitions. It follows no
// reference and looks for no duplicate, so that nobody learns from it what else is stored.
type Validation struct {
	*Service
	validator Validator
}

// NewValidation wires $validate.
func NewValidation(s *Service, v Validator) *Validation { return &Validation{s, v} }

// Operations lists $validate at its levels.
func (v *Validation) Operations() []Operation {
	const definition = hl7 + "Resource-validate"
	return []Operation{
		{Code: "validate", Level: Type, Candidate: true, Definition: definition, Handler: v.validate},
		{Code: "validate", Level: Instance, Safe: true, Candidate: true, Definition: definition, Handler: v.validate},
	}
}

// question is one invocation.
type question struct {
	content *codec.Resource // nil: the stored resource
	mode    string
	profile string
}

func (v *Validation) validate(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if rq.Unfit != nil {
		if rq.Unfit.Status() == outcome.TooLong.Status() {
			return nil, rq.Unfit
		}
		// Nothing is opened, and the access is recorded all the same.
		if _, err := v.gate.Release(ctx, rq.Grant, rq.Type); err != nil {
			return nil, err
		}
		return respond.Validated(rq.Unfit.Issues), nil
	}
	q, err := ask(rq)
	if err != nil {
		return nil, err
	}
	if q.content == nil {
		return v.stored(ctx, rq, q)
	}
	if q.content.Type != rq.Type {
		return nil, outcome.New(outcome.Invalid, "the resource to validate is not of the type in the path")
	}
	issues, err := v.validator.Validate(ctx, q.content, q.options())
	if err != nil {
		return nil, err
	}
	if rq.ID != "" && q.content.ID() != rq.ID {
		issues = append(issues, outcome.Issue{Category: outcome.Invalid, Path: string(rq.Type) + ".id", Text: "the id of the resource is not the id in the path"})
	}
	if _, err := v.gate.Release(ctx, rq.Grant, rq.Type); err != nil {
		return nil, err
	}
	return respond.Validated(issues), nil
}

// stored validates the resource that the path names, read as any read would: hidden and absent are one answer.
func (v *Validation) stored(ctx context.Context, rq *respond.Request, q question) (respond.Response, error) {
	if rq.ID == "" {
		return nil, outcome.New(outcome.Invalid, "there is nothing to validate: post a resource, or Parameters with one")
	}
	r, err := v.read(ctx, rq)
	if err != nil {
		return nil, err
	}
	if r.Deleted() {
		return nil, outcome.New(outcome.Deleted, "")
	}
	if q.mode == "delete" { // whether something refers to it is decided by the delete itself
		return respond.Validated(nil, r), nil
	}
	var body bytes.Buffer
	if _, err := r.WriteTo(&body); err != nil {
		return nil, err
	}
	content, err := codec.Parse(body.Bytes())
	if err != nil {
		return respond.Validated(outcome.Of(err).Issues, r), nil
	}
	issues, err := v.validator.Validate(ctx, content, q.options())
	if err != nil {
		return nil, err
	}
	return respond.Validated(issues, r), nil
}

func (q question) options() profile.Options {
	var o profile.Options
	if q.profile != "" {
		// Whoever asks for a profile is not served by a warning that it is not here.
		o.Profiles, o.Enforce = []string{q.profile}, true
	}
	return o
}

// ask reads the invocation: the parameters in the query, and a body that is Parameters or the resource itself.
func ask(rq *respond.Request) (q question, err error) {
	bare := *rq
	if c := rq.Content; c != nil && (c.Type != "Parameters" || rq.Type == "Parameters" && !wraps(c)) {
		q.content, bare.Content = c, nil
	}
	a, err := arguments(&bare, "resource", "mode", "profile")
	if err != nil {
		return q, err
	}
	if q.mode, err = a.text("mode"); err != nil {
		return q, err
	}
	if q.profile, err = a.text("profile"); err != nil {
		return q, err
	}
	switch n := a.nodes["resource"]; {
	case len(n) > 1 || len(n) == 1 && n[0].Kind != element.Object || len(n) == 0 && len(a.texts["resource"]) > 0:
		return q, outcome.New(outcome.Invalid, "the parameter resource is one resource, in a Parameters resource that is posted")
	case len(n) == 1:
		if q.content, err = codec.Check(n[0]); err != nil {
			return q, err
		}
	}
	switch q.mode {
	case "", "create", "update":
	case "delete":
		if rq.ID == "" {
			return q, outcome.New(outcome.Invalid, "the mode delete is about the resource that the path names: [type]/[id]/$validate")
		}
		q.content = nil
	case "profile":
		if q.profile == "" {
			return q, outcome.New(outcome.Required, "the mode profile needs the parameter profile")
		}
	default:
		return q, outcome.New(outcome.Invalid, "the parameter mode is create, update, delete or profile")
	}
	return q, nil
}

// wraps says that a Parameters resource carries the resource to validate, rather than being it.
func wraps(c *codec.Resource) bool {
	for _, p := range c.Root.Get("parameter").List() {
		if p.Get("name").String() == "resource" && fhir.ResourceType(p.Get("resource").Get("resourceType").String()).Valid() {
			return true
		}
	}
	return false
}
