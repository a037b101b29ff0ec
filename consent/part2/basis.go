package part2

import "slices"

// Basis is what holds between the one who asks and a record of a program.
type Basis struct {
	Program   bool // works for the program that holds it
	Consent   bool // a consent in force covers recipient, purpose and moment
	Self      bool // is the patient
	Emergency bool // has declared a medical emergency, which is documented and in force
	Exception bool // a documented exception of subparts D and E is in force
	Legal     bool // the patient consented to proceedings, in a consent to that alone, or an order came with a subpoena
	Agreement bool // works for an organization that serves the program under a written agreement
}

// emergencies are the purposes of a medical emergency.
var emergencies = []string{treatment, "ETREAT", "BTG", "ERTREAT"}

// MayDisclose reports whether part 2 lets a record be disclosed at all; [BasisOf] says by which rule.
// Who answers yes may still have no business with the record (S5, 42 CFR 2.13(a)).
func MayDisclose(b Basis, purpose string) bool {
	_, ok := BasisOf(b, purpose)
	return ok
}

// BasisOf names the rule by which a record of a program may be disclosed, or the
// one that denies it: for proceedings against the patient on what is for them alone (S6); within the program (S38, 42 CFR
// 2.12(c)(3)), to the patient (S26, 42 CFR 2.23), with consent (S14, S15, 42 CFR 2.33(a)), under a service
// agreement (S22, 42 CFR 2.12(c)(4)), in a medical emergency (S33, 42 CFR 2.51), by a documented
// exception (S34 to S37, S39, S41); and to nobody else (S42, 42 CFR 2.13).
func BasisOf(b Basis, purpose string) (rule string, permit bool) {
	switch {
	case Proceeding(purpose):
		return "S6", b.Legal
	case b.Program:
		return "S38", true
	case b.Self:
		return "S26", true
	case b.Consent:
		if IsOne(purpose) {
			return "S15", true
		}
		return "S14", true
	case b.Agreement:
		return "S22", true
	case b.Emergency && slices.Contains(emergencies, purpose):
		return "S33", true
	case b.Exception && purpose != "":
		return "S34-S41", true
	}
	return "S42", false
}

// IsOne reports whether a purpose is treatment, payment or operations (S15).
func IsOne(purpose string) bool {
	return purpose == treatment || purpose == payment || purpose == operations
}
