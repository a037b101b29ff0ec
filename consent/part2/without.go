package part2

import "time"

// MedicalEmergency is what 42 CFR 2.51 asks of a disclosure without consent.
type MedicalEmergency struct {
	BonaFide     bool
	Unobtainable bool // prior written consent cannot be obtained
	Disaster     bool // the program is closed in a declared emergency, and cannot provide services or obtain consent
	Personnel    bool // to medical personnel
	Necessary    bool // to the extent necessary
}

// EmergencyPermits reports whether a record may be disclosed in a medical emergency (S33, 42 CFR 2.51(a)).
func EmergencyPermits(e MedicalEmergency) bool {
	return e.BonaFide && (e.Unobtainable || e.Disaster) && e.Personnel && e.Necessary
}

// EmergencyRecord is the documentation of 42 CFR 2.51(c), made immediately.
type EmergencyRecord struct {
	Recipient, Facility string // who received, and their affiliation
	Discloser           string
	At                  time.Time
	Nature              string // of the emergency
}

// Complete reports whether the documentation has all that it needs (S33).
func (r EmergencyRecord) Complete() bool {
	return r.Recipient != "" && r.Facility != "" && r.Discloser != "" && !r.At.IsZero() && r.Nature != ""
}

// ToFDA reports whether a record may be disclosed to medical personnel of the FDA (S34, 42 CFR 2.51(b)): an error in a
// product may threaten health, and the record is used to notify patients or physicians.
func ToFDA(personnel, threat, onlyToNotify bool) bool { return personnel && threat && onlyToNotify }

// ForResearch reports whether a record may be disclosed for research (S35, 42 CFR 2.52): on the basis that HIPAA or the
// Common Rule asks for; the researcher reports aggregates or de-identified data only and gives records back to the program alone.
func ForResearch(basis, reportsAggregate, backOnly bool) bool {
	return basis && reportsAggregate && backOnly
}

// ForAudit reports whether a record may be disclosed for an audit or evaluation (S36, 42 CFR 2.53): the recipient agrees in
// writing; copies need a promise to keep them safe and destroy them; nothing of it is used against the patient.
func ForAudit(writtenAgreement, copies, promise, againstPatient bool) bool {
	return writtenAgreement && (!copies || promise) && !againstPatient
}

// ToPublicHealth reports whether a record may be disclosed to a public health authority without consent (S37, 42 CFR 2.54):
// de-identified as 45 CFR 164.514(b) says.
func ToPublicHealth(authority, deidentified bool) bool { return authority && deidentified }

// AboutCrime reports what may be told of a crime on the premises of a program or against its personnel (S39, 42 CFR
// 2.12(c)(5)): the circumstances, with the patient's status, name, address and last known whereabouts.
func AboutCrime(onPremisesOrPersonnel bool, kind string) bool {
	return onPremisesOrPersonnel && Necessary(kind, "circumstances", "status", "name", "address", "whereabouts")
}

// AboutChildAbuse reports whether a report of suspected child abuse may be made (S39, 42 CFR 2.12(c)(6)): the first one as state law asks;
// the records behind it and their use in proceedings stay barred.
func AboutChildAbuse(initialReport, requiredByState bool) bool {
	return initialReport && requiredByState
}

// Program is a receiver that needs a consent of its own kind.
type Program string

// The programs of 42 CFR 2.34 to 2.36.
const (
	Registry   Program = "central-registry"
	Justice    Program = "criminal-justice-referral"
	Monitoring Program = "prescription-monitoring"
)

// NeedsOwnConsent reports whether a disclosure needs a consent with the terms of 42 CFR 2.34, 2.35 or 2.36 (S40).
func NeedsOwnConsent(p Program) bool { return p == Registry || p == Justice || p == Monitoring }

// RegistryPermits reports whether a disclosure to one of those is permitted (S40).
func RegistryPermits(p Program, consentWithItsTerms bool) bool {
	return NeedsOwnConsent(p) && consentWithItsTerms
}

// Order is a court order under subpart E.
type Order struct {
	Section  string // "2.64", "2.65", "2.66" or "2.67"
	Findings bool   // the court made the findings of the section
	Subpoena bool   // a subpoena or similar mandate came with it
	InScope  bool   // the record and the recipient are within the order
	Sealed   bool   // the proceeding is protected as the order says
}

// OrderPermits reports whether a court order permits a disclosure (S41, 42 CFR 2.61 to 2.67): an order authorises and does not compel, a
// subpoena compels and does not authorise, so that it takes both.
func OrderPermits(o Order) bool {
	switch o.Section {
	case "2.64", "2.65", "2.66", "2.67":
		return o.Findings && o.Subpoena && o.InScope && o.Sealed
	}
	return false
}

// ProceedingPermits reports whether a record may be used in a proceeding against the patient (S6, 42 CFR 2.12(d)(1)): with the patient's consent to
// that alone (2.31(d)), or an order under 2.64 or 2.65 with a subpoena. A consent for treatment, payment and operations does not count,
// whoever received under it.
func ProceedingPermits(legalConsent bool, o Order) bool {
	return legalConsent || (o.Section == "2.64" || o.Section == "2.65") && OrderPermits(o)
}

// LawEnforcement reports whether a request of law enforcement is answered at all (S42, 42 CFR 2.13(c), 2.61): with an order and a
// subpoena. Otherwise the answer neither affirms nor denies that there is a patient.
func LawEnforcement(o Order) bool { return OrderPermits(o) }

// BreachRuleApplies reports whether a breach of records has to be notified as 45 CFR 164.400 to 164.414 say (S31, 42 CFR 2.16(b)): a program's
// unsecured records, as if it were a covered entity.
func BreachRuleApplies(program, unsecured bool) bool { return program && unsecured }
