// in api/rest: cannot convert r .*Released.* to type deident\.Deidentified
package rest

import (
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
)

func forged(r record.Released) deident.Deidentified { return deident.Deidentified(r) }
