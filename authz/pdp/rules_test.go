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
	"github.com/cloister-health/cloister/consent/law"
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

// speaks reports whether an allow line names all of q but its labels: the rest
// need not be asked ([TestPermitAgreesWithEnforceAndReference] does, by sample).
func speaks(p *policy, q authz.Question) bool {
	return slices.ContainsFunc(p.lines, func(l *line) bool {
		return l.allow && l.role.holds(q.Roles...) && l.purpose.holds(q.Purpose) && l.action.holds(string(q.Action)) && l.types[q.Type]
	})
}

// inTheWordsOfTheLaw says what a cell and its facts are to the evaluator of the law. It is written
// a second time here, apart from the engine's own (authz.Lawful), so that one of them alone can be wrong.
func inTheWordsOfTheLaw(role, purpose string, action authz.Action, labels label.Set, f authz.Fact) law.Request {
	holds := func(x authz.Fact) bool { return f&x != 0 }
	has := func(l label.Set) bool { return labels&l != 0 }
	r := law.Request{
		Tenant: true, Compartment: true, Caller: true, Scope: true, Minimum: true,
		Purpose: purpose, Recipient: law.Workforce,
		// Who signs, witnesses or revokes a consent changes no record that it is about (42 CFR 2.14(c), 2.31(a)(6)).
		Write: action == authz.ActionCreate || action == authz.ActionUpdate || action == authz.ActionDelete || action == authz.ActionPrepare || action == authz.ActionMask,
		Record: law.Record{
			Part2: has(label.Part2), PsychNote: has(label.PsychNote), CounselingNote: has(label.CounselingNote), MinorConsented: has(label.MinorConsented),
			MentalHealth: has(label.PSY) || has(label.MH) || has(label.BH), SubstanceUse: has(label.SUD) || has(label.ETH),
		},
		Program: holds(authz.Program), Originator: holds(authz.Originator), Self: holds(authz.Self),
		Emergency: holds(authz.Emergency), Exception: holds(authz.Exception), Agreement: holds(authz.Agreement),
	}
	if holds(authz.Consent) {
		r.Consents = law.Consents{
			TPO: purpose == "TREAT" || purpose == "HPAYMT" || purpose == "HOPERAT", Specific: purpose != "HLEGAL" && purpose != "LEGAL",
			Legal: purpose == "HLEGAL" || purpose == "LEGAL", Notes: has(label.PsychNote), Counseling: has(label.CounselingNote), Minor: true,
			Research: strings.Contains(purpose, "RCH") || purpose == "HRESCH", Machine: role == "ai-assistant",
		}
		r.Consents.Specific = r.Consents.Specific && !r.Consents.Research
	}
	r.Machine = role == "ai-assistant"
	switch role {
	case "patient":
		r.Recipient = law.Patient
	case "proxy":
		r.Recipient = law.Parent
	case "hie", "research-analyst", "service-organization", "auditor", "coroner", "law-enforcement", "court", "public-health", "ai-assistant":
		r.Recipient = law.Recipient(role) // which of them it is, the law does not ask
	}
	if purpose == "TRAIN" && holds(authz.Supervising) {
		r.Note.Trainee, r.Counseling.Training = true, true
	}
	return r
}

// Every cell that the policy permits, the law permits, with the least facts that do: the two are
// written down independently (P4, P5, P17, S5, S6, S11, S15, S26, S27, S38). The operator's import is no disclosure.
func TestThePolicyKeepsTheLaw(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes under the race detector, and one goroutine")
	}
	p := house(t).current.Load()
	types, _ := kindTypes(p)
	classes := labelClasses("ETH", "PSY", "HIV")
	permitted, denied := 0, 0
	for _, role := range Roles() {
		if role == Operator {
			continue
		}
		for _, purpose := range Purposes() {
			for _, typ := range types {
				for _, action := range Actions() {
					q := authz.Question{Roles: []string{role}, Purpose: purpose, Action: action, Type: typ}
					if !allows(p.speaking(q)) {
						continue
					}
					for _, q.Labels = range classes {
						sets, err := p.permit(q)
						if err != nil {
							t.Fatal(err)
						}
						for _, f := range sets {
							permitted++
							where := fmt.Sprintf("%s %s %s %s %s with %s", role, purpose, action, typ, q.Labels, factNames(f))
							if d := law.Evaluate(inTheWordsOfTheLaw(role, purpose, action, q.Labels, f)); !d.Permit {
								t.Errorf("%s: %s", d.Rule, where)
							}
							if rule, ok := authz.Lawful(q, f, nil); !ok {
								t.Errorf("the engine's floor, %s: %s", rule, where)
							}
						}
						// What the law bars with no facts at all, no line opens without.
						if d := law.Evaluate(inTheWordsOfTheLaw(role, purpose, action, q.Labels, 0)); !d.Permit {
							denied++
							if slices.Contains(sets, 0) {
								t.Errorf("%s: %+v without conditions", d.Rule, q)
							}
						}
					}
				}
			}
		}
	}
	if permitted < 100 || denied < 100 {
		t.Errorf("%d cells are permitted, %d barred: the test looks in the wrong place", permitted, denied)
	}
}

// No cell is undefined: each is permitted by a line that has a name, denied by one, or denied
// because no line permits; and the lines and Casbin say the same. All cells of which an allow line speaks are asked
// with no fact, all facts and the least that permit, by way of the lines; a sample of them by way of Casbin.
func TestNoCellIsUndefined(t *testing.T) {
	point := house(t)
	p := point.current.Load()
	asked := 0
	p.each(kindsAlike(p), func(q authz.Question, _ Kind) {
		lines := p.speaking(q)
		for _, q.Labels = range LabelClasses() {
			least := least(lines, q.Labels)
			for _, f := range append([]authz.Fact{0, allFacts}, least...) {
				asked++
				var allow, deny []string
				for _, l := range lines {
					switch {
					case !l.labelled(q.Labels) || !l.applies(f):
					case l.allow:
						allow = append(allow, l.name)
					default:
						deny = append(deny, l.name)
					}
				}
				if slices.Contains(append(allow, deny...), "") {
					t.Fatalf("%+v is decided by a line without a name", q)
				}
				permit := len(allow) > 0 && len(deny) == 0
				if permit != slices.ContainsFunc(least, f.Has) {
					t.Fatalf("%+v with %s: the lines say %v, the least facts %v", q, factNames(f), permit, Needs(least))
				}
				if asked%997 != 0 {
					continue
				}
				e, err := point.Explain(q, f)
				if err != nil {
					t.Fatal(err)
				}
				want := allow
				if len(deny) > 0 {
					want = deny
				}
				if e.Permit != permit || !slices.Equal(e.By, want) {
					t.Fatalf("%+v with %s: %v by %v, the lines say %v by %v", q, factNames(f), e.Permit, e.By, permit, want)
				}
			}
		}
	})
	if asked < 10000 {
		t.Errorf("%d cells: the test looks in the wrong place", asked)
	}
}

var update = flag.Bool("update", false, "write testdata/matrix.txt anew")

// The whole policy, cell by cell: what testdata/matrix.txt does not list is
// denied. Whoever changes the policy reads here what else has changed.
func TestMatrix(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes under the race detector, and one goroutine")
	}
	p := house(t).current.Load()
	types, count := kindTypes(p)
	classes := LabelClasses()
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
					byFacts := map[string][]label.Set{}
					for _, labels := range classes {
						sets, err := p.permit(authz.Question{Roles: []string{role}, Purpose: purpose, Action: action, Type: typ, Labels: labels})
						if err != nil {
							t.Fatal(err)
						}
						if len(sets) == 0 {
							continue
						}
						key := Needs(sets)
						byFacts[key] = append(byFacts[key], labels)
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
						_, _ = fmt.Fprintf(&b, "  %s: %s\n", k, Fold(byFacts[k]))
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
