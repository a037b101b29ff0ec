package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/cloister-health/cloister/fhir/record/deident/terms"
)

// openTerms reads what practices have laid down for their de-identified releases, beside their policies, and reads it
// again on SIGHUP until ctx ends. What cannot be read the second time leaves in force what was read before.
func openTerms(ctx context.Context, dir string, tenant func(string) (int32, bool), log *slog.Logger) (*terms.Practices, error) {
	p := &terms.Practices{}
	if dir == "" {
		return p, nil
	}
	if err := p.Load(os.DirFS(dir), tenant); err != nil {
		return nil, err //nolint:wrapcheck // it says where
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		defer signal.Stop(hup)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				if err := p.Load(os.DirFS(dir), tenant); err != nil {
					log.Error("the terms of releases could not be read again: those in force stay", "error", err)
				}
			}
		}
	}()
	return p, nil
}
