package vocabulary

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/terminology"
)

// What is in the package is valid R4, and it has every code of every code system that package fhir names.
func TestPackage(t *testing.T) {
	p, err := Package()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range p.Artifacts {
		if _, err := codec.Parse(a.Body); err != nil {
			t.Errorf("%s: %v", a.URL, err)
		}
		if a.Version != p.Version {
			t.Errorf("%s has version %s in a package of version %s", a.URL, a.Version, p.Version)
		}
	}
	ctx := context.Background()
	s := terminology.New(definition.NewSet(p), terminology.Options{})
	var kinds []string
	for _, k := range (consent.Permissions | consent.Restrictions).List() {
		kinds = append(kinds, string(k))
	}
	codes := map[string][]string{
		fhir.OrganizationKind: {"part2-program"}, fhir.NoteKind: {"psychotherapy-note", "sud-counseling-note"}, fhir.EncounterKind: {"minor-consented"},
		fhir.CareTeamKind: {"supervision", "supervisor", "supervisee"}, fhir.AffiliationKind: {"qsoa"},
		fhir.ConsentKind: kinds, fhir.RecipientClass: {"treating-providers", "payers", "operations"}, fhir.ConsentActorRole: {"intermediary"},
		fhir.ConsentStatement: {"revocation", "conditioning", "redisclosure", "remuneration", "paid-in-full", "expires-end-of-treatment", "expires-none", "expires-end-of-study",
			"authority-parent", "authority-guardian", "authority-executor", "stands-alone", "may-not-be-agreed"},
	}
	for bit := label.Set(1); bit != 0 && bit <= label.All; bit <<= 1 {
		if system, code := label.LabelCode(bit); system == fhir.SecurityLabel {
			codes[system] = append(codes[system], code)
		}
	}
	for _, system := range systems(t) {
		if len(codes[system]) == 0 {
			t.Errorf("%s is a code system of package fhir, and nothing is asked of it here", system)
		}
		for _, code := range codes[system] {
			if _, err := s.Lookup(ctx, terminology.Lookup{Coding: terminology.Coding{System: system, Code: code}}); err != nil {
				t.Errorf("%s|%s: %v", system, code, err)
			}
		}
		// What the package has more, nothing reads; but for codes that group others.
		for _, code := range concepts(t, p, system) {
			if !slices.Contains(codes[system], code) {
				t.Errorf("%s|%s is in the package, and nothing reads it", system, code)
			}
		}
		delete(codes, system)
	}
	for system := range codes {
		t.Errorf("%s is no code system of package fhir", system)
	}
}

// systems are the code systems that package fhir has constants for.
func systems(t *testing.T) (out []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "..", "..", "fhir", "fhir.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sum, ok := n.(*ast.BinaryExpr)
		if !ok {
			return true
		}
		if l, ok := sum.Y.(*ast.BasicLit); ok && strings.HasPrefix(l.Value, `"/CodeSystem/`) {
			out = append(out, fhir.Canonical+strings.Trim(l.Value, `"`))
		}
		return true
	})
	if len(out) < 10 {
		t.Fatalf("%v: this test looks in the wrong place", out)
	}
	return out
}

// concept is one code of a code system, with those below it.
type concept struct {
	Code, Display string
	Concept       []concept
}

// concepts are the codes of a code system of the package below which there are no others.
func concepts(t *testing.T, p *definition.Package, system string) (out []string) {
	t.Helper()
	var walk func(list []concept)
	walk = func(list []concept) {
		for _, c := range list {
			if c.Display == "" {
				t.Errorf("%s|%s has no display", system, c.Code)
			}
			if len(c.Concept) == 0 {
				out = append(out, c.Code)
			}
			walk(c.Concept)
		}
	}
	for _, a := range p.Artifacts {
		if a.URL != system {
			continue
		}
		var cs concept
		if err := json.Unmarshal(a.Body, &cs); err != nil {
			t.Fatal(err)
		}
		walk(cs.Concept)
	}
	return out
}
