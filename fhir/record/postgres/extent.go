package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/compartment"
	"github.com/cloister-health/cloister/fhir/search"
)

// extent is the part of [restriction.scope] that the scopes of the token narrow:
// to their patient, and to what their search parameters say. Where they do not
// narrow it is nothing.
func (x *restriction) extent(alias string) string {
	extents := x.r.Extents()
	terms := make([]string, 0, len(extents))
	for _, e := range extents {
		s := x.launch(alias, e.Launch) + x.meets(alias, e.Where)
		if s == "" {
			return ""
		}
		terms = append(terms, strings.TrimPrefix(s, " AND "))
	}
	switch len(terms) {
	case 0:
		return " AND false"
	case 1:
		return " AND " + terms[0]
	}
	return " AND (" + strings.Join(terms, " OR ") + ")"
}

// launch narrows to the patient of the token.
func (x *restriction) launch(alias string, l fhir.ID) string {
	switch {
	case l == "":
		return ""
	case compartment.InPatientCompartment(x.r.Type()):
		return " AND " + alias + ".patient = " + x.arg("launch", func() any { return string(l) }) + " AND " + alias + ".co_patients IS NULL"
	default:
		return " AND " + alias + ".patient IS NULL"
	}
}

// meets narrows to rows whose tokens meet a constraint: current rows, tombstones
// and superseded versions each have their own. The index on tokens is kept out of
// it, as rows are found by something else.
func (x *restriction) meets(alias string, c search.Constraint) string {
	var b strings.Builder
	for _, list := range c {
		hs := make([]int64, len(list))
		for i, h := range list {
			hs[i] = mix(x.c.Tenant, x.r.Type().Code(), h)
		}
		slices.Sort(hs)
		b.WriteString(" AND arrayoverlap(" + alias + ".tokens, " + x.arg("tokens "+intArray(hs), func() any { return hs }) + "::bigint[])")
	}
	return b.String()
}

// narrowing tells Restrictions apart whose extents are not written alike: what is
// said of tokens is said of those of one type.
func narrowing(r authz.Restriction) string {
	s := ""
	for _, e := range r.Extents() {
		s += fmt.Sprint(" ", e.Launch, e.Launch != "" && compartment.InPatientCompartment(r.Type()))
		if e.Where != nil {
			s += fmt.Sprint(r.Type(), e.Where)
		}
	}
	return s
}
