package pdp

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// Change is what another policy would change for some callers.
type Change struct {
	Roles   []string            `json:"roles"` // of callers with one role
	Purpose string              `json:"purpose"`
	Actions []authz.Action      `json:"actions"`
	Types   []fhir.ResourceType `json:"types"`
	Labels  []string            `json:"labels"` // the classes of labels, each written A+B
	Was     string              `json:"was"`    // the facts that it took, see [Needs]; "deny" where nothing opened it
	Is      string              `json:"is"`

	classes []label.Set
}

// Classes writes the classes of labels in short, see [Fold].
func (c Change) Classes() string { return Fold(c.classes) }

// Diff lists what changes for whom when policy before gives way to after, folded:
// callers with one role, all purposes, actions and types, and the classes of
// [LabelClasses]. What it does not list stays as it is; for callers with several roles that follows
// as long as no deny line with a negated role changes.
func Diff(before, after *Point) []Change {
	a, b := before.current.Load(), after.current.Load()
	if a == nil || b == nil {
		return nil
	}
	return diff(a, b)
}

func diff(a, b *policy) []Change { return merge(slices.Collect(changes(a, b))) }

// changes finds the changes one by one, not yet folded.
func changes(a, b *policy) iter.Seq[Change] {
	return func(yield func(Change) bool) { find(a, b, yield) }
}

func find(a, b *policy, yield func(Change) bool) {
	changed := func(lines []*line, others []*line) (out []*line) {
		for _, l := range lines {
			if !slices.ContainsFunc(others, func(o *line) bool { return slices.Equal(o.fields, l.fields) }) {
				out = append(out, l)
			}
		}
		return out
	}
	touched := append(changed(a.lines, b.lines), changed(b.lines, a.lines)...)
	everything := !slices.Equal(a.states, b.states) || !sameGroups(a, b)
	kinds := kindsAlike(a, b)
	for _, role := range roles {
		for _, purpose := range purposes {
			for _, action := range Actions() {
				for _, k := range kinds {
					q := authz.Question{Roles: []string{role}, Purpose: purpose, Action: action, Type: k.Types[0]}
					if !everything && !slices.ContainsFunc(touched, func(l *line) bool { return l.concerns(q) }) {
						continue
					}
					was, is := a.speaking(q), b.speaking(q)
					if !allows(was) && !allows(is) {
						continue
					}
					for _, c := range compare(a, b, q, k, was, is) {
						if !yield(c) {
							return
						}
					}
				}
			}
		}
	}
}

// sameGroups reports whether both read names of groups alike.
func sameGroups(a, b *policy) bool {
	for name, members := range a.groups.roles {
		if o, ok := b.groups.roles[name]; ok && !slices.Equal(o, members) {
			return false
		}
	}
	for name, set := range a.groups.labels {
		if o, ok := b.groups.labels[name]; ok && o != set {
			return false
		}
	}
	for t, g := range a.groups.of {
		if b.groups.of[t] != g {
			return false
		}
	}
	return true
}

// compare lists the changes of one role, purpose, action and kind: one for each pair of before and after.
func compare(a, b *policy, q authz.Question, k Kind, was, is []*line) []Change {
	var out []Change
	for _, q.Labels = range LabelClasses() {
		before, after := Needs(a.lawful(q, was)), Needs(b.lawful(q, is))
		if before == after {
			continue
		}
		i := slices.IndexFunc(out, func(c Change) bool { return c.Was == before && c.Is == after })
		if i < 0 {
			i = len(out)
			out = append(out, Change{Roles: q.Roles, Purpose: q.Purpose, Actions: []authz.Action{q.Action}, Types: k.Types, Was: before, Is: after})
		}
		out[i].classes = append(out[i].classes, q.Labels)
		out[i].Labels = append(out[i].Labels, q.Labels.String())
	}
	return out
}

// merge joins changes that differ in types, then in actions, then in roles alone.
func merge(in []Change) []Change {
	join := func(in []Change, same func(a, b Change) bool, add func(a *Change, b Change)) []Change {
		var out []Change
		for _, c := range in {
			i := slices.IndexFunc(out, func(o Change) bool {
				return o.Purpose == c.Purpose && o.Was == c.Was && o.Is == c.Is && slices.Equal(o.classes, c.classes) && same(o, c)
			})
			if i < 0 {
				out = append(out, c)
			} else {
				add(&out[i], c)
			}
		}
		return out
	}
	in = join(in, func(a, b Change) bool { return slices.Equal(a.Roles, b.Roles) && slices.Equal(a.Actions, b.Actions) },
		func(a *Change, b Change) { a.Types = slices.Concat(a.Types, b.Types) })
	in = join(in, func(a, b Change) bool { return slices.Equal(a.Roles, b.Roles) && slices.Equal(a.Types, b.Types) },
		func(a *Change, b Change) { a.Actions = slices.Concat(a.Actions, b.Actions) })
	return join(in, func(a, b Change) bool { return slices.Equal(a.Actions, b.Actions) && slices.Equal(a.Types, b.Types) },
		func(a *Change, b Change) { a.Roles = slices.Concat(a.Roles, b.Roles) })
}

// String writes a change for people: who, what, and what it took and takes.
func (c Change) String() string {
	types := make([]string, len(c.Types))
	for i, t := range c.Types {
		types[i] = string(t)
	}
	what := strings.Join(types, ", ")
	if n := len(types); n > 4 {
		what = strings.Join(types[:3], ", ") + " and " + strconv.Itoa(n-3) + " more types"
	}
	actions := make([]string, len(c.Actions))
	for i, a := range c.Actions {
		actions[i] = string(a)
	}
	return strings.Join(c.Roles, ", ") + " (" + c.Purpose + "): " + strings.Join(actions, ", ") + " " + what +
		"\n  labels " + c.Classes() + "\n  was    " + c.Was + "\n  is     " + c.Is + "\n"
}
