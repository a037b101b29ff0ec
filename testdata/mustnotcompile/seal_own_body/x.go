// in api/rest: use of internal package github\.com/cloister-health/cloister/fhir/record/internal/vault not allowed
package rest

import (
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// A body of one's own, sealed as if it came from the store.
func forged(g authz.Grant, body []byte) record.Sealed {
	return vault.Seal(vault.Header{Ref: fhir.Ref{Type: "Patient", ID: "1"}}, g, body)
}
