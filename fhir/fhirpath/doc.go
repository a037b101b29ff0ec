// Package fhirpath evaluates FHIRPath (N1, with the additions of R4 fhirpath.html) on the one tree of a resource.
//
// It works on the nodes that fhir/codec has checked, with types from the R4 definitions: nothing is guessed
// from the shape of a value, a result knows the place in the tree where it stands (FHIRPath Patch needs it),
// and what an evaluation may cost is counted in steps. Nothing is looked up (resolve() knows the type that a
// reference names, and what is contained, and no more), nothing is printed (trace() is the identity), and an
// error speaks of the expression, never of the data.
//
// github.com/gofhir/fhirpath is the second opinion: tests compare both on published resources. It does not
// serve here itself, because it reads JSON anew for every evaluation (0.3 ms for an invariant), guesses types
// by shape, returns copies instead of places, has no bound on its work, and prints resources in trace().
package fhirpath

//go:generate sh -c "go run ./internal/typegen ../codec/r4.table > types.txt"
