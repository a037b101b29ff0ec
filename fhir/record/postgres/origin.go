package postgres

import (
	"context"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// Views gives the views of a record that the Restriction shows, the fullest first, each with
// where it comes from. A recipient may see any of them.
func (s *Store) Views(ctx context.Context, r authz.Restriction, id fhir.ID) ([]record.Supposed, error) {
	var out []record.Supposed
	for _, schema := range schemas(r) {
		if r.Empty() {
			break
		}
		var q statement
		x := restrict(&q, r)
		x.keyed = true
		q.WriteString("SELECT " + x.columns("r") + ", r.programs, r.co_patients IS NOT NULL FROM " + schema + ".resource r WHERE r.id = " + q.arg(string(id)) + " AND " + x.was("r") + " ORDER BY r.shadow, r.view DESC")
		row := &scanned{}
		var programs []string
		var several bool
		if err := forEach(ctx, s.pool(r), q.String(), q.args, append(row.scan(), &programs, &several), func() error {
			sealed, err := s.seal(ctx, r, row)
			view := record.Supposed{Record: sealed, Origin: record.Origin{Several: several}}
			for _, p := range programs {
				view.Origin.Programs = append(view.Origin.Programs, fhir.ID(p))
			}
			out = append(out, view)
			return err
		}); err != nil {
			return nil, failed(err)
		}
	}
	if out == nil {
		return nil, errNotFound
	}
	return out, nil
}
