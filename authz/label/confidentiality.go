package label

import "strings"

// Confidentiality is a code of v3-Confidentiality. The codes are in a total
// order, from U to V; the zero value is none of them, and below all.
type Confidentiality uint8

// The codes of v3-Confidentiality, in their order.
const (
	Unrestricted   Confidentiality = iota + 1 // U
	Low                                       // L
	Moderate                                  // M
	Normal                                    // N
	Restricted                                // R
	VeryRestricted                            // V
)

const confidentialityCodes = "ULMNRV"

// String gives the code, or "" for the zero value.
func (c Confidentiality) String() string {
	if c == 0 || int(c) > len(confidentialityCodes) {
		return ""
	}
	return confidentialityCodes[c-1 : c]
}

// ConfidentialityOf reads a coding of v3-Confidentiality, under each URI that
// the code system goes by; ok is false for any other coding.
func ConfidentialityOf(system, code string) (c Confidentiality, ok bool) {
	switch strings.TrimSuffix(strings.ToLower(strings.TrimSpace(system)), "/") {
	case "http://terminology.hl7.org/codesystem/v3-confidentiality", "http://hl7.org/fhir/v3/confidentiality", "urn:oid:2.16.840.1.113883.5.25":
	default:
		return 0, false
	}
	if len(code) != 1 {
		return 0, false
	}
	i := strings.Index(confidentialityCodes, code)
	return Confidentiality(i + 1), i >= 0 //nolint:gosec // six codes
}

// PermitCovers reports whether a permit for c reaches a record of
// confidentiality x: everything labelled c or lower (R4 Consent). The zero value permits nothing.
func (c Confidentiality) PermitCovers(x Confidentiality) bool { return x != 0 && x <= c }

// DenyCovers reports whether a denial of c reaches a record of confidentiality
// x: everything labelled c or higher. What has no confidentiality is denied, too.
func (c Confidentiality) DenyCovers(x Confidentiality) bool { return x == 0 || x >= c }

// Confidentiality is derived from the labels: V for the notes of sessions, R
// for whatever is sensitive or comes from a protected source, N for the rest. A
// record without labels is N and never U: that nothing was found in it does not open it.
func (s Set) Confidentiality() Confidentiality {
	switch {
	case s.Any(Notes):
		return VeryRestricted
	case s != 0:
		return Restricted
	}
	return Normal
}
