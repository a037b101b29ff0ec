package consent

import (
	"slices"

	"github.com/cloister-health/cloister/consent/part2"
)

// Kind is a kind of consent, a code of fhir.ConsentKind.
type Kind string

// The kinds. Their bits are stored: never renumber them.
const (
	Part2TPO          Kind = "part2-tpo"           // 42 CFR 2.31(a)(5)(iii), 2.33(a)(2)
	Part2Specific     Kind = "part2-specific"      // 42 CFR 2.31(a), 2.33(a)(1)
	Part2Intermediary Kind = "part2-intermediary"  // 42 CFR 2.31(a)(4)(ii)
	Part2SUDCN        Kind = "part2-sudcn"         // 42 CFR 2.31(b)
	Part2Legal        Kind = "part2-legal"         // 42 CFR 2.31(d)
	Part2Research     Kind = "part2-research"      // 42 CFR 2.31(a)(7), 2.52
	Authorization     Kind = "hipaa-authorization" // 45 CFR 164.508(c)
	Psychotherapy     Kind = "hipaa-psychotherapy" // 45 CFR 164.508(a)(2), (b)(3)(ii)
	Restriction       Kind = "restriction"         // 45 CFR 164.522(a), 42 CFR 2.26
	OptOut            Kind = "deidentified-optout" // no use of de-identified data either
	AIDocumentation   Kind = "ai-documentation"    // documentation with the help of a machine
	MinorDisclosure   Kind = "minor-disclosure"    // 42 CFR 2.14(b): a minor's consent to disclose to a parent
	General           Kind = ""                    // of no kind: it can only deny
)

var kinds = []Kind{Part2TPO, Part2Specific, Part2Intermediary, Part2SUDCN, Part2Legal, Part2Research,
	Authorization, Psychotherapy, Restriction, OptOut, AIDocumentation, MinorDisclosure}

// Kinds is a set of kinds, as stored.
type Kinds int16

// Bit is the set of k alone; 0 for what is no kind.
func (k Kind) Bit() Kinds {
	if i := slices.Index(kinds, k); i >= 0 {
		return 1 << i
	}
	return 0
}

// KindsOf is the set of those kinds.
func KindsOf(list ...Kind) (s Kinds) {
	for _, k := range list {
		s |= k.Bit()
	}
	return s
}

// List lists the kinds of s in the order of their bits.
func (s Kinds) List() (out []Kind) {
	for _, k := range kinds {
		if s&k.Bit() != 0 {
			out = append(out, k)
		}
	}
	return out
}

// Restrictions are the kinds that forbid what needs no consent.
var Restrictions = KindsOf(Restriction, OptOut)

// Permissions are the kinds that permit what needs consent.
var Permissions = KindsOf(kinds...) &^ Restrictions

// family are the kinds within which one denies what another permits: consents
// for the same disclosures. What the law wants given separately is evaluated separately.
func (k Kind) family() Kinds {
	switch k {
	case Part2TPO, Part2Specific, Part2Intermediary, Part2Research:
		return KindsOf(Part2TPO, Part2Specific, Part2Intermediary, Part2Research)
	case General:
		return Permissions
	}
	return k.Bit()
}

// Source is what is known of a record's source that decides which consent it asks for.
type Source struct {
	Part2             bool // of a program (42 CFR 2.11), or received from one
	PsychotherapyNote bool // 45 CFR 164.501
	CounselingNote    bool // 42 CFR 2.11
	MinorConsented    bool // 42 CFR 2.14
}

// Roles of callers that ask for a consent of another kind.
const (
	roleProxy = "proxy"
	// RoleAssistant is that of software that drafts documentation.
	RoleAssistant = "ai-assistant"
)

// Need is one consent that a disclosure asks for: of any of these kinds.
type Need = Kinds

// Required says which consents the disclosure of a record asks for, where it
// is made with consent; each Need must be met.
//
//   - psychotherapy notes: an authorization for them (P4, P14, 45 CFR 164.508(a)(2)), and in a
//     program what its records ask for besides
//   - SUD counseling notes: a consent for them (S11, 42 CFR 2.31(b))
//   - proceedings with a program's records: a consent for proceedings, beside that for a note (S6, S13, 42 CFR 2.31(d))
//   - care to which a minor consented alone, to a parent: the minor's consent (S27, 42 CFR 2.14(b))
//   - other records of a program: a consent under 42 CFR 2.31(a); for research, one for research
//   - everything else: an authorization (45 CFR 164.508)
//   - a machine that documents: the consent to that besides, and instead of an authorization, because the practice itself
//     has it document (J14, 45 CFR 164.506(c))
func Required(s Source, purpose string, roles ...string) []Need {
	var out []Need
	machine := slices.Contains(roles, RoleAssistant)
	if s.PsychotherapyNote {
		out = append(out, Psychotherapy.Bit())
	}
	switch {
	case s.CounselingNote:
		out = append(out, Part2SUDCN.Bit())
	case s.MinorConsented && slices.Contains(roles, roleProxy):
		out = append(out, MinorDisclosure.Bit())
	case s.Part2 && part2.Proceeding(purpose): // said below
	case s.Part2 && isA(purpose, "HRESCH"):
		out = append(out, Part2Research.Bit())
	case s.Part2:
		out = append(out, KindsOf(Part2TPO, Part2Specific, Part2Intermediary))
	case !s.PsychotherapyNote && !machine:
		out = append(out, Authorization.Bit())
	}
	if (s.Part2 || s.CounselingNote) && part2.Proceeding(purpose) {
		out = append(out, Part2Legal.Bit())
	}
	if machine {
		out = append(out, AIDocumentation.Bit())
	}
	return out
}
