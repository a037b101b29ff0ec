package pdp

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent/exception"
	"github.com/cloister-health/cloister/consent/hipaa"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
)

// kindTypes gives one resource type for each kind that the policy tells apart,
// with the number of types of that kind.
func kindTypes(p *policy) (types []fhir.ResourceType, count map[fhir.ResourceType]int) {
	first := map[uint16]fhir.ResourceType{}
	count = map[fhir.ResourceType]int{}
	for _, t := range fhir.ResourceTypes() {
		k := p.kinds[t]
		if first[k] == "" {
			first[k] = t
			types = append(types, t)
		}
		count[first[k]]++
	}
	return types, count
}

// classes are the label classes that tell lines apart: each label alone, and
// with each source beside it.
func classes(sensitivities ...string) []label.Set {
	var out []label.Set
	for _, source := range []label.Set{0, label.Part2, label.PsychNote, label.CounselingNote, label.MinorConsented,
		label.PsychNote | label.Part2, label.CounselingNote | label.Part2, label.MinorConsented | label.Part2,
		label.PsychNote | label.CounselingNote, label.MinorConsented | label.PsychNote, label.Oversight} {
		out = append(out, source)
		for _, c := range sensitivities {
			s, _ := label.ParseSet(c)
			out = append(out, source|s)
		}
	}
	return out
}

// speaks reports whether an allow line names all of q but its labels: the rest
// need not be asked ([TestPermitAgreesWithEnforceAndReference] does, by sample).
func speaks(p *policy, q authz.Question) bool {
	return slices.ContainsFunc(p.lines, func(l *line) bool {
		return l.allow && l.role.holds(q.Roles...) && l.purpose.holds(q.Purpose) && l.action.holds(string(q.Action)) && l.types[q.Type]
	})
}

// excepted reports whether some kind of exception that counts for the purpose
// may stand behind the fact; which source it opens is part of the fact.
func excepted(f authz.Fact, purpose string) bool {
	return f.Has(authz.Exception) && slices.ContainsFunc(exception.Kinds(), func(k exception.Kind) bool {
		return slices.Contains(k.Purposes, purpose)
	})
}

// Every cell that the policy permits, the law permits: the two are written
// down independently (P4, P5, S5, S6, S26, S38). The operator's import is no disclosure.
func TestThePolicyKeepsTheLaw(t *testing.T) {
	p := house(t).current.Load()
	types, _ := kindTypes(p)
	classes := classes("ETH", "PSY", "HIV")
	permitted := 0
	for _, role := range Roles() {
		if role == Operator {
			continue
		}
		for _, purpose := range Purposes() {
			for _, typ := range types {
				for _, action := range Actions() {
					if !speaks(p, authz.Question{Roles: []string{role}, Purpose: purpose, Action: action, Type: typ}) {
						continue
					}
					for _, labels := range classes {
						sets, err := p.permit(authz.Question{Roles: []string{role}, Purpose: purpose, Action: action, Type: typ, Labels: labels})
						if err != nil {
							t.Fatal(err)
						}
						for _, f := range sets {
							permitted++
							where := fmt.Sprintf("%s %s %s %s %s with %s", role, purpose, action, typ, labels, factNames(f))
							if labels.Any(label.PsychNote) && !hipaa.MayUsePsychotherapyNote(f.Has(authz.Originator), purpose) && !excepted(f, purpose) {
								t.Errorf("P4: %s", where)
							}
							if labels.Any(label.PsychNote) && (role == "patient" || role == "proxy") && !hipaa.RightOfAccess(true) {
								t.Errorf("P17: %s", where)
							}
							b := part2.Basis{Program: f.Has(authz.Program), Consent: f.Has(authz.Consent), Self: f.Has(authz.Self)}
							if labels.Any(label.Part2) && !part2.MayDisclose(b, purpose) && !(f.Has(authz.Emergency) && exception.Emergency(purpose, labels.Any(label.Notes))) && !excepted(f, purpose) &&
								!(f.Has(authz.Agreement) && role == "service-organization" && action == authz.ActionRead) {
								t.Errorf("S5: %s", where)
							}
							if labels.Any(label.CounselingNote) && (!b.Program || !f.Has(authz.Originator)) && !excepted(f, purpose) {
								t.Errorf("S11: %s", where)
							}
							if labels.Any(label.Part2) && !b.Program && b.Consent && action != authz.ActionRead {
								t.Errorf("S15: a consent to disclose is none to write: %s", where)
							}
						}
					}
				}
			}
		}
	}
	if permitted < 100 {
		t.Errorf("%d cells are permitted: the test looks in the wrong place", permitted)
	}
}

var update = flag.Bool("update", false, "write testdata/matrix.txt anew")

// The whole policy, cell by cell: what testdata/matrix.txt does not list is
// denied. Whoever changes the policy reads here what else has changed.
func TestMatrix(t *testing.T) {
	p := house(t).current.Load()
	types, count := kindTypes(p)
	classes := classes((label.All &^ label.Source).Codes()...)
	g, err := loadGroups(groupsText)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.WriteString("# Every cell that the policy permits: role purpose action type (and how many more of its kind, group)\n" +
		"#   facts: label classes, each alone in the class or beside the sources named before it\n" +
		"# Made by go test ./authz/pdp -run TestMatrix -update\n")
	for _, role := range Roles() {
		for _, purpose := range Purposes() {
			for _, action := range Actions() {
				for _, typ := range types {
					if !speaks(p, authz.Question{Roles: []string{role}, Purpose: purpose, Action: action, Type: typ}) {
						continue
					}
					byFacts := map[string][]string{}
					for _, labels := range classes {
						sets, err := p.permit(authz.Question{Roles: []string{role}, Purpose: purpose, Action: action, Type: typ, Labels: labels})
						if err != nil {
							t.Fatal(err)
						}
						if len(sets) == 0 {
							continue
						}
						var names []string
						for _, f := range sets {
							names = append(names, factNames(f))
						}
						key := strings.Join(names, " or ")
						byFacts[key] = append(byFacts[key], labels.String())
					}
					if len(byFacts) == 0 {
						continue
					}
					_, _ = fmt.Fprintf(&b, "%s %s %s %s (+%d, %s)\n", role, purpose, action, typ, count[typ]-1, g.of[typ])
					keys := make([]string, 0, len(byFacts))
					for k := range byFacts {
						keys = append(keys, k)
					}
					sort.Strings(keys)
					for _, k := range keys {
						_, _ = fmt.Fprintf(&b, "  %s: %s\n", k, fold(byFacts[k]))
					}
				}
			}
		}
	}
	const name = "testdata/matrix.txt"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(want, b.Bytes()) {
		return
	}
	old, now := strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")
	for _, l := range old {
		if !slices.Contains(now, l) {
			t.Errorf("no longer: %s", l)
		}
	}
	for _, l := range now {
		if !slices.Contains(old, l) {
			t.Errorf("new: %s", l)
		}
	}
	t.Error("the policy permits other cells than testdata/matrix.txt lists; if that is meant, run with -update")
}

// fold writes A B C A+S B+S C+S as "{A B C} S+{A B C}", with ALL for all sensitivities.
func fold(in []string) string {
	all := (label.All &^ label.Source).Codes()
	bySource := map[string][]string{}
	var order []string
	for _, x := range in {
		s, _ := label.ParseSet(x)
		source := (s & label.Source).String()
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
		if source == "-" {
			out = append(out, "{"+list+"}")
		} else {
			out = append(out, source+"+{"+list+"}")
		}
	}
	return strings.Join(out, " ")
}
