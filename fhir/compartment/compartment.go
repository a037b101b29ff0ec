// Package compartment says in which patients' compartments a resource is,
// by exactly the parameters of the R4 CompartmentDefinition of the patient.
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

// patient is the table that internal/compartmentgen writes: a line per
// resource type, with the parameters by which it is in a patient's compartment.
//
//go:embed patient.txt
var patient string

var parameters = sync.OnceValue(func() map[fhir.ResourceType][]string {
	m := map[fhir.ResourceType][]string{}
	for line := range strings.Lines(patient) {
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
			m[t] = append(m[t], code)
		}
	}
	return m
})

// InPatientCompartment reports whether resources of type t can be in the
// compartment of a patient (CompartmentDefinition/patient, R4 4.0.1).
func InPatientCompartment(t fhir.ResourceType) bool { return len(parameters()[t]) > 0 }

// Parameters lists the search parameters by which resources of type t are in
// the compartment of a patient; none for a type that never is. The caller owns
// the slice.
func Parameters(t fhir.ResourceType) []string { return slices.Clone(parameters()[t]) }

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
	for _, code := range parameters()[t] {
		for _, r := range search.Targets(t, code, root) {
			if r.Type == "Patient" {
				out = append(out, r.ID)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
