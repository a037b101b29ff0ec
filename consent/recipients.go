package consent

import (
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
)

const classPrefix = "class:"

// classes of recipients of a single consent (42 CFR 2.31(a)(4)(i)), and the
// purpose for which each receives.
var classes = []struct{ code, purpose string }{
	{"treating-providers", "TREAT"}, {"payers", "HPAYMT"}, {"operations", "HOPERAT"},
}

func class(code string) string { return classPrefix + code }

func classCode(recipient string) string {
	code, ok := strings.CutPrefix(recipient, classPrefix)
	if !ok {
		return ""
	}
	return code
}

// purposeOf is the purpose of a class of recipients, or "" for no class.
func purposeOf(code string) string {
	for _, c := range classes {
		if c.code == code {
			return c.purpose
		}
	}
	return ""
}

// Recipients lists what a caller answers to as the recipient of a grant: the
// user, the organizations whose workforce it is, the class that receives for this
// purpose if the user is a practitioner, and [Everyone].
func Recipients(user fhir.Ref, organizations []string, purpose string) []string {
	out := []string{Everyone}
	if s := user.String(); s != "" {
		out = append(out, s)
	}
	for _, o := range organizations {
		if fhir.ID(o).Valid() {
			out = append(out, "Organization/"+o)
		}
	}
	if user.Type == "Practitioner" {
		for _, c := range classes {
			if c.purpose == purpose {
				out = append(out, class(c.code))
			}
		}
	}
	return out
}

// Covers is the consent fact, as the store computes it in SQL: whether
// grants let a record of all these programs be disclosed to one who answers to
// recipients, for purpose, at the moment. Each program needs a permit, and a
// denial for any of them overrides. A record of no program has no such consent.
func Covers(grants []Grant, patient fhir.ID, programs []fhir.ID, recipients []string, purpose string, at time.Time) bool {
	if len(programs) == 0 || patient == "" {
		return false
	}
	for _, program := range programs {
		permitted := false
		for _, g := range grants {
			if g.Patient != patient || !slices.Contains(g.Purposes, purpose) ||
				!slices.Contains(recipients, g.Recipient) || !part2.InForce(g.Start, g.End, at) {
				continue
			}
			switch g.Effect {
			case Permit:
				permitted = permitted || g.Program == program && program != ""
			default:
				if g.Program == program || g.Program == "" {
					return false
				}
			}
		}
		if !permitted {
			return false
		}
	}
	return true
}
