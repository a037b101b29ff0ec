package part2

import "time"

// Recipient is who receives, or passes on, a record of a program.
type Recipient string

// The recipients that the rules tell apart.
const (
	Workforce       Recipient = "workforce-of-holder"
	Covered         Recipient = "covered-entity-or-business-associate"
	ProgramOnly     Recipient = "part2-program" // one that is no covered entity
	Service         Recipient = "qualified-service-organization"
	ViaIntermediary Recipient = "intermediary"
	LawfulHolder    Recipient = "lawful-holder"
	Contractor      Recipient = "contractor-of-lawful-holder"
)

// Redisclosure is somebody passing on what was received with consent.
type Redisclosure struct {
	By          Recipient
	To          Recipient
	TPO         bool // it was received under a consent for treatment, payment and operations
	Consistent  bool // it is within what the consent says
	HIPAA       bool // the HIPAA rules permit it
	Contract    bool // a written contract binds the one who receives
	Purpose     string
	BackToMaker bool // it goes back to the program
}

// MayRedisclose names the rule on passing on, and whether it permits: a covered entity or business associate as HIPAA
// permits (S16, 42 CFR 2.33(b)(1)); a program that is none within the consent (S17, 2.33(b)(2)); another
// lawful holder to its contractors for payment and operations (S18, 2.33(b)(3), (c)); a service organization
// back to the program only (S22). Proceedings against the patient are never among them (S6).
func MayRedisclose(r Redisclosure) (rule string, permit bool) {
	if Proceeding(r.Purpose) {
		return "S6", false
	}
	switch r.By {
	case Covered:
		if r.TPO {
			return "S16", r.HIPAA
		}
		return "S14", r.Consistent
	case ProgramOnly:
		return "S17", r.Consistent
	case LawfulHolder:
		return "S18", r.To == Contractor && r.Contract && (r.Purpose == payment || r.Purpose == operations)
	case Service:
		return "S22", r.BackToMaker
	case ViaIntermediary:
		return "S23", r.Consistent
	}
	return "S42", false
}

// SpecificPermits reports whether a consent with named recipients permits (S14, 42 CFR 2.33(a)(1)): it is valid, and
// recipient, information and purpose are those that it names.
func SpecificPermits(valid, recipient, data bool, purpose string) bool {
	return valid && recipient && data && Consentable(purpose)
}

// TPOPermits reports whether a consent for treatment, payment and operations permits (S15, 42 CFR 2.33(a)(2)): to a
// program, covered entity or business associate, for one of the three, as HIPAA permits, until it is revoked.
func TPOPermits(valid bool, to Recipient, purpose string, hipaa bool) bool {
	return valid && hipaa && IsOne(purpose) && (to == Covered || to == ProgramOnly || to == Workforce)
}

// Statements of 42 CFR 2.32(a), one of which accompanies each disclosure with consent.
const (
	// StatementLong is that of 2.32(a)(1).
	StatementLong = "This record which has been disclosed to you is protected by Federal confidentiality rules (42 CFR part 2). These rules prohibit you from using or disclosing this record, or testimony that describes the information contained in this record, in any civil, criminal, administrative, or legislative proceedings by any Federal, State, or local authority, against the patient, unless authorized by the consent of the patient, except as provided at 42 CFR 2.12(c)(5) or as authorized by a court in accordance with 42 CFR 2.64 or 2.65. In addition, the Federal rules prohibit you from making any other use or disclosure of this record unless at least one of the following applies: (i) Further use or disclosure is expressly permitted by the written consent of the individual whose information is being disclosed in this record or as otherwise permitted by 42 CFR part 2. (ii) You are a covered entity or business associate and have received the record for treatment, payment, or health care operations; or (iii) You have received the record from a covered entity or business associate as permitted by 45 CFR part 164, subparts A and E. A general authorization for the release of medical or other information is NOT sufficient to meet the required elements of written consent to further use or redisclose the record (see 42 CFR 2.31)."
	// StatementShort is that of 2.32(a)(2), for electronic disclosures.
	StatementShort = "42 CFR part 2 prohibits unauthorized use or disclosure of these records."
)

// Obligation is what a permit asks of whoever acts on it.
type Obligation string

// The obligations.
const (
	Notice          Obligation = "notice-2.32"
	CopyOfConsent   Obligation = "copy-of-consent-2.32"
	NoRedisclosure  Obligation = "NORDSCLCD"
	Documentation   Obligation = "documentation-2.51"
	AccountingEntry Obligation = "accounting-entry"
)

// Obligations lists what accompanies a disclosure of a program's record by the rule that permits it: the notice and the
// consent, or an explanation of it, for what is disclosed with consent (S19, S20, 42 CFR 2.32), and an entry for the accounting (S24, 2.25); the
// documentation of an emergency (S33, 2.51(c)). What nothing of part 2 is in carries nothing.
func Obligations(rule string) []Obligation {
	switch rule {
	case "S14", "S15", "S16", "S17", "S18":
		return []Obligation{Notice, CopyOfConsent, NoRedisclosure, AccountingEntry}
	case "S33", "S34":
		return []Obligation{Documentation, AccountingEntry}
	case "S22", "S34-S41":
		return []Obligation{AccountingEntry}
	}
	return nil
}

// NoticeText is the statement that accompanies a disclosure (S20, 42 CFR 2.32(a)); "" where none is due.
func NoticeText(rule string, electronic bool) string {
	for _, o := range Obligations(rule) {
		if o == Notice {
			if electronic {
				return StatementShort
			}
			return StatementLong
		}
	}
	return ""
}

// ServicePermits reports whether a service organization and the program it serves may exchange records (S21, S22, 42 CFR
// 2.11, 2.12(c)(4)): under a written agreement that acknowledges part 2, and between the two alone.
func ServicePermits(agreement, acknowledges, betweenTheTwo bool) bool {
	return agreement && acknowledges && betweenTheTwo
}

// IsIntermediary reports whether somebody is an intermediary (S23, 42 CFR 2.11): who received records under a general
// designation to pass them to its participants, and is no program, covered entity or business associate.
func IsIntermediary(generalDesignation, coveredOrProgram bool) bool {
	return generalDesignation && !coveredOrProgram
}

// IntermediaryList gives the period and the deadline of the list of disclosures that a patient asks an intermediary for (S23,
// 42 CFR 2.24): the last three years, within 30 days.
func IntermediaryList(asked time.Time) (since, due time.Time) {
	return asked.AddDate(-3, 0, 0), asked.AddDate(0, 0, 30)
}

// Accounted reports whether a disclosure is one for the program's accounting (S24, 42 CFR 2.25): with consent, in the last three
// years; for treatment, payment or operations only if it went through an electronic health record, as all here do.
func Accounted(withConsent bool, at, asked time.Time, purpose string, electronic bool) bool {
	return withConsent && !at.Before(asked.AddDate(-3, 0, 0)) && !at.After(asked) && (!IsOne(purpose) || electronic)
}
