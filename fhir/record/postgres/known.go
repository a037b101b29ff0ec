package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
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

// ownersOf are the patients with whom accesses to those of some records that may be known are in the trail.
func (s *Store) ownersOf(ctx context.Context, reach authz.Reach, as authz.Fact, refs []fhir.Ref) ([]string, error) {
	asked := parties{}
	for _, r := range refs {
		asked.add(r.Type, string(r.ID))
	}
	known, err := s.knownRecords(ctx, reach, as, asked, everOwners)
	if err != nil {
		return nil, err
	}
	of := map[string]bool{}
	for _, rows := range known {
		for _, r := range rows {
			for _, p := range r.patients {
				of[p] = true
			}
			if r.unowned {
				of[""] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(of)), nil
}

// known are the rows that a reader may know to exist.
type known map[fhir.Ref][]knownRow

type knownRow struct {
	patients []string
	unowned  bool // in some version it is no patient's
	facts    authz.Fact
}

// Expressions of the patients whose a row is, and of those with NULL where a version was nobody's.
const (
	owners     = "array_append(r.co_patients, r.patient)"
	everOwners = owners + " || ARRAY(SELECT v.patient FROM record.resource_history v WHERE v.tenant = r.tenant AND v.pk = r.pk AND v.patient IS NULL LIMIT 1)"
)

// of is what holds between the reader and the record of an entity, if she may know of
// it. A record of the same id that is somebody else's is another one.
func (k known) of(x audit.Entity) (authz.Fact, bool) {
	for _, r := range k[x.Ref] {
		if x.Patient == "" || slices.Contains(r.patients, string(x.Patient)) {
			return r.facts, true
		}
	}
	return 0, false
}

// knownRecords finds, of some records, those that the holder of the reach may know to exist:
// what she may read and, as who oversees access, whatever she might read a Consent of, with the
// same labels and from the same programs.
func (s *Store) knownRecords(ctx context.Context, reach authz.Reach, as authz.Fact, records parties, patients string) (known, error) {
	out := known{}
	for t, ids := range records {
		if t.Code() == 0 {
			continue
		}
		list := slices.Sorted(maps.Keys(ids))
		if err := s.knownOf(ctx, out, reach.Of(t), t, as, list, patients); err != nil {
			return nil, err
		}
		if as == 0 && t != "Consent" {
			if err := s.knownOf(ctx, out, reach.Of("Consent"), t, as, list, patients); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// knownOf finds the rows of a type that r covers, whatever type r is for.
func (s *Store) knownOf(ctx context.Context, out known, r authz.Restriction, t fhir.ResourceType, as authz.Fact, ids []string, patients string) error {
	if r.Empty() {
		return nil
	}
	var q statement
	x := restrict(&q, r)
	x.keyed, x.typed = true, x.code(t)
	q.WriteString("SELECT r.id, " + patients + ", " + x.facts("r", authz.Program) + " FROM record.resource r WHERE r.id = ANY (" + q.arg(ids) + "::text[]) AND " + x.where("r"))
	var id string
	var of []*string
	var facts int32
	return failed(forEach(ctx, s.app, q.String(), q.args, []any{&id, &of, &facts}, func() error {
		row := knownRow{facts: authz.Fact(facts) | authz.Unrestricted | as}
		for _, p := range of {
			if p == nil {
				row.unowned = true
				continue
			}
			row.patients = append(row.patients, *p)
		}
		ref := fhir.Ref{Type: t, ID: fhir.ID(id)}
		out[ref] = append(out[ref], row)
		return nil
	}))
}
