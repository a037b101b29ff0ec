package api

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/deident/terms"
)

var (
	releaseBlock = regexp.MustCompile("(?s)```http release\n(.*?)```\n(?:\n```(?:json|ndjson)\n(.*?)```)?")
	laidBlock    = regexp.MustCompile("(?s)```json releases\n(.*?)```")
	surrogates   = regexp.MustCompile(`[A-Z2-7]{26}`)
)

// The worked example of docs/deidentification.md is what a server answers, step by step.
func TestDocsReleaseExample(t *testing.T) {
	c, s, _ := newReleasing(t)
	text, err := os.ReadFile(filepath.Join("..", "docs", "deidentification.md"))
	if err != nil {
		t.Fatal(err)
	}
	if laid := laidBlock.FindSubmatch(text); laid == nil {
		t.Error("the page shows no releases.json")
	} else if _, err := terms.Parse(laid[1]); err != nil {
		t.Error(err)
	}
	blocks := releaseBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 5 {
		t.Fatalf("%d blocks", len(blocks))
	}
	id := ""
	for _, b := range blocks {
		lines := strings.Split(strings.TrimSpace(b[1]), "\n")
		m := firstLine.FindStringSubmatch(lines[0])
		if m == nil {
			t.Fatalf("%q is no example", lines[0])
		}
		var headers []string
		for _, l := range lines[1:] {
			name, value, _ := strings.Cut(l, ": ")
			headers = append(headers, name, value)
		}
		w := ask(t, c, m[1], strings.ReplaceAll(m[2], "{id}", id), m[3], "", headers...)
		if strconv.Itoa(w.Code) != m[4] {
			t.Fatalf("%s: %d\n%s", lines[0], w.Code, w.Body)
		}
		switch {
		case w.Header().Get("X-Progress") != "":
			work(t, s)
		case id == "":
			id = strings.TrimPrefix(w.Header().Get("Content-Location"), "https://clinic.example/fhir/_export/")
		}
		got, want := strings.TrimSpace(w.Body.String()), strings.TrimSpace(b[2])
		normal := func(x string) string {
			return surrogates.ReplaceAllString(moments.ReplaceAllString(exportID.ReplaceAllString(x, "_export/{id}"), "<then>"), "SURROGATE")
		}
		if want != "" && normal(got) != normal(want) {
			t.Errorf("%s: the page says\n%s\nand the server\n%s", lines[0], want, got)
		}
	}
}
