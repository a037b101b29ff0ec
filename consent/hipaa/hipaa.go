// Package hipaa holds the rules of the HIPAA Privacy and Breach Notification
// Rules (45 CFR part 164), one function each, over plain facts.
//
// The numbers P1 to P21 and H1 to H10 are those of the segmentation rules; [Rules]
// lists them. What a function is not told does not hold, and what does not hold denies.
package hipaa

import "slices"

// Purposes of use (v3-ActReason) that the rules speak of.
const (
	treatment  = "TREAT"
	payment    = "HPAYMT"
	operations = "HOPERAT"
	training   = "TRAIN"
	request    = "PATRQT"
)

// Emergency reports whether a purpose is emergency treatment (P19). TREAT is not.
func Emergency(purpose string) bool {
	return purpose == "ETREAT" || purpose == "BTG" || purpose == "ERTREAT"
}

// MayUsePsychotherapyNote reports whether a psychotherapy note may be used
// without an authorization or a documented exception: by its originator, for treatment
// (P5, 45 CFR 164.508(a)(2)(i)(A)). That is use, and no disclosure to colleagues.
func MayUsePsychotherapyNote(originator bool, purpose string) bool {
	return originator && purpose == treatment
}

// RightOfAccess reports whether the patient has a right of access to a record
// (P17, 45 CFR 164.524(a)(1)(i)): to all of it but psychotherapy notes. The denial
// cannot be reviewed, and everything else is still released.
func RightOfAccess(psychotherapyNote bool) bool { return !psychotherapyNote }

// AuthorizationStandsAlone reports whether an authorization for psychotherapy
// notes is combined with nothing else (P14, 45 CFR 164.508(b)(3)(ii)). kinds are what the one document
// authorizes, psychotherapy tells which of them is about psychotherapy notes.
func AuthorizationStandsAlone(kinds []string, psychotherapy func(kind string) bool) bool {
	return len(kinds) > 0 && !slices.ContainsFunc(kinds, func(k string) bool { return !psychotherapy(k) })
}
