package authz

import (
	"slices"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/consent/law"
)

// Recipient is the class of who receives a record.
type Recipient uint8

// The classes of recipients. Who cannot be told apart is outside.
const (
	Outside        Recipient = iota // another entity: an exchange, a researcher, an authority
	Workforce                       // of the practice: for it the record is used, and not disclosed
	Individual                      // the patient
	Representative                  // who acts for the patient (45 CFR 164.502(g))
	System                          // the operator of this server
)

// Operator is the role that only the command line holds, never a token.
const Operator = "operator"

// Assistant is the role of software that drafts documentation. It is no person, and needs the
// patient's consent to that for all that it is shown.
const Assistant = consent.RoleAssistant

// exchange is the role of whoever asks on behalf of a health information exchange.
const exchange = "hie"

// roles are all that a policy can name, in the order of the manual. Each has the class that
// obligations and the law of states go by, and what the law calls such a recipient.
var roles = []struct {
	name  string
	class Recipient
	law   law.Recipient
}{
	{"therapist", Workforce, law.Workforce},
	{"psychiatrist", Workforce, law.Workforce},
	{"trainee", Workforce, law.Workforce},
	{"supervisor", Workforce, law.Workforce},
	{"sud-counselor", Workforce, law.Workforce},
	{"front-desk", Workforce, law.Workforce},
	{"biller", Workforce, law.Workforce},
	{"privacy-officer", Workforce, law.Workforce},
	{"practice-admin", Workforce, law.Workforce},
	{exchange, Outside, law.Exchange},
	{"research-analyst", Outside, law.Researcher},
	{"patient", Individual, law.Patient},
	{"proxy", Representative, law.Parent},
	// Another entity, even where it works for the practice under an agreement.
	{"service-organization", Outside, law.Service},
	{"auditor", Outside, law.Oversight},
	{"coroner", Outside, law.Examiner},
	{"law-enforcement", Outside, law.LawEnforcement},
	{"court", Outside, law.Court},
	{"public-health", Outside, law.PublicHealth},
	// Whose software it is, is not known here.
	{Assistant, Outside, law.Assistant},
	// Its import is no disclosure.
	{Operator, System, law.Workforce},
}

// Roles lists the roles that a policy line can name, in the order of the manual. The caller
// owns the slice.
func Roles() []string {
	out := make([]string, len(roles))
	for i, r := range roles {
		out[i] = r.name
	}
	return out
}

// RecipientOf is the class of a caller with these roles. Roles of several
// classes, and one that is not known, make an outsider.
func RecipientOf(held []string) Recipient {
	out := Outside
	for i, name := range held {
		at := roleNamed(name)
		if at < 0 || i > 0 && roles[at].class != out {
			return Outside
		}
		out = roles[at].class
	}
	return out
}

// WithinRoles lists the roles of which no one makes an outsider, sorted.
func WithinRoles() (out []string) {
	for _, r := range roles {
		if r.class != Outside {
			out = append(out, r.name)
		}
	}
	slices.Sort(out)
	return out
}

func roleNamed(name string) int {
	for i := range roles {
		if roles[i].name == name {
			return i
		}
	}
	return -1
}

// lawfulRecipient is what the law calls a caller with these roles. Who is outside by one role is
// outside by all; of a role that nobody knows, nobody knows that it is not. A request of the patient's own is the
// patient's or the representative's, whatever else they are; anything else is not. Where no role is known, the answer is
// none of the recipients, to which nothing is disclosed.
func lawfulRecipient(held []string, purpose string) law.Recipient {
	own := consent.Category(purpose) == "PATRQT"
	var out, person law.Recipient
	known, unknown := false, false
	for _, name := range held {
		at := roleNamed(name)
		if at < 0 {
			unknown = true
			continue
		}
		known = true
		switch r := &roles[at]; r.class {
		case Outside:
			return r.law
		case Representative:
			person = r.law
		case Individual:
			if person == "" {
				person = r.law
			}
		default:
			out = r.law
		}
	}
	switch {
	case !known:
		return ""
	case unknown:
		return law.Exchange
	case person != "" && (own || out == ""):
		return person
	}
	return out
}
