// in cmd/cloister: s\.app undefined \(cannot refer to unexported field app\)
package main

import (
	"context"

	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

func forged(ctx context.Context, s *postgres.Store) error {
	_, err := s.app.Exec(ctx, "SELECT body FROM record.version")
	return err
}
