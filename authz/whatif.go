package authz

import (
	"errors"
	"slices"

	"github.com/cloister-health/cloister/authz/internal/issue"
)

// Explained is how the policy answers one question, and why.
type Explained struct {
	Permit  bool
	By      []string // the lines of policy that decided, or "law " and the rule that bars; none where no line permits
	Needs   []Fact   // the minimal sets of facts that would permit; none where nothing would
	Version string   // of the policy
}

// Explainer is a PolicyDecisionPoint that says why; package pdp has it.
type Explainer interface {
	Why(q Question, facts Fact) (Explained, error)
}

var errUnexplained = errors.New("authz: the policy decision point does not explain itself")

// WhatIf answers how the policy and the law of g's practice would decide on a question if
// these facts held, for a caller whom nobody authenticated. It issues nothing: no record can
// be read by it.
func (e *Engine) WhatIf(g Grant, q Question, facts Fact) (Explained, error) {
	if !g.Valid() || issue.Closed(g) {
		return Explained{}, ErrDenied
	}
	practice := e.policies.Of(g.Caller().Tenant)
	p, ok := practice.Policy.(Explainer)
	if !ok {
		return Explained{}, ErrDenied.Because(errUnexplained)
	}
	x, err := p.Why(q, facts)
	if err != nil {
		return Explained{}, ErrDenied.Because(err)
	}
	policy := x.Needs
	if x.Needs, err = practice.permit(q); err != nil {
		return Explained{}, ErrDenied.Because(err)
	}
	if x.Permit && !slices.ContainsFunc(x.Needs, facts.Has) {
		x.Permit, x.By = false, nil
		for _, f := range policy {
			if rule, lawful := Lawful(q, f, practice.States); !lawful && facts.Has(f) {
				x.By = append(x.By, "law "+rule)
			}
		}
	}
	return x, nil
}

// FactNames gives the names of the facts in f as policies call them, in bit order.
func FactNames(f Fact) (out []string) {
	for _, x := range Facts() {
		if f.Has(x.Bit) {
			out = append(out, x.Name)
		}
	}
	return out
}
