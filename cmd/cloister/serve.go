package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/api/operation"
	"github.com/cloister-health/cloister/api/transport"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/mtls"
	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/httpd"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/cmd/cloister/internal/signin"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// serveCmd is the server in production. It has no switch that makes tokens for whoever asks:
// they come from the configured issuers, and from the authorization server to apps that a practice approved.
type serveCmd struct {
	config.Serve
}

// Help is shown below the summary.
func (serveCmd) Help() string {
	return `Everything can be set by environment variable; a flag overrides its variable. The
server refuses to start with a configuration that is wrong or incomplete, and says what
to change. The schema must be up to date: run cloister migrate first.

It ends in order on SIGTERM and Ctrl-C: requests under way may finish. SIGHUP reads the
policies of practices again; if one of them is faulty, those in force stay.`
}

// Validate refuses a bad configuration before anything starts.
func (c *serveCmd) Validate() error { return c.Check() }

// catalogueInterval is how late this process may learn of a practice or a label
// class that another process added.
const catalogueInterval = time.Second

// reindexInterval is how late this process begins what is to be indexed anew.
const reindexInterval = time.Second

// relabelInterval is how late this process notices that a practice was classified by other rules.
const relabelInterval = 5 * time.Second

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context, log *slog.Logger) error {
	server.Tune()
	keys, err := c.Keys.Open()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	marks, err := c.Trail.Open(true)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	// What the store records when it closes is signed, too.
	signed, err := sealTrail(ctx, c.URL, marks, c.Sealing, true, log)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer signed()
	store, err := postgres.Open(ctx, careOptions(c.Care, postgres.Options{URL: c.URL, Keys: keys, Trail: marks}))
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer store.Close()
	// Everything else is served all the same: a keeper of keys that is out of reach
	// now may be back before anybody asks for a note.
	if err := store.CheckKeys(ctx); err != nil {
		log.Error("notes cannot be opened: CLOISTER_NOTES_KEY is another key than the one that wrapped their data keys, or its keeper cannot be reached", "error", err)
	}
	go store.Watch(ctx, catalogueInterval, func(err error) { log.Warn("the catalogues could not be read again", "error", err) })
	labels, err := c.Classifier()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	go store.Relabel(ctx, relabelInterval, labels, func(err error) { log.Warn("resources could not be classified anew", "error", err) })
	go store.Reindex(ctx, reindexInterval, func(err error) { log.Warn("resources could not be indexed anew", "error", err) })
	var sign *signin.SignIn // nil where others give the tokens
	var tokens *oidc.Authenticator
	var face authorizationFace
	if c.On() {
		if sign, err = openAuthorization(ctx, c.Authorization, c.URL, c.BaseURL, c.OIDC(), c.CORSOrigins, store, log); err != nil {
			return fmt.Errorf("serve: CLOISTER_AUTHORIZATION_SERVER: %w", err)
		}
		defer sign.Close()
		sign.Start()
		tokens, face = sign.Authenticator, authorizationFace{sign.SMART(), sign.Server.AllowsOrigin}
	} else if tokens, err = oidc.New(c.OIDC(), store, time.Now); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	policies, err := openPolicies(ctx, c.Policies, store.Tenant, log, func() { policiesRead(ctx, store, log) })
	if err != nil {
		return fmt.Errorf("serve: CLOISTER_POLICIES (--policies): %w", err)
	}
	laid, err := openTerms(ctx, c.Policies, store.Tenant, log)
	if err != nil {
		return fmt.Errorf("serve: CLOISTER_POLICIES (--policies): %w", err)
	}
	files := &bulk{dir: c.ExportDir, bucket: c.ExportS3, keys: keys, terms: laid, imports: c.ImportDir}
	defer files.end()
	if sign != nil {
		files.clients = sign
	}
	h, err := handler(ctx, store, policies, c.API, labels, c.BaseURL, tokens, face, files, log)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	if sign != nil {
		if h, err = sign.Handler(h); err != nil {
			return fmt.Errorf("serve: %w", err)
		}
	}
	proxies, err := c.TrustedProxies()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	h = mtls.Handler(c.CertHeader, proxies, h)
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("serve: CLOISTER_LISTEN: %w", err)
	}
	log.Info("serving", "address", l.Addr().String(), "base", c.BaseURL)
	return httpd.Serve(ctx, l, h, c.Grace, log)
}

// careOptions are the options of a store with what the configuration says about care.
func careOptions(c config.Care, o postgres.Options) postgres.Options {
	o.Windows = postgres.Windows{EncounterAfter: c.EncounterAfter, AppointmentBefore: c.AppointmentBefore, AppointmentAfter: c.AppointmentAfter}
	o.AgeOfMajority = c.AgeOfMajority
	return o
}

// authorizationFace is what the API shows of an embedded authorization server; the zero value is that of none.
type authorizationFace struct {
	smart *api.SMART
	apps  func(ctx context.Context, origin string) bool // whether an app of that origin is registered
}

// handler is the HTTP face of the server over an open store.
func handler(ctx context.Context, store *postgres.Store, policies authz.Policies, cfg config.API, labels *label.Classifier, base string, tokens transport.Authenticator, face authorizationFace, files *bulk, log *slog.Logger) (http.Handler, error) {
	core, err := server.NewCoreUnder(policies, store, time.Now)
	if err != nil {
		return nil, err
	}
	key, err := cfg.Key(log)
	if err != nil {
		return nil, err
	}
	keys, err := cfg.Keys()
	if err != nil {
		return nil, err
	}
	number, built := release()
	core = core.Labelling(labels)
	exports, err := files.begin(ctx, core, base, record.Labelled(cfg.Shown), log)
	if err != nil {
		return nil, err
	}
	notifications, err := files.notify(ctx, core, cfg, base, log)
	if err != nil {
		return nil, err
	}
	imports, err := files.take(ctx, core, cfg, base, log)
	if err != nil {
		return nil, err
	}
	return core.Handler(server.Config{
		Base: base, Authenticator: tokens, SMART: face.smart, Apps: face.apps, Version: number, Released: built, Deadline: cfg.Timeout,
		MaxBody: int64(cfg.MaxBody), Origins: cfg.CORSOrigins, Upsert: cfg.AllowUpsert, Several: cfg.Conditional == "multiple", Dangling: cfg.Dangling, KeyLife: cfg.KeyLife, Emergency: operation.Limits{Session: cfg.Session, SignIn: cfg.SignIn},
		Cursors: [32]byte(key), Keys: keys, Validation: cfg.Validation, Labels: record.Labelled(cfg.Shown), Exports: exports, Imports: imports, Notify: notifications, Log: log, Now: time.Now,
	})
}
