// in api/rest: r\.plans undefined \(cannot refer to unexported field plans\)
package rest

import (
	"github.com/cloister-health/cloister/fhir/record/deident"
)

// A profile cannot be widened by who uses it.
func forged(r *deident.Release) { r.plans = nil }
