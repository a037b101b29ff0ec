// in api/rest: cannot use r .*as deident\.Deidentified value
package rest

import (
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
)

// A resource that its caller may read is not thereby de-identified.
func forged(sink *deident.NDJSON, r record.Released) error { return sink.Put(r) }
