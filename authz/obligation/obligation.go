// Package obligation says what has to go with a disclosure that the policy permits.
//
// A permit may oblige (XACML 3.0, 7.18): a record of a Part 2 program that leaves it with
// the patient's consent carries a notice and an explanation of that consent (42 CFR
// 2.32), and is accounted for (2.25). The gate and the answer discharge these
// obligations; where one cannot be discharged, nothing is disclosed.
package obligation

import (
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// Name is one obligation, in the words that rules and cases use for it.
type Name string

// The obligations.
const (
	Notice         Name = "notice-2.32"        // the notice that accompanies a disclosure with consent, 42 CFR 2.32(a)
	ConsentCopy    Name = "consent-copy"       // the consent, or a clear explanation of its scope, 42 CFR 2.32(b)
	NoRedisclosure Name = "NORDSCLCD"          // no redisclosure without consent (v3-ActCode), 42 CFR 2.12(d), 2.32(a)
	Accounting     Name = "accounting"         // an entry in the accounting of disclosures, 42 CFR 2.25, 45 CFR 164.528
	Documentation  Name = "documentation-2.51" // what is written down of a disclosure in an emergency, 42 CFR 2.51(c)
)

// ShortNotice is the notice in the form that 42 CFR 2.32(a)(2) gives for it.
const ShortNotice = "42 CFR part 2 prohibits unauthorized use or disclosure of these records."

// Recipient is the class of who receives a record.
type Recipient uint8

// The classes of recipients. Who cannot be told apart is outside.
const (
	Outside        Recipient = iota // another entity: an exchange, a researcher, an authority
	Workforce                       // of the practice: for it the record is used, and not disclosed
	Individual                      // the patient
	Representative                  // who acts for the patient (45 CFR 164.502(g))
	System                          // the operator of this server
)

// classes of the roles that stand within the practice or with the patient.
var classes = map[string]Recipient{
	"therapist": Workforce, "psychiatrist": Workforce, "trainee": Workforce, "supervisor": Workforce, "sud-counselor": Workforce,
	"front-desk": Workforce, "biller": Workforce, "privacy-officer": Workforce, "practice-admin": Workforce,
	"patient": Individual, "proxy": Representative, authz.Operator: System,
}

// RecipientOf is the class of a caller with these roles. Roles of several
// classes, and one that is not known, make an outsider.
func RecipientOf(roles []string) Recipient {
	out := Outside
	for i, r := range roles {
		c, known := classes[r]
		if !known || i > 0 && c != out {
			return Outside
		}
		out = c
	}
	return out
}

// WithinRoles lists the roles of which no one makes an outsider, sorted.
func WithinRoles() []string {
	out := make([]string, 0, len(classes))
	for r := range classes {
		out = append(out, r)
	}
	slices.Sort(out)
	return out
}

// Disclosure is what obligations depend on: one record that is about to be
// released, what holds between it and the recipient, and the consents without
// which it would not be released.
type Disclosure struct {
	Labels    label.Set
	Facts     authz.Fact
	Consents  []fhir.ID
	Recipient Recipient
	Purpose   string // v3-ActReason
}

// part2 are the labels of records that 42 CFR part 2 protects.
const part2 = label.Part2 | label.CounselingNote | label.Received

// Of lists the obligations of a disclosure, in a fixed order.
//
//   - a Part 2 record with consent: the notice, the consent's scope, no redisclosure, the accounting
//     (S14, S19, S20, S24, 42 CFR 2.25, 2.32, 2.33)
//   - a Part 2 record to a qualified service organization: no redisclosure (S22, 42 CFR 2.11, 2.12(c)(4))
//   - a Part 2 record in an emergency: its documentation (S33, 42 CFR 2.51(c))
//   - any record that leaves the practice for another purpose than treatment, payment and
//     operations: the accounting (H1, 45 CFR 164.528)
//
// Within the program, and to the patient, there is none.
func Of(d Disclosure) (out []Name) {
	protected := d.Labels.Any(part2)
	consented := protected && len(d.Consents) > 0
	if consented {
		out = append(out, Notice, ConsentCopy)
	}
	own := d.Facts&(authz.Program|authz.Self) != 0
	serving := protected && !own && d.Facts.Has(authz.Agreement)
	if consented || serving {
		out = append(out, NoRedisclosure)
	}
	if consented || Accountable(d) {
		out = append(out, Accounting)
	}
	if protected && !consented && !own && d.Facts.Has(authz.Emergency) {
		out = append(out, Documentation)
	}
	return out
}

// Accountable reports whether a disclosure without a consent under part 2 is one
// for the accounting of 45 CFR 164.528(a)(1) (H1): all are but those for treatment,
// payment and operations, to the individual or who acts for them, with an authorization,
// and what the practice's own workforce uses.
func Accountable(d Disclosure) bool {
	return d.Recipient == Outside && len(d.Consents) == 0 && !exempt[d.Purpose]
}

// exempt are the purposes of 45 CFR 164.528(a)(1)(i): treatment, payment, health care
// operations, and what v3-ActReason has below them. HLEGAL is not among them: here it is
// a proceeding. Nor is what nobody knows.
var exempt = func() map[string]bool {
	out := map[string]bool{}
	for _, p := range []string{
		"TREAT", "CLINTRL", "COC", "ETREAT", "BTG", "ERTREAT", "POPHLTH",
		"HPAYMT", "CLMATTCH", "COVAUTH", "COVERAGE", "ELIGDTRM", "ELIGVER", "ENROLLM", "MILDCRG", "REMITADV",
		"HOPERAT", "CAREMGT", "FRAUD", "HACCRED", "HCOMPL", "HOUTCOMS", "HPRGRP", "HQUALIMP",
		"HSYSADMIN", "LABELING", "METAMGT", "MEMADMIN", "PATADMIN", "PATSFTY", "PERFMSR", "RECORDMGT", "TRAIN",
	} {
		out[p] = true
	}
	return out
}()

// ExemptPurposes lists the purposes that [Accountable] exempts, sorted.
func ExemptPurposes() []string {
	out := make([]string, 0, len(exempt))
	for p := range exempt {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}
