package smart

import (
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

// Description says in plain words what one scope opens, for whoever consents to it.
type Description struct {
	Scope string            // in normal form
	Type  fhir.ResourceType // "*" is every type
	// Text is a sentence without its full stop, such as "See test results and
	// measurements of the chosen patient, only those with the category laboratory".
	Text string
}

// Describe describes the clinical scopes of a request, one by one, in their
// normal form. What leaves nothing open is not in it.
func Describe(scope string) []Description {
	all := Parse(scope).all
	out := make([]Description, len(all))
	for i, c := range all {
		text := c.may.words() + " " + noun(c.typ) + c.level.words()
		for j, p := range c.params {
			text += [2]string{", only those", " and"}[min(j, 1)] + p.words()
		}
		out[i] = Description{Scope: c.String(), Type: c.typ, Text: text}
	}
	return out
}

// words are the verbs of a permission.
func (p permission) words() string {
	var verbs []string
	switch {
	case p&(read|search) == read|search:
		verbs = append(verbs, "see")
	case p&read != 0:
		verbs = append(verbs, "open")
	case p&search != 0:
		verbs = append(verbs, "search")
	}
	for _, v := range []struct {
		p    permission
		verb string
	}{{create, "add"}, {update, "change"}, {del, "delete"}} {
		if p&v.p != 0 {
			verbs = append(verbs, v.verb)
		}
	}
	s := list(verbs, "and")
	return strings.ToUpper(s[:1]) + s[1:]
}

func (l level) words() string {
	switch l {
	case ofPatient:
		return " of the chosen patient"
	case ofUser:
		return " of everybody whose records you may reach"
	default:
		return " of everybody whose records the app itself may reach"
	}
}

// nouns are what patients call the data behind the types that apps ask for most.
var nouns = map[fhir.ResourceType]string{
	wildcard:                "all kinds of records",
	"AllergyIntolerance":    "allergies and intolerances",
	"Appointment":           "appointments",
	"CarePlan":              "care plans",
	"CareTeam":              "care teams",
	"Condition":             "health problems and diagnoses",
	"Consent":               "consents",
	"Coverage":              "insurance coverage",
	"DiagnosticReport":      "reports of tests and examinations",
	"DocumentReference":     "clinical notes and documents",
	"Encounter":             "visits",
	"Immunization":          "immunizations",
	"MedicationRequest":     "prescriptions",
	"Observation":           "test results and measurements",
	"Patient":               "name, contact and other personal details",
	"Procedure":             "procedures",
	"QuestionnaireResponse": "filled-in questionnaires",
}

// noun is what a type is called; of one without a name of its own it is the name
// of the type, word by word.
func noun(t fhir.ResourceType) string {
	if s, ok := nouns[t]; ok {
		return s
	}
	var b strings.Builder
	for i, r := range string(t) {
		if 'A' <= r && r <= 'Z' {
			if i > 0 {
				b.WriteByte(' ')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String() + " records"
}

// words are a parameter and its values, codes without their systems.
func (p param) words() string {
	shown := make([]string, len(p.items))
	for i, x := range p.items {
		if n := strings.LastIndexByte(x, '|'); n >= 0 && n+1 < len(x) {
			x = x[n+1:]
		}
		shown[i] = strings.Map(func(r rune) rune {
			if r < ' ' || r == '-' || r == '_' {
				return ' '
			}
			return r
		}, x)
	}
	return " with the " + strings.ReplaceAll(p.name, "-", " ") + " " + list(shown, "or")
}

// list joins words as in a sentence.
func list(words []string, last string) string {
	switch n := len(words); {
	case n > 1:
		return strings.Join(words[:n-1], ", ") + " " + last + " " + words[n-1]
	case n == 1:
		return words[0]
	}
	return ""
}
