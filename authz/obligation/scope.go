package obligation

import (
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Scope is what one consent permits to one recipient: that much of it, and no
// more, is told to whoever receives a record under it (S19, 42 CFR 2.32(b)).
type Scope struct {
	Consent    fhir.ID
	Kind       string   // code of fhir.ConsentKind
	Recipients []string // those that the consent names and the recipient answers to, "Organization/x" or "class:treating-providers"; none: anyone
	Purposes   []string // v3-ActReason; none: any
	Whole      bool     // it is about all records of the program; else about some
	Until      time.Time
}

// kinds say what a consent is, by its kind.
var kinds = map[string]string{
	"part2-tpo":          "for treatment, payment and health care operations (42 CFR 2.33(a)(2))",
	"part2-specific":     "for the purposes that it names (42 CFR 2.33(a)(1))",
	"part2-intermediary": "to the participants of an intermediary (42 CFR 2.31(a)(4)(ii))",
	"part2-sudcn":        "for SUD counseling notes (42 CFR 2.31(b))",
	"part2-legal":        "for proceedings (42 CFR 2.31(d))",
	"part2-research":     "for research (42 CFR 2.31(a)(7), 2.52)",
}

// Explain is the explanation of the consent's scope, in one line of visible ASCII.
func (s Scope) Explain() string {
	var b strings.Builder
	b.WriteString("The patient's written consent")
	if k := kinds[s.Kind]; k != "" {
		b.WriteString(" " + k)
	}
	b.WriteString(": ")
	if s.Whole {
		b.WriteString("the records of the program")
	} else {
		b.WriteString("those records of the program that it describes")
	}
	b.WriteString(", to " + enumerated(s.Recipients, "whom it does not name", func(r string) string {
		if class, ok := strings.CutPrefix(r, "class:"); ok {
			return strings.ReplaceAll(class, "-", " ")
		}
		return r
	}))
	b.WriteString(", for " + enumerated(s.Purposes, "any purpose", func(p string) string { return p }))
	if s.Until.IsZero() {
		b.WriteString(", until it is revoked")
	} else {
		b.WriteString(", until " + s.Until.UTC().Format(time.RFC3339) + " or until it is revoked")
	}
	return visible(b.String())
}

func enumerated(list []string, none string, word func(string) string) string {
	if len(list) == 0 {
		return none
	}
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = word(x)
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ", ")
}

// visible keeps what may stand in a header field between quotation marks.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}
