// in api/rest: cannot use s .*as deident\.Deidentified value
package rest

import (
	"context"

	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
)

func forged(ctx context.Context, r *deident.Release, t *deident.Table, s record.Sealed) error {
	return r.Tabulate(ctx, s, t)
}
