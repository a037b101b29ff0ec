package api

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	bulkBlock = regexp.MustCompile("(?s)```http bulk\n(.*?)```\n(?:\n```(?:json|ndjson)\n(.*?)```)?")
	exportID  = regexp.MustCompile(`_export/[0-9a-f-]{36}`)
	moments   = regexp.MustCompile(`2026-03-01T12:\d\d:\d\d\.\d{3}Z`)
)

// The worked example of docs/bulk.md is what a server answers, step by step.
func TestDocsBulkExample(t *testing.T) {
	c, s := newBulk(t)
	text, err := os.ReadFile(filepath.Join("..", "docs", "bulk.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := bulkBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 9 {
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
			return moments.ReplaceAllString(exportID.ReplaceAllString(x, "_export/{id}"), "<then>")
		}
		if want != "" && normal(got) != normal(want) {
			t.Errorf("%s: the page says\n%s\nand the server\n%s", lines[0], want, got)
		}
	}
}
