package label

import "github.com/cloister-health/cloister/fhir"

// Reason is why a coding gives labels.
type Reason struct {
	Labels Set
	Rule   string // what matched: a code system and the code in it that covers the coding, or a rule by its name
	Basis  string // the list that the rule is from, or the law
}

// Reasons explains [Classifier.Classify] for one coding in a resource of that
// type. Together the reasons give the labels that the coding gives.
func (x *Classifier) Reasons(t fhir.ResourceType, system, code string) []Reason {
	if source, ok := ofSource(t, system, code); ok {
		if source == 0 {
			return nil
		}
		return []Reason{{source, code, sourceBasis[source]}}
	}
	sys, code, known := identify(system, code)
	if code == "" {
		return nil
	}
	var out []Reason
	if !known {
		uri := normalURI(system)
		for _, l := range x.lists() {
			if s := l.local[uri][code]; s != 0 {
				out = append(out, Reason{s, uri + " " + code, l.title})
			}
		}
		if x.options.Unknown && foreign(system) {
			out = append(out, Reason{Unclassified, "unknown code system", "policy"})
		}
		return out
	}
	tobacco := !x.options.Tobacco && x.table.isTobacco(sys, code)
	for _, l := range x.lists() {
		l.each(sys, code, func(entry string, s Set) {
			if tobacco {
				s &^= tobaccoLabels
			}
			if s != 0 {
				out = append(out, Reason{s, sys.Short() + " " + entry, l.title})
			}
		})
	}
	return out
}

var sourceBasis = map[Set]string{
	Part2:          "42 CFR 2.11",
	PsychNote:      "45 CFR 164.501",
	CounselingNote: "42 CFR 2.11",
	MinorConsented: "42 CFR 2.14",
}
