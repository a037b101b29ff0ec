package pdp

import (
	"errors"
	"slices"

	"github.com/cloister-health/cloister/authz"
)

// Line is a line of policy that speaks of a question.
type Line struct {
	Number  int    // in policy.csv
	Name    string // its last column
	Effect  string // allow or deny
	Facts   string // its facts column: what an allow line needs, what lifts a deny line
	Applies bool   // whether the facts let it take effect
}

// Explanation says how one question was decided.
type Explanation struct {
	Version string
	Permit  bool
	// By names the lines that decided: the deny lines that apply; without one,
	// the allow lines that apply. It is empty where no line permits.
	By []string
	// Lines are all that speak of the question, in the order of the policy.
	Lines []Line
	// Needs are the minimal sets of facts that would permit, as [Point.Permit] gives them.
	Needs []authz.Fact
}

var errDisagree = errors.New("pdp: the lines and the enforcer disagree")

// Explain decides q with the facts that hold and says which lines decided. The
// decision itself is Casbin's; should the lines tell another story, that is an error.
func (p *Point) Explain(q authz.Question, facts authz.Fact) (Explanation, error) {
	c := p.current.Load()
	if c == nil {
		return Explanation{}, errNoPolicy
	}
	e := Explanation{Version: c.version()}
	q, ok := normal(q)
	if !ok {
		return e, nil
	}
	var allows, denies []string
	for _, l := range c.lines {
		if !l.about(q) {
			continue
		}
		x := Line{l.number, l.name, l.fields[columnEffect], l.fields[columnFacts], l.applies(facts)}
		e.Lines = append(e.Lines, x)
		switch {
		case x.Applies && l.allow:
			allows = append(allows, l.name)
		case x.Applies:
			denies = append(denies, l.name)
		}
	}
	e.By = allows
	if len(denies) > 0 {
		e.By = denies
	}
	permit, err := c.enforce(q, facts)
	if err != nil {
		return Explanation{}, err
	}
	if permit != (len(allows) > 0 && len(denies) == 0) {
		return Explanation{}, errDisagree
	}
	e.Permit = permit
	if e.Needs, err = c.permit(q); err != nil {
		return Explanation{}, err
	}
	if permit != slices.ContainsFunc(e.Needs, facts.Has) {
		return Explanation{}, errDisagree
	}
	return e, nil
}

// FactNames spells facts as policy lines do: "treating+program", or "-" for none.
func FactNames(f authz.Fact) string { return factNames(f) }
