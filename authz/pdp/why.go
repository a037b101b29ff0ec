package pdp

import "github.com/cloister-health/cloister/authz"

var _ authz.Explainer = (*Point)(nil)

// Why implements [authz.Explainer] with [Point.Explain].
func (p *Point) Why(q authz.Question, facts authz.Fact) (authz.Explained, error) {
	x, err := p.Explain(q, facts)
	if err != nil {
		return authz.Explained{}, err
	}
	return authz.Explained{Permit: x.Permit, By: x.By, Needs: x.Needs, Version: x.Version}, nil
}
