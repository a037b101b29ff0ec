package pdp

import (
	"fmt"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
)

// Finding is what a policy says that its author can hardly mean.
type Finding struct {
	Line int    // in its file; 0 for the policy as a whole
	Name string // of the line
	Text string
}

// Lint looks for lines that can never take effect, lines that others make
// superfluous, lines that the law bars, and labels that no line covers. A policy with findings is
// in force all the same. Where a practice has lines of its own, those alone are looked at.
//
// Deny lines are not looked at: they are there for what allow lines of tomorrow say.
func (p *Point) Lint() []Finding {
	c := p.current.Load()
	if c == nil {
		return nil
	}
	return c.lint()
}

func (p *policy) lint() []Finding {
	var out []Finding
	own := slices.ContainsFunc(p.lines, func(l *line) bool { return l.practice })
	kinds := kindsAlike(p)
	covered := map[label.Set]bool{}
	for _, l := range p.lines {
		if !l.allow {
			continue
		}
		if !slices.Contains(l.role.names, Operator) {
			covered[l.labels.set] = true
		}
		if own && !l.practice || slices.Contains(l.role.names, Operator) {
			continue
		}
		switch effect, superfluous, barred := p.effect(l, kinds); {
		case barred:
			out = append(out, Finding{l.number, l.name, "the law bars some of what it permits: that stays shut"})
		case !effect:
			out = append(out, Finding{l.number, l.name, "it never takes effect: deny lines or the law shut all of it"})
		case superfluous:
			out = append(out, Finding{l.number, l.name, "other lines permit all of it with the same facts, or fewer"})
		}
	}
	if !own {
		var all label.Set
		for s := range covered {
			all |= s
		}
		for _, code := range (label.All &^ all).Codes() {
			out = append(out, Finding{Text: fmt.Sprintf("no line covers the label %s: what carries it is shut for everybody", code)})
		}
	}
	return out
}

// effect reports whether an allow line changes any answer, whether others say the same, and whether the law bars
// some of what the policy would permit by it.
func (p *policy) effect(l *line, kinds []Kind) (effect, superfluous, barred bool) {
	superfluous = true
	for _, role := range l.role.names {
		for _, purpose := range l.purpose.names {
			for _, action := range Actions() {
				for _, k := range kinds {
					q := authz.Question{Roles: []string{role}, Purpose: purpose, Action: action, Type: k.Types[0]}
					if !l.concerns(q) {
						continue
					}
					lines := p.speaking(q)
					others := slices.DeleteFunc(slices.Clone(lines), func(o *line) bool { return o == l })
					alone := slices.DeleteFunc(slices.Clone(lines), func(o *line) bool { return o.allow && o != l })
					for _, q.Labels = range LabelClasses() {
						if !l.labelled(q.Labels) {
							continue
						}
						effect = effect || len(p.lawful(q, alone)) > 0
						without := least(others, q.Labels)
						for _, f := range least(lines, q.Labels) {
							_, ok := authz.Lawful(q, f, p.states)
							if !slices.Contains(without, f) {
								superfluous = superfluous && !ok
								barred = barred || !ok
							}
						}
					}
				}
			}
		}
	}
	return effect, superfluous, barred
}
