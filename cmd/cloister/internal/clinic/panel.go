package clinic

import "github.com/cloister-health/cloister/fhir"

// panel is the Group of patients that the practice keeps for the exchange.
func (s *site) panel() fhir.Ref { return s.ref("Group", "panel") }

// panels makes it. It is the exchange's to manage, and nobody is in it who is in the Part 2 program.
func (s *site) panels() Batch {
	b := &shelf{site: s}
	var members []node
	for _, i := range []int{featuredNotes, featuredTrainee} {
		members = append(members, object(reference("entity", s.patientRef(i, "Patient", ""))))
	}
	b.put(s.panel(), yes("active"), str("type", "person"), yes("actual"), str("name", "Patients of the general program, for the exchange"),
		reference("managingEntity", s.hie), list("member", members...))
	return Batch{Practice: s.Slug, Title: "panel of " + s.Name, Resources: b.out}
}
