package postgres

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

// The facts consent and unrestricted are what [consent.Evaluate] defines. A
// criterion that the record says nothing about is NULL here: not true, which a permit
// asks for, and not false, which keeps a denial away.

// purposed holds for provisions g that are in force and for the caller's purpose.
func (x *restriction) purposed() string {
	return "(g.purposes IS NULL OR " + x.arg("purpose", func() any { return x.c.Purpose }) + " = ANY (g.purposes)) AND " + x.now("g")
}

// circumstances are the arguments that the functions which read consents have in
// common: purpose, moment and names of the caller, and what provisions ask of a row.
func (x *restriction) circumstances(alias string) string {
	args := []string{x.arg("purpose", func() any { return x.c.Purpose }), x.arg("now", func() any { return x.c.Now }), x.recipients()}
	for _, c := range []string{"label_class", "type", "codes", "at_lo", "at_hi", "self", "originator", "refs"} {
		args = append(args, alias+"."+c)
	}
	return strings.Join(args, ", ")
}

// recipients are all names under which the caller is a recipient now.
func (x *restriction) recipients() string {
	base := x.arg("recipients", func() any {
		c := consent.Caller{User: x.c.User}
		for _, o := range x.c.Organizations {
			c.Organizations = append(c.Organizations, fhir.ID(o))
		}
		return c.Recipients(x.c.Purpose)
	})
	x.q.with("recipients", "SELECT COALESCE(record.recipients("+x.tenant+", "+base+"::text[], "+x.arg("now", func() any { return x.c.Now })+"), '{}') AS names") // nobody may name the caller
	return "(SELECT names FROM recipients)"
}

// sourceBits are the labels that decide, with whether it comes from programs,
// which consent a record asks for. They are the lowest bits.
const sourceBits = label.Part2 | label.PsychNote | label.CounselingNote | label.MinorConsented | label.Received

// needs are, for each combination of source, the kinds of consent that it asks
// for: every list must be met, by one of its kinds; 0 asks for nothing. The lists are one behind the other.
func (x *restriction) needs() (needs []int16) {
	const n = int(sourceBits) + 1
	for i := range 2 * n {
		s := label.Set(i % n)
		required := consent.Required(consent.Source{
			Part2: i >= n || s.Any(label.Part2|label.Received), PsychotherapyNote: s.Has(label.PsychNote),
			CounselingNote: s.Has(label.CounselingNote), MinorConsented: s.Has(label.MinorConsented),
		}, x.c.Purpose, x.c.Roles...)
		for k, need := range required {
			if k*2*n == len(needs) {
				needs = append(needs, make([]int16, 2*n)...)
			}
			needs[k*2*n+i] = int16(need)
		}
	}
	return needs
}

// consentable holds for rows of which the policy asks for the fact, and that have one patient.
func (x *restriction) consentable(alias string) string {
	var classes []int16
	for _, r := range append(slices.Clone(x.besides), x.r) {
		for _, a := range r.Arms() {
			if a.Needs.Has(authz.Consent) {
				classes = append(classes, a.Classes...)
			}
		}
	}
	slices.Sort(classes)
	classes = slices.Compact(classes)
	if len(classes) == 0 || x.c.Purpose == "" {
		return "false"
	}
	return alias + ".label_class = ANY (" + x.arg("classes "+intArray(classes), func() any { return classes }) + "::smallint[]) AND " +
		alias + ".patient IS NOT NULL AND " + alias + ".co_patients IS NULL"
}

// permitting holds where the patient permits something to someone.
func (x *restriction) permitting(alias string) string {
	return "EXISTS (SELECT FROM record.consent_grant e WHERE e.tenant = " + x.tenant + " AND e.patient = " + alias + ".patient AND e.permits AND e.sure OFFSET 0)"
}

// basis are the Consents on which the disclosure of a row rests, NULL where they do
// not permit it: see record.consents.
func (x *restriction) basis(alias string) string {
	return "record.consents(" + x.tenant + ", " + alias + ".patient, " + strconv.Itoa(int(consent.Permissions)) + ", " +
		x.arg("needs", func() any { return x.needs() }) + "::smallint[], " + strconv.Itoa(int(sourceBits)) + ", " + alias + ".programs, " + x.circumstances(alias) + ")"
}

// consented holds when, for each program of the row (or for the row, if it has
// none), consents of every kind that it asks for permit this caller, purpose and moment,
// and none of these kinds forbids it.
func (x *restriction) consented(alias string) string {
	able := x.consentable(alias)
	if able == "false" {
		return able
	}
	if x.each() {
		return "CASE WHEN " + able + " THEN " + x.permitted(alias) + " ELSE false END"
	}
	return "CASE WHEN " + able + " THEN " + x.permitting(alias) + " AND " + x.basis(alias) + " IS NOT NULL ELSE false END"
}

// consents is a column: the ids of the Consents on which the disclosure of a row
// rests, if it rests on any. Within the program and to the patient it does not.
func (x *restriction) consents(alias string, ask authz.Fact) string {
	able := x.consentable(alias)
	if !ask.Has(authz.Consent) || able == "false" {
		return "NULL::text[] AS consents"
	}
	if x.each() {
		return "CASE WHEN " + x.fact(alias, authz.Consent) + " AND (" + x.own(alias, authz.Program) + ") IS NOT TRUE AND (" + x.own(alias, authz.Self) + ") IS NOT TRUE THEN " + x.permits(alias) + " END AS consents"
	}
	return "CASE WHEN " + able + " AND (" + x.own(alias, authz.Program) + ") IS NOT TRUE AND (" + x.own(alias, authz.Self) + ") IS NOT TRUE" +
		" THEN " + x.basis(alias) + " END AS consents"
}

// own is a fact of the row itself, whether or not it is among those computed beside it.
func (x *restriction) own(alias string, f authz.Fact) string {
	beside := *x
	beside.computed = ""
	return beside.fact(alias, f)
}

// unrestricted holds when no restriction binds the caller: none that some
// patient of the row asked for, and the practice agreed to, covers recipient, purpose
// and moment, or the caller is the patient or made the record, or it is an emergency, or an
// exception that the law makes (45 CFR 164.522(a)(1)(iii), (v), 42 CFR 2.26). A Group tells who is a patient: of
// a Group no restriction of a member's may concern the caller at all, whatever it covers and who made the Group.
func (x *restriction) unrestricted(alias string) string {
	bits := strconv.Itoa(int(consent.Restrictions))
	restricts := x.restricting()
	patients := "array_append(" + alias + ".co_patients, " + alias + ".patient)"
	free := "NOT EXISTS (SELECT FROM record.consent_grant g WHERE " + restricts + " AND g.patient = ANY (" + patients + ") OFFSET 0)"
	if !x.each() {
		// One patient is the rule: a list of one would be made for each row.
		barred, co := x.restricted(restricts), alias+".co_patients"
		free = "NOT CASE WHEN " + co + " IS NULL THEN " + barred + " ? " + alias + ".patient ELSE " + barred + " ?| " + patients + " END"
	}
	lifted := " WHEN " + alias + ".type = " + intList(fhir.ResourceType("Group").Code()) + " THEN false"
	for _, f := range []authz.Fact{authz.Self, authz.Originator, authz.Emergency, authz.Exception} {
		if holds := x.own(alias, f); holds != "false" {
			lifted += " WHEN " + holds + " THEN true"
		}
	}
	bars := "record.unrestricted(" + x.tenant + ", " + patients + ", " + bits + ", " + x.circumstances(alias) + ")"
	if x.each() {
		bars = x.unbarred(alias, patients)
	}
	return "(" + alias + ".patient IS NULL OR CASE WHEN " + free + " THEN true" + lifted + " ELSE " + bars + " END)"
}

// readyConsents has the sets made that the facts consent and unrestricted ask for.
func (x *restriction) readyConsents() (s string) {
	if needed(x.r).Has(authz.Consent) {
		s += x.recipients() + " IS NOT NULL AND "
	}
	if needed(x.r).Has(authz.Unrestricted) {
		s += x.restricted(x.restricting()) + " IS NOT NULL AND "
	}
	return s
}

// restricting holds for the provisions g that may restrict what the caller does now.
func (x *restriction) restricting() string {
	return "g.tenant = " + x.tenant + " AND g.about & " + strconv.Itoa(int(consent.Restrictions)) + " <> 0 AND NOT g.permits AND " + x.purposed()
}

// restricted is the set of patients whom a restriction may concern, made once for
// the statement. They are few.
func (x *restriction) restricted(where string) string {
	x.q.with("restricted", "SELECT COALESCE(jsonb_object_agg(g.patient, 1), '{}') AS patients FROM (SELECT DISTINCT g.patient FROM record.consent_grant g WHERE "+where+") AS g")
	return "(SELECT patients FROM restricted)"
}
