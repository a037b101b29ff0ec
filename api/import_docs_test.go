package api

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

var (
	importBlock = regexp.MustCompile("(?s)```http import\n(.*?)```\n(?:\n```(?:json|ndjson)\n(.*?)```)?")
	importID    = regexp.MustCompile(`_import/[0-9a-f-]{36}`)
	manifests   = regexp.MustCompile("(?s)```json\n(\\{\"inputFormat\".*?)```")
)

// The worked example of docs/rest/import.md is what a server answers, step by step.
func TestDocsImportExample(t *testing.T) {
	c, s := newImports(t, "files.example")
	text, err := os.ReadFile(filepath.Join("..", "docs", "rest", "import.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := importBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 5 {
		t.Fatalf("%d blocks", len(blocks))
	}
	id := ""
	for _, b := range blocks {
		head, body, _ := strings.Cut(strings.TrimSpace(b[1]), "\n\n")
		lines := strings.Split(head, "\n")
		m := firstLine.FindStringSubmatch(lines[0])
		if m == nil {
			t.Fatalf("%q is no example", lines[0])
		}
		var headers []string
		for _, l := range lines[1:] {
			name, value, _ := strings.Cut(l, ": ")
			headers = append(headers, name, value)
		}
		w := c.do(t, call{method: m[1], path: strings.ReplaceAll(m[2], "{id}", id), token: m[3], body: body, header: header(headers...)})
		if strconv.Itoa(w.Code) != m[4] {
			t.Fatalf("%s: %d\n%s", lines[0], w.Code, w.Body)
		}
		if id == "" {
			id = strings.TrimPrefix(w.Header().Get("Content-Location"), "https://clinic.example/fhir/_import/")
			if p := ask(t, c, "GET", "/fhir/_import/"+id, "exchange", "").Header().Get("X-Progress"); p != "0 of 3 lines" {
				t.Errorf("X-Progress: %q", p)
			}
			takeIn(t, s)
		}
		got, want := strings.TrimSpace(w.Body.String()), strings.TrimSpace(b[2])
		normal := func(x string) string {
			return moments.ReplaceAllString(importID.ReplaceAllString(x, "_import/{id}"), "<then>")
		}
		if want != "" && normal(got) != normal(want) {
			t.Errorf("%s: the page says\n%s\nand the server\n%s", lines[0], want, got)
		}
	}
	for _, m := range manifests.FindAllStringSubmatch(string(text), -1) {
		n, err := codec.ReadJSON([]byte(m[1]), codec.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := intake.ReadManifest(n); err != nil || len(r.Inputs) != 2 || !r.Gzip {
			t.Errorf("%+v %v", r, err)
		}
	}
}
