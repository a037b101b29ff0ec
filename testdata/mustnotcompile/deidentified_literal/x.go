// in api/rest: cannot refer to unexported field body in struct literal of type deident\.Deidentified
package rest

import (
	"github.com/cloister-health/cloister/fhir/record/deident"
)

func forged(body []byte) deident.Deidentified {
	return deident.Deidentified{body: func() []byte { return body }}
}
