package main

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
)

// importCmd loads files in bulk, as the operator.
type importCmd struct {
	config.Database
	Paths    []string `arg:"" name:"path" type:"existingpath" help:"Files, or directories that are searched for them: transaction Bundles (.json) and NDJSON (.ndjson), plain or compressed (.gz, .bz2, .zst)."`
	Practice string   `name:"practice" env:"CLOISTER_PRACTICE" placeholder:"SLUG" help:"The practice that gets the records."`
	Workers  int      `name:"workers" placeholder:"N" help:"How many files are loaded at once. Default: one per processor."`
	Report   string   `name:"report" default:"cloister-import.ndjson" help:"Gets one line per refused resource, and remembers which files are done, so that an import that was interrupted goes on where it stopped."`
	Quiet    bool     `name:"quiet" short:"q" help:"Show no progress."`
}

// Help is shown below the summary.
func (importCmd) Help() string {
	return `Each Bundle is one transaction: it goes in whole or not at all. Records are validated and
labelled as if a client had sent them. To repeat an import, give the same report file.`
}

// Validate refuses a bad configuration before anything starts.
func (c *importCmd) Validate() error {
	errs := []error{c.Check(true)}
	if c.Practice == "" {
		errs = append(errs, errors.New("CLOISTER_PRACTICE (--practice) is not set: it names the practice that gets the records"))
	}
	if c.Workers < 0 || c.Workers > 256 {
		errs = append(errs, fmt.Errorf("--workers is %d: set it between 1 and 256, or leave it out", c.Workers))
	}
	if c.Report == "" {
		errs = append(errs, errors.New("--report is empty: name the file that gets the refused resources"))
	}
	return errors.Join(errs...)
}

// workers is the number of files that are loaded at once.
func (c *importCmd) workers() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return runtime.GOMAXPROCS(0)
}
