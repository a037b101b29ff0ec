package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	identities "github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// accountCmd is what an operator does with accounts.
type accountCmd struct {
	Create accountCreateCmd `cmd:"" help:"Make an account, with a password from standard input or none."`
	Invite accountInviteCmd `cmd:"" help:"Invite somebody by e-mail."`
	List   accountListCmd   `cmd:"" help:"List accounts and what they are in each practice."`

	Disable     accountDisableCmd `cmd:"" help:"Let nobody into an account, and end its sessions at once."`
	Enable      accountEnableCmd  `cmd:"" help:"Let its owner in again."`
	EndSessions accountEndCmd     `cmd:"" name:"end-sessions" help:"End all sessions of an account, and what apps were granted in them."`

	Link accountLinkCmd `cmd:"" help:"Let somebody whom an identity provider knows into an account."`

	Events    accountEventsCmd    `cmd:"" help:"Print the security events of a practice as AuditEvents, the newest first."`
	ScimToken accountScimTokenCmd `cmd:"" name:"scim-token" help:"Make the token with which a practice's directory provisions accounts (SCIM 2.0)."`
}

// byOperator is how events name the command line.
const byOperator = "operator"

// accounts is what the commands need.
type accounts struct {
	config.Database
	config.Trail
	config.Identity
	BaseURL string `name:"base-url" env:"CLOISTER_BASE_URL" placeholder:"URL" help:"Address of the FHIR endpoint as clients see it, such as https://fhir.example.org/fhir: links in mails are made from it."`
}

// Validate refuses a bad configuration before anything starts.
func (c *accounts) Validate() error {
	err := errors.Join(c.Database.Check(true), c.Identity.Check())
	if c.BaseURL == "" {
		err = errors.Join(err, errors.New("CLOISTER_BASE_URL is not set: it is the address of the FHIR endpoint as clients see it, such as https://fhir.example.org/fhir"))
	}
	return err
}

// opened is an open service, with the stores below it.
type opened struct {
	*identity.Service
	records    *postgres.Store
	identities *identities.Store
}

func (o *opened) close() {
	o.Service.Close()
	o.identities.Close()
	o.records.Close()
}

func (c *accounts) open(ctx context.Context) (*opened, error) {
	cfg, err := c.Identity.Service()
	if err != nil {
		return nil, err
	}
	o := &opened{}
	keys, err := c.Trail.Open(true)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the variable
	}
	if o.records, err = postgres.Open(ctx, postgres.Options{URL: c.URL, MaxConns: 2, Trail: keys}); err != nil {
		return nil, err //nolint:wrapcheck // says it all
	}
	if o.identities, err = identities.Open(ctx, identities.Options{URL: c.URL, MaxConns: 2}); err != nil {
		o.records.Close()
		return nil, err //nolint:wrapcheck // says it all
	}
	cfg.Store, cfg.Audit, cfg.Now = o.identities, o.records, time.Now
	cfg.Pages = strings.TrimSuffix(strings.TrimSuffix(c.BaseURL, "/"), "/fhir") + "/smart"
	if o.Service, err = identity.New(cfg); err != nil {
		o.identities.Close()
		o.records.Close()
		return nil, err //nolint:wrapcheck // says it all
	}
	return o, nil
}

// with opens the service for one command.
func (c *accounts) with(ctx context.Context, do func(*opened) error) error {
	o, err := c.open(ctx)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	defer o.close()
	if err := do(o); err != nil {
		return fmt.Errorf("account: %w", err)
	}
	return nil
}

// person is whom a command is about, and what she is in a practice.
type person struct {
	Email         string   `arg:"" name:"email" help:"E-mail address."`
	Name          string   `name:"name" placeholder:"NAME" help:"Her name."`
	Practice      string   `name:"practice" env:"CLOISTER_PRACTICE" placeholder:"SLUG" required:"" help:"The practice of which she is a member."`
	User          string   `name:"user" placeholder:"Type/id" help:"Her Practitioner, Patient or RelatedPerson, or the Person of somebody of the staff who is no Practitioner: the claim fhirUser."`
	Roles         []string `name:"role" placeholder:"ROLE,..." required:"" help:"Her roles in it, such as therapist or patient."`
	Organizations []string `name:"organization" placeholder:"ID,..." help:"The Organizations in which she works, by id."`
}

func (p person) membership(records *postgres.Store) (identity.Membership, error) {
	m := identity.Membership{Practice: p.Practice, Roles: p.Roles}
	var ok bool
	if m.Tenant, ok = records.Tenant(p.Practice); !ok {
		return m, fmt.Errorf("there is no practice %s", p.Practice)
	}
	if p.User != "" {
		if m.User, ok = fhir.ParseRef(p.User); !ok {
			return m, errors.New("--user is not a reference such as Practitioner/123")
		}
	}
	for _, o := range p.Organizations {
		m.Organizations = append(m.Organizations, fhir.ID(o))
	}
	return m, nil
}

type accountCreateCmd struct {
	accounts `embed:""`
	person   `embed:""`
	Password bool `name:"password" help:"Read her password from standard input, one line. Without it she signs in by an invitation or an identity provider."`
}

// Run makes the account.
func (c *accountCreateCmd) Run(ctx context.Context, out io.Writer) error {
	return c.with(ctx, func(o *opened) error {
		m, err := c.membership(o.records)
		if err != nil {
			return err
		}
		var password string
		if c.Password {
			line, err := bufio.NewReader(io.LimitReader(os.Stdin, 4096)).ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("the password: %w", err)
			}
			if password = strings.TrimRight(line, "\r\n"); password == "" {
				return errors.New("no password came from standard input")
			}
		}
		a, err := o.Create(ctx, byOperator, identity.Account{Email: c.Email, Name: c.Name, Memberships: []identity.Membership{m}}, password)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, a.ID)
		return err
	})
}

type accountInviteCmd struct {
	accounts `embed:""`
	person   `embed:""`
}

// Run sends the invitation.
func (c *accountInviteCmd) Run(ctx context.Context, out io.Writer) error {
	return c.with(ctx, func(o *opened) error {
		m, err := c.membership(o.records)
		if err != nil {
			return err
		}
		by := authz.Principal{Subject: byOperator, Roles: []string{authz.Operator}}
		if err := o.Invite(ctx, by, identity.Invitation{Email: c.Email, Name: c.Name, Membership: m}); err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "invited, for %s\n", c.Invitations)
		return err
	})
}

type accountListCmd struct {
	accounts `embed:""`
	Practice string `name:"practice" env:"CLOISTER_PRACTICE" placeholder:"SLUG" help:"Only the members of this practice."`
}

// Run lists accounts.
func (c *accountListCmd) Run(ctx context.Context, out io.Writer) error {
	return c.with(ctx, func(o *opened) error {
		var tenant int32
		if c.Practice != "" {
			var ok bool
			if tenant, ok = o.records.Tenant(c.Practice); !ok {
				return fmt.Errorf("there is no practice %s", c.Practice)
			}
		}
		list, err := o.Accounts(ctx, tenant)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, a := range list {
			state := "active"
			if a.Disabled {
				state = "disabled"
			}
			what := make([]string, len(a.Memberships))
			for i, m := range a.Memberships {
				what[i] = strings.TrimSpace(m.Practice + ": " + strings.Join(m.Roles, ", ") + " " + m.User.String())
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.Email, a.Name, state, strings.Join(what, "; ")) // Flush reports it
		}
		return w.Flush()
	})
}

// one is an account by its address.
type one struct {
	accounts `embed:""`
	Email    string `arg:"" name:"email" help:"E-mail address of the account."`
}

func (c *one) do(ctx context.Context, do func(*opened, identity.Account) error) error {
	return c.with(ctx, func(o *opened) error {
		a, err := o.Find(ctx, c.Email)
		if err != nil {
			return err //nolint:wrapcheck // says it all
		}
		return do(o, a)
	})
}

type accountDisableCmd struct {
	one `embed:""`
}

// Run disables the account.
func (c *accountDisableCmd) Run(ctx context.Context) error {
	return c.do(ctx, func(o *opened, a identity.Account) error { return o.Disable(ctx, byOperator, a.ID, true) })
}

type accountEnableCmd struct {
	one `embed:""`
}

// Run enables the account.
func (c *accountEnableCmd) Run(ctx context.Context) error {
	return c.do(ctx, func(o *opened, a identity.Account) error { return o.Disable(ctx, byOperator, a.ID, false) })
}

type accountEndCmd struct {
	one `embed:""`
}

// Run ends the sessions.
func (c *accountEndCmd) Run(ctx context.Context) error {
	return c.do(ctx, func(o *opened, a identity.Account) error { return o.EndSessions(ctx, byOperator, a.ID) })
}

type accountEventsCmd struct {
	config.Database
	Practice string        `name:"practice" env:"CLOISTER_PRACTICE" placeholder:"SLUG" help:"The practice. Default: events of no practice, such as sign-ins to accounts that there are not."`
	Since    time.Duration `name:"since" default:"24h" help:"How far back."`
	Kind     string        `name:"kind" placeholder:"KIND" help:"Only events of this kind, such as sign-in or locked."`
	Refused  bool          `name:"refused" help:"Only refusals."`
}

// Validate refuses a bad configuration before anything starts.
func (c *accountEventsCmd) Validate() error {
	err := c.Check(true)
	if c.Kind != "" && !audit.Kind(c.Kind).Known() {
		names := make([]string, 0, len(audit.Kinds()))
		for _, k := range audit.Kinds() {
			names = append(names, string(k))
		}
		err = errors.Join(err, fmt.Errorf("--kind is none of %s", strings.Join(names, ", ")))
	}
	return err
}

// Run prints events, one AuditEvent per line.
func (c *accountEventsCmd) Run(ctx context.Context, out io.Writer) error {
	store, err := postgres.Open(ctx, postgres.Options{URL: c.URL, MaxConns: 2})
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	defer store.Close()
	q := postgres.SecurityQuery{From: time.Now().Add(-c.Since), Kind: audit.Kind(c.Kind), Refused: c.Refused}
	if c.Practice != "" {
		var ok bool
		if q.Tenant, ok = store.Tenant(c.Practice); !ok {
			return fmt.Errorf("account: there is no practice %s", c.Practice)
		}
	}
	list, err := store.Security(ctx, q)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	for _, e := range list {
		if _, err := fmt.Fprintf(out, "%s\n", audit.RenderSecurity(e).AppendJSON(nil)); err != nil {
			return err //nolint:wrapcheck // writing to the terminal
		}
	}
	return nil
}
