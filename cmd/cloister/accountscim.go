package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloister-health/cloister/api/scim"
	identities "github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// accountScimTokenCmd gives a practice's directory a token.
type accountScimTokenCmd struct {
	config.Database
	config.Trail
	Practice string `name:"practice" env:"CLOISTER_PRACTICE" placeholder:"SLUG" required:"" help:"The practice whose accounts the directory provisions."`
}

// Help is shown below the summary.
func (accountScimTokenCmd) Help() string {
	return `The token is printed once, and takes the place of the one before, which is good no more. The
directory sends it as a bearer token to /scim/v2 of this server.`
}

// Validate refuses a bad configuration before anything starts.
func (c *accountScimTokenCmd) Validate() error { return c.Database.Check(true) }

// Run makes the token.
func (c *accountScimTokenCmd) Run(ctx context.Context, out io.Writer) error {
	keys, err := c.Trail.Open(true)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	records, err := postgres.Open(ctx, postgres.Options{URL: c.URL, MaxConns: 2, Trail: keys})
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	defer records.Close()
	tenant, ok := records.Tenant(c.Practice)
	if !ok {
		return fmt.Errorf("account: there is no practice %s", c.Practice)
	}
	store, err := identities.Open(ctx, identities.Options{URL: c.URL, MaxConns: 2})
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	defer store.Close()
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	token := base64.RawURLEncoding.EncodeToString(b[:])
	if err := store.PutDirectory(ctx, tenant, c.Practice, scim.TokenHash(token), time.Now()); err != nil {
		return fmt.Errorf("account: %w", errors.Join(err))
	}
	_, err = fmt.Fprintln(out, token)
	return err //nolint:wrapcheck // writing to the terminal
}
