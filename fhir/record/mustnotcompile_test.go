package record_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// module is the root of the module, from this package.
func module(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// compile builds the package in dir (from the module's root) as if it had one
// more file, and returns what the compiler says. Nothing is written into the tree.
func compile(t *testing.T, dir, source string) (string, error) {
	t.Helper()
	root := module(t)
	source, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, dir, "zz_attempt.go"): source}})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", os.DevNull, "./"+dir)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// check says what is wrong with an attempt, "" for one that is refused as it should be.
func check(t *testing.T, dir string, want *regexp.Regexp, source string) string {
	t.Helper()
	out, err := compile(t, dir, source)
	switch {
	case err == nil:
		return "it compiles"
	case !want.MatchString(out):
		return "it is refused for another reason than " + want.String() + ":\n" + out
	}
	return ""
}

var place = regexp.MustCompile(`^// in ([a-z0-9/]+): (.+)\n`)

// attempt reads where a file pretends to live, and what the compiler says of it.
func attempt(t *testing.T, source string) (dir string, want *regexp.Regexp) {
	t.Helper()
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	m := place.FindStringSubmatch(string(text))
	if m == nil {
		t.Fatalf("%s: the first line is // in DIRECTORY: REGEXP", source)
	}
	want, err = regexp.Compile(m[2])
	if err != nil {
		t.Fatal(err)
	}
	return m[1], want
}

// To skip the gate does not compile. Each directory of testdata/mustnotcompile is
// one attempt; a newcomer adds one without writing Go here.
func TestForgeryDoesNotCompile(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the compiler")
	}
	files, err := filepath.Glob(filepath.Join(module(t), "testdata", "mustnotcompile", "*", "x.go"))
	if err != nil || len(files) < 15 {
		t.Fatalf("%d attempts, %v", len(files), err)
	}
	for _, source := range files {
		t.Run(filepath.Base(filepath.Dir(source)), func(t *testing.T) {
			t.Parallel()
			dir, want := attempt(t, source)
			if fault := check(t, dir, want, source); fault != "" {
				t.Error(fault)
			}
		})
	}
}

// The harness tells a file that compiles, and one that is refused for another
// reason, from one that is refused as it says.
func TestForgeryHarness(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the compiler")
	}
	files, err := filepath.Glob(filepath.Join(module(t), "testdata", "mustnotcompile", "*", "x.go"))
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]bool{}
	for _, f := range files {
		dir, _ := attempt(t, f)
		places[dir] = true
	}
	for dir := range places {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			name := filepath.Base(dir)
			if strings.HasPrefix(dir, "cmd/") {
				name = "main"
			}
			harmless := filepath.Join(t.TempDir(), "x.go")
			if err := os.WriteFile(harmless, []byte("package "+name+"\n\nvar _ = 1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := compile(t, dir, harmless); err != nil {
				t.Fatalf("a harmless file: %v\n%s", err, out)
			}
			if got := check(t, dir, regexp.MustCompile("use of internal package"), harmless); got != "it compiles" {
				t.Errorf("an attempt that compiles: %q", got)
			}
			broken := filepath.Join(t.TempDir(), "x.go")
			if err := os.WriteFile(broken, []byte("package "+name+"\n\nvar _ int = \"\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := check(t, dir, regexp.MustCompile("use of internal package"), broken); !strings.Contains(got, "another reason") {
				t.Errorf("an attempt that is refused for another reason: %q", got)
			}
		})
	}
}
