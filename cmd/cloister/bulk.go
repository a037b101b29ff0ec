package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/export/s3"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

// bulkWorkers is how many pages of bulk exports one process works on at a time.
const bulkWorkers = 2

// bulk is what bulk exports and notifications need beside the records.
type bulk struct {
	dir     string // where their files are
	bucket  string // or where they are in its place; without both there are none
	imports string // directory of imports; "": there are none
	keys    *envelope.Keys
	clients export.Clients // or nil
	terms   *terms.Practices
	local   bool // this machine may be told and asked, in the clear: for development alone
	running sync.WaitGroup
	stop    context.CancelFunc
}

// take opens the directory of imports and works on them until ctx ends.
func (b *bulk) take(ctx context.Context, core *server.Core, api config.API, base string, log *slog.Logger) (*intake.Service, error) {
	if b.imports == "" {
		return nil, nil //nolint:nilnil // no imports are no fault
	}
	disk, err := export.OpenDisk(b.imports)
	if err != nil {
		return nil, fmt.Errorf("CLOISTER_IMPORT_DIR (--import-dir): %w", err)
	}
	cfg := intake.Config{Base: base, Sink: disk, Keys: b.keys, Clients: b.clients, Log: log, Now: time.Now}
	if len(api.ImportHosts) > 0 || b.local {
		if cfg.Egress, err = api.Inputs(b.local); err != nil {
			return nil, err
		}
	}
	s, err := core.Imports(cfg, api.Validation)
	if err != nil {
		return nil, err
	}
	go s.Run(ctx, bulkWorkers)
	return s, nil
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
