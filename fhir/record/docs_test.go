package record

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

// TestConsentPage runs the examples of docs/consent.md.
func TestConsentPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "consent.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string) string {
		t.Helper()
		_, rest, ok := strings.Cut(string(page), "```"+kind+"\n")
		text, _, end := strings.Cut(rest, "\n```")
		if !ok || !end {
			t.Fatalf("no block %q", kind)
		}
		return text
	}
	read := func(text string) consent.Directive {
		t.Helper()
		r, err := codec.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		d, err := codec.ConsentDirective(r)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	unsigned := block("consent")
	if got := consent.Compile(read(unsigned), Labels).Defects; !slices.Equal(got, []string{block("defects")}) {
		t.Errorf("defects %q", got)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(unsigned), &m); err != nil {
		t.Fatal(err)
	}
	m["performer"] = []any{map[string]any{"reference": "Patient/anna"}}
	var exception any
	if err := json.Unmarshal([]byte(block("provision")), &exception); err != nil {
		t.Fatal(err)
	}
	provision, ok := m["provision"].(map[string]any)
	if !ok {
		t.Fatal("no provision")
	}
	provision["provision"] = []any{exception}
	signed, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := read(string(signed))
	for code, want := range map[string]bool{"B20": false, "F32.1": true} {
		q := consent.Request{
			Record:  consent.Record{Ref: fhir.Ref{Type: "Condition", ID: "c"}, Patient: "anna", Codes: []consent.Code{{System: "http://hl7.org/fhir/sid/icd-10-cm", Code: code}}},
			Caller:  consent.Caller{Organizations: []fhir.ID{"hie"}},
			Purpose: "TREAT", At: time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC),
		}
		if got := consent.Evaluate([]consent.Directive{d}, Labels, q); got.Permitted != want {
			t.Errorf("%s: %v", code, got.Sentences())
		}
	}
	for _, k := range consent.Permissions.List() {
		if !strings.Contains(string(page), "| `"+string(k)+"` |") {
			t.Errorf("the kind %s is not on the page", k)
		}
	}
}
