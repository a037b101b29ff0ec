package state

// open reports what no law of a state keeps: what stays with the patient, and what the patient agreed to.
func open(d Disclosure) bool { return d.Self || d.Consent }

// Washington is RCW 70.02.230 (J1): the fact of admission for mental health services, and all information about
// them, leaves the practice with the patient's consent or in an emergency.
func Washington(d Disclosure) string {
	if d.Outside && d.MentalHealth && !open(d) && !d.Emergency {
		return "J1"
	}
	return ""
}

// California is the CMIA: Civ. 56.104 (J3), outpatient psychotherapy leaves the practice on the recipient's written request
// that says what, what for, how long and when it is destroyed, or with consent; and Civ. 56.101 as AB 352 has it
// (J4), gender-affirming care, abortion and contraception do not leave the state but with consent.
func California(d Disclosure) string {
	switch {
	case d.OtherState && (d.Reproductive || d.GenderCare) && !open(d):
		return "J4"
	case d.Outside && d.Psychotherapy && !d.Request && !open(d) && !d.Emergency:
		return "J3"
	}
	return ""
}

// Illinois is the MHDDCA, 740 ILCS 110 (J6): mental health records leave the practice with a consent that names the recipient; a
// therapist's personal notes leave it never, and no consent changes that. That the patient does not see them is P17.
func Illinois(d Disclosure) string {
	switch {
	case d.PersonalNote && (d.Outside || d.ToParent):
		return "J6"
	case d.Outside && d.MentalHealth && !open(d) && !d.Emergency:
		return "J6"
	}
	return ""
}

// NewYork is MHL 33.13 (J7): clinical records of mental health facilities leave them with consent, or to treat in an emergency.
func NewYork(d Disclosure) string {
	if d.Outside && d.MentalHealth && !open(d) && !d.Emergency {
		return "J7"
	}
	return ""
}

// Texas is HSC 611.004 (J8): mental health records leave the practice with consent, or to who takes part in the treatment.
func Texas(d Disclosure) string {
	if d.Outside && d.MentalHealth && !open(d) && !d.Emergency && d.Purpose != "TREAT" {
		return "J8"
	}
	return ""
}

// Florida is s. 394.4615 (J9): clinical records of mental health treatment leave the facility with consent, or to who treats.
func Florida(d Disclosure) string {
	if d.Outside && d.MentalHealth && !open(d) && !d.Emergency && d.Purpose != "TREAT" {
		return "J9"
	}
	return ""
}

// Pennsylvania is 4 Pa. Code 255.5 (J10): SUD records go, even with consent, to payers and others only as far as the section lists, so that
// nothing of them leaves for payment or operations here; treatment needs consent.
func Pennsylvania(d Disclosure) string {
	if !d.Outside || !d.SubstanceUse || d.Self {
		return ""
	}
	if d.Emergency || d.Consent && d.Purpose == "TREAT" {
		return ""
	}
	return "J10"
}

// GDPR is art. 18 (J12): a record whose processing is restricted is stored, and used only with consent (18(2)).
func GDPR(d Disclosure) string {
	if d.Frozen && !open(d) {
		return "J12"
	}
	return ""
}

// ConsumerHealthData reports whether Washington's My Health My Data Act holds for data (J2, RCW 19.373): not for what HIPAA or
// part 2 protects, so that it goes by where the data comes from.
func ConsumerHealthData(protectedByHIPAA, part2 bool) bool { return !protectedByHIPAA && !part2 }
