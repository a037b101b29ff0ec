// in api/rest: r\.arms undefined \(type authz\.Restriction has no field or method arms
package rest

import (
	"github.com/cloister-health/cloister/authz"
)

func forged(r authz.Restriction) authz.Restriction {
	r.arms = append(r.arms, authz.Arm{Classes: []int16{0}})
	return r
}
