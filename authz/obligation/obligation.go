// Package obligation says what has to go with a disclosure that the policy permits.
//
// A permit may oblige (XACML 3.0, 7.18): a record of a Part 2 program that leaves it with
// the patient's consent carries a notice and an explanation of that consent (42 CFR
// 2.32), and is accounted for (2.25). The gate and the answer discharge these
// obligations; where one cannot be discharged, nothing is disclosed.
package obligation

import (
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/consent/hipaa"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
)

// Name is one obligation.
type Name = part2.Obligation

// ShortNotice is the notice in the form that 42 CFR 2.32(a)(2) gives for it.
const ShortNotice = part2.StatementShort

// Disclosure is what obligations depend on: one record that is about to be
// released, what holds between it and the recipient, and the consents without
// which it would not be released.
type Disclosure struct {
	Labels    label.Set
	Facts     authz.Fact
	Consents  []fhir.ID
	Recipient authz.Recipient
	Purpose   string // v3-ActReason
}

// protected are the labels of records that 42 CFR part 2 protects.
const protected = label.Part2 | label.CounselingNote | label.Received

// Of lists the obligations of a disclosure, each once, in the order of [part2.Obligations].
//
//   - a Part 2 record with consent: the notice, the consent's scope, no redisclosure, the accounting
//     (S14, S19, S20, S24, 42 CFR 2.25, 2.32, 2.33)
//   - a Part 2 record in an emergency: its documentation, the accounting (S33, 42 CFR 2.51(c))
//   - a Part 2 record to a service organization of the program: the accounting, and no redisclosure but
//     back to the program (S22, 42 CFR 2.11, 2.12(c)(4))
//   - any record that leaves the practice for another purpose than treatment, payment and
//     operations: the accounting (H1, 45 CFR 164.528)
//
// Within the program, and to the patient, there is none.
func Of(d Disclosure) (out []Name) {
	own := d.Facts&(authz.Program|authz.Self) != 0
	switch {
	case !d.Labels.Any(protected):
	case len(d.Consents) > 0:
		return part2.Obligations("S14")
	case own:
	case d.Facts.Has(authz.Emergency):
		return part2.Obligations("S33")
	case d.Facts.Has(authz.Agreement):
		return append([]Name{part2.NoRedisclosure}, part2.Obligations("S22")...)
	}
	if Accountable(d) {
		out = append(out, part2.AccountingEntry)
	}
	return out
}

// Accountable reports whether a disclosure without a consent under part 2 is one
// for the accounting of 45 CFR 164.528 (H1). What v3-ActReason has below treatment,
// payment and operations is one of them, but for proceedings.
func Accountable(d Disclosure) bool {
	purpose := d.Purpose
	if !part2.Proceeding(purpose) {
		purpose = consent.Category(purpose)
	}
	return hipaa.Accountable(hipaa.Disclosure{
		Purpose: purpose, Authorized: len(d.Consents) > 0,
		ToIndividual: d.Recipient == authz.Individual || d.Recipient == authz.Representative, WithinWorkforce: d.Recipient == authz.Workforce || d.Recipient == authz.System,
	})
}
