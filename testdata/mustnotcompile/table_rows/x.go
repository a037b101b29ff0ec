// in api/rest: t\.to undefined \(cannot refer to unexported field to\)
package rest

import (
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/view"
)

func forged(t *deident.Table, r view.Row) error { return t.to.Write(r) }
