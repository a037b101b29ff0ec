// in api/rest: not enough arguments in call to s\.Search
package rest

import (
	"context"

	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

func forged(ctx context.Context, s Store, q search.Query) (record.Page, error) {
	return s.Search(ctx, q)
}
