// in api/rest: use of internal package github\.com/cloister-health/cloister/fhir/record/internal/vault not allowed
package rest

import (
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// The front of the house asks the vault.
func forged(s record.Sealed) []byte { return vault.Open(s) }
