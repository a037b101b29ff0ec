package pdp

import (
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// LabelClasses lists the classes of labels that lines tell apart: no label and each
// sensitivity, alone and beside each set of sources that one record can have.
func LabelClasses() []label.Set { return labelClasses((label.All &^ label.Source).Codes()...) }

func labelClasses(sensitivities ...string) []label.Set {
	var out []label.Set
	for _, source := range []label.Set{0, label.Part2, label.PsychNote, label.CounselingNote, label.MinorConsented,
		label.PsychNote | label.Part2, label.CounselingNote | label.Part2, label.MinorConsented | label.Part2,
		label.PsychNote | label.CounselingNote, label.MinorConsented | label.PsychNote,
		label.MinorConsented | label.PsychNote | label.Part2, label.MinorConsented | label.CounselingNote | label.Part2, label.Oversight, label.Received} {
		out = append(out, source)
		for _, c := range sensitivities {
			s, _ := label.ParseSet(c) // a code of label.All
			out = append(out, source|s)
		}
	}
	return out
}

// Kind is the resource types that every line of some policies treats alike.
type Kind struct {
	Group string // of groups.csv
	Types []fhir.ResourceType
}

// kindsAlike groups the types that every line of all policies treats alike.
func kindsAlike(policies ...*policy) []Kind {
	var out []Kind
	at := map[string]int{}
	for _, t := range fhir.ResourceTypes() {
		var sig strings.Builder
		for _, p := range policies {
			for _, l := range p.lines {
				if l.types[t] {
					sig.WriteByte('1')
				} else {
					sig.WriteByte('0')
				}
			}
		}
		group := policies[0].groupOf(t)
		key := group + " " + sig.String()
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, Kind{Group: group})
		}
		out[i].Types = append(out[i].Types, t)
	}
	return out
}

// Row is what a policy permits one role for one purpose: for each class of labels the minimal sets of facts.
type Row struct {
	Role    string
	Purpose string
	Action  authz.Action
	Kind    Kind
	Needs   map[label.Set][]authz.Fact // classes that are denied are not in it
}

// Rows lists all that the policy in force permits and the law does not bar, for
// callers of one role. What is not listed is denied.
func (p *Point) Rows() []Row {
	c := p.current.Load()
	if c == nil {
		return nil
	}
	var out []Row
	c.each(kindsAlike(c), func(q authz.Question, k Kind) {
		r := Row{Role: q.Roles[0], Purpose: q.Purpose, Action: q.Action, Kind: k, Needs: map[label.Set][]authz.Fact{}}
		lines := c.speaking(q)
		for _, q.Labels = range LabelClasses() {
			if sets := c.lawful(q, lines); len(sets) > 0 {
				r.Needs[q.Labels] = sets
			}
		}
		if len(r.Needs) > 0 {
			out = append(out, r)
		}
	})
	return out
}

// each visits the questions, labels left open, of which an allow line speaks.
func (p *policy) each(kinds []Kind, visit func(authz.Question, Kind)) {
	for _, role := range roles {
		for _, purpose := range purposes {
			for _, action := range Actions() {
				for _, k := range kinds {
					q := authz.Question{Roles: []string{role}, Purpose: purpose, Action: action, Type: k.Types[0]}
					if allows(p.speaking(q)) {
						visit(q, k)
					}
				}
			}
		}
	}
}

// lawful lists the minimal sets of facts of lines that the law does not bar.
func (p *policy) lawful(q authz.Question, lines []*line) []authz.Fact {
	return authz.LawfulSets(q, least(lines, q.Labels), p.states)
}

// Needs spells sets of facts as they stand in the matrix: "treating+program or treating+consent", "-" for no condition.
func Needs(sets []authz.Fact) string {
	if len(sets) == 0 {
		return "deny"
	}
	names := make([]string, len(sets))
	for i, f := range sets {
		names[i] = factNames(f)
	}
	return strings.Join(names, " or ")
}

// Fold writes classes of labels in short: A B C A+S B+S C+S as "{A B C} S+{A B C}", with
// ALL for no label and each sensitivity.
func Fold(classes []label.Set) string {
	all := (label.All &^ label.Source).Codes()
	bySource := map[label.Set][]string{}
	var order []label.Set
	for _, s := range classes {
		source := s & label.Source
		if bySource[source] == nil {
			order = append(order, source)
		}
		bySource[source] = append(bySource[source], (s &^ label.Source).String())
	}
	var out []string
	for _, source := range order {
		list := strings.Join(bySource[source], " ")
		if len(bySource[source]) == len(all)+1 {
			list = "ALL"
		}
		if source == 0 {
			out = append(out, "{"+list+"}")
		} else {
			out = append(out, source.String()+"+{"+list+"}")
		}
	}
	return strings.Join(out, " ")
}
