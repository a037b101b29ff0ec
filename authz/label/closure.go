package label

import (
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/terminology"
)

// The groups within which one denial reaches the others: these codes are used for
// each other in practice, though v3-ActCode has ETH beside SUD, and MH, PSY and BH side by side.
const (
	SubstanceUse = ETH | SUD | ETHUD | OPIOIDUD
	MentalHealth = PSY | MH | BH | COGN | DVD | EMOTDIS | PsychNote
)

// below is the hierarchy of v3-ActCode, as far as it has depth.
var below = []struct{ parent, children Set }{
	{SUD, ETHUD | OPIOIDUD},
	{BH, COGN | DVD | EMOTDIS},
}

// PermitCovers is what a permit for the codes reaches: these codes and what
// v3-ActCode has below them. A psychotherapy note is reached by its own code
// alone, never by one for psychiatry, mental or behavioral health (45 CFR
// 164.508(b)(3)(ii)). A label outside the result is not permitted.
func PermitCovers(codes Set) Set {
	out := codes
	for _, h := range below {
		if codes.Any(h.parent) {
			out |= h.children
		}
	}
	return out
}

// DenyCovers is what a denial of the codes reaches: what a permit would, the
// whole of [SubstanceUse] for ETH or SUD, the whole of [MentalHealth] for PSY,
// MH or BH, notes of psychotherapy among it, and for 42CFRPart2 the counseling
// notes and received records that part 2 protects, too.
func DenyCovers(codes Set) Set {
	out := PermitCovers(codes)
	if codes.Any(ETH | SUD) {
		out |= SubstanceUse
	}
	if codes.Any(PSY | MH | BH) {
		out |= MentalHealth
	}
	if codes.Any(Part2) {
		out |= CounselingNote | Received
	}
	return out
}

// labelCodes are the sensitivity and law codes of v3-ActCode that stand for
// labels, in upper case. What is defined for a category (SPI, Title 38) stands for its members.
var labelCodes = map[string]Set{
	"SPI":                BH | MH | PSY | SUD,
	"SCA":                SICKLE,
	"42CFRPART2CD":       Part2,
	"HIPAAPSYNOTES":      PsychNote,
	"TITLE38SECTION7332": SubstanceUse | HIV | SICKLE, // 38 USC 7332(a)(1)
}

// ownCodes are the labels that v3-ActCode has no code for; their codes are of [fhir.SecurityLabel].
const ownCodes = CounselingNote | MinorConsented | Received | Oversight | Unclassified

// OfLabelCode gives the labels that a security label names: a sensitivity or
// privacy law code of v3-ActCode, or a code of [fhir.SecurityLabel]. ok is false
// for what names no label that a record here can have. It is what a code means
// as a label; what it says as content of a record is [OfCode].
func OfLabelCode(system, code string) (s Set, ok bool) {
	code = strings.ToUpper(strings.TrimSpace(code))
	own := system == fhir.SecurityLabel
	if !own && terminology.SystemOf(system) != terminology.ActCode {
		return 0, false
	}
	for _, n := range names {
		if strings.EqualFold(n.code, code) && ownCodes.Any(n.bit) == own {
			return n.bit, true
		}
	}
	if !own {
		s, ok = labelCodes[code]
	}
	return s, ok
}

// LabelCode is the inverse of [OfLabelCode] for one label: the system and code
// under which it is named to others; "" for anything but one label.
func LabelCode(s Set) (system, code string) {
	for _, n := range names {
		switch {
		case n.bit != s:
		case ownCodes.Any(s):
			return fhir.SecurityLabel, n.code
		default:
			return "http://terminology.hl7.org/CodeSystem/v3-ActCode", n.code
		}
	}
	return "", ""
}
