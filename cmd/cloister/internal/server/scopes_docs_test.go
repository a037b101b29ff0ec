package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// TestScopesPage runs the examples of docs/scopes.md.
func TestScopesPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "scopes.md"))
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
	one := block("")
	if s := smart.Parse(one).String(); s != one {
		t.Errorf("%s in normal form is %q", one, s)
	}
	if d := smart.Describe(one); len(d) != 1 || d[0].Text != block("describe") {
		t.Errorf("described as %v", d)
	}

	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	part, _ := persona("front-desk")
	part.Claims.Scope = block("scope")
	h.callers["part"] = part
	method, path, _ := strings.Cut(block("request"), " ")
	c := call{method: method, path: "/fhir" + path}
	whole, some := h.do("front-desk", c), h.do("part", c)
	if some.status != http.StatusOK || total(some) <= 0 || total(some) >= total(whole) || strings.Contains(some.body, `"status": "fulfilled"`) {
		t.Errorf("%d of %d appointments\n%.400s", total(some), total(whole), some.body)
	}
	absent := h.do("part", get("/Appointment/"+string(sample.Absent())))
	tried := 0
	for _, s := range sampleRecords() {
		at := get("/" + s.ref.String())
		if s.ref.Type != "Appointment" || !strings.Contains(s.json, `"status":"fulfilled"`) || h.do("front-desk", at).status != http.StatusOK {
			continue
		}
		tried++
		if a := h.do("part", at); a.status != http.StatusNotFound || normal(a) != normal(absent) {
			t.Errorf("a past appointment: %s\nand one that never was: %s", normal(a), normal(absent))
		}
	}
	if tried == 0 {
		t.Error("the sample clinic has no past appointment")
	}
}
