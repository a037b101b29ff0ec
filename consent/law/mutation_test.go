package law_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"
)

// mutated are the packages of rules, by their directories in package consent; "" is package consent itself, which compiles and
// evaluates consents.
var mutated = []string{"hipaa", "part2", "state", "deidentify", "law", ""}

// packageOf is the name of a package of rules.
func packageOf(dir string) string {
	if dir == "" {
		return "consent"
	}
	return dir
}

// survivors are the mutants that no test notices, with the reason: file, function and what was changed.
var survivors = map[string]string{
	"consent: combined: negated Kind(k) == Psychotherapy": "of two kinds one is not psychotherapy, and one not another, so that such an authorization never stands alone",
}

// inWords are functions of package consent that only say in words what others decided.
var inWords = map[string]bool{"Sentences": true, "text": true}

// edit is a piece of text that goes in at an offset; what closes goes before what opens.
type edit struct {
	at    int
	order int
	cut   int // bytes that it replaces
	text  string
}

// mutant is one change that the rewritten package can make to itself.
type mutant struct {
	number int
	where  string // file:line: function: what
}

const switchText = `package %s

import "os"

var mutantInForce = os.Getenv("CLOISTER_MUTANT")

func mutantNot(n string, b bool) bool {
	if mutantInForce == n {
		return !b
	}
	return b
}

func mutantSwap(n string, and bool, x, y func() bool) bool {
	if (mutantInForce == n) != and {
		return x() && y()
	}
	return x() || y()
}
`

// schemata rewrites a file so that each condition can be negated, and each && and || exchanged, by a variable of the environment: one
// build has all mutants.
func schemata(t *testing.T, name, dir string, next *int, all *[]mutant) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	offset := func(p token.Pos) int { return set.Position(p).Offset }
	var edits []edit
	depth := 0
	add := func(fn, what string, p token.Pos) string {
		*next++
		id := fmt.Sprintf("%s:%d", dir, *next)
		*all = append(*all, mutant{*next, fmt.Sprintf("%s/%s:%d: %s: %s", dir, filepath.Base(name), set.Position(p).Line, fn, what)})
		return id
	}
	wrap := func(e ast.Expr, open, closing string) {
		edits = append(edits, edit{at: offset(e.Pos()), order: depth, text: open}, edit{at: offset(e.End()), order: -depth - 1, text: closing})
	}
	source := func(e ast.Expr) string {
		return strings.Join(strings.Fields(string(text[offset(e.Pos()):offset(e.End())])), " ")
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil || fn.Name.Name == "Rules" || fn.Name.Name == "init" || inWords[fn.Name.Name] {
			continue
		}
		var visit func(e ast.Node, boolean bool)
		visit = func(n ast.Node, boolean bool) {
			depth++
			defer func() { depth-- }()
			switch e := n.(type) {
			case *ast.ParenExpr:
				visit(e.X, boolean)
			case *ast.UnaryExpr:
				visit(e.X, e.Op == token.NOT)
			case *ast.BinaryExpr:
				switch e.Op {
				case token.LAND, token.LOR:
					id := add(fn.Name.Name, "exchanged "+e.Op.String()+" of "+source(e), e.OpPos)
					wrap(e, fmt.Sprintf("mutantSwap(%q, %v, func() bool { return ", id, e.Op == token.LAND), ") })")
					edits = append(edits, edit{at: offset(e.OpPos), order: -1, cut: 2, text: " }, func() bool { return ("})
					visit(e.X, true)
					visit(e.Y, true)
				case token.EQL, token.NEQ, token.LSS, token.GTR, token.LEQ, token.GEQ:
					wrap(e, fmt.Sprintf("mutantNot(%q, ", add(fn.Name.Name, "negated "+source(e), e.Pos())), ")")
				}
			case *ast.Ident, *ast.SelectorExpr, *ast.CallExpr, *ast.IndexExpr:
				if x, ok := n.(ast.Expr); ok && boolean {
					wrap(x, fmt.Sprintf("mutantNot(%q, ", add(fn.Name.Name, "negated "+source(x), x.Pos())), ")")
				}
				if c, ok := n.(*ast.CallExpr); ok && !boolean {
					for _, a := range c.Args {
						visit(a, false)
					}
				}
			}
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			switch s := n.(type) {
			case *ast.IfStmt:
				visit(s.Cond, true)
			case *ast.ReturnStmt:
				for _, r := range s.Results {
					visit(r, false)
				}
			case *ast.AssignStmt:
				for _, r := range s.Rhs {
					visit(r, false)
				}
			case *ast.KeyValueExpr:
				visit(s.Value, false)
			case *ast.SwitchStmt:
				if s.Tag == nil {
					for _, c := range s.Body.List {
						if cc, ok := c.(*ast.CaseClause); ok {
							for _, e := range cc.List {
								visit(e, true)
							}
						}
					}
				}
			}
			return true
		})
	}
	sort.SliceStable(edits, func(i, j int) bool {
		if edits[i].at != edits[j].at {
			return edits[i].at < edits[j].at
		}
		return edits[i].order < edits[j].order
	})
	var b strings.Builder
	at := 0
	for _, e := range edits {
		b.Write(text[at:e.at])
		b.WriteString(e.text)
		at = e.at + e.cut
	}
	b.Write(text[at:])
	return b.String()
}

// TestMutation changes the rule functions, one condition at a time, and runs the tests of their package, then those of this one and of
// package consent; what no test notices has to be listed with its reason. The result stands in docs/compliance.md.
func TestMutation(t *testing.T) {
	if os.Getenv("CLOISTER_MUTATE") == "" {
		t.Skip("set CLOISTER_MUTATE=1 to run it: it builds the packages of rules anew and runs their tests some hundred times")
	}
	tmp := t.TempDir()
	overlay := map[string]string{}
	by := map[string][]mutant{}
	for _, dir := range mutated {
		root, err := filepath.Abs(filepath.Join("..", dir))
		if err != nil {
			t.Fatal(err)
		}
		names, err := filepath.Glob(filepath.Join(root, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		next := 0
		var all []mutant
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") || filepath.Base(name) == "rules.go" {
				continue
			}
			to := filepath.Join(tmp, packageOf(dir)+"_"+filepath.Base(name))
			if err := os.WriteFile(to, []byte(schemata(t, name, packageOf(dir), &next, &all)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay[name] = to
		}
		to := filepath.Join(tmp, packageOf(dir)+"_mutants.go")
		if err := os.WriteFile(to, fmt.Appendf(nil, switchText, packageOf(dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay[filepath.Join(root, "mutants.go")] = to
		by[dir] = all
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range mutated {
		out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", file, "-o", filepath.Join(tmp, packageOf(dir)+".test"), "../"+dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", dir, err, out)
		}
	}
	run := func(dir, id string, args ...string) bool {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(tmp, packageOf(dir)+".test"), append(args, "-test.failfast")...)
		cmd.Dir = filepath.Join("..", dir)
		cmd.Env = append(os.Environ(), "CLOISTER_MUTATE=", "CLOISTER_MUTANT="+id)
		return cmd.Run() == nil
	}
	// What is drawn at random takes longest, and is asked last.
	const undrawn = "-test.skip=Reference|MoreDenial|OrderIs"
	passes := func(dir, id string) bool {
		switch dir {
		case "":
			return run(dir, id, undrawn) && run(dir, id, "-rapid.nofailfile", "-rapid.checks=60")
		case "law":
			return run(dir, id, "-rapid.nofailfile")
		}
		return run(dir, id)
	}
	var report strings.Builder
	survived := 0
	for _, dir := range mutated {
		if !passes(dir, "") {
			t.Fatalf("%s: its tests fail without a mutant", dir)
		}
		killed, total := 0, len(by[dir])
		var alive []string
		for _, m := range by[dir] {
			id := fmt.Sprintf("%s:%d", packageOf(dir), m.number)
			if !passes(dir, id) || dir != "law" && dir != "" && !passes("law", id) || dir != "" && !run("", id, undrawn) {
				killed++
				continue
			}
			_, what, _ := strings.Cut(m.where, ": ")
			key := packageOf(dir) + ": " + what
			reason, listed := survivors[key]
			if !listed {
				t.Errorf("no test notices %s", m.where)
				reason = "no test notices it"
			}
			survived++
			alive = append(alive, "  "+key+": "+reason)
		}
		fmt.Fprintf(&report, "%s: %d mutants, %d noticed\n", strings.TrimSuffix("consent/"+dir, "/"), total, killed)
		for _, a := range alive {
			report.WriteString(a + "\n")
		}
	}
	t.Logf("\n%s", report.String())
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", "mutation.txt"), []byte(report.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}
