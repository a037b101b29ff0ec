// in cmd/cloister: cannot use \[\]\[\]byte\{.*as \[\]record\.Cleared value
package main

import (
	"context"

	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

func forged(ctx context.Context, s *postgres.Store, raw []byte) ([]record.Receipt, error) {
	return s.Commit(ctx, [][]byte{raw})
}
