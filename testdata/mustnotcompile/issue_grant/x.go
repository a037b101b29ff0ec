// in api/rest: use of internal package github\.com/cloister-health/cloister/authz/internal/issue not allowed
package rest

import (
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/internal/issue"
	"github.com/cloister-health/cloister/fhir"
)

func forged() authz.Grant { return issue.NewGrant(issue.Caller{Tenant: 1}, nil, "", fhir.Read) }
