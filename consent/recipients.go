package consent

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

const (
	classPrefix      = "class:"
	identifierPrefix = "identifier:"
)

// classes of recipients of a single consent (42 CFR 2.31(a)(4)(i)), and the
// purpose for which each receives.
var classes = []struct{ code, purpose string }{
	{"treating-providers", "TREAT"}, {"payers", "HPAYMT"}, {"operations", "HOPERAT"},
}

func class(code string) string { return classPrefix + code }

func isClass(recipient string) bool { return strings.HasPrefix(recipient, classPrefix) }

// knownClass reports whether a code is a class of recipients.
func knownClass(code string) bool {
	for _, c := range classes {
		if c.code == code {
			return true
		}
	}
	return false
}

// Identified is the recipient that a Consent names by identifier.
func Identified(c Code) string { return identifierPrefix + c.System + "|" + c.Code }

// Recipients lists what a caller answers to as the recipient of a provision:
// the user, the organizations whose workforce it is, what it is a member of, the
// identifiers of all these, and the class that receives for this purpose or a part of
// it if the user is a practitioner.
func (c Caller) Recipients(purpose string) []string {
	var out []string
	if s := c.User.String(); s != "" {
		out = append(out, s)
	}
	for _, o := range c.Organizations {
		if o.Valid() {
			out = append(out, "Organization/"+string(o))
		}
	}
	for _, r := range c.ActsAs {
		if s := r.String(); s != "" {
			out = append(out, s)
		}
	}
	for _, i := range c.Identifiers {
		out = append(out, Identified(i))
	}
	if c.User.Type == "Practitioner" {
		for _, x := range classes {
			if permitted(x.purpose, purpose) {
				out = append(out, class(x.code))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// named is the recipient of a reference to one that can be compared with a caller, or "".
func named(r fhir.Ref) string {
	switch r.Type {
	case "Organization", "Practitioner", "PractitionerRole", "CareTeam", "Group", "RelatedPerson", "Patient", "Device":
		if r.ID.Valid() {
			return r.String()
		}
	}
	return ""
}
