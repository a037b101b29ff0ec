// in fhir/record/postgres: use of internal package github\.com/cloister-health/cloister/authz/internal/issue not allowed
package postgres

import (
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/internal/issue"
)

// The store takes restrictions; it makes none.
func forged(g authz.Grant) authz.Restriction {
	return issue.NewRestriction(g, "Patient", []issue.Arm{{Classes: []int16{0}}}, 0, []issue.Extent{{}}, nil)
}
