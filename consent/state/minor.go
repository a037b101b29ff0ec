package state

import (
	"slices"
	"time"
)

// Service is what a minor may consent to.
type Service string

// The services.
const (
	MentalHealth Service = "mental-health" // outpatient
	SubstanceUse Service = "substance-use"
)

// anyAge marks a statute that asks for no age.
const anyAge = 0

// ages from which minors consent alone. A statute with further conditions (Texas: living apart, or suicide,
// abuse and addiction; New York: the provider's judgement) is in with its age, because the flag on the encounter says
// that the conditions were met.
var ages = map[string]map[Service]int{
	"US-CA": {MentalHealth: 12, SubstanceUse: 12},     // Fam. 6924, 6929; H&S 124260
	"US-WA": {MentalHealth: 13, SubstanceUse: 13},     // RCW 71.34.530
	"US-IL": {MentalHealth: 12, SubstanceUse: 12},     // 405 ILCS 5/3-550; 410 ILCS 210/4
	"US-NY": {MentalHealth: 16, SubstanceUse: anyAge}, // MHL 33.21, 22.11
	"US-TX": {MentalHealth: 16, SubstanceUse: anyAge}, // Fam. 32.003, 32.004
	"US-FL": {MentalHealth: 13, SubstanceUse: anyAge}, // s. 394.4784, 397.501(7)
	"US-PA": {MentalHealth: 14, SubstanceUse: anyAge}, // 35 P.S. 10101.1; 71 P.S. 1690.112
}

// MayConsentAlone reports whether a minor of an age, in years, may consent to a service alone (J11). Where we do not know the law the
// answer is no: the flag minor-consented on the encounter protects all the same.
func MayConsentAlone(jurisdiction string, s Service, age int) bool {
	from, known := ages[jurisdiction][s]
	return known && age >= from && age >= 0 && age < majority
}

// MayConsentAlone reports whether a minor may consent to a service alone under some law of the set.
func (s Set) MayConsentAlone(v Service, age int) bool {
	return slices.ContainsFunc(s, func(o Overlay) bool { return MayConsentAlone(o.Jurisdiction(), v, age) })
}

// majority in all of the jurisdictions here.
const majority = 18

// OfAge reports whether somebody is of age, so that those who acted for the minor no longer do (J11).
func OfAge(birth, at time.Time) bool { return !at.Before(birth.AddDate(majority, 0, 0)) }

// Deadlines of the GDPR (J13): what a person asks for is answered within a month, and two more where it is complex (art. 12(3)); a breach is
// reported to the authority within 72 hours (art. 33).
func Deadlines(at time.Time, complexRequest bool) (answer, authority time.Time) {
	months := 1
	if complexRequest {
		months = 3
	}
	return at.AddDate(0, months, 0), at.Add(72 * time.Hour)
}
