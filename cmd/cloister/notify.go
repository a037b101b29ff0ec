package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

// notifiers is how many subscriptions one process works on at a time.
const notifiers = 2

// notify tells clients of changes until ctx ends. Without a key nothing can be kept for them. Without
// hosts it runs all the same, so that a subscription from before comes to its end.
func (b *bulk) notify(ctx context.Context, core *server.Core, cfg config.API, base string, log *slog.Logger) (*notify.Service, error) {
	if b.keys == nil {
		return nil, nil //nolint:nilnil // no subscriptions are no fault
	}
	out, err := cfg.Webhooks(b.local)
	if err != nil {
		return nil, err
	}
	s, err := core.Notify(notify.Config{Base: base, Hooks: notify.NewHooks(out), Keys: b.keys, Clients: b.clients, Log: log, Now: time.Now}, record.Labelled(cfg.Shown))
	if err != nil {
		return nil, err
	}
	go s.Run(ctx, notifiers)
	return s, nil
}
