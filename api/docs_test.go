package api

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
)

// docExample is one runnable block of docs/rest: "METHOD target as persona → status".
type docExample struct {
	page, method, target, persona string
	status                        int
	header                        http.Header
	body                          string
}

var firstLine = regexp.MustCompile(`^([A-Z]+) (\S+) as ([a-z-]+) → ([1-5][0-9][0-9])$`)

func docExamples(t *testing.T, more ...string) []docExample {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join("..", "docs", "rest", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("docs/rest: %d pages, %v", len(pages), err)
	}
	for _, name := range more {
		pages = append(pages, filepath.Join("..", "docs", name))
	}
	var out []docExample
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "```http\n")[1:] {
			block, _, ok := strings.Cut(part, "\n```")
			if !ok {
				t.Fatalf("%s: a block without an end", page)
			}
			head, body, _ := strings.Cut(block, "\n\n")
			lines := strings.Split(head, "\n")
			m := firstLine.FindStringSubmatch(lines[0])
			if m == nil {
				t.Fatalf("%s: %q is no example", page, lines[0])
			}
			e := docExample{page: filepath.Base(page), method: m[1], target: m[2], persona: m[3], header: http.Header{}, body: body}
			for _, c := range m[4] {
				e.status = e.status*10 + int(c-'0')
			}
			for _, l := range lines[1:] {
				name, value, ok := strings.Cut(l, ": ")
				if !ok {
					t.Fatalf("%s: %q is no header", page, l)
				}
				e.header.Set(name, value)
			}
			out = append(out, e)
		}
	}
	return out
}

// The pages speak of every interaction that is served, and their requests are
// of a form that the table and the codec know.
func TestDocumentationFollowsTheTable(t *testing.T) {
	f := newFixture(t)
	shown := map[string]bool{}
	for _, e := range docExamples(t, "consent-ceremony.md", "evaluate.md") {
		path, _, _ := strings.Cut(strings.ReplaceAll(e.target, "{Patient}", "1"), "?")
		for _, r := range f.table {
			if r.method == e.method && matches(r.path, path) && (r.reads != bundle || strings.Contains(e.body, `"type":"`+string(r.interaction)+`"`)) {
				shown[string(r.interaction)+r.operation] = true
			}
		}
		if e.body != "" && e.status < 300 && e.header.Get("Content-Type") == "application/fhir+json" {
			if _, err := codec.Parse([]byte(strings.ReplaceAll(e.body, "{Patient}", "1"))); err != nil {
				t.Errorf("%s: %s %s: %v", e.page, e.method, e.target, err)
			}
		}
		if e.persona != "nobody" {
			continue
		}
		if w := f.do(t, call{method: e.method, path: e.target}); w.Code != e.status {
			t.Errorf("%s: %s %s is %d, and the page says %d", e.page, e.method, e.target, w.Code, e.status)
		}
	}
	for _, r := range f.table {
		if !shown[string(r.interaction)+r.operation] {
			t.Errorf("no page shows %s %s", r.interaction, r.operation)
		}
	}
}

func matches(pattern, path string) bool {
	p, s := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(p) != len(s) {
		return false
	}
	for i := range p {
		if p[i] != s[i] && !strings.HasPrefix(p[i], ":") {
			return false
		}
	}
	return true
}
