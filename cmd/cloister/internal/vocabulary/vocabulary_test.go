package vocabulary

import (
	"context"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/terminology"
)

// What is in the package is valid R4, and is what the server's own names refer to.
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
	for system, codes := range map[string][]string{
		fhir.OrganizationKind: {"part2-program"}, fhir.NoteKind: {"psychotherapy-note", "sud-counseling-note"}, fhir.EncounterKind: {"minor-consented"},
		fhir.ConsentKind: {"part2-tpo", "part2-specific"}, fhir.RecipientClass: {"treating-providers", "payers", "operations"},
		fhir.SecurityLabel: {"SUDCN", "MINORCONSENT", "42CFRPart2-RECEIVED", "UNCLASSIFIED"},
	} {
		for _, code := range codes {
			if _, err := s.Lookup(ctx, terminology.Lookup{Coding: terminology.Coding{System: system, Code: code}}); err != nil {
				t.Errorf("%s|%s: %v", system, code, err)
			}
		}
	}
}
