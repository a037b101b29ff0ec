package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit/anomaly"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// People are the patients of accesses and all Practitioners, as far as the holder of the
// reach may see them.
func (s *Store) People(ctx context.Context, reach authz.Reach, in []anomaly.Access) (map[fhir.Ref]anomaly.Person, error) {
	asked := map[string]bool{}
	for _, a := range in {
		asked[string(a.Patient)] = true
	}
	out := map[fhir.Ref]anomaly.Person{}
	patients := map[string]fhir.ID{} // by identifier
	for _, t := range []fhir.ResourceType{"Patient", "Practitioner"} {
		r := reach.Of(t)
		if r.Empty() {
			continue
		}
		var q statement
		x := restrict(&q, r)
		q.WriteString("SELECT r.id, COALESCE(" + humanName + ", ''), COALESCE(r.body#>>'{name,0,family}', ''), COALESCE(r.body->>'birthDate', '')," +
			" r.body @? '$.meta.tag[*] ? (@.system == \"http://terminology.hl7.org/CodeSystem/v3-ActCode\" && (@.code == \"VIP\" || @.code == \"CEL\"))'," +
			" ARRAY(SELECT concat(i->>'system', '|', i->>'value') FROM jsonb_array_elements(r.body->'identifier') AS i WHERE i ? 'system' AND i ? 'value')" +
			" FROM record.resource r WHERE NOT r.deleted AND " + x.where("r"))
		if t == "Patient" {
			q.WriteString(" AND r.id = ANY (" + q.arg(slices.Sorted(maps.Keys(asked))) + "::text[])")
		}
		q.WriteString(" ORDER BY r.id")
		var id fhir.ID
		var p anomaly.Person
		var identifiers []string
		if err := forEach(ctx, s.side, q.String(), q.args, []any{&id, &p.Name, &p.Family, &p.Birth, &p.VIP, &identifiers}, func() error {
			one := p
			// Names are the same as a search by string has it, whatever the database takes for the lower case of a letter.
			one.Name, one.Family, one.Same = search.Normalise(p.Name), search.Normalise(p.Family), ""
			for _, i := range identifiers {
				if t == "Patient" {
					patients[i] = id
				} else if same, ok := patients[i]; ok {
					one.Same = same
				}
			}
			out[fhir.Ref{Type: t, ID: id}] = one
			return nil
		}); err != nil {
			return nil, failed(err)
		}
	}
	return out, nil
}

// Sessions are the declared emergencies of the practice of whose patients the holder of the reach may
// know, and whether the Task of the review of each is completed, as far as she may see it. Of one whose patient she
// may not know, she cannot tell whether it was reviewed: it is for an overseer who can.
func (s *Store) Sessions(ctx context.Context, reach authz.Reach) ([]anomaly.Emergency, error) {
	r, of := reach.Of("Task"), reach.Of("Patient")
	if !r.Grant().Valid() || !of.Grant().Valid() {
		return nil, authz.ErrDenied
	}
	var q statement
	x, patient := restrict(&q, r), restrict(&q, of)
	q.WriteString("SELECT e.id::text, e.member, e.starts, EXISTS (SELECT FROM record.resource r WHERE NOT r.deleted AND r.body#>>'{focus,identifier,value}' = e.id::text AND r.body->>'status' = 'completed' AND " + x.where("r") + ")" +
		" FROM record.emergency e WHERE e.tenant = " + x.tenant + " AND " + patient.known("e.patient") + " ORDER BY e.starts, e.id")
	var out []anomaly.Emergency
	var e anomaly.Emergency
	var member string
	err := forEach(ctx, s.side, q.String(), q.args, []any{&e.ID, &member, &e.Starts, &e.Reviewed}, func() error {
		one := e
		one.Member, _ = fhir.ParseRef(member)
		out = append(out, one)
		return nil
	})
	return out, failed(err)
}
