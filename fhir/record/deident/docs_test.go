package deident

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
)

// TestDeidentificationPage runs the example of docs/deidentification.md.
func TestDeidentificationPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "deidentification.md"))
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
	want, err := codec.ReadJSON([]byte(block("released")), codec.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	x := newTrial(t, "safe-harbor")
	out := x.run(stored{body: "{'resourceType':'Patient','id':'mrn-4711'}"}, stored{patient: "mrn-4711", body: block("stored")})
	got := regexp.MustCompile(`[A-Z2-7]{26}`).ReplaceAllString(shown(out[1]), "SURROGATE")
	if got != shown(want) {
		t.Errorf("released is\n%s\nthe page says\n%s", got, shown(want))
	}
	var names []string
	for _, rt := range Types() {
		names = append(names, string(rt))
	}
	if !strings.Contains(page, "<!-- types -->"+strings.Join(names, ", ")+"<!-- end -->") {
		t.Errorf("the page does not list %s", strings.Join(names, ", "))
	}
	for _, p := range Profiles() {
		if !strings.Contains(page, "| `"+strings.ReplaceAll(p.String(), "|", `\|`)+"` | "+p.Citation+" |") || !strings.Contains(page, "`"+p.Label+"` |") {
			t.Errorf("the page does not have %s", p)
		}
	}
	for q := range quasiOrder {
		if !strings.Contains(page, "`"+string(q)+"`") {
			t.Errorf("the page does not have %s", q)
		}
	}
}
