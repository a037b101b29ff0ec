package postgres

import (
	"strconv"

	"github.com/cloister-health/cloister/fhir"
)

// relations is FROM and WHERE for the patients to whom the caller stands in the relation now.
func (x *restriction) relations(kind int) string {
	me := x.arg("user", func() any { return x.c.User.String() })
	of := func(alias string) string { return alias + ".tenant = " + x.tenant + " AND " + x.now(alias) }
	treating := "rel.kind = " + strconv.Itoa(relationTreating)
	switch kind {
	case relationSupervising:
		return "FROM record.supervision sv JOIN record.relation rel ON rel.tenant = sv.tenant AND rel.member = sv.supervisee AND " + treating + " AND " + x.now("rel") +
			" WHERE " + of("sv") + " AND sv.supervisor = " + me
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
