package postgres

import (
	"context"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// Origin says where the record of that id comes from, to whom the Restriction shows it.
func (s *Store) Origin(ctx context.Context, r authz.Restriction, id fhir.ID) (record.Origin, error) {
	if r.Empty() {
		return record.Origin{}, errNotFound
	}
	for _, schema := range schemas(r) {
		var q statement
		x := restrict(&q, r)
		x.keyed = true
		q.WriteString("SELECT r.programs, r.co_patients IS NOT NULL FROM " + schema + ".resource r WHERE r.id = " + q.arg(string(id)) + " AND " + x.where("r") + " LIMIT 1")
		var out record.Origin
		var programs []string
		there := false
		err := forEach(ctx, s.pool(r), q.String(), q.args, []any{&programs, &out.Several}, func() error { there = true; return nil })
		if err != nil {
			return record.Origin{}, failed(err)
		}
		if there {
			for _, p := range programs {
				out.Programs = append(out.Programs, fhir.ID(p))
			}
			return out, nil
		}
	}
	return record.Origin{}, errNotFound
}
