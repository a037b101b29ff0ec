package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// keysCmd is what an operator does with the keys of notes.
type keysCmd struct {
	Create  keysCreateCmd  `cmd:"" help:"Make a key encryption key in a file."`
	Encrypt keysEncryptCmd `cmd:"" help:"Encrypt the notes that an earlier version has stored in the clear."`
	Rewrap  keysRewrapCmd  `cmd:"" help:"Wrap all data keys under CLOISTER_NOTES_KEY, where an older key did."`
}

// keysCreateCmd makes a key.
type keysCreateCmd struct {
	Path string `arg:"" name:"file" help:"The file to make. One that is there already stays as it is."`
}

// Help is shown below the summary.
func (keysCreateCmd) Help() string {
	return `Keep the file where the database and its backups are not, and keep a copy of it: without
it the notes are lost. Its mode is 0600, and the server refuses it with any other that lets
somebody else in.`
}

// Run makes the file, and says how it is named.
func (c *keysCreateCmd) Run(out io.Writer) error {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := envelope.Create(path); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	_, err = fmt.Fprintf(out, "CLOISTER_NOTES_KEY=file:%s\n", path)
	return err //nolint:wrapcheck // writing to the terminal
}

// stored is what commands need that change what is stored of keys.
type stored struct {
	config.Database
	config.Keys
	config.Trail
}

// Validate refuses a bad configuration before anything starts.
func (c *stored) Validate() error {
	return errors.Join(c.Database.Check(true), c.Keys.Check(true))
}

// run changes things, with progress, and says how many there were.
func (c *stored) run(ctx context.Context, out io.Writer, what string, k audit.Kind, do func(context.Context, string, *envelope.Keys, func()) (int, error)) error {
	keys, err := c.Keys.Open()
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := notedInAll(ctx, c.URL, c.Trail, k, "keys"); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	bar := progress(-1, what, false)
	n, err := do(ctx, c.URL, keys, func() { _ = bar.Add(1) }) // a terminal that cannot be written to shows no progress
	_ = bar.Finish()
	if err != nil {
		return fmt.Errorf("keys: %w", errors.Join(err, errors.Unwrap(err)))
	}
	_, err = fmt.Fprintf(out, "%s: %d\n", what, n)
	return err //nolint:wrapcheck // writing to the terminal
}

// keysEncryptCmd is for databases of a version that did not encrypt notes.
type keysEncryptCmd struct {
	stored `embed:""`
}

// Help is shown below the summary.
func (keysEncryptCmd) Help() string {
	return `Run it once, after the cloister migrate that brings data keys, as the login that migrates, and
while no server runs: none starts before it is done. Stopped, it goes on where it was when it
is started again. Afterwards it rewrites the tables, so that their files hold nothing in the
clear; backups and archived logs of before do.`
}

// Run encrypts.
func (c *keysEncryptCmd) Run(ctx context.Context, out io.Writer) error {
	return c.run(ctx, out, "versions of notes encrypted", audit.NotesEncrypted, postgres.EncryptNotes)
}

// keysRewrapCmd ends the use of an older key.
type keysRewrapCmd struct {
	stored `embed:""`
}

// Help is shown below the summary.
func (keysRewrapCmd) Help() string {
	return `Run it as the login that migrates, after all servers have been started with the new key as
CLOISTER_NOTES_KEY and the old one in CLOISTER_NOTES_OLDER_KEYS. Servers go on meanwhile. When
it is done, for notes, exports, imports and subscriptions, the old key can go.`
}

// Run rewraps.
func (c *keysRewrapCmd) Run(ctx context.Context, out io.Writer) error {
	return c.run(ctx, out, "data keys wrapped anew", audit.NoteKeysRotated, postgres.RewrapKeys)
}
