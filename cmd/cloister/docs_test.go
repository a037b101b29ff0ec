package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write the generated parts of docs anew")

// page is a file of docs; what a test made of it is compared with what it says.
type page struct{ path, text string }

func open(t *testing.T, name string) page {
	t.Helper()
	path := filepath.Join("..", "..", "docs", name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return page{path, string(text)}
}

func (p page) check(t *testing.T, want string) {
	t.Helper()
	if p.text == want {
		return
	}
	if !*update {
		t.Errorf("%s is out of date: go test ./cmd/cloister -run Docs -update", p.path)
		return
	}
	if err := os.WriteFile(p.path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func command(t *testing.T, name string) *kong.Node {
	t.Helper()
	at := new(cli).parser().Model.Node
	for _, word := range strings.Fields(name) {
		i := slices.IndexFunc(at.Children, func(n *kong.Node) bool { return n.Name == word })
		if i < 0 {
			t.Fatalf("there is no command %s", name)
		}
		at = at.Children[i]
	}
	return at
}

// between replaces what stands between two comments of a page.
func between(t *testing.T, p page, name, content string) page {
	t.Helper()
	start, end := "<!-- "+name+" -->\n", "<!-- end -->"
	head, rest, ok := strings.Cut(p.text, start)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no part %q", p.path, name)
	}
	p.text = head + start + content + end + tail
	return p
}

// TestDocsListTheSettings holds the tables of flags and variables to what the program reads.
func TestDocsListTheSettings(t *testing.T) {
	for _, name := range []string{"serve", "dev", "migrate", "import", "package install", "keys rewrap", "label explain", "relabel", "account list", "deidentify"} {
		var b strings.Builder
		b.WriteString("| flag | variable | default | |\n| --- | --- | --- | --- |\n")
		for _, group := range command(t, name).AllFlags(true) {
			for _, f := range group {
				if f.Name == "help" {
					continue
				}
				variable, standard := "", ""
				if len(f.Envs) > 0 {
					variable = "`" + strings.Join(f.Envs, "` `") + "`"
				}
				if f.HasDefault && f.Default != "-1" {
					standard = "`" + f.Default + "`"
				}
				fmt.Fprintf(&b, "| `--%s` | %s | %s | %s |\n", f.Name, variable, standard, strings.ReplaceAll(f.Help, "|", `\|`))
			}
		}
		page, _, _ := strings.Cut(name, " ")
		if page == "account" {
			page = "accounts" // the page is of the capability, its commands are a part
		}
		if page == "deidentify" {
			page = "deidentification"
		}
		p := open(t, page+".md")
		p.check(t, between(t, p, "settings", b.String()).text)
	}
}

func TestDocsListTheCommands(t *testing.T) {
	var b strings.Builder
	b.WriteString("| | |\n| --- | --- |\n")
	for _, n := range new(cli).parser().Model.Children {
		name := "`cloister " + n.Name + "`"
		if _, err := os.Stat(filepath.Join("..", "..", "docs", n.Name+".md")); err == nil {
			name = "[" + name + "](" + n.Name + ".md)"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", name, n.Help)
	}
	p := open(t, "README.md")
	p.check(t, between(t, p, "commands", b.String()).text)
}

// A block of a page that begins with a command is what that command prints, but for what changes with every policy.
var (
	transcript = regexp.MustCompile("(?s)```console\n\\$ cloister ([^\n]*)\n(.*?)```")
	versions   = regexp.MustCompile(`(policy|rules) [0-9a-f]{16}`)
	counts     = regexp.MustCompile(`(?m)^[0-9]+ cases`)
)

func TestDocsShowWhatCommandsPrint(t *testing.T) {
	for name, least := range map[string]int{"policy.md": 2, "label.md": 1} {
		showWhatIsPrinted(t, open(t, name), least)
	}
}

func showWhatIsPrinted(t *testing.T, p page, least int) {
	t.Helper()
	shown := 0
	want := transcript.ReplaceAllStringFunc(p.text, func(block string) string {
		shown++
		line := transcript.FindStringSubmatch(block)[1]
		var c cli
		cmd, err := c.parser().Parse(strings.Fields(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		var out bytes.Buffer
		cmd.BindTo(&out, (*io.Writer)(nil))
		t.Chdir(filepath.Join("..", ".."))
		err = cmd.Run()
		t.Chdir(filepath.Join("cmd", "cloister"))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		text := counts.ReplaceAllString(versions.ReplaceAllString(out.String(), "$1 …"), "… cases")
		return "```console\n$ cloister " + line + "\n" + text + "```"
	})
	if shown < least {
		t.Errorf("%s shows %d commands", p.path, shown)
	}
	p.check(t, want)
}
