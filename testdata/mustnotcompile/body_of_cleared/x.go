// in api/rest: c\.Content undefined
package rest

import (
	"github.com/cloister-health/cloister/fhir/record"
)

func forged(c record.Cleared) any { return c.Content }
