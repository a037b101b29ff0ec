package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// sought is what rows of the trail are found by.
type sought struct {
	patients, owners, users []string
	events, security        bool // there can be such rows
}

// seek keeps, of the patients, records and users that rows are asked for by, those that the holder of
// the reach may know to exist. Only what is kept is looked for in the trail, so that the
// work is the same for what is hidden and for what never was (L39, L43); [Store.tell] would leave it out.
func (s *Store) seek(ctx context.Context, reach authz.Reach, q record.Traces) (out sought, err error) {
	asked := parties{}
	for _, id := range q.Patients {
		asked.add("Patient", string(id))
	}
	for _, u := range q.Users {
		if r, ok := fhir.ParseRef(u); ok {
			asked.add(r.Type, string(r.ID))
		}
	}
	seen, err := s.seenParties(ctx, reach, asked)
	if err != nil {
		return sought{}, err
	}
	for _, id := range q.Patients {
		if _, ok := seen[fhir.Ref{Type: "Patient", ID: id}]; ok {
			out.patients = append(out.patients, string(id))
		}
	}
	for _, u := range q.Users {
		r, ok := fhir.ParseRef(u)
		if !ok {
			continue
		}
		// Who asks knows of herself, and the Person of a sign-in is never withheld.
		if _, ok := seen[r]; ok || r == reach.Grant().Caller().User || r.Type == "Person" {
			out.users = append(out.users, u)
		}
	}
	if q.Entities != nil {
		if out.owners, err = s.ownersOf(ctx, reach, q.As, q.Entities); err != nil {
			return sought{}, err
		}
	}
	out.security = q.Users == nil || out.users != nil
	out.events = out.security && (q.Patients == nil || out.patients != nil) && (q.Entities == nil || out.owners != nil)
	return out, nil
}

// ownersOf are the patients with whom accesses to those of some records that may be known are in the trail: what the
// reader may read and, as who oversees access, whatever she might read a Consent of, with the same
// labels and from the same programs.
func (s *Store) ownersOf(ctx context.Context, reach authz.Reach, as authz.Fact, refs []fhir.Ref) ([]string, error) {
	asked := parties{}
	for _, r := range refs {
		asked.add(r.Type, string(r.ID))
	}
	of := map[string]bool{}
	for _, t := range slices.Sorted(maps.Keys(asked)) {
		if t.Code() == 0 {
			continue
		}
		list := slices.Sorted(maps.Keys(asked[t]))
		if err := s.ownersUnder(ctx, of, reach.Of(t), t, list); err != nil {
			return nil, err
		}
		if as == 0 && t != "Consent" {
			if err := s.ownersUnder(ctx, of, reach.Of("Consent"), t, list); err != nil {
				return nil, err
			}
		}
	}
	return slices.Sorted(maps.Keys(of)), nil
}

// ownersUnder adds the patients whose records of a type are, of those that r covers, whatever type r is for,
// and "" where a version was nobody's.
func (s *Store) ownersUnder(ctx context.Context, of map[string]bool, r authz.Restriction, t fhir.ResourceType, ids []string) error {
	if r.Empty() {
		return nil
	}
	var q statement
	x := restrict(&q, r)
	x.keyed, x.typed = true, x.code(t)
	q.WriteString("SELECT array_append(r.co_patients, r.patient) || ARRAY(SELECT v.patient FROM record.resource_history v WHERE v.tenant = r.tenant AND v.pk = r.pk AND v.patient IS NULL LIMIT 1)" +
		" FROM record.resource r WHERE r.id = ANY (" + q.arg(ids) + "::text[]) AND " + x.where("r"))
	var patients []*string
	return failed(forEach(ctx, s.app, q.String(), q.args, []any{&patients}, func() error {
		for _, p := range patients {
			if p == nil {
				of[""] = true
				continue
			}
			of[*p] = true
		}
		return nil
	}))
}
