// Package part2 holds the rules of 42 CFR part 2 (2024) on disclosure and
// consent, one function each, over plain facts.
//
// The numbers S1 to S43 are those of the segmentation rules; [Rules] lists them.
// What a function is not told does not hold, and what does not hold denies.
package part2

import (
	"slices"
	"time"
)

// Purposes of use (v3-ActReason) that the rules speak of.
const (
	treatment  = "TREAT"
	payment    = "HPAYMT"
	operations = "HOPERAT"
)

// Kind is a kind of written consent (codes of fhir.ConsentKind).
type Kind string

// The kinds that this version evaluates.
const (
	TPO      Kind = "part2-tpo"      // one consent for all future treatment, payment and operations, 42 CFR 2.31(a)(5)(iii), 2.33(a)(2)
	Specific Kind = "part2-specific" // named recipients and purposes, 42 CFR 2.31(a), 2.33(a)(1)
)

// Valid reports whether k is a kind that this version evaluates.
func (k Kind) Valid() bool { return k == TPO || k == Specific }

// Written is which elements of 42 CFR 2.31(a) a written consent has.
type Written struct {
	Patient     bool // (1) the name of the patient
	Discloser   bool // (2) who may disclose
	Description bool // (3) what may be disclosed, as far as this version can tell it apart
	Recipient   bool // (4) to whom
	Purpose     bool // (5) what for
	Statements  bool // (6), (10) the rights and statements of the signed form
	Expiry      bool // (7) date, event or condition on which it ends
	Signature   bool // (8) of the patient
	Date        bool // (9) of the signature
}

// Missing names the elements of 42 CFR 2.31(a) that a consent lacks (S7); a
// consent that lacks one is no consent. A consent for treatment, payment and
// operations may be open-ended (2.31(a)(7)).
func Missing(k Kind, w Written) []string {
	var out []string
	for _, e := range []struct {
		there bool
		text  string
	}{
		{w.Patient, "42 CFR 2.31(a)(1): the patient is missing"},
		{w.Discloser, "42 CFR 2.31(a)(2): who may disclose is missing"},
		{w.Description, "42 CFR 2.31(a)(3): what may be disclosed is missing or narrower than can be evaluated"},
		{w.Recipient, "42 CFR 2.31(a)(4): the recipient is missing or cannot be evaluated"},
		{w.Purpose, "42 CFR 2.31(a)(5): the purpose is missing or cannot be covered by this consent"},
		{w.Statements, "42 CFR 2.31(a)(6): the signed form with its statements is missing"},
		{w.Expiry || k == TPO, "42 CFR 2.31(a)(7): the expiry is missing"},
		{w.Signature, "42 CFR 2.31(a)(8): the patient's signature is missing"},
		{w.Date, "42 CFR 2.31(a)(9): the date of the signature is missing"},
	} {
		if !e.there {
			out = append(out, e.text)
		}
	}
	return out
}

// InForce reports whether a consent holds at a moment: from start, inclusive,
// to end, exclusive; a zero end is open (S8, 42 CFR 2.31(c)).
func InForce(start, end, at time.Time) bool {
	return !at.Before(start) && (end.IsZero() || at.Before(end))
}

// Proceeding reports whether a purpose is that of a proceeding, which no consent for
// anything else reaches (S6, S13, 42 CFR 2.12(d)(1), 2.31(d)).
func Proceeding(purpose string) bool { return purpose == "HLEGAL" || purpose == "LEGAL" }

// IsTPO reports whether purposes are treatment, payment and operations, all
// three and nothing else: the phrase of the single consent (S15, 42 CFR 2.31(a)(5)(iii)).
// The codes are exact: HLEGAL is no part of HOPERAT here, ETREAT and BTG none of TREAT.
func IsTPO(purposes []string) bool {
	have := map[string]bool{}
	for _, p := range purposes {
		have[p] = true
	}
	return len(have) == 3 && have[treatment] && have[payment] && have[operations]
}

// Consentable reports whether a specific consent can cover a purpose in this
// version (S14): not proceedings (S13), not emergencies, which need none (S33),
// not marketing, and not research, which has its own basis (S35).
func Consentable(purpose string) bool { return slices.Contains(consentable, purpose) }

// ConsentablePurposes lists them. The caller owns the slice.
func ConsentablePurposes() []string { return slices.Clone(consentable) }

var consentable = []string{treatment, payment, operations,
	"COC", "CAREMGT", "COVERAGE", "ELIGVER", "COVAUTH", "CLMATTCH", "PATRQT", "FAMRQT"}

// CoversCounselingNotes reports whether a consent of kind k covers SUD
// counseling notes: only one that is about nothing else does, and this version
// knows none (S11, S12, 42 CFR 2.31(b)).
func CoversCounselingNotes(Kind) bool { return false }

// MayConsent reports whether the one who agreed can consent to the disclosure
// of the patient's records: the patient, a minor too (S27, 42 CFR 2.14(b)). Those who
// sign for another (S28 to S30, 42 CFR 2.14(c), 2.15) this version cannot tell apart.
func MayConsent(patient, performer string) bool { return patient != "" && patient == performer }
