// in fhir/record: use of internal package github\.com/cloister-health/cloister/authz/internal/issue not allowed
package record

import (
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/internal/issue"
	"github.com/cloister-health/cloister/fhir"
)

// The enforcement point decides nothing by itself.
func forged() authz.Grant { return issue.NewGrant(issue.Caller{Tenant: 1}, nil, "", fhir.Read) }
