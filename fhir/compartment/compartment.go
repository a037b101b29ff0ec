// Package compartment says in which patients' compartments a resource is, and
// by which parameters R4 puts resources into the compartments of any type.
package compartment

import (
	_ "embed" // the table
	"slices"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/search"
)

//go:generate go run ./internal/compartmentgen $CLOISTER_R4_DEFINITIONS

// compartments is the table that internal/compartmentgen writes: "@Type" opens a
// compartment, then a line per resource type, with the parameters by which it is in one.
//
//go:embed compartments.txt
var compartments string

type membership struct{ compartment, member fhir.ResourceType }

var parameters = sync.OnceValue(func() map[membership][]string {
	m := map[membership][]string{}
	var of fhir.ResourceType
	for line := range strings.Lines(compartments) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "@"); ok {
			of = fhir.ResourceType(name)
		}
		name, codes, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		t := fhir.ResourceType(name)
		for code := range strings.FieldsSeq(codes) {
			// A parameter without a walker would silently empty the compartment.
			p, ok := search.Lookup(t, code)
			if !ok || p.Type != search.Reference || !p.Searchable() {
				panic("compartment: " + name + "." + code + " is no reference parameter that can be walked")
			}
			m[membership{of, t}] = append(m[membership{of, t}], code)
		}
	}
	return m
})

// Membership lists the search parameters by which resources of type member are
// in the compartments of a type (R4 CompartmentDefinition: of Device, Encounter,
// Patient, Practitioner, RelatedPerson); none for what never is. The resource
// itself is in its compartment, too. It serves [search.ParseCompartment]. The
// caller owns the slice.
func Membership(compartment, member fhir.ResourceType) []string {
	return slices.Clone(parameters()[membership{compartment, member}])
}

// Known reports whether R4 defines compartments of that type.
func Known(compartment fhir.ResourceType) bool {
	return len(parameters()[membership{compartment, "Observation"}]) > 0
}

// InPatientCompartment reports whether resources of type t can be in the
// compartment of a patient (CompartmentDefinition/patient, R4 4.0.1).
func InPatientCompartment(t fhir.ResourceType) bool {
	return len(parameters()[membership{"Patient", t}]) > 0
}

// Parameters lists the search parameters by which resources of type t are in
// the compartment of a patient; none for a type that never is. The caller owns
// the slice.
func Parameters(t fhir.ResourceType) []string { return Membership("Patient", t) }

// Patients lists, sorted and distinct, the patients of this server in whose
// compartment the resource is: those that its compartment parameters point to
// by a relative literal reference ("Patient/1"), and a Patient itself by its
// id. References in other elements, in contained resources, to other servers
// or by identifier alone put it in no compartment.
func Patients(t fhir.ResourceType, root *element.Node) []fhir.ID {
	var out []fhir.ID
	if t == "Patient" {
		if id := fhir.ID(root.Get("id").String()); id.Valid() {
			out = append(out, id)
		}
	}
	for _, code := range parameters()[membership{"Patient", t}] {
		for _, r := range search.Targets(t, code, root) {
			if r.Type == "Patient" {
				out = append(out, r.ID)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
