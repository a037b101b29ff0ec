// in api/bulkdata: use of internal package .*fhir/record/internal/vault not allowed
package bulkdata

import (
	"io"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// A handler makes a stream of its own, without the gate.
func forged(g authz.Grant) vault.Stream {
	return vault.Flow(g, false, func(w io.Writer) error { _, err := io.WriteString(w, "{}\n"); return err })
}
