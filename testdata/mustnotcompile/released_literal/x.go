// in api/rest: cannot refer to unexported field body in struct literal of type record\.Released
package rest

import (
	"github.com/cloister-health/cloister/fhir/record"
)

func forged(body []byte) record.Released { return record.Released{body: func() []byte { return body }} }
