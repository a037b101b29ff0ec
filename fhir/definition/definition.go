// Package definition finds the conformance resources of FHIR packages by their canonical URLs.
//
// Packages are published material (profiles, value sets, code systems, search
// parameters ...): nothing in here belongs to a practice or a patient.
package definition

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Source finds definitions. Implementations are safe for concurrent use.
type Source interface {
	// Find gives the definition of a type with a canonical URL, "url" or
	// "url|version" (references.html#canonical). Without a version the newest
	// loaded one is meant ([Newer]). The tree must not be changed; it has no
	// narrative. The bool is false where nothing of that name is loaded; errors
	// are failures of the source.
	Find(ctx context.Context, t fhir.ResourceType, canonical string) (*element.Node, bool, error)
}

// Versioned is a Source whose content grows. Revision gives a number that
// changes whenever an answer of Find may have become another; what was derived
// from an earlier revision is out of date.
type Versioned interface {
	Source
	Revision(ctx context.Context) (int64, error)
}

// Lister is a Source that knows all that it has.
type Lister interface {
	Source
	// Canonicals gives "url|version" (or "url", without a version) of every
	// definition of t, sorted.
	Canonicals(ctx context.Context, t fhir.ResourceType) ([]string, error)
}

// Types are the resource types that are taken from packages; everything else
// in them (examples above all) stays out.
var Types = []fhir.ResourceType{
	"CapabilityStatement", "CodeSystem", "CompartmentDefinition", "ConceptMap", "GraphDefinition", "ImplementationGuide", "MessageDefinition",
	"NamingSystem", "OperationDefinition", "SearchParameter", "StructureDefinition", "StructureMap", "ValueSet",
}

// Entry says what one definition is and where its body is.
type Entry struct {
	ID      int64 // chosen by the shelf, which never gives it to another one
	Type    fhir.ResourceType
	URL     string
	Version string // business version, "" if it has none
	Package string // name#version of the package that brought it
}

// Canonical is "url|version", or "url" without a version.
func (e Entry) Canonical() string {
	if e.Version == "" {
		return e.URL
	}
	return e.URL + "|" + e.Version
}

type address struct {
	t   fhir.ResourceType
	url string
}

// index finds entries by type and URL, the preferred one first.
type index map[address][]Entry

func newIndex(entries []Entry) index {
	x := index{}
	for _, e := range entries {
		a := address{e.Type, e.URL}
		x[a] = append(x[a], e)
	}
	for _, list := range x {
		slices.SortFunc(list, preferred)
	}
	return x
}

// preferred puts the newest version first. The same version from two packages
// is taken from the newer package, then from the one whose name comes last.
func preferred(a, b Entry) int {
	if c := Newer(b.Version, a.Version); c != 0 {
		return c
	}
	an, av, _ := strings.Cut(a.Package, "#")
	bn, bv, _ := strings.Cut(b.Package, "#")
	return cmp.Or(Newer(bv, av), cmp.Compare(bn, an), cmp.Compare(b.ID, a.ID))
}

func (x index) find(t fhir.ResourceType, canonical string) (Entry, bool) {
	url, version, pinned := strings.Cut(canonical, "|")
	for _, e := range x[address{t, url}] {
		if !pinned || e.Version == version {
			return e, true
		}
	}
	return Entry{}, false
}

func (x index) canonicals(t fhir.ResourceType) []string {
	var out []string
	for a, list := range x {
		if a.t == t {
			for _, e := range list {
				out = append(out, e.Canonical())
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
