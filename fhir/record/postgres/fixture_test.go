package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/search"
)

var migrated = cluster.Template{Name: "migrated", Prepare: func(ctx context.Context, dsn string) error {
	_, err := postgres.Migrate(ctx, dsn)
	return err
}}

// house is a store with the real policy in front of it, on a database of its own.
type house struct {
	t      *testing.T
	dsn    string
	store  *postgres.Store
	engine *authz.Engine
	gate   *record.Gate
	clock  atomic.Int64 // milliseconds since the epoch
	tenant int32
	other  int32
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, dsn: cluster.NewDatabase(t, migrated)}
	h.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	ctx := context.Background()
	var err error
	if h.store, err = postgres.Open(ctx, postgres.Options{URL: h.dsn, Now: h.now, Keys: envelopetest.Keys()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.store.Close)
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	h.engine = authz.NewEngine(policy, h.store, h.now)
	h.gate = record.NewGate(h.engine, h.store, h.now).Explaining(h.store).Accounting(h.store).Masking(h.store)
	for slug, id := range map[string]*int32{"harbor": &h.tenant, "lakeside": &h.other} {
		if *id, err = h.store.EnsureTenant(ctx, slug, slug); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *house) now() time.Time { return time.UnixMilli(h.clock.Load()).UTC() }

func (h *house) tick() { h.clock.Add(1000) }

func (h *house) as(role, purpose, user string, orgs ...fhir.ID) authz.Principal {
	p := authz.Principal{Tenant: h.tenant, Subject: "test|" + role + user, Roles: []string{role}, Purpose: purpose, Organizations: orgs, Scopes: smart.Parse("user/*.cruds")}
	if user != "" {
		ref, ok := fhir.ParseRef(user)
		if !ok {
			h.t.Fatalf("bad user %q", user)
		}
		p.User = ref
	}
	return p
}

func (h *house) operator() authz.Principal { return h.as("operator", "HSYSADMIN", "") }

// resource reads JSON with single quotes for double ones.
func (h *house) resource(text string) *codec.Resource {
	h.t.Helper()
	r, err := codec.Parse([]byte(strings.ReplaceAll(text, "'", `"`)))
	if err != nil {
		h.t.Fatalf("%v\nin %s", err, text)
	}
	return r
}

func (h *house) write(p authz.Principal, changes ...record.Change) ([]record.Receipt, error) {
	ctx := context.Background()
	h.tick()
	i, t := changes[0].Interaction, changes[0].Ref.Type
	if len(changes) > 1 {
		i, t = fhir.Transaction, ""
	}
	g, err := h.engine.Authorize(ctx, p, i, t)
	if err != nil {
		return nil, err
	}
	var cleared []record.Cleared
	for _, c := range changes {
		x, err := h.gate.Admit(ctx, g, c)
		if err != nil {
			return nil, err
		}
		cleared = append(cleared, x)
	}
	return h.store.Commit(ctx, cleared)
}

func (h *house) create(p authz.Principal, text string) (record.Receipt, error) {
	h.t.Helper()
	r := h.resource(text)
	rs, err := h.write(p, record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: r.Type}, Content: r})
	if err != nil {
		return record.Receipt{}, err
	}
	return rs[0], nil
}

func (h *house) mustCreate(p authz.Principal, text string) fhir.Ref {
	h.t.Helper()
	r, err := h.create(p, text)
	if err != nil {
		h.t.Fatalf("create: %v (%v)\n%s", err, errors.Unwrap(outcome.Of(err)), text)
	}
	return r.Ref
}

func (h *house) update(p authz.Principal, text string, mod ...func(*record.Change)) (record.Receipt, error) {
	h.t.Helper()
	r := h.resource(text)
	c := record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r}
	for _, m := range mod {
		m(&c)
	}
	rs, err := h.write(p, c)
	if err != nil {
		return record.Receipt{}, err
	}
	return rs[0], nil
}

func upsert(c *record.Change) { c.Upsert = true }

func imported(c *record.Change) { c.Upsert, c.Import = true, true }

// load stores a resource with its own id, as an import does.
func (h *house) load(text string) fhir.Ref {
	h.t.Helper()
	r, err := h.update(h.operator(), text, imported)
	if err != nil {
		h.t.Fatalf("load: %v (%v)\n%s", err, errors.Unwrap(outcome.Of(err)), text)
	}
	return r.Ref
}

func (h *house) delete(p authz.Principal, ref fhir.Ref) error {
	_, err := h.write(p, record.Change{Interaction: fhir.Delete, Ref: ref})
	return err
}

func (h *house) plan(p authz.Principal, i fhir.Interaction, t fhir.ResourceType) (authz.Grant, authz.Restriction, error) {
	ctx := context.Background()
	g, err := h.engine.Authorize(ctx, p, i, t)
	if err != nil {
		return g, authz.Restriction{}, err
	}
	r, err := h.engine.Plan(ctx, g, i, t)
	return g, r, err
}

func (h *house) release(g authz.Grant, t fhir.ResourceType, in ...record.Sealed) ([]string, error) {
	out, err := h.gate.Release(context.Background(), g, t, in...)
	if err != nil {
		return nil, err
	}
	var bodies []string
	for _, r := range out {
		var b bytes.Buffer
		if _, err := r.WriteTo(&b); err != nil {
			return nil, err
		}
		bodies = append(bodies, b.String())
	}
	return bodies, nil
}

// read gives the JSON that p gets, or an error.
func (h *house) read(p authz.Principal, ref fhir.Ref) (string, error) {
	g, r, err := h.plan(p, fhir.Read, ref.Type)
	if err != nil {
		return "", err
	}
	s, err := h.store.Read(context.Background(), r, ref.ID)
	if err != nil {
		return "", err
	}
	bodies, err := h.release(g, ref.Type, s)
	if err != nil {
		return "", err
	}
	return bodies[0], nil
}

func (h *house) sees(p authz.Principal, ref fhir.Ref) bool {
	h.t.Helper()
	_, err := h.read(p, ref)
	if err != nil && outcome.Of(err).Status() >= 500 {
		h.t.Fatalf("read %s: %v (%v)", ref, err, errors.Unwrap(outcome.Of(err)))
	}
	found, serr := h.search(p, ref.Type, "_id="+string(ref.ID))
	if serr != nil && outcome.Of(serr).Status() >= 500 {
		h.t.Fatalf("search %s: %v (%v)", ref, serr, errors.Unwrap(outcome.Of(serr)))
	}
	if (err == nil) != (len(found) == 1) {
		h.t.Fatalf("read and search disagree about %s: read %v, search %d", ref, err, len(found))
	}
	return err == nil
}

func (h *house) search(p authz.Principal, t fhir.ResourceType, query string) ([]string, error) {
	g, r, err := h.plan(p, fhir.SearchType, t)
	if err != nil {
		return nil, err
	}
	q, err := parseQuery(t, query)
	if err != nil {
		return nil, err
	}
	page, err := h.store.Search(context.Background(), authz.ReachOf(r), q)
	if err != nil {
		return nil, err
	}
	return h.release(g, t, page.Entries...)
}

func (h *house) history(r authz.Restriction, id fhir.ID, count int, after *search.Cursor) (record.Page, error) {
	return h.store.History(context.Background(), authz.ReachOf(r), record.History{Types: []fhir.ResourceType{r.Type()}, ID: id, Count: count, After: after})
}

func parseQuery(t fhir.ResourceType, query string) (search.Query, error) {
	v, err := url.ParseQuery(query)
	if err != nil {
		return search.Query{}, err
	}
	q, _, err := search.Parse(t, v, search.Options{Base: "http://localhost/fhir"})
	return q, err
}

func status(err error) int {
	if err == nil {
		return 0
	}
	return outcome.Of(err).Status()
}

func (h *house) wantStatus(what string, err error, want int) {
	h.t.Helper()
	if status(err) != want {
		h.t.Fatalf("%s: got %d (%v, %v), want %d", what, status(err), err, errors.Unwrap(outcome.Of(err)), want)
	}
}

// count asks the owner of the database for one number.
func (h *house) count(sql string, args ...any) (n int) {
	h.t.Helper()
	c, err := pgx.Connect(context.Background(), h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if err := c.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

func mustScopes(text string) authz.Scopes { return smart.Parse(text) }

// row reads one value past the store.
func (h *house) row(sql string, into any, args ...any) error {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	return c.QueryRow(ctx, sql, args...).Scan(into)
}
