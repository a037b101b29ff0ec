package pdp

import (
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
)

// mutant is the policy with one line changed.
type mutant struct {
	name string // line/what
	line string // what stands in its place
}

// mutants are the changes of one line that a slip of the pen could make.
func mutants(fields []string) []mutant {
	name := fields[columnName]
	with := func(i int, text string) string {
		m := slices.Clone(fields)
		m[i] = text
		return "p, " + strings.Join(m, ", ")
	}
	var out []mutant
	add := func(what string, i int, text string) { out = append(out, mutant{name + "/" + what, with(i, text)}) }
	items := func(text, sep string) []string {
		if text == "-" || text == "*" {
			return nil
		}
		return strings.Split(text, sep)
	}
	without := func(list []string, i int, sep, none string) string {
		if len(list) == 1 {
			return none
		}
		return strings.Join(slices.Delete(slices.Clone(list), i, i+1), sep)
	}
	allow := fields[columnEffect] == "allow"
	sep, none := "|", "-"
	if allow {
		sep = "+"
	}
	facts := items(fields[columnFacts], sep)
	for i, f := range facts {
		add("without the fact "+f, columnFacts, without(facts, i, sep, none))
	}
	if !allow { // a further fact that lifts it
		add("lifted by treating", columnFacts, strings.TrimPrefix(fields[columnFacts]+"|treating", "-|"))
	}
	labels := items(fields[columnLabels], "+")
	for i, l := range labels {
		if none := "-"; len(labels) > 1 || allow {
			add("without the label "+l, columnLabels, without(labels, i, "+", none))
		}
		if plain, must := strings.CutSuffix(l, "!"); must {
			m := slices.Clone(labels)
			m[i] = plain
			add("not asking for "+plain, columnLabels, strings.Join(m, "+"))
		}
	}
	for _, x := range []struct {
		field int
		all   []string
		what  string
	}{{columnRole, Roles(), "role"}, {columnPurpose, []string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT", "ETREAT", "HRESCH"}, "purpose"}} {
		have := fields[x.field]
		if allow {
			for _, r := range x.all { // wider; members of a group are named twice, which no loader accepts
				if !slices.Contains(strings.Split(have, "|"), r) {
					add("also for the "+x.what+" "+r, x.field, have+"|"+r)
				}
			}
			continue
		}
		if have == "*" { // narrower
			add("not for the "+x.what+" "+x.all[0], x.field, "!"+x.all[0])
			continue
		}
		if bare, negated := strings.CutPrefix(have, "!"); negated {
			for _, r := range x.all {
				if !slices.Contains(strings.Split(bare, "|"), r) {
					add("not for the "+x.what+" "+r, x.field, have+"|"+r)
				}
			}
		}
	}
	if fields[columnAction] != "*" {
		add("for every action", columnAction, "*")
	}
	return out
}

// equivalent says why a mutant changes no answer; what is not listed has to change one.
var equivalent = []struct{ line, what, reason string }{
	{"psychotherapy-note-*", "also for the purpose *", "a deny line keeps notes of sessions to treatment"},
	{"counseling-note-*", "also for the purpose *", "a deny line keeps notes of sessions to treatment"},
	{"*", "not asking for 42CFRPart2", "what it would cover more, another line permits with fewer facts"},
	{"*", "not asking for SUDCN", "what it would cover more, another line permits with fewer facts"},
	{"*", "not asking for PSYTHPN", "what it would cover more, another line permits with fewer facts"},
	{"privacy-demographics*", "also for the role *", "the office has a line of its own for that"},
	{"directory-clinician", "also for the role hie", "the exchange has a line of its own for that"},
	{"directory-exchange", "also for the role *", "clinicians have a line of their own for that"},
	{"psychotherapy-authorization*", "also for the purpose ETREAT", "a deny line keeps notes of sessions out of emergencies"},
	{"proxy-minor-disclosure-program", "not asking for MINORCONSENT", "another line permits the rest with the same facts"},
	{"required-report", "also for the role auditor", "the auditor has a line of its own for that"},
	{"*-needs-originator", "not for the role *", "another deny line keeps notes of sessions to clinicians"},
	{"notes-of-a-session-are-for-treatment", "not for the role *", "another deny line keeps notes of sessions to clinicians"},
	{"*", "not for the role ai-assistant", "deny lines of its own keep from software what its patient did not consent to, and notes of sessions"},
	{"*", "also for the role ai-assistant", "deny lines keep notes of sessions and oversight from software, and for what it may see it has lines of its own"},
}

// denials writes what the deny lines among lines leave of a policy that allows everything to everybody but the
// operator: they are there for the allow lines of tomorrow, so that the matrix of today does not show what they do.
func denials(t *testing.T, lines []*line) string {
	t.Helper()
	careless := &line{name: "careless", allow: true, labels: labelTerm{set: label.All}}
	relevant := []*line{careless}
	for _, l := range lines {
		if !l.allow {
			relevant = append(relevant, l)
		}
	}
	// Types and actions that the same deny lines concern have the same text.
	kinds := kindsAlike(&policy{lines: relevant, groups: house(t).current.Load().groups})
	texts := map[string]string{}
	text := func(q authz.Question) string {
		speaking, key := []*line{careless}, ""
		for _, l := range relevant[1:] {
			if l.concerns(q) {
				speaking = append(speaking, l)
				key += l.name + "\x00"
			}
		}
		if known, ok := texts[key]; ok {
			return known
		}
		byFacts := map[string][]label.Set{}
		for _, labels := range LabelClasses() {
			facts := Needs(least(speaking, labels))
			byFacts[facts] = append(byFacts[facts], labels)
		}
		out := ""
		for _, facts := range slices.Sorted(maps.Keys(byFacts)) {
			out += "  " + facts + ": " + Fold(byFacts[facts]) + "\n"
		}
		texts[key] = out
		return out
	}
	var b strings.Builder
	for _, role := range Roles() {
		before := ""
		for _, purpose := range []string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT", "FAMRQT", "ETREAT", "BTG", "TRAIN", "HRESCH", "HLEGAL", "LEGAL", "HSYSADMIN"} {
			var order []string
			by := map[string][]string{}
			for _, action := range Actions() {
				for _, k := range kinds {
					x := text(authz.Question{Roles: []string{role}, Purpose: purpose, Action: action, Type: k.Types[0]})
					if by[x] == nil {
						order = append(order, x)
					}
					by[x] = append(by[x], string(action)+" "+string(k.Types[0]))
				}
			}
			all := order[0]
			if len(order) > 1 {
				all = ""
				for _, x := range order {
					all += "  " + strings.Join(by[x], ", ") + "\n" + x
				}
			}
			if all == before {
				all = "  as before\n"
			} else {
				before = all
			}
			b.WriteString(role + " " + purpose + "\n" + all)
		}
	}
	return b.String()
}

// TestDenials compares what the deny lines deny with a file.
func TestDenials(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes under the race detector, and one goroutine")
	}
	const name = "testdata/denials.txt"
	got := "# What the deny lines leave of a policy that allows everything: role purpose, and the facts that it takes.\n" +
		"# Made by go test ./authz/pdp -run TestDenials -update\n" + denials(t, house(t).current.Load().lines)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Error("the deny lines deny something else than testdata/denials.txt says; if that is meant, run with -update")
	}
}

// allowing is a policy without its deny lines.
func allowing(p *policy, lines []*line) *policy {
	out := &policy{groups: p.groups}
	for _, l := range lines {
		if l.allow {
			out.lines = append(out.lines, l)
		}
	}
	return out
}

// differ reports whether some answer is another one.
func differ(a, b *policy) bool {
	for range changes(a, b) {
		return true
	}
	return false
}

// like matches a name against a pattern in which * stands for anything.
func like(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// Every part of every line of the policy is held in place: with a fact, a label or a demand less, for a role, a purpose or an action more, the
// matrix of the policy changes, or what its deny lines leave of a careless one; both are compared with files. (Deleted or turned round, a case fails: see policytest.) A mutant that no loader accepts
// cannot come into force.
func TestMutationEveryPartOfALineIsHeld(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes under the race detector, and one goroutine")
	}
	p := house(t).current.Load()
	lines := strings.Split(policyText, "\n")
	denied := denials(t, p.lines)
	noticed, same, refused := 0, 0, 0
	used := make([]bool, len(equivalent))
	for _, l := range p.lines {
		for _, m := range mutants(l.fields) {
			text := slices.Clone(lines)
			text[l.number-1] = m.line
			next, err := load(strings.Join(text, "\n"), p.groups)
			if err != nil {
				refused++
				continue
			}
			var changed bool
			if l.allow {
				changed = differ(p, &policy{lines: next, groups: p.groups})
			} else {
				changed = denials(t, next) != denied
			}
			if changed {
				noticed++
				continue
			}
			same++
			line, what, _ := strings.Cut(m.name, "/")
			i := slices.IndexFunc(equivalent, func(e struct{ line, what, reason string }) bool { return like(e.line, line) && like(e.what, what) })
			if i < 0 && l.allow && differ(allowing(p, p.lines), allowing(p, next)) {
				continue // deny lines shut what it would open, and those are held themselves
			}
			if i < 0 {
				t.Errorf("line %d, %s: no answer changes; say why in the list of equivalent mutants, or leave the part out", l.number, m.name)
				continue
			}
			used[i] = true
		}
	}
	for i, e := range equivalent {
		if !used[i] {
			t.Errorf("%s/%s is listed as equivalent, and no mutant is", e.line, e.what)
		}
	}
	t.Logf("%d noticed, %d equivalent, %d refused by the loader", noticed, same, refused)
	if noticed < 700 {
		t.Error("the test looks in the wrong place")
	}
}
