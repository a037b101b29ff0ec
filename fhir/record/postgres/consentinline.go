package postgres

import (
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

// Of rows that are found by their keys, what consents say is part of the statement, and says what the
// functions of the schema say (record.consent_effect and those above it): planned with the statement it
// takes as long whether or not there is a row, and a function, which costs more where it is called, would tell.

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

// labelled is a table l with the labels of the row.
func labelled(alias string) string {
	return "(SELECT lc.labels FROM record.label_class lc WHERE lc.id = " + alias + ".label_class) AS l"
}

// ofPrograms is a table pr of the programs of the row, an empty text where it has none.
func ofPrograms(alias string) string {
	return "unnest(CASE WHEN cardinality(" + alias + ".programs) > 0 THEN " + alias + ".programs ELSE '{\"\"}' END) AS pr(program)"
}

// asked gives the kinds that a row asks for, one expression for each list of needs. l is a table with the row's labels.
func (x *restriction) asked(alias string) (out []string) {
	const n = 2 * (int(sourceBits) + 1)
	needs := x.needs()
	for i := 0; i < len(needs); i += n {
		p := x.arg("needs "+strconv.Itoa(i), func() any { return needs[i : i+n] })
		out = append(out, "("+p+"::smallint[])[1 + (l.labels & "+strconv.Itoa(int(sourceBits))+") + CASE WHEN cardinality("+alias+".programs) > 0 THEN "+strconv.Itoa(int(sourceBits)+1)+" ELSE 0 END]")
	}
	return out
}

// permitted holds where consents permit the row: record.consents IS NOT NULL.
func (x *restriction) permitted(alias string) string {
	var met []string
	asked := x.asked(alias)
	for _, n := range asked {
		met = append(met, "("+n+" = 0 OR s.permits & "+n+" <> 0)")
	}
	return x.permitting(alias) + " AND (SELECT bool_and(s.denies & (" + strings.Join(asked, " | ") + ") = 0 AND " + strings.Join(met, " AND ") + ") FROM " + labelled(alias) + ", " + ofPrograms(alias) +
		", LATERAL (WITH " + x.provisions(alias, alias+".patient", "pr.program", consent.Permissions) +
		" SELECT COALESCE(bit_or(d.about) FILTER (WHERE " + permitting + "), 0::smallint) AS permits, COALESCE(bit_or(d.about) FILTER (WHERE " + denying + "), 0::smallint) AS denies FROM matched d) AS s)"
}

// permits are the Consents by which they do.
func (x *restriction) permits(alias string) string {
	return "ARRAY(SELECT DISTINCT s.consent FROM " + labelled(alias) + ", " + ofPrograms(alias) +
		", LATERAL (WITH " + x.provisions(alias, alias+".patient", "pr.program", consent.Permissions) +
		" SELECT d.consent FROM matched d WHERE " + permitting + " AND d.about & (" + strings.Join(x.asked(alias), " | ") + ") <> 0) AS s ORDER BY 1)"
}

// unbarred holds where no restriction of some patients bars the row: record.unrestricted.
func (x *restriction) unbarred(alias, patients string) string {
	return "(SELECT bool_and(s.denies & " + strconv.Itoa(int(consent.Restrictions)) + " = 0) FROM " + labelled(alias) +
		", unnest(" + patients + ") AS p(patient), LATERAL (WITH " + x.provisions(alias, "p.patient", "''", consent.Restrictions) +
		" SELECT COALESCE(bit_or(d.about) FILTER (WHERE " + denying + "), 0::smallint) AS denies FROM matched d) AS s)"
}
