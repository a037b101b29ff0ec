// in api/rest: cannot refer to unexported field interaction in struct literal of type authz\.Grant
package rest

import (
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
)

func forged() authz.Grant { return authz.Grant{interaction: fhir.Delete} }
