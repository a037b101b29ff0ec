// in api/rest: cannot convert s .*Sealed.* to type lookalike
package rest

import (
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir/record"
)

type lookalike struct {
	h     any
	grant authz.Grant
	open  func() []byte
}

func forged(s record.Sealed) []byte { return lookalike(s).open() }
