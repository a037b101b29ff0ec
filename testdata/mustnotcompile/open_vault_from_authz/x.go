// in authz/audit: use of internal package github\.com/cloister-health/cloister/fhir/record/internal/vault not allowed
package audit

import (
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// Who decides never sees a body.
func forged(s vault.Sealed) []byte { return vault.Open(s) }
