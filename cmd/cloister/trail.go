package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

// sealTrail seals and signs the audit trail in the background. What it gives ends that: call it when nothing is recorded any
// more, so that all of it is signed.
func sealTrail(ctx context.Context, url string, keys *trail.Keys, cfg config.Sealing, log *slog.Logger) (stop func(), err error) {
	s, err := evidence.New(ctx, evidence.Options{URL: url, Keys: keys, Now: time.Now, Outside: cfg.Checkpoints, SignEvery: cfg.SignEvery, Log: log})
	if err != nil {
		return nil, fmt.Errorf("the audit trail cannot be sealed: %w", err)
	}
	going, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(going)
	}()
	return func() {
		cancel()
		<-done
		s.Close()
	}, nil
}
