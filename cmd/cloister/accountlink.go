package main

import (
	"context"

	"github.com/cloister-health/cloister/authz/identity"
)

// accountLinkCmd links an account to an external identity. Without it an invitation to her address does that at her first sign-in.
type accountLinkCmd struct {
	one     `embed:""`
	Issuer  string `name:"issuer" placeholder:"URL" required:"" help:"The provider, as its ID tokens name it (iss)."`
	Subject string `name:"subject" placeholder:"SUB" required:"" help:"What the provider calls her (sub): not her name or address, but what never changes."`
}

// Run links.
func (c *accountLinkCmd) Run(ctx context.Context) error {
	return c.do(ctx, func(o *opened, a identity.Account) error { return o.Link(ctx, byOperator, a.ID, c.Issuer, c.Subject) })
}
