// in api/rest: cannot use \[\]record\.Change\{.*as \[\]record\.Cleared value
package rest

import (
	"context"

	"github.com/cloister-health/cloister/fhir/record"
)

func forged(ctx context.Context, s Store, c record.Change) ([]record.Receipt, error) {
	return s.Commit(ctx, []record.Change{c})
}
