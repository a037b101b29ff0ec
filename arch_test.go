// Package cloister_test holds the rules of the house that the compiler does not know.
package cloister_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/cloister-health/cloister"

// file is one Go file of the module.
type file struct {
	path    string // with slashes, from the root
	dir     string // of path; "." for the root
	test    bool
	made    bool // generated
	text    string
	syntax  *ast.File
	imports []string
}

func (f file) String() string { return f.path }

// files reads every Go file of the module but those below testdata, which are not built with it.
func files(t *testing.T) []file {
	t.Helper()
	var out []file
	err := fs.WalkDir(os.DirFS("."), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(filepath.FromSlash(p))
		if err != nil {
			return err
		}
		f := file{path: p, dir: path.Dir(p), test: strings.HasSuffix(p, "_test.go"), text: string(text)}
		f.syntax, err = parser.ParseFile(token.NewFileSet(), p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		f.made = ast.IsGenerated(f.syntax)
		for _, i := range f.syntax.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, name)
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("found %d files: this test looks in the wrong place", len(out))
	}
	return out
}

// within reports whether p is root or lies below it.
func within(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

func withinAny(p string, roots []string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return within(p, r) })
}

// libraries says who alone may import what, and why. In tests it holds where tests is set.
var libraries = []struct {
	library string
	only    []string
	tests   bool
	why     string
}{
	{"github.com/google/fhir", []string{"fhir/codec"}, true, "it is slow to build and slow to run; everybody else gets plain structs from fhir/codec"},
	{"github.com/casbin", []string{"authz/pdp"}, true, "its traps are fenced in there: a strict loader, and any error is a deny"},
	{"github.com/coreos/go-oidc", []string{"authz/oidc"}, true, "its switches for leaving checks out must stay unreachable"},
	{"golang.org/x/oauth2", []string{"authz/oidc"}, true, "it goes with go-oidc: what an identity provider says is checked in one place"},
	{"github.com/gofhir/fhirpath", []string{"fhir/fhirpath"}, true, "it prints resources to stderr unless its trace logger is replaced; fhir/fhirpath does that"},
	{"github.com/jackc/pgx", []string{"fhir/record/postgres", "api/smart/postgres", "migrations", "cmd"}, false, "whoever holds a connection reads around the gate; the store of accounts and apps connects as a role that reaches no record"},
	{"github.com/minio/minio-go", []string{"fhir/record/export/s3"}, false, "what leaves in bulk goes to one place, encrypted"},
	{"github.com/pressly/goose", []string{"fhir/record/postgres", "migrations", "cmd"}, false, "the schema belongs to the store"},
	{"database/sql", []string{"fhir/record/postgres", "migrations", "cmd"}, false, "whoever holds a connection reads around the gate"},
	{"github.com/fergusstrange/embedded-postgres", []string{"fhir/record/postgres/cluster"}, true, "it starts clusters of its own, on TCP and with a fixed password"},
	{"github.com/tink-crypto", []string{"fhir/record/envelope"}, true, "whoever holds a key opens what it encrypts; the store and the commands get envelope.Keys"},
	{"github.com/hashicorp/vault", []string{"fhir/record/envelope"}, true, "keys in Vault are one keeper of several"},
	{module + "/fhir/record/deident/canary", nil, false, "it builds what tests look for in everything that leaves"},
	{module + "/fhir/record/envelope/envelopetest", []string{"fhir/record/postgres/practicetest"}, false, "everybody knows its key: it is for tests"},
	{module + "/fhir/record/postgres/practicetest", nil, false, "it lets anybody in: it is for tests"},
	{module + "/fhir/record/turn/turntest", nil, false, "it kills workers: it is for tests"},
	{"github.com/zitadel/oidc", []string{"api/smart"}, false, "the protocol ends at the endpoints; what a grant may hold is decided by our own types"},
	{"github.com/go-webauthn", []string{"authz/identity"}, true, "how people prove who they are is one package"},
	{"github.com/pquerna/otp", []string{"authz/identity"}, true, "how people prove who they are is one package"},
	{"golang.org/x/crypto", []string{"authz/identity"}, true, "passwords are hashed in one place, with one set of parameters"},
	{"github.com/wneessen/go-mail", []string{"cmd/cloister/internal/mail"}, true, "the server knows a Mailer; how mail goes out is wiring"},
	{"github.com/labstack/echo", []string{"api", "cmd/cloister/internal/bench"}, false, "HTTP ends at api; bench has it for the raw ceiling"},
	{"github.com/parquet-go", []string{"fhir/view/tabular"}, false, "a file format is one writer of several; everybody else hands rows to tabular"},
	{"github.com/coder/websocket", []string{"api"}, false, "it takes a connection over: only api/respond touches those of clients"},
	{"github.com/alecthomas/kong", []string{"cmd"}, true, "flags end at cmd"},
	{"unsafe", nil, true, "it opens a sealed record"},
	{"plugin", nil, true, "everything that runs is built together"},
}

func TestLibrariesStayWhereTheyBelong(t *testing.T) {
	for _, f := range files(t) {
		for _, name := range f.imports {
			for _, l := range libraries {
				if within(name, l.library) && !withinAny(f.dir, l.only) && (l.tests || !f.test) {
					t.Errorf("%s imports %s, which only %v may: %s", f, name, l.only, l.why)
				}
			}
		}
	}
}

// layers are the arrows: a package may import its own layer's root and whatever lies in a layer below.
// The first root that fits decides. peers may import each other.
var layers = []struct {
	root  string
	rank  int
	peers string
}{
	{"cmd", 8, ""},
	{"api", 7, ""},
	{"fhir/record", 6, ""},
	{"migrations", 5, ""},
	{"fhir/patch", 5, ""},
	{"fhir/profile", 5, ""},
	{"fhir/signature", 5, ""},
	{"fhir/view", 5, ""},
	{"fhir/codec", 4, ""},
	{"authz", 4, ""},
	{"consent", 3, ""},
	{"fhir/search", 2, "vocabulary"},
	{"fhir/compartment", 2, "vocabulary"},
	{"fhir/outcome", 2, "vocabulary"},
	{"fhir/terminology", 2, "vocabulary"},
	{"fhir/definition", 2, "vocabulary"},
	{"fhir/fhirpath", 2, "vocabulary"},
	{"fhir/element", 1, ""},
	{"fhir", 0, ""},
}

func TestArrowsPointDown(t *testing.T) {
	find := func(dir string) int {
		return slices.IndexFunc(layers, func(l struct {
			root  string
			rank  int
			peers string
		}) bool {
			return within(dir, l.root)
		})
	}
	for _, f := range files(t) {
		if f.dir == "." {
			continue
		}
		from := find(f.dir)
		if from < 0 {
			t.Errorf("%s: its package has no place in the layers of this test: say which it is", f)
			continue
		}
		for _, name := range f.imports {
			dir, ours := strings.CutPrefix(name, module+"/")
			if !ours {
				continue
			}
			to := find(dir)
			if to < 0 {
				t.Errorf("%s imports %s, which has no place in the layers of this test", f, name)
				continue
			}
			a, b := layers[from], layers[to]
			if f.test && a.root != "authz" && a.root != "api" { // a test may build a world around what it tests
				continue
			}
			if from != to && b.rank >= a.rank && (a.peers == "" || a.peers != b.peers) {
				t.Errorf("%s imports %s: the arrows are cmd -> api -> fhir/record -> {fhir/codec, authz} -> consent -> fhir/{search,compartment,outcome,terminology} -> fhir/element -> fhir", f, name)
			}
		}
	}
}

func TestVocabularyImportsTheStandardLibraryOnly(t *testing.T) {
	for _, f := range files(t) {
		if f.dir != "fhir" || f.test {
			continue
		}
		for _, name := range f.imports {
			if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s: package fhir is the vocabulary of all the others and needs none of them", f, name)
			}
		}
	}
}

func TestChecksOfTokensCannotBeSwitchedOff(t *testing.T) {
	switches := regexp.MustCompile(`^(Skip(ClientID|Expiry|Issuer)Check|InsecureSkipSignatureCheck|InsecureIssuerURLContext|UnsafeClaimsWithoutVerification|UnsafePayloadWithoutVerification)$`)
	for _, f := range files(t) {
		if f.test {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && switches.MatchString(id.Name) {
				t.Errorf("%s uses %s: with it somebody else's token would be good here", f, id.Name)
			}
			return true
		})
	}
}

// TestOnlyDevReachesTheDevelopmentIssuer keeps serve from making tokens: nothing that it is wired from may import the issuer.
func TestOnlyDevReachesTheDevelopmentIssuer(t *testing.T) {
	const issuer = "cmd/cloister/internal/issuer"
	reached := false
	for _, f := range files(t) {
		if !slices.Contains(f.imports, module+"/"+issuer) || f.test {
			continue
		}
		reached = true
		if ok, err := path.Match("cmd/cloister/dev*.go", f.path); err != nil || !ok {
			t.Errorf("%s imports %s: only the files dev*.go of the command may, because whoever reaches that issuer gets any token", f, issuer)
		}
	}
	if !reached {
		t.Fatal("nothing imports the issuer: this test looks in the wrong place")
	}
}

func TestNobodyReachesAroundTheCompiler(t *testing.T) {
	for _, f := range files(t) {
		if strings.Contains(f.text, "\n//go:"+"linkname") {
			t.Errorf("%s links to a name that was not given to it: that opens a sealed record", f)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	type pkg struct {
		docs []string
		name string
	}
	packages := map[string]*pkg{}
	for _, f := range files(t) {
		if f.test {
			continue
		}
		p := packages[f.dir]
		if p == nil {
			p = &pkg{name: f.syntax.Name.Name}
			packages[f.dir] = p
		}
		if f.syntax.Doc != nil {
			p.docs = append(p.docs, f.syntax.Doc.Text())
		}
	}
	for dir, p := range packages {
		start := "Package " + p.name + " "
		if p.name == "main" {
			start = "Command " + path.Base(dir) + " "
		}
		switch {
		case len(p.docs) != 1:
			t.Errorf("%s has %d package comments, want one", dir, len(p.docs))
		case !strings.HasPrefix(p.docs[0], start):
			t.Errorf("%s: its comment does not begin with %q", dir, start)
		default:
			first, _, _ := strings.Cut(p.docs[0], "\n\n")
			if !strings.HasSuffix(strings.TrimSpace(first), ".") {
				t.Errorf("%s: its comment does not begin with a sentence that ends", dir)
			}
		}
		for _, vague := range []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "shared"} {
			if p.name == vague || path.Base(dir) == vague {
				t.Errorf("%s: the name says nothing; call it by what it does", dir)
			}
		}
	}
}

const (
	maxMain  = 60  // main is wiring
	maxLines = 500 // a file that nobody reads to its end
)

func TestFilesStayReadable(t *testing.T) {
	for _, f := range files(t) {
		lines := strings.Count(f.text, "\n")
		if path.Base(f.path) == "main.go" && within(f.dir, "cmd") && lines >= maxMain {
			t.Errorf("%s has %d lines, want fewer than %d: main is wiring only", f, lines, maxMain)
		}
		if !f.test && !f.made && lines >= maxLines {
			t.Errorf("%s has %d lines, want fewer than %d: it does more than one thing", f, lines, maxLines)
		}
		if !f.made && regexp.MustCompile(`\b(TODO|FIX`+`ME|XXX)\b`).MatchString(f.text) && f.path != "arch_test.go" {
			t.Errorf("%s leaves something for later: do it, or open an issue", f)
		}
	}
}

// TestRulesBite runs the rules' own machinery on names that must be refused.
func TestRulesBite(t *testing.T) {
	for _, c := range []struct {
		p, root string
		want    bool
	}{
		{"fhir/record/postgres", "fhir/record", true},
		{"fhir/recordkeeping", "fhir/record", false},
		{"github.com/jackc/pgx/v5/pgxpool", "github.com/jackc/pgx", true},
		{"fhir", "fhir", true},
	} {
		if got := within(c.p, c.root); got != c.want {
			t.Error(fmt.Sprint(c), got)
		}
	}
}
