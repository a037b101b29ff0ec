// in api/rest: r\.body undefined \(cannot refer to unexported field body\)
package rest

import (
	"github.com/cloister-health/cloister/fhir/record"
)

// A handler passes a released resource on; it does not hold its bytes.
func forged(r record.Released) []byte { return r.body() }
