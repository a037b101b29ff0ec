package cloister_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/cloister-health/cloister/consent/law"
	"github.com/cloister-health/cloister/consent/rule"
)

var update = flag.Bool("update", false, "write docs/compliance.md anew")

// evidence is what tests one rule, or one channel of the leak list.
type evidence struct {
	tests    []string // names of Go tests
	permits  int      // cases, and steps of cases, that expect a permit
	denies   int
	positive bool // some Go test asks for what the rule permits
	negative bool // some Go test asks for what it denies
}

var (
	number  = regexp.MustCompile(`^[PSHDJL][0-9]{1,2}$`)
	numbers = regexp.MustCompile(`\bL[0-9]{1,2}\b`)
)

// positives and negatives are the words by which a test says what a rule permits and denies.
var (
	positives = []string{"true", "yes", "permit"}
	negatives = []string{"false", "no", "deny", "denied"}
)

// collect reads what the tests and cases of the module say that they stand for.
func collect(t *testing.T) map[string]*evidence {
	t.Helper()
	out := map[string]*evidence{}
	of := func(id string) *evidence {
		if out[id] == nil {
			out[id] = &evidence{}
		}
		return out[id]
	}
	helpers := map[string]map[string]*ast.FuncDecl{} // by directory
	var tests []struct {
		dir string
		fn  *ast.FuncDecl
	}
	for _, f := range files(t) {
		if !f.test {
			continue
		}
		if helpers[f.dir] == nil {
			helpers[f.dir] = map[string]*ast.FuncDecl{}
		}
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			helpers[f.dir][fn.Name.Name] = fn
			if fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				tests = append(tests, struct {
					dir string
					fn  *ast.FuncDecl
				}{f.dir, fn})
				if fn.Doc != nil { // a comment may name channels of the leak list
					for _, id := range numbers.FindAllString(fn.Doc.Text(), -1) {
						of(id).add(f.dir, fn.Name.Name)
					}
				}
			}
		}
	}
	for _, x := range tests {
		words := map[string]bool{}
		mentions(x.fn, helpers[x.dir], words, map[string]bool{})
		for _, id := range strings.Split(strings.TrimPrefix(x.fn.Name.Name, "Test"), "_") {
			if !number.MatchString(id) {
				break
			}
			e := of(id)
			e.add(x.dir, x.fn.Name.Name)
			e.positive = e.positive || slices.ContainsFunc(positives, func(w string) bool { return words[w] })
			e.negative = e.negative || slices.ContainsFunc(negatives, func(w string) bool { return words[w] })
		}
	}
	for _, c := range cases(t) {
		for _, id := range c.Rules {
			if !number.MatchString(id) {
				continue
			}
			for _, d := range c.decisions() {
				if d == "permit" {
					of(id).permits++
				} else {
					of(id).denies++
				}
			}
		}
	}
	return out
}

func (e *evidence) add(dir, name string) {
	if text := dir + "." + name; !slices.Contains(e.tests, text) {
		e.tests = append(e.tests, text)
	}
}

// mentions collects the words of a test, and of the functions of its package that it calls.
func mentions(fn *ast.FuncDecl, helpers map[string]*ast.FuncDecl, words, seen map[string]bool) {
	if seen[fn.Name.Name] {
		return
	}
	seen[fn.Name.Name] = true
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			words[n.Name] = true
			if h := helpers[n.Name]; h != nil && h.Recv == nil {
				mentions(h, helpers, words, seen)
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				if s, err := strconv.Unquote(n.Value); err == nil {
					words[s] = true
				}
			}
		}
		return true
	})
}

// authorizationCase is what this test needs of a case in testdata/authz.
type authorizationCase struct {
	Rules  []string `yaml:"rules"`
	Expect struct {
		Decision string `yaml:"decision"`
	} `yaml:"expect"`
	Steps []struct {
		Expect struct {
			Decision string `yaml:"decision"`
		} `yaml:"expect"`
	} `yaml:"steps"`
}

func (c authorizationCase) decisions() []string {
	if len(c.Steps) == 0 {
		return []string{c.Expect.Decision}
	}
	var out []string
	for _, s := range c.Steps {
		out = append(out, s.Expect.Decision)
	}
	return out
}

func cases(t *testing.T) []authorizationCase {
	t.Helper()
	var out []authorizationCase
	err := fs.WalkDir(os.DirFS("testdata/authz"), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(p) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path.Join("testdata/authz", p))
		if err != nil {
			return err
		}
		var f struct {
			Cases []authorizationCase `yaml:"cases"`
		}
		if err := yaml.Unmarshal(text, &f); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		out = append(out, f.Cases...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 100 {
		t.Fatalf("%d cases: this test looks in the wrong place", len(out))
	}
	return out
}

// exported lists what the packages of the module export: "consent/part2.Proceeding".
func exported(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, f := range files(t) {
		if f.test {
			continue
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				out[f.dir+"."+d.Name.Name] = true
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						out[f.dir+"."+s.Name.Name] = true
					}
				}
			}
		}
	}
	return out
}

// ranges are the numbers of the specification.
var ranges = []struct {
	letter string
	last   int
	title  string
}{
	{"P", 21, "Psychotherapy notes (HIPAA)"}, {"S", 43, "Substance use disorder records (42 CFR part 2)"},
	{"H", 10, "The rest of HIPAA"}, {"D", 8, "De-identification (45 CFR 164.514)"}, {"J", 14, "States and other jurisdictions"},
}

// Every rule is listed once, its functions exist, and tests or cases ask for what it
// permits and for what it denies.
func TestEveryRuleIsAFunctionWithATest(t *testing.T) {
	found, functions := collect(t), exported(t)
	listed := map[string]int{}
	for _, r := range law.Rules() {
		listed[r.ID]++
		for _, f := range r.Funcs {
			if !functions[f] {
				t.Errorf("%s names %s, which does not exist", r.ID, f)
			}
		}
		e := found[r.ID]
		switch {
		case r.Status == rule.Outside:
			if r.Doubt == "" || len(r.Funcs) > 0 {
				t.Errorf("%s is no matter of software: say why, and name no function", r.ID)
			}
			continue
		case len(r.Funcs) == 0:
			t.Errorf("%s has no function", r.ID)
		case e == nil:
			t.Errorf("%s has no test: carry its number in the name of one, or in the rules of a case", r.ID)
			continue
		}
		if !e.positive && e.permits == 0 {
			t.Errorf("%s has no test of what it permits", r.ID)
		}
		if !e.negative && e.denies == 0 {
			t.Errorf("%s has no test of what it denies", r.ID)
		}
		if !slices.ContainsFunc(e.tests, func(s string) bool { return strings.HasPrefix(s, "consent/") }) {
			t.Errorf("%s: no test of package consent carries its number: the function is not tested by itself", r.ID)
		}
	}
	for _, x := range ranges {
		for n := 1; n <= x.last; n++ {
			if id := fmt.Sprint(x.letter, n); listed[id] != 1 {
				t.Errorf("%s is listed %d times", id, listed[id])
			}
			delete(listed, fmt.Sprint(x.letter, n))
		}
	}
	for id := range listed {
		t.Errorf("%s is no number of the specification", id)
	}
	for id := range found {
		n, _ := strconv.Atoi(id[1:])
		known := id[0] == 'L' && n >= 1 && n <= len(leaks)
		for _, x := range ranges {
			known = known || id[:1] == x.letter && n >= 1 && n <= x.last
		}
		if !known {
			t.Errorf("a test or case stands for %s, which is no number of the specification", id)
		}
	}
}

// Every channel of the leak list has a test or a case that carries its number.
func TestEveryChannelOfLeaksHasATest(t *testing.T) {
	found := collect(t)
	for i, text := range leaks {
		if e := found[fmt.Sprint("L", i+1)]; e == nil || len(e.tests) == 0 && e.permits+e.denies == 0 {
			t.Errorf("L%d (%s) has neither a test nor a case: carry its number in the name of one", i+1, text)
		}
	}
}

// docs/compliance.md is what the code says.
func TestDocsComplianceIsGenerated(t *testing.T) {
	const name = "docs/compliance.md"
	want := compliance(t)
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(have, want) {
		return
	}
	a, b := strings.Split(string(have), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("line %d says\n%s\nand should say\n%s", i+1, a[i], b[i])
			break
		}
	}
	t.Errorf("%s is out of date: go test . -run Compliance -update", name)
}

func compliance(t *testing.T) []byte {
	t.Helper()
	found := collect(t)
	var b bytes.Buffer
	b.WriteString(`# Compliance

Which rules of law the software carries, which function decides each, and what tests it. This page is made of the code:
` + "`go test . -run Compliance -update`" + ` writes it, and a test fails when it is out of date or when a rule has no function, no test of what
it permits, or no test of what it denies. It describes software and is not legal advice.

**decides**: the answer to a request depends on it. **computes**: a function answers, and people or a procedure ask it.
**not software**: nothing in it can be computed; the last column says why. *read*: the text of the rule was read; *known*: from general
knowledge of the regulation; *our decision*: no text says it. Cases are those of [testdata/authz](../testdata/authz/README.md).

All rules are asked in one order by ` + "`consent/law.Evaluate`" + `: practice and compartment, caller and scopes, absolute bars, notes of sessions,
42 CFR part 2, the law of states, agreed restrictions, the patient's consents, the minimum necessary. The first that denies ends it; what is missing denies.
The [policy](policy.md) of a practice stands on the same functions: ` + "`authz.Lawful`" + ` is asked beside it for the plan of each query and for each record.

`)
	rules := law.Rules()
	for _, x := range ranges {
		fmt.Fprintf(&b, "## %s\n\n| | what it decides | source | function | tests | cases | status | open to doubt |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n", x.title)
		for _, r := range rules {
			if !strings.HasPrefix(r.ID, x.letter) {
				continue
			}
			e := found[r.ID]
			if e == nil {
				e = &evidence{}
			}
			var funcs []string
			for _, f := range r.Funcs {
				funcs = append(funcs, "`"+f+"`")
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s, *%s* | %s |\n", r.ID, r.Title, r.Citation, strings.Join(funcs, " "), e.links(), e.counts(), r.Status, r.Mark, r.Doubt)
		}
		b.WriteString("\n")
	}
	matrix(t, &b)
	b.WriteString("## Channels of leaks\n\nIn which ways a FHIR server gives away what a caller may not see, and the tests (by name or comment) and cases that carry the number of the channel. " +
		"Beside them, the twin test (`cmd/cloister/internal/server`) compares whole answers with those of a database without the hidden records, " +
		"whatever the channel.\n\n| | channel | tests | cases |\n| --- | --- | --- | --- |\n")
	for i, text := range leaks {
		e := found[fmt.Sprint("L", i+1)]
		if e == nil {
			e = &evidence{}
		}
		fmt.Fprintf(&b, "| L%d | %s | %s | %s |\n", i+1, text, e.links(), e.counts())
	}
	if text, err := os.ReadFile("consent/law/testdata/mutation.txt"); err == nil {
		b.WriteString("\n## Mutation of the rules\n\nEach condition of the rule functions negated, each && and || exchanged, one at a time, " +
			"with the tests of `consent/...` run against it (`CLOISTER_MUTATE=1 go test ./consent/law -run Mutation -timeout 1h`). " +
			"This is the last run. " +
			"The policy is mutated too: each line deleted and turned round by `go test ./authz/pdp/policytest`, each part of each line changed by `go test ./authz/pdp -run Mutation`.\n\n```\n")
		b.Write(text)
		b.WriteString("```\n")
	}
	return b.Bytes()
}

// links writes tests, those of one package together.
func (e *evidence) links() string {
	by := map[string][]string{}
	for _, s := range e.tests {
		i := strings.LastIndexByte(s, '.')
		by[s[:i]] = append(by[s[:i]], s[i+1:])
	}
	dirs := make([]string, 0, len(by))
	for d := range by {
		dirs = append(dirs, d)
	}
	sort.Strings(dirs)
	var out []string
	for _, d := range dirs {
		sort.Strings(by[d])
		out = append(out, d+": "+strings.Join(by[d], " "))
	}
	return strings.Join(out, "; ")
}

func (e *evidence) counts() string {
	if e.permits+e.denies == 0 {
		return ""
	}
	return fmt.Sprintf("%d permit, %d deny", e.permits, e.denies)
}
