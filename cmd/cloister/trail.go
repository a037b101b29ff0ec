package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cloister-health/cloister/authz/audit/forward"
	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

// sealTrail seals and signs the audit trail in the background, and forwards it. What it gives ends that: call it when nothing is
// recorded any more, so that all of it is signed. Receivers that have not heard all are told by the next start. In production the login should not be able to change what it records.
func sealTrail(ctx context.Context, url string, keys *trail.Keys, cfg config.Sealing, production bool, log *slog.Logger) (stop func(), err error) {
	s, err := evidence.New(ctx, evidence.Options{URL: url, Keys: keys, Now: time.Now, Outside: cfg.Checkpoints, SignEvery: cfg.SignEvery, Log: log})
	if err != nil {
		return nil, fmt.Errorf("the audit trail cannot be sealed: %w", err)
	}
	going, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var working sync.WaitGroup
	var told []*evidence.Forwarder
	stop = func() {
		cancel()
		working.Wait()
		s.Close()
		for _, f := range told {
			f.Close()
		}
	}
	working.Go(func() { s.Run(going) })
	for _, address := range cfg.Forward {
		to, err := forward.Open(address)
		if err != nil {
			stop()
			return nil, fmt.Errorf("CLOISTER_AUDIT_FORWARD (--audit-forward): %w", err)
		}
		f := &evidence.Forwarder{Name: address, To: to, Log: log}
		if err := f.Connect(ctx, url); err != nil {
			stop()
			return nil, fmt.Errorf("the audit trail cannot be forwarded: %w", err)
		}
		told = append(told, f)
		working.Go(func() { f.Run(going) })
	}
	if !production {
		return stop, nil
	}
	if reaches, err := s.ReachedByLogin(ctx); err != nil {
		stop()
		return nil, fmt.Errorf("the audit trail cannot be sealed: %w", err)
	} else if reaches {
		log.Warn("the login of this server could change the audit trail: it is a superuser, may make roles, or is a member of cloister_audit; serve under another login than migrates")
	}
	return stop, nil
}
