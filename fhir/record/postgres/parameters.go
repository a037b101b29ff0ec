package postgres

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// edition is a SearchParameter as it selects now. Its values stand in the index
// under a key of its own: what an earlier edition, or a definition of the same
// code that is hidden from the caller, has put there is never found.
type edition struct{ pk, generation int64 }

func (e edition) key() string {
	return "#" + strconv.FormatInt(e.pk, 36) + "." + strconv.FormatUint(uint64(e.generation), 36)
}

// custom are the SearchParameters of one practice at one revision.
type custom struct {
	revision int64
	params   map[edition]*search.Param
	indexed  *search.Registry // all of them, for indexing
	overlays map[string]*search.Registry
}

// customs remembers the compiled SearchParameters of the practices that have any.
type customs struct {
	mu sync.Mutex
	of map[int32]*custom
}

// maxOverlays bounds how many selections of a practice's SearchParameters are
// remembered: there is one for each set that some caller may see.
const maxOverlays = 64

func (c *customs) get(tenant int32) *custom {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[tenant]
}

// put keeps x unless a later revision is there.
func (c *customs) put(tenant int32, x *custom) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[int32]*custom{}
	}
	if old := c.of[tenant]; old == nil || old.revision < x.revision {
		c.of[tenant] = x
	}
}

// readCustom compiles the SearchParameters of a practice. One that this version
// of the program cannot use any more is left out.
func readCustom(ctx context.Context, q querier, tenant int32) (*custom, error) {
	x := &custom{params: map[edition]*search.Param{}, overlays: map[string]*search.Registry{}}
	var e edition
	var body []byte
	var all []*search.Param
	// One statement sees one snapshot: the revision is that of the list.
	if err := forEach(ctx, q, `SELECT v.n, sp.pk, sp.generation, r.body FROM record.search_revision v
JOIN record.search_parameter sp ON sp.tenant = v.tenant JOIN record.resource r ON r.pk = sp.pk AND r.tenant = sp.tenant
WHERE v.tenant = $1 AND NOT r.deleted ORDER BY sp.pk`, []any{tenant}, []any{&x.revision, &e.pk, &e.generation, &body}, func() error {
		def, err := codec.ReadJSON(body, codec.DefaultLimits)
		if err != nil {
			return err
		}
		p, err := search.Compile(def)
		if err != nil {
			x.params[e] = nil
			return nil //nolint:nilerr // as said above
		}
		p.Key = e.key()
		x.params[e] = p
		// What is indexed goes by its key, so that definitions of one code do not meet.
		q := *p
		q.Code = p.Key
		all = append(all, &q)
		return nil
	}); err != nil {
		return nil, err
	}
	if len(all) > 0 {
		var err error
		if x.indexed, err = search.Overlay(all...); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// indexing is the registry for what is stored at a revision of the practice's
// SearchParameters, which q sees; nil is that of R4.
func (s *Store) indexing(ctx context.Context, q querier, tenant int32, revision int64) (*search.Registry, error) {
	if revision == 0 {
		return nil, nil
	}
	x := s.customs.get(tenant)
	if x == nil || x.revision != revision {
		var err error
		if x, err = readCustom(ctx, q, tenant); err != nil {
			return nil, err
		}
		x.revision = revision // without a definition no row says so
		s.customs.put(tenant, x)
	}
	return x.indexed, nil
}

// Parameters are the search parameters that the caller of r, a Restriction for
// reading SearchParameter, can use: those of R4 (nil alone), and the practice's
// own that she may see and that are in the index of everything stored. A parameter
// whose definition is hidden from her is as unknown as one that nobody has defined.
//
// Of two definitions of one code and type that she sees, the older one counts.
func (s *Store) Parameters(ctx context.Context, r authz.Restriction) (*search.Registry, error) {
	if r.Empty() {
		return nil, nil
	}
	tenant := r.Grant().Caller().Tenant
	if !(*s.defining.Load())[tenant] {
		return nil, nil
	}
	var q statement
	x := restrict(&q, r)
	q.WriteString("SELECT sp.pk, sp.generation FROM record.search_parameter sp JOIN record.resource r ON r.pk = sp.pk WHERE sp.tenant = " + x.tenant +
		" AND sp.ready AND NOT r.deleted AND " + x.where("r") + " ORDER BY sp.pk")
	var found []edition
	var e edition
	if err := forEach(ctx, s.pool(r), q.String(), q.args, []any{&e.pk, &e.generation}, func() error {
		found = append(found, e)
		return nil
	}); err != nil {
		return nil, failed(err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	c := s.customs.get(tenant)
	if c == nil || slices.ContainsFunc(found, func(e edition) bool { _, known := c.params[e]; return !known }) {
		var err error
		if c, err = readCustom(ctx, s.app, tenant); err != nil {
			return nil, failed(err)
		}
		s.customs.put(tenant, c)
	}
	out, err := s.customs.overlay(c, found)
	return out, failed(err)
}

// overlay is the registry of some SearchParameters of a practice.
func (c *customs) overlay(x *custom, some []edition) (*search.Registry, error) {
	name := ""
	for _, e := range some {
		name += e.key()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := x.overlays[name]; r != nil {
		return r, nil
	}
	type place struct {
		t    fhir.ResourceType
		code string
	}
	taken := map[place]bool{}
	var own []*search.Param
	for _, e := range some {
		p := x.params[e]
		if p == nil {
			continue
		}
		q := *p
		q.Bases = slices.DeleteFunc(slices.Clone(p.Bases), func(t fhir.ResourceType) bool { return taken[place{t, p.Code}] })
		for _, t := range q.Bases {
			taken[place{t, p.Code}] = true
		}
		own = append(own, &q)
	}
	r, err := search.Overlay(own...)
	if err != nil {
		return nil, err
	}
	if len(x.overlays) >= maxOverlays {
		clear(x.overlays)
	}
	x.overlays[name] = r
	return r, nil
}

// defines says that a change is to a SearchParameter.
func (r *row) defines() bool { return r.c.Ref.Type == "SearchParameter" }

// parameters finds by which search parameters the rows are indexed, and keeps
// them the current ones until the transaction ends.
func (w *write) parameters(ctx context.Context) error {
	w.registry = nil
	if !slices.ContainsFunc(w.rows, func(r *row) bool { return r.c.Content != nil || r.defines() }) {
		return nil
	}
	var revision int64
	if err := w.tx.QueryRow(ctx, "SELECT record.search_definitions($1, $2)", w.tenant(), slices.ContainsFunc(w.rows, (*row).defines)).Scan(&revision); err != nil {
		return err
	}
	var err error
	w.registry, err = w.s.indexing(ctx, w.tx, w.tenant(), revision)
	return err
}

// define keeps what the practice searches by in step with its SearchParameters:
// from now on writes index a new one, and what is stored already is indexed in
// the background. Nobody searches by it before that has ended.
func (w *write) define(ctx context.Context) error {
	changed := false
	for _, r := range w.rows {
		if r.unchanged || !r.defines() || r.schema != "record" {
			continue
		}
		p, err := w.defined(r)
		if err != nil {
			return err
		}
		if p == nil {
			tag, err := w.tx.Exec(ctx, "DELETE FROM record.search_parameter WHERE tenant = $1 AND pk = $2", w.tenant(), r.pk)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				continue
			}
			changed = true
			if _, err := w.tx.Exec(ctx, "DELETE FROM record.reindex WHERE tenant = $1 AND pk = $2", w.tenant(), r.pk); err != nil {
				return err
			}
			continue
		}
		types := make([]int16, len(p.Bases))
		for i, t := range p.Bases {
			types[i] = t.Code()
		}
		tag, err := w.tx.Exec(ctx, `INSERT INTO record.search_parameter AS sp (tenant, pk, generation, types, ready) VALUES ($1, $2, $3, $4, false)
ON CONFLICT (tenant, pk) DO UPDATE SET generation = excluded.generation, types = excluded.types, ready = false WHERE sp.generation <> excluded.generation`,
			w.tenant(), r.pk, p.Generation(), types)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			continue
		}
		changed = true
		if err := enqueue(ctx, w.tx, w.tenant(), r.pk, types); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	w.redefined = true
	_, err := w.tx.Exec(ctx, "INSERT INTO record.search_revision AS v (tenant, n) VALUES ($1, 1) ON CONFLICT (tenant) DO UPDATE SET n = v.n + 1", w.tenant())
	return err
}

// defined is the search parameter that a SearchParameter brings about, nil if
// none. One that is active must be usable, or the practice would wait for it in
// vain; an import is a copy of what is active elsewhere, and stays unused here.
func (w *write) defined(r *row) (*search.Param, error) {
	if r.c.Content == nil || r.c.Content.Root.Get("status").String() != "active" {
		return nil, nil
	}
	p, err := search.Compile(r.c.Content.Root)
	if err == nil {
		if _, err = search.Overlay(p); err != nil {
			err = outcome.At(outcome.Unprocessable, "SearchParameter.code", "R4 has a search parameter of this code already: take another code, or keep the definition as a draft")
		}
	}
	switch {
	case err == nil:
		return p, nil
	case r.c.Import:
		return nil, nil
	}
	out := *outcome.Of(err)
	out.Issues = slices.Clone(out.Issues)
	for i := range out.Issues {
		out.Issues[i].Category = outcome.Unprocessable
		if x := &out.Issues[i]; x.Path != "SearchParameter.code" || len(out.Issues) > 1 {
			x.Text += ": correct it, or keep the definition as a draft"
		}
	}
	return nil, w.fail(r, &out)
}
