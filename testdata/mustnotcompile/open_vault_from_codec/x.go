// in fhir/codec: imports github\.com/cloister-health/cloister/fhir/record/internal/vault from zz_attempt\.go\n\s+imports .*import cycle not allowed|use of internal package
package codec

import (
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// A sibling of fhir/record is still outside.
func forged(s vault.Sealed) []byte { return vault.Open(s) }
