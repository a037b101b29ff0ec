package clinical_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/view"
	"github.com/cloister-health/cloister/fhir/view/clinical"
	"github.com/cloister-health/cloister/fhir/view/tabular"
)

var update = flag.Bool("update", false, "write the tables of docs/analytics.md anew")

// TestAnalyticsPage runs the example of docs/analytics.md, and holds its tables to the views.
func TestAnalyticsPage(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "analytics.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	block := func(kind string) string {
		t.Helper()
		_, rest, ok := strings.Cut(page, "```"+kind+"\n")
		body, _, end := strings.Cut(rest, "\n```")
		if !ok || !end {
			t.Fatalf("no block %q", kind)
		}
		return body
	}
	v, err := view.Parse([]byte(block("view")))
	if err != nil {
		t.Fatal(err)
	}
	f, _ := tabular.FormatNamed("csv")
	var got bytes.Buffer
	w, err := f.New(&got, v)
	if err != nil {
		t.Fatal(err)
	}
	resources := strings.Split(strings.ReplaceAll(block("released"), "\n ", " "), "\n")
	if len(resources) != 2 {
		t.Errorf("%d resources", len(resources))
	}
	for _, line := range resources {
		r, err := codec.Parse([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Rows(context.Background(), r.Root, w.Write); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if text := strings.ReplaceAll(got.String(), "\r\n", "\n"); text != block("csv")+"\n" {
		t.Errorf("the table is\n%s", text)
	}

	var b strings.Builder
	for _, v := range clinical.Views() {
		fmt.Fprintf(&b, "\n### `%s`\n\n%s Of %s.\n\n| column | type | |\n| --- | --- | --- |\n", v.Name(), v.Description(), v.Resource())
		for _, c := range v.Columns() {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Name, c.Type, c.Description)
		}
	}
	const from, till = "<!-- views -->", "<!-- end -->"
	head, rest, ok := strings.Cut(page, from)
	_, tail, end := strings.Cut(rest, till)
	if !ok || !end {
		t.Fatal("the page has no place for the views")
	}
	if want := head + from + b.String() + till + tail; *update {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil { //nolint:gosec // the page of this test
			t.Fatal(err)
		}
	} else if page != want {
		t.Error("the page has not the columns of the views: go test ./fhir/view/clinical -run Page -update")
	}
}
