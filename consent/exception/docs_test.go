package exception

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of kinds in docs/rest/exceptions.md anew")

// The page lists the kinds as they are.
func TestDocsListTheKinds(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "rest", "exceptions.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| kind | rule | purpose | limited to | documentation | opens, beside ordinary records |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, k := range Kinds() {
		var scope, written, opened []string
		for _, x := range []struct {
			bit  Scope
			name string
		}{{OfPatient, "patient"}, {OfOriginator, "originator"}, {OfProgram, "program"}} {
			if k.Scope&x.bit != 0 {
				scope = append(scope, x.name)
			}
		}
		for _, r := range k.Types {
			scope = append(scope, string(r)+" alone")
		}
		for _, e := range k.Elements {
			switch {
			case e.True:
				written = append(written, "`"+e.Name+"` (true)")
			case e.Of != nil:
				written = append(written, "`"+e.Name+"` ("+strings.Join(e.Of, ", ")+")")
			default:
				written = append(written, "`"+e.Name+"`")
			}
		}
		written = append(written, "at most "+days(k.Longest))
		for _, x := range []struct {
			source Source
			name   string
		}{{Part2, "Part 2"}, {PsychotherapyNote, "psychotherapy notes"}, {note, "SUD counseling notes"}, {MinorConsented, "minor's consent"}} {
			if k.Opens(x.source) {
				opened = append(opened, x.name)
			}
		}
		for _, cell := range []string{"`" + k.Code + "`", strings.Join(k.Rules, ", ") + ": " + k.Citation, strings.Join(k.Purposes, ", "), strings.Join(scope, ", "), strings.Join(written, ", "), strings.Join(opened, ", ")} {
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
	}
	head, rest, _ := strings.Cut(string(text), "<!-- kinds -->\n")
	_, tail, ok := strings.Cut(rest, "<!-- end -->")
	want := head + "<!-- kinds -->\n" + b.String() + "<!-- end -->" + tail
	if !ok || want != string(text) {
		if !*update || !ok {
			t.Fatalf("%s is out of date: go test ./consent/exception -update", path)
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // the path is fixed above
			t.Fatal(err)
		}
	}
}
