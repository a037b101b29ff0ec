// Package server assembles the server from its parts: record store, policy,
// gate and HTTP API.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/api/operation"
	"github.com/cloister-health/cloister/api/transport"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/profile"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/intake"
	"github.com/cloister-health/cloister/fhir/record/notify"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/signature"
	"github.com/cloister-health/cloister/fhir/terminology"
)

// Config is what the assembly needs beside an open store.
type Config struct {
	Base          string // service base URL, see api.Config
	Authenticator transport.Authenticator
	SMART         *api.SMART
	Version       string
	Released      time.Time
	Deadline      time.Duration // for one request
	MaxBody       int64         // bytes of one request body
	Origins       []string
	Apps          func(ctx context.Context, origin string) bool // see api.Config
	Upsert        bool
	Several       bool          // a conditional delete may take several resources
	Dangling      bool          // a delete may leave references to what it deletes
	KeyLife       time.Duration // of an Idempotency-Key; 0 is a day
	Emergency     operation.Limits
	Cursors       [32]byte
	Keys          *signature.Keys // by which consents are signed; nil: none can be
	Validation    profile.Mode    // of writes
	Labels        record.Labelled // to whom security labels go unasked
	Exports       *export.Service // nil: there are none
	Notify        *notify.Service // nil: nobody can subscribe
	Imports       *intake.Service // nil: there are none
	Log           *slog.Logger
	Now           func() time.Time
}

// Core is the house without its HTTP face: what the command line works with.
type Core struct {
	Store       *postgres.Store
	Engine      *authz.Engine
	Gate        *record.Gate
	Definitions *definition.Library // of the installed packages
	Terminology *terminology.Service
}

// NewCore loads the policy of the house, whose self-test must pass, and wires it to the store.
func NewCore(store *postgres.Store, now func() time.Time) (*Core, error) {
	policies, err := pdp.NewPractices()
	if err != nil {
		return nil, err
	}
	return NewCoreUnder(policies, store, now)
}

// NewCoreUnder wires the policies of practices to the store.
func NewCoreUnder(policies authz.Policies, store *postgres.Store, now func() time.Time) (*Core, error) {
	if store == nil {
		return nil, errors.New("server: there is no store")
	}
	engine := authz.NewEngineOf(policies, store, now)
	definitions := store.Definitions()
	return &Core{
		Store: store, Engine: engine, Gate: record.NewGate(engine, store, now).Explaining(store).Accounting(store).Masking(store),
		Definitions: definitions, Terminology: terminology.New(definitions, terminology.Options{Now: now}),
	}, nil
}

// Labelling is c with other content rules than the built-in ones.
func (c *Core) Labelling(x *label.Classifier) *Core {
	d := *c
	d.Gate = c.Gate.Labelling(x)
	return &d
}

// Handler is the HTTP face of the house.
func (c *Core) Handler(cfg Config) (http.Handler, error) {
	validator := profile.New(c.Definitions, c.Terminology, cfg.Now)
	return api.New(api.Config{
		Base: cfg.Base, Engine: c.Engine, Gate: c.Gate.Holding(validator.Door(cfg.Validation)).Signing(cfg.Keys).Showing(cfg.Labels), Store: c.Store, Terminology: c.Terminology, Exports: cfg.Exports, Imports: cfg.Imports, Notify: cfg.Notify, Validator: validator, Authenticator: cfg.Authenticator,
		Ready: c.Store.Ping, SMART: cfg.SMART, Version: cfg.Version, Released: cfg.Released, Deadline: cfg.Deadline,
		MaxBody: cfg.MaxBody, Origins: cfg.Origins, Apps: cfg.Apps, Upsert: cfg.Upsert, Several: cfg.Several, Dangling: cfg.Dangling, KeyLife: cfg.KeyLife, Emergency: cfg.Emergency, Cursors: cfg.Cursors, Log: cfg.Log, Now: cfg.Now,
	})
}

// Exports carries out bulk exports: what goes by record and policy is filled into the configuration.
func (c *Core) Exports(cfg export.Config, labels record.Labelled) (*export.Service, error) {
	cfg.Engine, cfg.Gate, cfg.Records, cfg.Consents, cfg.Jobs = c.Engine, c.Gate.Showing(labels), c.Store, c.Store, c.Store.Exports()
	cfg.Releases, cfg.OptOuts = c.Store.Releases(), c.Store
	cfg.Terminology = api.Codes(c.Terminology)
	return export.New(cfg)
}

// Notify tells clients of changes, as Exports.
func (c *Core) Notify(cfg notify.Config, labels record.Labelled) (*notify.Service, error) {
	cfg.Engine, cfg.Gate, cfg.Records, cfg.Subscriptions = c.Engine, c.Gate.Showing(labels), c.Store, c.Store.Subscriptions()
	cfg.Terminology = api.Codes(c.Terminology)
	return notify.New(cfg)
}

// Imports carries out bulk imports, held to the checks of writes.
func (c *Core) Imports(cfg intake.Config, validation profile.Mode) (*intake.Service, error) {
	door := profile.New(c.Definitions, c.Terminology, cfg.Now).Door(validation)
	cfg.Engine, cfg.Gate, cfg.Finder, cfg.Jobs = c.Engine, c.Gate.Holding(door), c.Store, c.Store.Imports()
	return intake.NewService(cfg)
}

// collections is GOGC where nobody sets it: the live heap of a server is some
// 30 MB, so that the usual 100 would collect several times a second for nothing.
const collections = 300

// Tune sets what suits a server and not every program. An operator's GOGC stays.
func Tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collections)
	}
}

// Operator is the caller behind import and seed. No token can hold this role:
// only a process with the database at hand can make it.
func Operator(tenant int32, command string) authz.Principal {
	return authz.Principal{
		Tenant: tenant, Subject: "operator|" + command, Client: "cloister", Roles: []string{authz.Operator},
		Purpose: "HSYSADMIN", Scopes: smart.Parse("system/*.cruds"),
	}
}
