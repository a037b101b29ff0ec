package terminology

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/internal/lru"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Coding is a code of a code system.
type Coding struct{ System, Version, Code, Display string }

// Service answers the operations of the R4 terminology module
// (terminology-service.html) from definitions alone. It is safe for concurrent use.
type Service struct {
	source definition.Source
	now    func() time.Time
	codes  int
	work   int
	cache  *lru.Cache[cacheKey, any]
}

// Options of [New]; zero values mean the defaults.
type Options struct {
	Now    func() time.Time // the one clock of the server, for expansion.timestamp
	Codes  int              // the most codes that an expansion may have; 50,000
	Work   int              // the most concepts that are looked at for one answer; 2,000,000
	Memory int64            // bytes of code systems, value sets and expansions that are kept; 32 MiB
}

// New makes a Service over definitions. Where the source is a
// definition.Versioned, what is kept in memory is used for one revision only.
func New(source definition.Source, o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Codes <= 0 {
		o.Codes = 50_000
	}
	if o.Work <= 0 {
		o.Work = 2_000_000
	}
	if o.Memory <= 0 {
		o.Memory = 32 << 20
	}
	return &Service{source: source, now: o.Now, codes: o.Codes, work: o.Work, cache: lru.New[cacheKey, any](o.Memory)}
}

type cacheKey struct {
	revision  int64
	kind      byte
	canonical string
}

const (
	cachedSystem byte = iota
	cachedValueSet
	cachedExpansion
)

// unknownError says that the answer depends on content that is not installed. Its text is public.
type unknownError struct{ text string }

func (e *unknownError) Error() string { return e.text }

func unknown(format string, args ...any) error { return &unknownError{fmt.Sprintf(format, args...)} }

// public turns what an inner function reports into what a client is told.
func public(err error) error {
	var u *unknownError
	if errors.As(err, &u) {
		return outcome.New(outcome.Undefined, u.text)
	}
	return err
}

// run is the work for one answer.
type run struct {
	*Service
	ctx      context.Context //nolint:containedctx // a run is one call
	revision int64
	left     int               // concepts that may still be looked at
	open     []string          // value sets that are being worked on, outermost first
	pins     map[string]string // system -> version, where the request says which to use
	forced   bool              // pins go before the versions that value sets name
	used     []string          // url|version of the code systems that took part
}

func (s *Service) begin(ctx context.Context) (*run, error) {
	r := &run{Service: s, ctx: ctx, left: s.work}
	if v, ok := s.source.(definition.Versioned); ok {
		n, err := v.Revision(ctx)
		if err != nil {
			return nil, err
		}
		r.revision = n
	}
	return r, nil
}

// spend counts n concepts looked at.
func (r *run) spend(n int) error {
	if r.left -= n; r.left < 0 {
		return outcome.New(outcome.TooCostly, "too many codes would have to be looked at for this: ask for a smaller value set")
	}
	if err := r.ctx.Err(); err != nil {
		return outcome.New(outcome.Timeout, "the request took too long").Because(err)
	}
	return nil
}

// note remembers a code system for expansion.parameter.
func (r *run) note(cs *codeSystem) {
	c := cs.canonical()
	for _, u := range r.used {
		if u == c {
			return
		}
	}
	r.used = append(r.used, c)
}

// pinned is the canonical under which a code system is looked up.
func (r *run) pinned(system, version string) string {
	if i := strings.IndexByte(system, '|'); i >= 0 { // met in published value sets
		if version == "" {
			version = system[i+1:]
		}
		system = system[:i]
	}
	if v, ok := r.pins[system]; ok && (version == "" || r.forced) {
		version = v
	}
	if version == "" {
		return system
	}
	return system + "|" + version
}

// system gives a code system with its content. The error is an unknownError
// where that is not installed. A version that is not installed is not replaced by another one.
func (r *run) system(system, version string) (*codeSystem, error) {
	canonical := r.pinned(system, version)
	if canonical == "" {
		return nil, unknown("a code without a system cannot be looked up")
	}
	key := cacheKey{r.revision, cachedSystem, canonical}
	if v, ok := r.cache.Get(key); ok {
		if cs, ok := v.(*codeSystem); ok {
			return cs, nil
		}
	}
	n, ok, err := r.source.Find(r.ctx, "CodeSystem", canonical)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, unknown("the code system %s is not installed", canonical)
	}
	switch content := n.Get("content").String(); content {
	case "complete", "fragment", "example":
	default:
		return nil, unknown("of the code system %s only its name is installed and not its codes (content %s)", canonical, content)
	}
	cs := newCodeSystem(n)
	r.cache.Put(key, cs, cs.size())
	return cs, nil
}

// valueSet gives the compiled definition of a value set, or an unknownError.
func (r *run) valueSet(canonical string) (*valueSet, error) {
	key := cacheKey{r.revision, cachedValueSet, canonical}
	if v, ok := r.cache.Get(key); ok {
		if vs, ok := v.(*valueSet); ok {
			return vs, nil
		}
	}
	n, ok, err := r.source.Find(r.ctx, "ValueSet", canonical)
	if err != nil {
		return nil, err
	}
	if !ok {
		if n = implicit(canonical); n == nil {
			return nil, unknown("the value set %s is not installed", canonical)
		}
	}
	vs, err := compile(n)
	if err != nil {
		return nil, err
	}
	vs.key = canonical
	r.cache.Put(key, vs, vs.size)
	return vs, nil
}

// implicit makes the value sets that a code system brings along under its own
// URL: "?fhir_vs", all its codes, and "?fhir_vs=isa/" with a code (snomedct.html#implicit).
func implicit(canonical string) *element.Node {
	url, _, _ := strings.Cut(canonical, "|")
	system, query, ok := strings.Cut(url, "?fhir_vs")
	if !ok || system == "" {
		return nil
	}
	include := element.NewObject(element.Field{Name: "system", Value: element.NewString(system)})
	if query != "" {
		code, ok := strings.CutPrefix(query, "=isa/")
		if !ok {
			return nil
		}
		include.Set("filter", list(element.NewObject(
			element.Field{Name: "property", Value: element.NewString("concept")},
			element.Field{Name: "op", Value: element.NewString("is-a")},
			element.Field{Name: "value", Value: element.NewString(code)},
		)))
	}
	return element.NewObject(
		element.Field{Name: "resourceType", Value: element.NewString("ValueSet")},
		element.Field{Name: "url", Value: element.NewString(url)},
		element.Field{Name: "status", Value: element.NewString("active")},
		element.Field{Name: "compose", Value: element.NewObject(element.Field{Name: "include", Value: list(include)})},
	)
}

func list(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

func isTrue(n *element.Node) bool { return n != nil && n.Kind == element.Bool && n.Text == "true" }

// enter guards against value sets that import themselves.
func (r *run) enter(vs *valueSet) (func(), error) {
	for _, o := range r.open {
		if o == vs.key && o != "" {
			return nil, outcome.New(outcome.Unprocessable, "the value set "+vs.key+" imports itself")
		}
	}
	r.open = append(r.open, vs.key)
	return func() { r.open = r.open[:len(r.open)-1] }, nil
}
