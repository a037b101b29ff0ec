package label

import (
	"iter"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Codes of our own systems that name a source.
const (
	codePart2Program   = "part2-program"
	codePsychNote      = "psychotherapy-note"
	codeCounselingNote = "sud-counseling-note"
	codeMinorConsented = "minor-consented"
)

// Content is what decides over the labels that a resource has of itself: its
// type, and every coding anywhere in it, contained resources included (see [Codings]).
type Content struct {
	Type    fhir.ResourceType
	Codings iter.Seq2[string, string] // system, code
}

// Classify gives the labels of a resource's own content. What flows in along
// references, and what the resource was labelled before, the store adds. A
// further coding can only add labels.
func Classify(c Content) Set {
	var s Set
	if c.Codings == nil {
		return 0
	}
	for system, code := range c.Codings {
		switch system {
		case fhir.NoteKind:
			if c.Type == "DocumentReference" || c.Type == "Composition" {
				s |= noteKind(code)
			}
		case fhir.EncounterKind:
			if code == codeMinorConsented {
				s |= MinorConsented
			}
		case fhir.OrganizationKind:
			// The program itself, or a contained one.
			if code == codePart2Program {
				s |= Part2
			}
		default:
			s |= OfCode(system, code)
		}
	}
	return s
}

func noteKind(code string) Set {
	switch code {
	case codePsychNote:
		return PsychNote
	case codeCounselingNote:
		return CounselingNote
	}
	return 0
}

// IsPart2Program reports whether the content is that of an Organization that
// is a program under 42 CFR 2.11: whatever refers to it is a Part 2 record.
func IsPart2Program(c Content) bool {
	if c.Type != "Organization" || c.Codings == nil {
		return false
	}
	for system, code := range c.Codings {
		if system == fhir.OrganizationKind && code == codePart2Program {
			return true
		}
	}
	return false
}

// Codings yields every coding in a resource: each object that has a code,
// contained resources and extensions included, with its system or ""; the
// questions of a questionnaire that name LOINC codes in their linkId or URL; but not
// meta.security, by which a caller would label its own resource.
func Codings(root *element.Node) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		more := true
		root.Walk(func(name string, n *element.Node) bool {
			if !more {
				return false
			}
			if name == "meta" {
				for i := range n.Fields {
					if n.Fields[i].Name != "security" && more {
						more = codingsBelow(n.Fields[i].Value, yield)
					}
				}
				return false
			}
			more = codingsOf(name, n, yield)
			return more
		})
	}
}

func codingsBelow(n *element.Node, yield func(string, string) bool) bool {
	more := true
	n.Walk(func(name string, x *element.Node) bool {
		more = more && codingsOf(name, x, yield)
		return more
	})
	return more
}

func codingsOf(name string, n *element.Node, yield func(string, string) bool) bool {
	switch n.Kind {
	case element.Object:
		if code := n.Get("code").String(); code != "" {
			return yield(n.Get("system").String(), code)
		}
	case element.String:
		switch name {
		case "linkId":
			// LOINC's own forms use "/44250-9", nested ones "/44249-1/44250-9".
			for part := range strings.SplitSeq(n.Text, "/") {
				if isLOINC(part) && !yield("http://loinc.org", part) {
					return false
				}
			}
		case "questionnaire", "url", "instantiatesCanonical", "derivedFrom":
			if i := strings.LastIndexByte(n.Text, '/'); i >= 0 && strings.Contains(n.Text, "loinc.org/") {
				code, _, _ := strings.Cut(n.Text[i+1:], "|")
				if isLOINC(code) {
					return yield("http://loinc.org", code)
				}
			}
		}
	}
	return true
}

func isLOINC(s string) bool {
	n := len(s)
	if n < 3 || n > 8 || s[n-2] != '-' {
		return false
	}
	for i := 0; i < n; i++ {
		if i != n-2 && (s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return true
}
