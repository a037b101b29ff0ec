package record

import (
	"context"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir/outcome"
)

func (g *Gate) admit(ctx context.Context, gr authz.Grant, c Change) (Cleared, error) {
	return Cleared{}, outcome.New(outcome.NotSupported, "writes are not served")
}
