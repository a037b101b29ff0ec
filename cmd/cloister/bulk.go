package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/profile"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

// bulkWorkers is how many pages of bulk exports one process works on at a time.
const bulkWorkers = 2

// bulk is what bulk exports need beside the records.
type bulk struct {
	dir     string // of exports; "": there are none
	imports string // directory of imports; "": there are none
	hosts   []string
	nets    []string
	plain   bool // http from the loopback, in development
	keys    *envelope.Keys
	clients export.Clients // or nil
}

// take opens the directory of imports and works on them until ctx ends.
func (b bulk) take(ctx context.Context, core *server.Core, base string, validation profile.Mode, log *slog.Logger) (*intake.Service, error) {
	if b.imports == "" {
		return nil, nil //nolint:nilnil // no imports are no fault
	}
	disk, err := export.OpenDisk(b.imports)
	if err != nil {
		return nil, fmt.Errorf("CLOISTER_IMPORT_DIR (--import-dir): %w", err)
	}
	cfg := intake.Config{Base: base, Sink: disk, Keys: b.keys, Clients: b.clients, Log: log, Now: time.Now}
	if len(b.hosts) > 0 {
		if cfg.Egress, err = config.Egress(b.hosts, b.nets, b.plain); err != nil {
			return nil, err
		}
	}
	s, err := core.Imports(cfg, validation)
	if err != nil {
		return nil, err
	}
	go s.Run(ctx, bulkWorkers)
	return s, nil
}

// begin opens the directory and works on exports until ctx ends.
func (b bulk) begin(ctx context.Context, core *server.Core, base string, labels record.Labelled, log *slog.Logger) (*export.Service, error) {
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
	go s.Run(ctx, bulkWorkers)
	return s, nil
}
