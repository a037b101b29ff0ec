package cloister_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

var markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksOfThePagesLeadSomewhere(t *testing.T) {
	root := os.DirFS(".")
	pages := []string{"README.md", "testdata/authz/README.md"}
	err := fs.WalkDir(root, "docs", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(p, ".md") {
			pages = append(pages, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{}
	for _, p := range pages {
		text, err := fs.ReadFile(root, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range markdownLink.FindAllStringSubmatch(string(text), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			to := path.Join(path.Dir(p), target)
			linked[to] = true
			if _, err := fs.Stat(root, to); err != nil {
				t.Errorf("%s: %s leads nowhere", p, m[1])
			}
		}
	}
	for _, p := range pages {
		if strings.HasPrefix(p, "docs/") && !linked[p] {
			t.Errorf("no page leads to %s", p)
		}
	}
}
