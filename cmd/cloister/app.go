package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cloister-health/cloister/api/smart"
	identities "github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/mtls"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// appCmd is what an operator does with the apps of the embedded authorization server.
type appCmd struct {
	Register appRegisterCmd `cmd:"" help:"Register an app; it may be used once a practice has approved it."`
	Approve  appApproveCmd  `cmd:"" help:"Let an app be used in a practice."`
	List     appListCmd     `cmd:"" help:"List the apps."`
	Withdraw appWithdrawCmd `cmd:"" help:"Take an app out of use; what people let it do ends at once."`
	Keys     struct {
		Rotate appKeysRotateCmd `cmd:"" help:"Make the next signing keys."`
	} `cmd:"" help:"Change the keys that sign tokens."`
}

// registry is what these commands work with.
type registry struct {
	apps    *identities.Store
	records *postgres.Store
}

// in does something with the registry.
func in(ctx context.Context, url string, marks config.Trail, do func(registry) error) error {
	keys, err := marks.Open(true)
	if err != nil {
		return fmt.Errorf("app: %w", err)
	}
	records, err := postgres.Open(ctx, postgres.Options{URL: url, Trail: keys})
	if err != nil {
		return fmt.Errorf("app: %w", err)
	}
	defer records.Close()
	apps, err := identities.Open(ctx, identities.Options{URL: url})
	if err != nil {
		return fmt.Errorf("app: %w", err)
	}
	defer apps.Close()
	if err := do(registry{apps, records}); err != nil {
		return fmt.Errorf("app: %w", err)
	}
	return nil
}

// operatorName is who acts at the command line, in the audit trail.
const operatorName = "operator|app"

func (r registry) note(ctx context.Context, k audit.Kind, client string, tenant int32) error {
	return r.records.RecordSecurity(ctx, audit.Security{ID: record.NewID(), At: time.Now().UTC(), Kind: k, Outcome: audit.Success, Client: client, Tenant: tenant, By: operatorName}) //nolint:wrapcheck // in wraps it
}

func (r registry) practice(slug string) (int32, error) {
	tenant, ok := r.records.Tenant(slug)
	if !ok {
		return 0, fmt.Errorf("there is no practice %q", slug)
	}
	return tenant, nil
}

// appRegisterCmd registers an app.
type appRegisterCmd struct {
	config.Database
	config.Trail
	ID             string   `arg:"" name:"client-id" help:"How the app names itself (client_id): letters, digits, '.', '_' and '-'."`
	Name           string   `name:"name" required:"" help:"How people are shown the app."`
	Publisher      string   `name:"publisher" help:"Who is responsible for it."`
	Homepage       string   `name:"homepage" placeholder:"URL" help:"Its page on the web."`
	LaunchURI      string   `name:"launch-url" placeholder:"URL" help:"Where an EHR launches it."`
	Auth           string   `name:"auth" default:"none" help:"How it proves who it is: none (it runs in a browser or on a phone), client_secret_basic, client_secret_post or private_key_jwt."`
	Redirect       []string `name:"redirect" placeholder:"URI,..." help:"Where answers go, exactly as it will ask for them."`
	LogoutRedirect []string `name:"logout-redirect" placeholder:"URI,..." help:"Where people go after they signed out through it."`
	Origin         []string `name:"origin" placeholder:"ORIGIN,..." help:"Origins of its pages beside those of its redirects."`
	Loopback       bool     `name:"loopback" help:"Let redirects to 127.0.0.1 name any port: for native apps (RFC 8252)."`
	Backend        bool     `name:"backend" help:"It acts for itself, without a user (client_credentials)."`
	Introspects    bool     `name:"introspects" help:"It is a resource server: it may introspect tokens of all apps."`
	Host           bool     `name:"host" help:"It is an EHR or a portal: it may launch other apps for its users."`
	Scope          []string `name:"scope" sep:"none" placeholder:"SCOPE" help:"What it may ask for at most; one by one, or separated by spaces."`
	Purpose        []string `name:"purpose" default:"TREAT" placeholder:"CODE,..." help:"Its purposes of use (v3-ActReason). Patients use an app for PATRQT, everybody else for the first other one."`
	Role           []string `name:"role" placeholder:"ROLE,..." help:"Roles of a backend service."`
	Organization   []string `name:"organization" placeholder:"ID,..." help:"Organizations of a backend service, by their logical ids."`
	Profile        string   `name:"release-profile" placeholder:"NAME" help:"It gets de-identified releases under this profile, and nothing else: safe-harbor, limited-data-set or expert-determination."`
	Certificate    []string `name:"certificate" placeholder:"FILE,..." help:"Client certificates (PEM or DER) with one of which a backend service connects; its tokens are good with that one alone."`
	JWKS           string   `name:"jwks" placeholder:"FILE" help:"JSON Web Key Set with its public keys."`
	JWKSURI        string   `name:"jwks-url" placeholder:"URL" help:"Where it publishes its public keys."`
}

// Help is shown below the summary.
func (appRegisterCmd) Help() string {
	return `A secret is shown once, and never again. An app whose keys or redirects change is registered anew
under another client-id.`
}

// app is the app that the flags describe.
func (c *appRegisterCmd) app() (app.App, error) {
	a := app.App{
		ID: c.ID, Name: c.Name, Publisher: c.Publisher, Homepage: c.Homepage, LaunchURI: c.LaunchURI, Auth: app.Auth(c.Auth), JWKSURI: c.JWKSURI,
		Redirects: c.Redirect, LogoutRedirects: c.LogoutRedirect, Origins: c.Origin, Loopback: c.Loopback, Introspects: c.Introspects, Host: c.Host,
		Scopes: strings.Fields(strings.Join(c.Scope, " ")), Purposes: c.Purpose, Roles: c.Role, Profile: c.Profile, Registered: time.Now().UTC(),
	}
	for _, o := range c.Organization {
		a.Organizations = append(a.Organizations, fhir.ID(o))
	}
	switch {
	case c.Backend:
		a.Grants = []string{app.ClientCredentials}
	case len(c.Redirect) > 0:
		a.Grants = []string{app.Code, app.Refresh}
	}
	for _, name := range c.Certificate {
		text, err := os.ReadFile(name) //nolint:gosec // the operator names it
		if err != nil {
			return a, fmt.Errorf("--certificate: %w", err)
		}
		cert, err := mtls.Read(text)
		if err != nil {
			return a, fmt.Errorf("--certificate %s: %w", name, err)
		}
		a.Certificates = append(a.Certificates, mtls.Thumbprint(cert))
	}
	if c.JWKS != "" {
		text, err := os.ReadFile(c.JWKS)
		if err != nil {
			return a, fmt.Errorf("--jwks: %w", err)
		}
		a.JWKS = text
	}
	return a, nil
}

// Validate refuses a bad registration before anything starts.
func (c *appRegisterCmd) Validate() error {
	errs := []error{c.Database.Check(true)}
	a, err := c.app()
	if a.Auth == app.SecretBasic || a.Auth == app.SecretPost {
		a.Secret = app.HashSecret("") // the one to be made
	}
	errs = append(errs, err, a.Validate())
	if _, ok := deident.Named(c.Profile); c.Profile != "" && !ok {
		errs = append(errs, fmt.Errorf("--release-profile: there is no %q", c.Profile))
	}
	for _, p := range c.Purpose {
		if !slices.Contains(pdp.Purposes(), p) {
			errs = append(errs, fmt.Errorf("--purpose: the policy knows no %q", p))
		}
	}
	for _, r := range c.Role {
		if !slices.Contains(pdp.Roles(), r) {
			errs = append(errs, fmt.Errorf("--role: the policy knows no %q", r))
		}
	}
	return errors.Join(errs...)
}

// Run registers, and shows the secret.
func (c *appRegisterCmd) Run(ctx context.Context, out io.Writer) error {
	a, err := c.app()
	if err != nil {
		return fmt.Errorf("app: %w", err)
	}
	var secret string
	if a.Auth == app.SecretBasic || a.Auth == app.SecretPost {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		secret = base64.RawURLEncoding.EncodeToString(b[:])
		a.Secret = app.HashSecret(secret)
	}
	return in(ctx, c.URL, c.Trail, func(r registry) error {
		if err := r.apps.Register(ctx, a); err != nil {
			if errors.Is(err, smart.ErrTaken) {
				return fmt.Errorf("%s is registered already", a.ID)
			}
			return err //nolint:wrapcheck // in wraps it
		}
		if err := r.note(ctx, audit.AppRegistered, a.ID, 0); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "client_id      %s\n", a.ID)
		if secret != "" {
			_, _ = fmt.Fprintf(out, "client_secret  %s\n", secret)
		}
		return nil
	})
}

// oneApp names an app.
type oneApp struct {
	config.Database
	config.Trail
	ID string `arg:"" name:"client-id" help:"The app."`
}

// Validate refuses a bad configuration before anything starts.
func (c *oneApp) Validate() error { return c.Database.Check(true) }

// appApproveCmd approves.
type appApproveCmd struct {
	oneApp   `embed:""`
	Practice string `name:"practice" required:"" help:"The practice in which it may be used, by its name in tokens."`
}

// Run approves.
func (c *appApproveCmd) Run(ctx context.Context, out io.Writer) error {
	return in(ctx, c.URL, c.Trail, func(r registry) error {
		tenant, err := r.practice(c.Practice)
		if err != nil {
			return err
		}
		err = r.apps.ApproveApp(ctx, c.ID, app.Approval{Tenant: tenant, Practice: c.Practice, By: operatorName, At: time.Now().UTC()})
		if errors.Is(err, smart.ErrNotFound) {
			return fmt.Errorf("%s is not registered, or was withdrawn", c.ID)
		}
		if err != nil {
			return err //nolint:wrapcheck // in wraps it
		}
		_, _ = fmt.Fprintf(out, "%s may be used in %s\n", c.ID, c.Practice)
		return r.note(ctx, audit.AppApproved, c.ID, tenant)
	})
}

// appListCmd lists.
type appListCmd struct {
	config.Database
}

// Validate refuses a bad configuration before anything starts.
func (c *appListCmd) Validate() error { return c.Check(true) }

// Run lists.
func (c *appListCmd) Run(ctx context.Context, out io.Writer) error {
	return in(ctx, c.URL, config.Trail{}, func(r registry) error {
		list, err := r.apps.Apps(ctx)
		if err != nil {
			return err //nolint:wrapcheck // in wraps it
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, a := range list {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.ID, a.Name, a.Auth, status(a))
		}
		return w.Flush() //nolint:wrapcheck // in wraps it
	})
}

func status(a app.App) string {
	switch {
	case !a.Withdrawn.IsZero():
		return "withdrawn"
	case a.Everywhere:
		return "everywhere"
	case len(a.Approvals) == 0:
		return "waits for approval"
	}
	var practices []string
	for _, p := range a.Approvals {
		practices = append(practices, p.Practice)
	}
	return strings.Join(practices, ", ")
}

// appWithdrawCmd withdraws.
type appWithdrawCmd struct {
	oneApp   `embed:""`
	Practice string `name:"practice" help:"Withdraw the approval of this practice alone. Without it the app is out of use for good."`
}

// Run withdraws.
func (c *appWithdrawCmd) Run(ctx context.Context, out io.Writer) error {
	return in(ctx, c.URL, c.Trail, func(r registry) error {
		var tenant int32
		if c.Practice != "" {
			var err error
			if tenant, err = r.practice(c.Practice); err != nil {
				return err
			}
		}
		if _, err := r.apps.App(ctx, c.ID); err != nil {
			return fmt.Errorf("%s is not registered", c.ID)
		}
		if _, err := r.apps.EndGrants(ctx, smart.End{App: c.ID, Practice: c.Practice}, time.Now()); err != nil {
			return err //nolint:wrapcheck // in wraps it
		}
		_, _ = fmt.Fprintf(out, "%s is withdrawn\n", c.ID)
		return r.note(ctx, audit.AppRefused, c.ID, tenant)
	})
}

// appKeysRotateCmd changes the signing keys.
type appKeysRotateCmd struct {
	config.Database
	config.Trail
	config.AuthKey `embed:""`
	Now            bool `name:"now" help:"Somebody else may have the keys: end them, and all tokens that they signed, at once."`
}

// Help is shown below the summary.
func (appKeysRotateCmd) Help() string {
	return `Keys change by themselves every 90 days. The next ones are published for a day before they sign,
and the old ones until all that they signed has expired. With --now apps that keep the key set
refuse new ID tokens until they fetch it again.`
}

// Validate refuses a bad configuration before anything starts.
func (c *appKeysRotateCmd) Validate() error {
	_, err := c.Box()
	return errors.Join(c.Database.Check(true), err)
}

// Run makes keys.
func (c *appKeysRotateCmd) Run(ctx context.Context, out io.Writer) error {
	return in(ctx, c.URL, c.Trail, func(r registry) error {
		box, err := c.Box()
		if err != nil {
			return err //nolint:wrapcheck // it names the variable
		}
		ring, err := smart.NewRing(ctx, r.apps, box, time.Now)
		if err != nil {
			return err //nolint:wrapcheck // in wraps it
		}
		rotate, said := ring.Rotate, "the next keys sign in a day"
		if c.Now {
			rotate, said = ring.Replace, "new keys sign from now on"
		}
		if err := rotate(ctx); err != nil {
			return err //nolint:wrapcheck // in wraps it
		}
		_, _ = fmt.Fprintln(out, said)
		return r.note(ctx, audit.KeysRotated, "", 0)
	})
}
