package pdp

import (
	"math/bits"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
)

// least lists the minimal sets of facts under which lines permit a class of
// labels, fewest facts first; the lines are those that speak of caller, action and type. Such a set is
// what one allow line asks for, joined with one lifting fact of each deny line that applies:
// nothing else can be minimal, so that the sets of all facts need not be tried.
func least(lines []*line, labels label.Set) []authz.Fact {
	var sets []authz.Fact
	for _, l := range lines {
		if l.allow && l.labelled(labels) && !slices.Contains(sets, l.facts.need) {
			sets = append(sets, l.facts.need)
		}
	}
	for _, l := range lines {
		if l.allow || !l.labelled(labels) {
			continue
		}
		var lifted []authz.Fact
		for _, s := range sets {
			if l.applies(s) {
				for _, u := range l.facts.unless {
					if !slices.Contains(lifted, s|u) {
						lifted = append(lifted, s|u)
					}
				}
			} else if !slices.Contains(lifted, s) {
				lifted = append(lifted, s)
			}
		}
		sets = lifted
	}
	slices.SortFunc(sets, func(a, b authz.Fact) int {
		if d := bits.OnesCount16(uint16(a)) - bits.OnesCount16(uint16(b)); d != 0 {
			return d
		}
		return int(a) - int(b)
	})
	minimal := sets[:0]
	for _, s := range sets {
		if !slices.ContainsFunc(minimal, s.Has) {
			minimal = append(minimal, s)
		}
	}
	if len(minimal) == 0 {
		return nil
	}
	return minimal
}

// speaking lists the lines that speak of a question, labels and facts left aside.
func (p *policy) speaking(q authz.Question) []*line {
	var out []*line
	for _, l := range p.lines {
		if l.concerns(q) {
			out = append(out, l)
		}
	}
	return out
}

// concerns reports whether the line speaks of a question, labels and facts left aside.
func (l *line) concerns(q authz.Question) bool {
	return l.types[q.Type] && l.action.holds(string(q.Action)) && l.purpose.holds(q.Purpose) && l.role.holds(q.Roles...)
}

// allows reports whether some of the lines allows.
func allows(lines []*line) bool {
	return slices.ContainsFunc(lines, func(l *line) bool { return l.allow })
}
