package server_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/seed"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/cmd/cloister/internal/vocabulary"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/signature"
)

const base = "http://localhost/fhir"

// noon is when these tests begin. Twins count their requests from it, so that
// answers do not differ by the moment at which they were given.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

var sample = clinic.Config{Seed: 7, Now: noon}

var seeded = cluster.Template{Name: "clinic", Prepare: func(ctx context.Context, dsn string) error {
	if _, err := postgres.Migrate(ctx, dsn); err != nil {
		return err
	}
	terms, err := vocabulary.Package()
	if err != nil {
		return err
	}
	if _, err := postgres.InstallPackage(ctx, dsn, terms, nil); err != nil {
		return err
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: dsn, Now: clock, Keys: envelopetest.Keys()})
	if err != nil {
		return err
	}
	defer store.Close()
	core, err := server.NewCore(store, clock)
	if err != nil {
		return err
	}
	return seed.Run(ctx, core, sample, nil)
}}

// signingKeys is one key set for all tests.
var signingKeys = sync.OnceValue(func() *signature.Keys {
	set, err := signature.Generate()
	if err != nil {
		panic(err)
	}
	k, err := signature.Parse(set)
	if err != nil {
		panic(err)
	}
	return k
})

// house is a whole server on a database of its own.
type house struct {
	t       *testing.T
	dsn     string
	core    *server.Core
	handler http.Handler
	log     *strings.Builder
	clock   atomic.Int64 // seconds since noon: one request, one second
	reader  *pgx.Conn
	callers map[string]clinic.Persona // callers beside the personas, by the token that names them
	signed  map[string]time.Duration  // how long ago they signed in, where it is not just now
}

func (h *house) now() time.Time { return noon.Add(time.Duration(h.clock.Load()) * time.Second) }

// newHouse starts a server on a copy of the sample clinic. wrap may replace the
// store that the API sees, to show that a broken one is found out; set changes
// the configuration.
func newHouse(t *testing.T, dsn string, wrap func(*server.Core) api.Store, set ...func(*api.Config)) *house {
	t.Helper()
	h := &house{t: t, dsn: dsn, log: &strings.Builder{}, callers: map[string]clinic.Persona{}, signed: map[string]time.Duration{}}
	store, err := postgres.Open(context.Background(), postgres.Options{URL: dsn, Now: h.now, MaxConns: 2, Keys: envelopetest.Keys()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	core, err := server.NewCore(store, h.now)
	if err != nil {
		t.Fatal(err)
	}
	h.core = core
	var seen api.Store = store
	if wrap != nil {
		seen = wrap(core)
	}
	cfg := api.Config{
		Base: base, Engine: core.Engine, Gate: core.Gate.Signing(signingKeys()), Store: seen, Terminology: core.Terminology, Authenticator: personas{store, h}, Ready: store.Ping,
		Version: "test", Released: noon, Deadline: time.Minute, MaxBody: 1 << 20, Upsert: true, Cursors: [32]byte{1},
		Log: slog.New(slog.NewTextHandler(h.log, nil)), Now: h.now,
	}
	for _, f := range set {
		f(&cfg)
	}
	if h.handler, err = api.New(cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

// personas authenticates a persona of the sample clinic by her name; tokens
// themselves are tested where they are read.
type personas struct {
	store *postgres.Store
	house *house
}

func (a personas) Authenticate(_ context.Context, token string) (authz.Principal, error) {
	p, ok := a.house.callers[token]
	if !ok {
		p, ok = persona(token)
	}
	if !ok {
		return authz.Principal{}, outcome.New(outcome.Login, "no such persona")
	}
	out, err := principal(a.store, p)
	out.SignedIn = a.house.now().Add(-a.house.signed[token])
	return out, err
}

func persona(name string) (clinic.Persona, bool) {
	for _, p := range clinic.Personas(sample) {
		if p.Name == name {
			return p, true
		}
	}
	return clinic.Persona{}, false
}

func principal(store *postgres.Store, p clinic.Persona) (authz.Principal, error) {
	c := p.Claims
	tenant, ok := store.Tenant(c.Practice)
	if !ok {
		return authz.Principal{}, errors.New("no such practice")
	}
	out := authz.Principal{Tenant: tenant, Subject: "test|" + c.Subject, Client: c.Client, Roles: c.Roles, Purpose: c.Purpose, Patient: fhir.ID(c.Patient), Scopes: smart.Parse(c.Scope)}
	out.User, _ = fhir.ParseRef(c.FHIRUser)
	for _, o := range c.Organizations {
		out.Organizations = append(out.Organizations, fhir.ID(o))
	}
	return out, nil
}

// call is one request.
type call struct {
	method, path, body string
	header             map[string]string
}

// answer is all that a client can see of a response.
type answer struct {
	status int
	header http.Header
	body   string
}

func (h *house) do(token string, c call) answer {
	h.t.Helper()
	h.clock.Add(1)
	target := "http://localhost" + c.path
	r := httptest.NewRequest(c.method, target, strings.NewReader(c.body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if c.body != "" {
		r.Header.Set("Content-Type", "application/fhir+json")
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	res := w.Result()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer{res.StatusCode, maps.Clone(res.Header), string(body)}
}

func get(path string) call { return call{method: "GET", path: "/fhir" + path} }

// owner is a connection with the rights of the database's owner.
func (h *house) owner() *pgx.Conn {
	h.t.Helper()
	c, err := pgx.Connect(context.Background(), h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}
