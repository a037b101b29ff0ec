package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/cloister-health/cloister/authz/pdp"
)

// openPolicies reads the policies of practices, and reads them again on SIGHUP until ctx ends. What cannot
// be read the second time leaves in force what was read before. changed is told when it was read again.
func openPolicies(ctx context.Context, dir string, tenant func(string) (int32, bool), log *slog.Logger, changed ...func()) (*pdp.Practices, error) {
	policies, err := pdp.NewPractices()
	if err != nil || dir == "" {
		return policies, err //nolint:wrapcheck // it says where
	}
	if err := policies.Load(os.DirFS(dir), tenant); err != nil {
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
				if err := policies.Load(os.DirFS(dir), tenant); err != nil {
					log.Error("the policies of practices could not be read again: those in force stay", "error", err)
					continue
				}
				for _, f := range changed {
					f()
				}
				log.Info("the policies of practices were read again", "practices", len(policies.Own()))
			}
		}
	}()
	return policies, nil
}
