// Command rendered writes what no client can read as a whole, the sample clinic, the definitions of our own and the
// access records of a database, as NDJSON for a validator that is not ours.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
)

func main() {
	sample := flag.String("clinic", "", "the clinic.json in the data directory of cloister dev")
	database := flag.String("database", "", "address of the database of cloister dev")
	dir := flag.String("out", ".", "folder for clinic.ndjson, definitions.ndjson and audit.ndjson")
	flag.Parse()
	if err := run(context.Background(), *sample, *database, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "rendered:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, sample, database, dir string) error {
	text, err := os.ReadFile(sample) //nolint:gosec // the caller's own file
	if err != nil {
		return err
	}
	var c clinic.Config
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("%s: %w", sample, err)
	}
	if err := write(filepath.Join(dir, "clinic.ndjson"), resources(c)); err != nil {
		return err
	}
	own, err := definitions()
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dir, "definitions.ndjson"), own); err != nil {
		return err
	}
	found, err := events(ctx, database)
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, "audit.ndjson"), found)
}
