package postgres

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/compartment"
)

// judge writes into a statement over the trail what the holder of a reach may know of a row, so that what
// she may not know is left out before rows are counted off for a page. The gate decides on
// all that comes out of it once more.
type judge struct {
	q     *statement
	x     *restriction // of the request, for what is the same whatever is asked for
	reach authz.Reach
	as    authz.Fact // by which she may read records of the patient; 0 for who oversees access
	// classes are the labels that there are.
	classes map[int16]label.Set
}

func (s *Store) judge(q *statement, reach authz.Reach, as authz.Fact) *judge {
	return &judge{q, restrict(q, reach.Of("Consent")), reach, as, s.LabelClasses()}
}

// typeCodes is an object of the codes of all types, by name.
var typeCodes = func() string {
	of := map[fhir.ResourceType]int16{}
	for _, t := range fhir.ResourceTypes() {
		of[t] = t.Code()
	}
	b, err := json.Marshal(of)
	if err != nil {
		panic(err)
	}
	return string(b)
}()

// entitiesOf is a table of the entities of row e.
const entitiesOf = "unnest(e.entities, e.labels, e.patients, e.facts, e.consents, e.sessions) WITH ORDINALITY AS u(entity, label, patient, fact, consent, session, n)"

// kept are the columns that [trailed] reads of the entities x that are kept of a row.
const kept = "array_agg(x.n) AS n, array_agg(x.entity) AS entities, array_agg(x.label) AS labels, array_agg(x.patient) AS patients, array_agg(COALESCE(x.fact, 0)) AS facts, " +
	"array_agg(COALESCE(x.session, '')) AS sessions, array_agg(x.holds) AS holds"

// told joins to rows e of the trail, as k, those of their entities that may be known: the record as it is now may be,
// and its patient, and what had the labels that it had then. of is a list of patients of whom one must be, or "".
func (j *judge) told(of string) {
	patients := j.reach.Of("Patient")
	x := "SELECT u.*, " + j.holds() + " AS holds FROM (SELECT u.*, " + j.code("u.entity") + " AS type, split_part(u.entity, '/', 2) AS id FROM " + entitiesOf + " OFFSET 0) AS u" +
		" WHERE u.label & " + strconv.Itoa(int(label.Notes)) + " = 0 AND (u.patient = '' OR u.patient = ANY (seen.ids)) OFFSET 0"
	j.q.WriteString(" CROSS JOIN LATERAL (SELECT ARRAY(SELECT y.id" + j.of(j.x.code("Patient"), "ANY (e.patients)", patients) + ") AS ids OFFSET 0) AS seen")
	j.q.WriteString(" CROSS JOIN LATERAL (SELECT " + kept + ", array_agg(" + j.consents("x") + ") AS consents")
	if of != "" {
		j.q.WriteString(", bool_or(x.patient = ANY (" + of + "::text[])) AS sought")
	}
	j.q.WriteString(" FROM (" + x + ") AS x WHERE x.holds IS NOT NULL AND " + j.then(true) + ") AS k")
}

// accounted joins to rows e of the ledger, as k, those of a patient's entities of whose disclosure may be known, whatever has
// become of the record since: special says that one was disclosed with a consent, or with such a fact.
func (j *judge) accounted(patient, facts string) {
	holds := "0"
	if j.as == 0 { // that she is of the program follows from the consents that she may know of
		holds = "CASE WHEN COALESCE(u.consent, '') <> '' AND " + j.consents("u") + " = u.consent THEN " + strconv.Itoa(int(authz.Program)) + " ELSE 0 END"
	}
	x := "SELECT u.*, " + j.code("u.entity") + " AS type, " + holds + " AS holds FROM " + entitiesOf + " WHERE u.label & " + strconv.Itoa(int(label.Notes)) + " = 0 AND u.patient = " + patient + " OFFSET 0"
	j.q.WriteString(" CROSS JOIN LATERAL (SELECT " + kept + ", array_agg(COALESCE(x.consent, '')) AS consents, bool_or(x.consent <> '' OR x.fact & " + facts + " <> 0) AS special FROM (" + x + ") AS x WHERE " + j.then(j.as != 0) + ") AS k")
}

// holds is the expression of what holds between the reader and the record of entity u as it is now; NULL if she may not know of it.
func (j *judge) holds() string {
	var rs []authz.Restriction
	for _, t := range fhir.ResourceTypes() {
		if r := j.reach.Of(t); !r.Empty() && (j.as != 0 || t == "Organization" || !sameRows(r, j.reach.Of("Consent"))) {
			rs = append(rs, r)
		}
	}
	var terms []string
	if rs != nil {
		terms = append(terms, "("+j.x.visible("r", rs)+")")
	}
	// Who oversees access may know of what she might read a Consent of.
	if r := j.reach.Of("Consent"); j.as == 0 && !r.Empty() {
		x := restrict(j.q, r)
		x.keyed, x.typed = true, "u.type"
		terms = append(terms, "("+x.where("r")+")")
	}
	if terms == nil {
		return "NULL::integer"
	}
	return "(SELECT bit_or(" + j.x.facts("r", authz.Program) + ") FROM record.resource r WHERE r.tenant = " + j.x.tenant + " AND r.type = u.type AND r.id = u.id" +
		" AND (u.patient = '' OR r.patient = u.patient OR u.patient = ANY (r.co_patients)) AND (" + strings.Join(terms, " OR ") + "))"
}

// sameRows reports whether two Restrictions are for the same rows, but for the type.
func sameRows(a, b authz.Restriction) bool {
	same := func(a, b authz.Arm) bool { return a.Needs == b.Needs && slices.Equal(a.Classes, b.Classes) }
	return narrowing(a) == narrowing(b) && slices.EqualFunc(a.Arms(), b.Arms(), same)
}

// consents is the text of the consents of entity x, without those that may not be known.
func (j *judge) consents(x string) string {
	r := j.reach.Of("Consent")
	return "CASE WHEN COALESCE(" + x + ".consent, '') = '' THEN '' ELSE (SELECT COALESCE(string_agg(c.c, ' ' ORDER BY c.n), '') FROM string_to_table(" + x + ".consent, ' ') WITH ORDINALITY AS c(c, n) WHERE " +
		"EXISTS (SELECT" + j.of(j.x.code("Consent"), "split_part(c.c, '/', 2)", r) + ")) END"
}

// of is FROM and WHERE of those records y that have a type and an id and may be known by one of rs.
func (j *judge) of(typ, id string, rs ...authz.Restriction) string {
	return " FROM record.resource y WHERE y.tenant = " + j.x.tenant + " AND y.type = " + typ + " AND y.id = " + id + " AND " + j.x.visible("y", rs) + " OFFSET 0"
}

// code is the code of the type of a reference.
func (j *judge) code(ref string) string {
	return "((SELECT " + j.q.named("type codes", func() any { return typeCodes }) + "::text::jsonb)->>split_part(" + ref + ", '/', 1))::smallint"
}

// actors are the types of who can act with the role of a patient or of somebody who stands for one.
var actors = []fhir.ResourceType{"Device", "Organization", "Patient", "Person", "Practitioner", "PractitionerRole", "RelatedPerson"}

// agent holds for rows e that may be told as far as it depends on who acted: that somebody is a patient, or
// stands for one, shows in whatever she did. roles says that the rows have roles.
func (j *judge) agent(roles []string) string {
	personal, types := "split_part(e.fhir_user, '/', 1) IN ('Patient', 'RelatedPerson')", []fhir.ResourceType{"Patient", "RelatedPerson"}
	if roles != nil {
		personal, types = "("+personal+" OR e.roles && "+j.q.arg(roles)+"::text[])", actors
	}
	rs := make([]authz.Restriction, len(types))
	for i, t := range types {
		rs[i] = j.reach.Of(t)
	}
	me := j.q.arg(j.reach.Grant().Caller().User.String())
	return "(NOT " + personal + " OR e.fhir_user = " + me + " OR EXISTS (SELECT" + j.of(j.code("e.fhir_user"), "split_part(e.fhir_user, '/', 2)", rs...) + "))"
}

// then holds for entities x of whose labels, as they were then, the reader may know by the policy and by what
// holds between her and the record: by the policy for its type, which types says that it counts, and for who oversees access
// by that for Consents. Labels that were not in the catalogue when the policy was compiled are left to the gate.
func (j *judge) then(types bool) string {
	terms := []string{"NOT x.label = ANY (" + j.labels(j.catalogue()) + ")"}
	consents := ""
	if j.as == 0 {
		if consents = j.labelled("Consent"); consents != "" {
			terms = append(terms, consents)
		}
	}
	if types {
		var order []string
		groups := map[string][]int16{}
		for _, t := range fhir.ResourceTypes() {
			like := j.labelled(t)
			if like == "" || like == consents {
				continue
			}
			if groups[like] == nil {
				order = append(order, like)
			}
			groups[like] = append(groups[like], t.Code())
		}
		for _, like := range order {
			terms = append(terms, "(x.type = ANY ("+j.q.arg(groups[like])+"::smallint[]) AND "+like+")")
		}
	}
	return "(" + strings.Join(terms, " OR ") + ")"
}

// labelled is [judge.then] by the policy for one type, or "" where it is nothing: equal
// conditions are equal texts.
func (j *judge) labelled(t fhir.ResourceType) string {
	r := j.reach.Of(t)
	var always, within []label.Set
	for _, a := range r.Arms() {
		for _, class := range a.Classes {
			switch l := j.classes[class]; a.Needs &^ (authz.Unrestricted | j.as) {
			case 0:
				always = append(always, l)
			case authz.Program:
				within = append(within, l)
			}
		}
	}
	var extents []string
	for _, e := range r.Extents() {
		switch own := "x.patient = "; {
		case e.Where != nil: // what the content said then is not known
		case e.Launch == "":
			extents = append(extents, "true")
		default:
			own += j.q.named("launch", func() any { return string(e.Launch) })
			if !compartment.InPatientCompartment(t) {
				own += " OR x.patient = ''"
			}
			extents = append(extents, own)
		}
	}
	if always == nil && within == nil || extents == nil {
		return ""
	}
	s := "x.label = ANY (" + j.labels(always) + ")"
	if within != nil {
		s += " OR x.holds & " + strconv.Itoa(int(authz.Program)) + " <> 0 AND x.label = ANY (" + j.labels(within) + ")"
	}
	if slices.Contains(extents, "true") {
		return "(" + s + ")"
	}
	return "((" + s + ") AND (" + strings.Join(extents, " OR ") + "))"
}

// labels is an argument of sets of labels.
func (j *judge) labels(list []label.Set) string {
	out := make([]int32, len(list))
	for i, l := range list {
		out[i] = int32(l)
	}
	slices.Sort(out)
	return j.q.named("labels "+fmt.Sprint(out), func() any { return out }) + "::integer[]"
}

// catalogue are the sets of labels that the policy was compiled for: all that are known, unless some came since.
func (j *judge) catalogue() []label.Set {
	for _, t := range fhir.ResourceTypes() {
		if r := j.reach.Of(t); r.Grant().Valid() && r.Known() != len(j.classes) {
			return nil
		}
	}
	return slices.Collect(maps.Values(j.classes))
}
