package label

import (
	"iter"

	"github.com/cloister-health/cloister/fhir"
)

// Codes of our own systems that name a source.
const (
	codePart2Program   = "part2-program"
	codePsychNote      = "psychotherapy-note"
	codeCounselingNote = "sud-counseling-note"
	codeMinorConsented = "minor-consented"
)

// URI is the system of a coding whose code is a canonical URL
// (codesystem-uri, RFC 3986): the questionnaire that was answered, for one.
const URI = "urn:ietf:rfc:3986"

// Content is what decides over the labels that a resource has of itself: its
// type, and every coding anywhere in it, contained resources included. A code
// whose system the element does not name has the system "".
type Content struct {
	Type    fhir.ResourceType
	Codings iter.Seq2[string, string] // system, code
}

// Classify gives the labels of a resource's own content by the house's own
// rules: see [Classifier.Classify].
func Classify(c Content) Set { return Default().Classify(c) }

// Classify gives the labels of a resource's own content. What flows in along
// references, and what the resource was labelled before, the store adds. A
// further coding can only add labels.
func (x *Classifier) Classify(c Content) Set {
	var s Set
	if c.Codings == nil {
		return 0
	}
	for system, code := range c.Codings {
		if source, ok := ofSource(c.Type, system, code); ok {
			s |= source
		} else {
			s |= x.OfCode(system, code)
		}
	}
	return s
}

// ofSource gives the source that a coding of our own systems names in a
// resource of that type; ok says that the system is one of them.
func ofSource(t fhir.ResourceType, system, code string) (s Set, ok bool) {
	switch system {
	case fhir.NoteKind:
		if t == "DocumentReference" || t == "Composition" {
			s = noteKind(code)
		}
	case fhir.EncounterKind:
		if code == codeMinorConsented {
			s = MinorConsented
		}
	case fhir.OrganizationKind:
		// The program itself, or a contained one.
		if code == codePart2Program {
			s = Part2
		}
	default:
		return 0, false
	}
	return s, true
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

// Stated gives the labels that the security labels of a resource from
// elsewhere add to those of its content (DS4P). They only raise: what is not
// stated takes nothing away, and a confidentiality adds nothing, since it is
// derived here. 42CFRPart2 makes no record of a program of this practice, but
// one that was [Received]. What is stated to be a note of a session and is none by its
// type is not kept apart, so it is none in law (45 CFR 164.501, 42 CFR 2.11):
// that makes it mental health or substance use information.
func Stated(security iter.Seq2[string, string]) Set {
	var s Set
	for system, code := range security {
		named, _ := OfLabelCode(system, code)
		s |= named &^ (Part2 | Notes | Oversight)
		if named.Any(Part2) {
			s |= Received
		}
		if named.Any(PsychNote) {
			s |= PSY | MH
		}
		if named.Any(CounselingNote) {
			s |= ETH | SUD
		}
	}
	return s
}
