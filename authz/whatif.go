package authz

import "errors"

// Explained is how the policy answers one question, and why.
type Explained struct {
	Permit  bool
	By      []string // the lines of policy that decided; none where no line permits
	Needs   []Fact   // the minimal sets of facts that would permit; none where nothing would
	Version string   // of the policy
}

// Explainer is a PolicyDecisionPoint that says why; package pdp has it.
type Explainer interface {
	Why(q Question, facts Fact) (Explained, error)
}

var errUnexplained = errors.New("authz: the policy decision point does not explain itself")

// WhatIf answers how the policy would decide on a question if these facts held,
// for a caller whom nobody authenticated. It issues nothing: no record can be read by it.
func (e *Engine) WhatIf(q Question, facts Fact) (Explained, error) {
	p, ok := e.pdp.(Explainer)
	if !ok {
		return Explained{}, ErrDenied.Because(errUnexplained)
	}
	x, err := p.Why(q, facts)
	if err != nil {
		return Explained{}, ErrDenied.Because(err)
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
