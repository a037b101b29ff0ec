package cloister_test

import (
	"go/ast"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// items are those of OWASP ASVS 4.0.3 up to level 2 of which docs/security.md speaks: chapters 2 to 4 whole, and of 6, 7 and 9 what
// touches them. Numbers that are missing in a sequence are of level 3, or were deleted from the standard.
var items = strings.Fields(`
2.1.1 2.1.2 2.1.3 2.1.4 2.1.5 2.1.6 2.1.7 2.1.8 2.1.9 2.1.10 2.1.11 2.1.12 2.2.1 2.2.2 2.2.3 2.3.1 2.3.2 2.3.3 2.4.1 2.4.2 2.4.3 2.4.4 2.4.5
2.5.1 2.5.2 2.5.3 2.5.4 2.5.5 2.5.6 2.5.7 2.6.1 2.6.2 2.6.3 2.7.1 2.7.2 2.7.3 2.7.4 2.7.5 2.7.6 2.8.1 2.8.2 2.8.3 2.8.4 2.8.5 2.8.6 2.8.7
2.9.1 2.9.2 2.9.3 2.10.1 2.10.2 2.10.3 2.10.4
3.1.1 3.2.1 3.2.2 3.2.3 3.2.4 3.3.1 3.3.2 3.3.3 3.3.4 3.4.1 3.4.2 3.4.3 3.4.4 3.4.5 3.5.1 3.5.2 3.5.3 3.7.1
4.1.1 4.1.2 4.1.3 4.1.5 4.2.1 4.2.2 4.3.1 4.3.2 4.3.3
6.2.1 6.2.2 6.2.3 6.2.4 6.2.5 6.2.6 6.3.1 6.3.2 6.4.1 6.4.2
7.1.1 7.1.2 7.1.3 7.1.4 7.2.1 7.2.2 7.3.1 7.3.3 7.3.4 7.4.1 7.4.2 7.4.3
9.1.1 9.1.2 9.1.3 9.2.1 9.2.2 9.2.3 9.2.4`)

var (
	itemRow   = regexp.MustCompile(`(?m)^\| ([0-9]+\.[0-9]+\.[0-9]+) \| ([^|]+) \| ([^|]+) \|$`)
	testName  = regexp.MustCompile("`(?:([a-z/]+)\\.)?(Test[A-Za-z0-9_]+)`")
	settingOf = regexp.MustCompile("`(CLOISTER_[A-Z_]+)`")
)

// testsOf lists the tests of the module as docs/security.md names them: "api/smart.TestCORS", and those of the root by name alone.
func testsOf(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, f := range files(t) {
		if !f.test {
			continue
		}
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			if f.dir == "." {
				out[fn.Name.Name] = true
			} else {
				out[f.dir+"."+fn.Name.Name] = true
			}
		}
	}
	return out
}

// Every item is answered once: by tests and settings that exist, or by a reason.
func TestSecurityPageHoldsToTheTree(t *testing.T) {
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	var settings []byte
	for _, name := range []string{"docs/serve.md", "docs/accounts.md"} {
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		settings = append(settings, page...)
	}
	var found []string
	for _, row := range itemRow.FindAllStringSubmatch(string(text), -1) {
		number, answer := row[1], row[3]
		if slices.Contains(found, number) {
			t.Errorf("%s is answered twice", number)
		}
		found = append(found, number)
		reason := false
		for _, begin := range []string{"not applicable: ", "not met: ", "not met by the program alone: "} {
			reason = reason || strings.HasPrefix(answer, begin) && len(answer) > len(begin)+7
		}
		if !reason && !testName.MatchString(answer) && !strings.Contains(answer, "setting `") {
			t.Errorf("%s is answered by neither a test nor a setting nor a reason: %s", number, answer)
		}
	}
	for _, number := range items {
		if !slices.Contains(found, number) {
			t.Errorf("%s is missing", number)
		}
	}
	if len(found) != len(items) {
		t.Errorf("%d items are answered, of %d", len(found), len(items))
	}
	tests := testsOf(t)
	named := testName.FindAllStringSubmatch(string(text), -1)
	if len(named) < 100 {
		t.Errorf("%d tests are named: this test looks in the wrong place", len(named))
	}
	for _, m := range named {
		name := m[2]
		if m[1] != "" {
			name = m[1] + "." + m[2]
		}
		if !tests[name] {
			t.Errorf("there is no test %s", name)
		}
	}
	for _, m := range settingOf.FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(string(settings), "`"+m[1]+"`") {
			t.Errorf("there is no setting %s", m[1])
		}
	}
}

// ASVS 6.3.1: math/rand can be foretold. What makes secrets does not import it.
func TestSecretsComeFromASecureGenerator(t *testing.T) {
	looked := 0
	for _, f := range files(t) {
		if f.test || !strings.HasPrefix(f.dir, "api/smart") && !strings.HasPrefix(f.dir, "api/account") && !strings.HasPrefix(f.dir, "authz/") {
			continue
		}
		looked++
		for _, i := range f.imports {
			if i == "math/rand" || i == "math/rand/v2" {
				t.Errorf("%s imports %s", f.path, i)
			}
		}
	}
	if looked < 50 {
		t.Fatalf("%d files: this test looks in the wrong place", looked)
	}
}
