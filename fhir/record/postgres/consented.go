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

// criteria is what a provision g asks of a row, but for what does not depend on the row.
func criteria(alias string) string {
	r := func(s string) string { return strings.ReplaceAll(s, "r.", alias+".") }
	return "(" + strings.Join([]string{
		r("(g.types IS NULL AND g.documents IS NULL OR COALESCE(r.type = ANY (g.types), false) OR CASE WHEN r.type IN (" + documentTypes + ") AND g.documents IS NOT NULL THEN r.codes && g.documents ELSE false END)"),
		"CASE WHEN g.label_any <> 0 AND l.labels & g.label_any = 0 THEN false WHEN l.labels & ~g.label_within = 0 THEN true END",
		r("CASE WHEN g.codes IS NULL THEN true ELSE r.codes && g.codes END"),
		r("CASE WHEN g.data_starts IS NULL AND g.data_ends IS NULL THEN true WHEN r.at_lo IS NULL THEN NULL" +
			" WHEN r.at_hi <= g.data_starts OR r.at_lo >= g.data_ends THEN false" +
			" WHEN COALESCE(r.at_lo >= g.data_starts, true) AND COALESCE(r.at_hi <= g.data_ends, true) THEN true END"),
		r("CASE WHEN NOT g.by_data THEN true WHEN r.self IS NULL THEN NULL" +
			" WHEN r.self = ANY (g.instances) OR r.originator = ANY (g.authors) OR r.refs && g.dependents OR g.related IS NOT NULL AND EXISTS (SELECT FROM record.consent_related f" +
			" WHERE f.tenant = g.tenant AND f.target = r.self AND f.instance = ANY (g.related)) THEN true" +
			" WHEN r.refs && g.authored OR r.refs IS NULL AND (g.dependents IS NOT NULL OR g.authored IS NOT NULL) THEN NULL ELSE false END"),
	}, " AND ") + ")"
}

var documentTypes = intList(fhir.ResourceType("Composition").Code(), fhir.ResourceType("DocumentReference").Code())

func intList(list ...int16) string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = strconv.Itoa(int(n))
	}
	return strings.Join(out, ", ")
}

// purposed holds for provisions g that are in force and for the caller's purpose.
func (x *restriction) purposed() string {
	return "(g.purposes IS NULL OR " + x.arg("purpose", func() any { return x.c.Purpose }) + " = ANY (g.purposes)) AND " + x.now("g")
}

// provisions are common table expressions: matched are the provisions of one
// patient's consents of some kinds that match the row, with their ancestors, and certain says which do
// so beyond doubt. l is a table with the row's labels.
func (x *restriction) provisions(alias, patient, program string, kinds consent.Kinds) string {
	kindOf := "(g.about & " + strconv.Itoa(int(kinds)) + " <> 0 OR g.about = 0)" // 0: of no one kind, an ancestor perhaps
	above := func(cond string) string {
		return "(cardinality(m.ancestors) = 0 OR (SELECT count(*) FROM matching a WHERE a.source = m.source AND a.node = ANY (m.ancestors)" + cond + ") = cardinality(m.ancestors))"
	}
	return "matching AS MATERIALIZED (SELECT g.source, g.consent, g.node, g.ancestors, g.about, g.permits, g.sure, c.yes FROM record.consent_grant g CROSS JOIN LATERAL (SELECT " + criteria(alias) + " AS yes OFFSET 0) AS c" +
		" WHERE g.tenant = " + x.tenant + " AND g.patient = " + patient + " AND " + kindOf + " AND " + x.purposed() +
		" AND (g.programs IS NULL OR " + program + " = ANY (g.programs)) AND (g.recipients IS NULL OR g.recipients && " + x.recipients() + ") AND c.yes IS NOT FALSE)," +
		" matched AS MATERIALIZED (SELECT m.*, m.sure AND m.yes IS TRUE AND " + above(" AND a.yes IS TRUE") + " AS certain FROM matching m WHERE " + above("") + ")"
}

// Of the provisions that match, a permit permits if that is certain, and a
// denial denies unless a provision below it certainly matches.
const (
	permitting = "d.permits AND d.certain"
	denying    = "NOT d.permits AND NOT EXISTS (SELECT FROM matched b WHERE b.source = d.source AND b.certain AND b.ancestors[cardinality(b.ancestors)] = d.node)"
)

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

// labelled is a table l with the labels of the row.
func labelled(alias string) string {
	return "(SELECT lc.labels FROM record.label_class lc WHERE lc.id = " + alias + ".label_class) AS l"
}

// ofPrograms is a table pr of the programs of the row, an empty text where it has none.
func ofPrograms(alias string) string {
	return "unnest(CASE WHEN cardinality(" + alias + ".programs) > 0 THEN " + alias + ".programs ELSE '{\"\"}' END) AS pr(program)"
}

// sourceBits are the labels that decide, with whether it comes from programs,
// which consent a record asks for. They are the lowest bits.
const sourceBits = label.Part2 | label.PsychNote | label.CounselingNote | label.MinorConsented | label.Received

// needs are, for each combination of source, the kinds of consent that it asks
// for: every list must be met, by one of its kinds; 0 asks for nothing.
func (x *restriction) needs() (lists [][]int16) {
	const n = int(sourceBits) + 1
	for i := range 2 * n {
		s := label.Set(i % n)
		required := consent.Required(consent.Source{
			Part2: i >= n || s.Any(label.Part2|label.Received), PsychotherapyNote: s.Has(label.PsychNote),
			CounselingNote: s.Has(label.CounselingNote), MinorConsented: s.Has(label.MinorConsented),
		}, x.c.Purpose, x.c.Roles...)
		for k, need := range required {
			if k == len(lists) {
				lists = append(lists, make([]int16, 2*n))
			}
			lists[k][i] = int16(need)
		}
	}
	return lists
}

// asked gives the kinds that a row asks for, one expression for each list of needs.
func (x *restriction) asked(alias string) (out []string) {
	for i, list := range x.needs() {
		p := x.arg("needs "+strconv.Itoa(i), func() any { return list })
		out = append(out, "("+p+"::smallint[])[1 + (l.labels & "+strconv.Itoa(int(sourceBits))+") + CASE WHEN cardinality("+alias+".programs) > 0 THEN "+strconv.Itoa(int(sourceBits)+1)+" ELSE 0 END]")
	}
	return out
}

// consentable holds for rows of which the policy asks for the fact, that have
// one patient, and for which that patient permits something to someone.
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
		alias + ".patient IS NOT NULL AND " + alias + ".co_patients IS NULL AND EXISTS (SELECT FROM record.consent_grant e WHERE e.tenant = " + x.tenant +
		" AND e.patient = " + alias + ".patient AND e.permits AND e.sure OFFSET 0)"
}

// consented holds when, for each program of the row (or for the row, if it has
// none), consents of every kind that it asks for permit this caller, purpose and moment,
// and none of these kinds forbids it.
func (x *restriction) consented(alias string) string {
	able := x.consentable(alias)
	if able == "false" {
		return able
	}
	var met, all []string
	for _, n := range x.asked(alias) {
		met = append(met, "("+n+" = 0 OR s.permits & "+n+" <> 0)")
		all = append(all, n)
	}
	return "CASE WHEN " + able + " THEN (SELECT bool_and(s.denies & (" + strings.Join(all, " | ") + ") = 0 AND " + strings.Join(met, " AND ") + ") FROM " + labelled(alias) + ", " + ofPrograms(alias) +
		", LATERAL (WITH " + x.provisions(alias, alias+".patient", "pr.program", consent.Permissions) +
		" SELECT COALESCE(bit_or(d.about) FILTER (WHERE " + permitting + "), 0::smallint) AS permits, COALESCE(bit_or(d.about) FILTER (WHERE " + denying + "), 0::smallint) AS denies FROM matched d) AS s) ELSE false END"
}

// consents is a column: the ids of the Consents on which the disclosure of a row
// rests, if it rests on any. Within the program and to the patient it does not.
func (x *restriction) consents(alias string, ask authz.Fact) string {
	able := x.consentable(alias)
	if !ask.Has(authz.Consent) || able == "false" {
		return "NULL::text[] AS consents"
	}
	return "CASE WHEN " + x.fact(alias, authz.Consent) + " AND (" + x.own(alias, authz.Program) + ") IS NOT TRUE AND (" + x.own(alias, authz.Self) + ") IS NOT TRUE" +
		" THEN ARRAY(SELECT DISTINCT s.consent FROM " + labelled(alias) + ", " + ofPrograms(alias) +
		", LATERAL (WITH " + x.provisions(alias, alias+".patient", "pr.program", consent.Permissions) +
		" SELECT d.consent FROM matched d WHERE " + permitting + " AND d.about & (" + strings.Join(x.asked(alias), " | ") + ") <> 0) AS s ORDER BY 1) END AS consents"
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
// exception that the law makes (45 CFR 164.522(a)(1)(iii), (v), 42 CFR 2.26).
func (x *restriction) unrestricted(alias string) string {
	bits := strconv.Itoa(int(consent.Restrictions))
	restricts := x.restricting()
	patients := "array_append(" + alias + ".co_patients, " + alias + ".patient)"
	free := "NOT EXISTS (SELECT FROM record.consent_grant g WHERE " + restricts + " AND g.patient = ANY (" + patients + ") OFFSET 0)"
	if !x.each() {
		free = "NOT " + x.restricted(restricts) + " ?| " + patients
	}
	lifted := ""
	for _, f := range []authz.Fact{authz.Self, authz.Originator, authz.Emergency, authz.Exception} {
		if holds := x.own(alias, f); holds != "false" {
			lifted += " WHEN " + holds + " THEN true"
		}
	}
	return "(" + alias + ".patient IS NULL OR CASE WHEN " + free + " THEN true" + lifted + " ELSE (SELECT bool_and(s.denies & " + bits + " = 0) FROM " + labelled(alias) +
		", unnest(" + patients + ") AS p(patient), LATERAL (WITH " + x.provisions(alias, "p.patient", "''", consent.Restrictions) +
		" SELECT COALESCE(bit_or(d.about) FILTER (WHERE " + denying + "), 0::smallint) AS denies FROM matched d) AS s) END)"
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
