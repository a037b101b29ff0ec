package pdp

import (
	"errors"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// question is what Casbin is asked: a cell of the policy and the facts that hold.
type question struct {
	authz.Question
	facts authz.Fact
}

// choice is a role, purpose or action field.
type choice struct {
	any     bool
	negated bool // !a|b: none of them
	names   []string
}

// holds reports whether one of the caller's names is meant.
func (c choice) holds(names ...string) bool {
	if c.any {
		return true
	}
	for _, n := range names {
		if slices.Contains(c.names, n) {
			return !c.negated
		}
	}
	return c.negated
}

// labelTerm is a labels field; how it matches depends on the line's effect.
type labelTerm struct {
	any  bool
	set  label.Set
	must label.Set // of an allow line: labels without which it does not match
}

// factTerm is a facts field: conditions of an allow line, exceptions of a deny line.
type factTerm struct {
	need   authz.Fact
	unless []authz.Fact
}

// line is one rule of the policy, as text for Casbin and as terms for the functions.
type line struct {
	number   int  // in its file
	practice bool // of a practice, not of the house
	name     string
	allow    bool
	fields   []string // the eight columns
	role     choice
	purpose  choice
	action   choice
	types    map[fhir.ResourceType]bool
	labels   labelTerm
	facts    factTerm
}

// about reports whether the line speaks of the cell, leaving facts aside.
func (l *line) about(q authz.Question) bool {
	return l.concerns(q) && l.labelled(q.Labels)
}

// labelled: an allow line must cover every label, and may ask for some; a deny
// line is set off by one.
func (l *line) labelled(s label.Set) bool {
	if l.allow {
		return l.labels.set.Has(s) && s.Has(l.labels.must)
	}
	return l.labels.any || l.labels.set.Any(s)
}

// applies reports whether the facts let the line take effect.
func (l *line) applies(f authz.Fact) bool {
	if l.allow {
		return f.Has(l.facts.need)
	}
	for _, u := range l.facts.unless {
		if f.Has(u) {
			return false
		}
	}
	return true
}

var errArguments = errors.New("pdp: a matcher function got arguments that no policy line has")

// functions are those of the matcher. Casbin hands each the question and the
// text of one field, and the effect where the meaning of the field depends on it; the
// terms were parsed once, when the policy was loaded.
func functions(lines []*line) map[string]func(args ...any) (any, error) {
	on := func(column int, read func(q question, l *line) bool) func(args ...any) (any, error) {
		texts := []int{column}
		if column == columnTypes || column == columnLabels || column == columnFacts {
			texts = append(texts, columnEffect)
		}
		byText := map[string]*line{}
		for _, l := range lines {
			key := ""
			for _, c := range texts {
				key += "\x00" + l.fields[c]
			}
			byText[key] = l
		}
		return func(args ...any) (any, error) {
			if len(args) != 1+len(texts) {
				return nil, errArguments
			}
			q, ok := args[0].(question)
			key := ""
			for _, a := range args[1:] {
				text, isText := a.(string)
				ok = ok && isText
				key += "\x00" + text
			}
			l := byText[key]
			if !ok || l == nil {
				return nil, errArguments
			}
			return read(q, l), nil
		}
	}
	return map[string]func(args ...any) (any, error){
		"role":    on(columnRole, func(q question, l *line) bool { return l.role.holds(q.Roles...) }),
		"purpose": on(columnPurpose, func(q question, l *line) bool { return l.purpose.holds(q.Purpose) }),
		"action":  on(columnAction, func(q question, l *line) bool { return l.action.holds(string(q.Action)) }),
		"types":   on(columnTypes, func(q question, l *line) bool { return l.types[q.Type] }),
		"labels":  on(columnLabels, func(q question, l *line) bool { return l.labelled(q.Labels) }),
		"facts":   on(columnFacts, func(q question, l *line) bool { return l.applies(q.facts) }),
	}
}
