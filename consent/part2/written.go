package part2

import "time"

// State is what became of a consent after it was signed.
type State struct {
	Start     time.Time // from this moment on, inclusive
	End       time.Time // until this one, exclusive; zero is open
	RevokedAt time.Time // zero: not revoked
	False     bool      // it is known to be materially false
	Deficient bool      // something that it has to say is missing on its face
}

// Holds reports whether a consent can be relied on at a moment (S8, 42 CFR 2.31(c)).
func Holds(s State, at time.Time) bool {
	return !s.False && !s.Deficient && InForce(s.Start, s.End, at) && !Revoked(s.RevokedAt, at)
}

// Revoked reports whether a consent is revoked at a moment (S9, 42 CFR 2.31(a)(6), 2.33(a)(2)): from the moment of
// its revocation on. What was disclosed in reliance on it before is not undone.
func Revoked(revokedAt, at time.Time) bool { return !revokedAt.IsZero() && !at.Before(revokedAt) }

// StandsAlone reports whether a document is about one kind of consent and nothing else, as those for SUD counseling
// notes (S12, 42 CFR 2.31(b)(2)) and for proceedings (S13, 42 CFR 2.31(d)) have to be.
func StandsAlone(kinds []Kind, alone Kind) bool {
	for _, k := range kinds {
		if k != alone {
			return false
		}
	}
	return len(kinds) > 0
}

// MayCondition reports whether treatment may be made to depend on a consent (S12, 42 CFR 2.31(b)(2)): not on one
// for SUD counseling notes, and not on one for proceedings.
func MayCondition(k Kind) bool { return k != SUDCN && k != Legal && k != "" }

// ParticipantCovered reports whether a participant of an intermediary receives under a consent (S7, 42 CFR
// 2.31(a)(4)(ii)): one that it names, or, under a general designation, one that has a treating provider relationship.
func ParticipantCovered(intermediaryNamed, participantNamed, generalDesignation, treating bool) bool {
	return intermediaryNamed && (participantNamed || generalDesignation && treating)
}

// Minor is what the law of the state says of a minor's SUD care, and of whom it is asked.
type Minor struct {
	MayConsentAlone bool // to the treatment, under the law of the state
	MinorSigned     bool
	ParentSigned    bool
}

// MinorConsents reports whether a minor's records may be disclosed with consent (S27, S28, 42 CFR 2.14(b), (c)):
// where minors consent to treatment alone they alone consent to disclosure, to a parent too; elsewhere
// both sign.
func MinorConsents(m Minor) bool { return m.MinorSigned && (m.MayConsentAlone || m.ParentSigned) }

// ApplicationToParent reports whether the fact that a minor applied for treatment may be told to the parent
// where the parent's consent is required (S28, S29, 42 CFR 2.14(c)): with the minor's written consent, or where the director of the
// program judges that the minor cannot decide rationally and that telling may reduce a substantial threat
// to life or well-being.
func ApplicationToParent(minorSigned, lacksCapacity, substantialThreat bool) bool {
	return minorSigned || lacksCapacity && substantialThreat
}

// Signer is who signs a consent for the patient.
type Signer string

// The signers.
const (
	SignerPatient        Signer = "patient"
	SignerGuardian       Signer = "guardian"       // authorised by the law of the state, or a court
	SignerDirector       Signer = "director"       // of the program, for payment alone
	SignerRepresentative Signer = "representative" // personal representative of a deceased patient
	SignerSpouse         Signer = "spouse"         // or a responsible member of the family, where there is no representative
)

// MaySign reports whether somebody may consent for the patient (S30, 42 CFR 2.15): the guardian of one who was
// adjudicated, the director of one who cannot act (for payment alone), and after death the representative or, where there is
// none, the spouse or family.
func MaySign(s Signer, adjudicated, cannotAct, deceased, representative bool, purpose string) bool {
	switch s {
	case SignerPatient:
		return !adjudicated && !cannotAct && !deceased
	case SignerGuardian:
		return adjudicated && !deceased
	case SignerDirector:
		return cannotAct && !adjudicated && !deceased && purpose == payment
	case SignerRepresentative:
		return deceased && representative
	case SignerSpouse:
		return deceased && !representative
	}
	return false
}

// RestrictionBinds reports whether a restriction of disclosures for treatment, payment or operations binds the
// program (S25, 42 CFR 2.26): where it agreed, but for the treatment of an emergency; and where it had to agree because the patient paid in full.
func RestrictionBinds(agreed, paidInFull, toPlan bool, purpose string) bool {
	emergency := purpose == "ETREAT" || purpose == "BTG" || purpose == "ERTREAT"
	return paidInFull && toPlan || agreed && !emergency
}
