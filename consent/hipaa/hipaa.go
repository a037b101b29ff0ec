// Package hipaa holds the rules of the HIPAA Privacy Rule (45 CFR part 164)
// that decide over psychotherapy notes, one function each, over plain facts.
//
// The numbers P1 to P21 are those of the segmentation rules. The exceptions P6
// to P12 need facts that this version does not have (a training program, a case, an
// order); they are denied by having no rule here.
package hipaa

// MayUsePsychotherapyNote reports whether a psychotherapy note may be used
// without an authorization: by its originator, for treatment (P5, 45 CFR
// 164.508(a)(2)(i)(A)). Everything else is P4, P13 or P19: no colleague, no payment, no
// operations, no court, and no emergency.
func MayUsePsychotherapyNote(originator bool, purpose string) bool {
	return originator && purpose == "TREAT"
}

// RightOfAccess reports whether the patient has a right of access to a record
// (P17, 45 CFR 164.524(a)(1)(i)): to all of it but psychotherapy notes.
func RightOfAccess(psychotherapyNote bool) bool { return !psychotherapyNote }

// AuthorizationStandsAlone reports whether an authorization for psychotherapy
// notes is combined with nothing else (P14, 45 CFR 164.508(b)(3)(ii)). kinds are what the one document
// authorizes, psychotherapy tells which of them is about psychotherapy notes.
func AuthorizationStandsAlone(kinds []string, psychotherapy func(kind string) bool) bool {
	for _, k := range kinds {
		if !psychotherapy(k) {
			return false
		}
	}
	return len(kinds) > 0
}
