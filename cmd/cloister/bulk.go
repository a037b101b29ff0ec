package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// bulkWorkers is how many pages of bulk exports one process works on at a time.
const bulkWorkers = 2

// bulk is what bulk exports need beside the records.
type bulk struct {
	dir     string // "": there are none
	keys    *envelope.Keys
	clients export.Clients // or nil
	running sync.WaitGroup
	stop    context.CancelFunc
}

// end waits until no page is worked on any more; what was under way is given back.
func (b *bulk) end() {
	if b.stop != nil {
		b.stop()
	}
	b.running.Wait()
}

// begin opens the directory and works on exports until ctx ends, or end is called.
func (b *bulk) begin(ctx context.Context, core *server.Core, base string, labels record.Labelled, log *slog.Logger) (*export.Service, error) {
	if b.dir == "" {
		return nil, nil //nolint:nilnil // no exports are no fault
	}
	disk, err := export.OpenDisk(b.dir)
	if err != nil {
		return nil, fmt.Errorf("CLOISTER_EXPORT_DIR (--export-dir): %w", err)
	}
	s, err := core.Exports(export.Config{Base: base, Sink: disk, Keys: b.keys, Clients: b.clients, Log: log, Now: time.Now}, labels)
	if err != nil {
		return nil, err
	}
	ctx, b.stop = context.WithCancel(ctx)
	b.running.Go(func() { s.Run(ctx, bulkWorkers) })
	return s, nil
}
