package postgres

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent/exception"
	"github.com/cloister-health/cloister/fhir"
)

// relations is FROM and WHERE for the patients to whom the caller stands in the relation now.
func (x *restriction) relations(kind int) string {
	me := x.arg("user", func() any { return x.c.User.String() })
	of := func(alias string) string { return alias + ".tenant = " + x.tenant + " AND " + x.now(alias) }
	treating := "rel.kind = " + strconv.Itoa(relationTreating)
	switch kind {
	case relationSupervising:
		return "FROM record.supervision sup JOIN record.relation rel ON rel.tenant = sup.tenant AND rel.member = sup.supervisee AND " + treating + " AND " + x.now("rel") +
			" WHERE " + of("sup") + " AND sup.supervisor = " + me
	case relationEmergency:
		return "FROM record.emergency rel WHERE " + of("rel") + " AND rel.member = " + me
	}
	return "FROM record.relation rel WHERE " + of("rel") + " AND rel.kind = " + strconv.Itoa(kind) + " AND rel.member = " + me
}

// now holds for a row of alias that is in force at the moment of the decision.
func (x *restriction) now(alias string) string {
	now := x.arg("now", func() any { return x.c.Now })
	return "(" + alias + ".starts IS NULL OR " + alias + ".starts <= " + now + ") AND (" + alias + ".ends IS NULL OR " + alias + ".ends > " + now + ")"
}

// declares reports whether the caller asks in an emergency: a session that she
// has opened counts for nothing else (42 CFR 2.51).
func (x *restriction) declares() bool {
	return (x.c.Purpose == "ETREAT" || x.c.Purpose == "BTG") && x.c.User != (fhir.Ref{})
}

// emergency holds when the caller has declared an emergency for every patient of
// the row, the session is in force, and this request is made for it.
func (x *restriction) emergency(alias string) string {
	if !x.declares() {
		return "false"
	}
	return x.related(alias, relationEmergency)
}

// sourceLabels are the labels of a combination of sources, as package exception has them.
func sourceLabels(s exception.Source) (out label.Set) {
	for source, l := range map[exception.Source]label.Set{
		exception.Part2: label.Part2, exception.PsychotherapyNote: label.PsychNote, exception.CounselingNote: label.CounselingNote, exception.MinorConsented: label.MinorConsented,
	} {
		if s&source != 0 {
			out |= l
		}
	}
	return out
}

// excepted holds when an exception that is documented for this caller, purpose
// and moment covers the row, and its kind opens where the row comes from. A
// source label that the kinds do not know opens under none.
func (x *restriction) excepted(alias string) string {
	if x.c.User == (fhir.Ref{}) {
		return "false"
	}
	var opens []string
	for _, k := range exception.Kinds() {
		if !slices.Contains(k.Purposes, x.c.Purpose) {
			continue
		}
		var sources []string
		for _, s := range exception.Sources() {
			if k.Opens(s) {
				sources = append(sources, strconv.Itoa(int(sourceLabels(s))))
			}
		}
		opens = append(opens, "ex.kind = '"+k.Code+"' AND lc.labels & "+strconv.Itoa(int(label.Source))+" IN ("+strings.Join(sources, ", ")+")")
	}
	if opens == nil {
		return "false"
	}
	return "EXISTS (SELECT FROM record.exception ex JOIN record.label_class lc ON lc.id = " + alias + ".label_class WHERE ex.tenant = " + x.tenant +
		" AND ex.recipient = ANY (" + x.beneficiaries() + "::text[]) AND " + x.arg("purpose", func() any { return x.c.Purpose }) + " = ANY (ex.purposes) AND " + x.now("ex") +
		" AND (ex.patient IS NULL OR ex.patient = " + alias + ".patient AND " + alias + ".co_patients IS NULL)" +
		" AND (ex.originator IS NULL OR ex.originator = " + alias + ".originator)" +
		" AND (ex.program IS NULL OR " + alias + ".programs = ARRAY[ex.program])" +
		" AND (ex.types IS NULL OR " + alias + ".type = ANY (ex.types))" +
		" AND (ex.records IS NULL OR " + alias + ".type || '/' || " + alias + ".id = ANY (ex.records))" +
		" AND (" + strings.Join(opens, " OR ") + "))"
}

// recordKey names a record in the list of an exception.
func recordKey(r fhir.Ref) string { return strconv.Itoa(int(r.Type.Code())) + "/" + string(r.ID) }

// beneficiaries are the caller and her organizations: an exception names one of
// them and, unlike a consent, no class and no group.
func (x *restriction) beneficiaries() string {
	return x.arg("beneficiaries", func() any {
		out := []string{x.c.User.String()}
		for _, o := range x.c.Organizations {
			out = append(out, fhir.Ref{Type: "Organization", ID: fhir.ID(o)}.String())
		}
		return out
	})
}

// served holds when an organization of the caller's serves every program of the
// row under a written agreement (42 CFR 2.11, 2.12(c)(4)).
func (x *restriction) served(alias string) string {
	return "(COALESCE(cardinality(" + alias + ".programs), 0) > 0 AND NOT EXISTS (SELECT FROM unnest(" + alias + ".programs) AS sp(program) WHERE NOT EXISTS (" +
		"SELECT FROM record.agreement ag WHERE ag.tenant = " + x.tenant + " AND ag.program = sp.program AND ag.organization = ANY (" +
		x.arg("organizations", func() any { return x.c.Organizations }) + "::text[]) AND " + x.now("ag") + ")))"
}

// managed holds for that version of a Group which names an organization of the caller's as the one that manages it.
func (x *restriction) managed(alias string) string {
	return "EXISTS (SELECT FROM record.management mg WHERE mg.tenant = " + x.tenant + " AND mg.source = " + alias + ".pk AND mg.version = " + alias + ".version AND mg.organization = ANY (" +
		x.arg("organizations", func() any { return x.c.Organizations }) + "::text[]))"
}
