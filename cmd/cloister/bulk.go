package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/export/s3"
)

// bulkWorkers is how many pages of bulk exports one process works on at a time.
const bulkWorkers = 2

// bulk is what bulk exports and notifications need beside the records.
type bulk struct {
	dir     string // where their files are
	bucket  string // or where they are in its place; without both there are none
	keys    *envelope.Keys
	clients export.Clients // or nil
	terms   *terms.Practices
	local   bool // notifications may go to this machine, in the clear: for development alone
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

// open opens where the files are, or gives nil.
func (b *bulk) open(ctx context.Context) (export.Sink, error) {
	switch {
	case b.bucket != "":
		s, err := s3.Open(ctx, b.bucket)
		if err != nil {
			return nil, fmt.Errorf("CLOISTER_EXPORT_S3 (--export-s3): %w", err)
		}
		return s, nil
	case b.dir != "":
		s, err := export.OpenDisk(b.dir)
		if err != nil {
			return nil, fmt.Errorf("CLOISTER_EXPORT_DIR (--export-dir): %w", err)
		}
		return s, nil
	}
	return nil, nil //nolint:nilnil // no exports are no fault
}

// begin opens where the files are and works on exports until ctx ends, or end is called.
func (b *bulk) begin(ctx context.Context, core *server.Core, base string, labels record.Labelled, log *slog.Logger) (*export.Service, error) {
	sink, err := b.open(ctx)
	if err != nil || sink == nil {
		return nil, err
	}
	s, err := core.Exports(export.Config{Base: base, Sink: sink, Keys: b.keys, Clients: b.clients, Terms: b.terms, Log: log, Now: time.Now}, labels)
	if err != nil {
		return nil, err
	}
	ctx, b.stop = context.WithCancel(ctx)
	b.running.Go(func() { s.Run(ctx, bulkWorkers) })
	return s, nil
}
