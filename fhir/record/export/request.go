package export

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/compartment"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// Level says what an export is about (Bulk Data Access 2.0, "Endpoints").
type Level string

// The levels.
const (
	System  Level = "system"
	Patient Level = "patient" // what is in the compartment of any patient
	Group   Level = "group"   // what is in the compartment of a member
)

// Request is what a client asks for at kick-off.
type Request struct {
	URL      string              `json:"url"` // as the client wrote it
	Level    Level               `json:"level"`
	Group    fhir.ID             `json:"group,omitempty"`
	Types    []fhir.ResourceType `json:"types"`              // without any, all that the client can be permitted
	Since    string              `json:"since,omitempty"`    // instant: changed after that
	Until    string              `json:"until,omitempty"`    // instant: changed before that, or then
	Filters  []string            `json:"filters,omitempty"`  // Type?query
	Elements []string            `json:"elements,omitempty"` // name or Type.name
	Patients []fhir.ID           `json:"patients,omitempty"` // only what is in the compartment of one of them
	// Provenance says which Provenance goes with what is exported (includeAssociatedData).
	Provenance Provenance `json:"provenance,omitempty"`
	// Organized writes blocks of one patient each (organizeOutputBy=Patient).
	Organized bool `json:"organized,omitempty"`
	block     fhir.ID
	// Ignored is what was left out of the request, because its client is lenient or because it makes no difference, in words for it.
	Ignored []string `json:"ignored,omitempty"`
	// Partial shows files in manifests of their own before all are there (allowPartialManifests).
	Partial  bool                 `json:"partial,omitempty"`
	Lenient  bool                 `json:"lenient,omitempty"`
	Labels   obligation.Labelling `json:"labels,omitempty"`
	Released bool                 `json:"released,omitempty"` // it is to be de-identified
	Format   string               `json:"format,omitempty"`   // of tables, csv or parquet; "" for lines of resources
	Profile  string               `json:"profile,omitempty"`  // under this profile, as the client wrote it
	Purpose  string               `json:"purpose,omitempty"`  // of the recipient, where the operator asks
	Release  *Release             `json:"release,omitempty"`  // what that comes to
}

// Provenance says which Provenance goes with what is exported.
type Provenance string

// The presets of includeAssociatedData. Without one, Provenance is a type like others.
const (
	LatestProvenance   Provenance = "latest"   // of each resource the one that was recorded last
	RelevantProvenance Provenance = "relevant" // all of each resource
)

// The bounds on one request.
const (
	MaxFilters  = 64
	MaxPatients = 1000
)

// step is one piece of a job: the resources of one type, or what was deleted of them.
type step struct {
	kind Kind
	t    fhir.ResourceType
}

// steps is the plan of a request.
func (r *Request) steps() []step {
	if r.Release != nil {
		return r.releaseSteps()
	}
	out := make([]step, 0, 2*len(r.Types))
	if r.Organized {
		out = append(out, step{Output, "Patient"})
	} else {
		for _, t := range r.Types {
			out = append(out, step{Output, t})
		}
	}
	if r.Since != "" {
		for _, t := range r.Types {
			out = append(out, step{Deleted, t})
		}
	}
	return out
}

var errElsewhere = outcome.New(outcome.Invalid, "_type names nothing but types of which nothing is in the compartment of a patient")

// settle checks r for a caller, and fills in the types.
func (r *Request) settle(engine Engine, g authz.Grant) error {
	open := func(t fhir.ResourceType) bool {
		_, err := engine.Extend(g, fhir.SearchType, t)
		return err == nil
	}
	belongs := r.belongs
	for _, text := range []string{r.Since, r.Until} {
		if _, _, ok := search.Instants(text); text != "" && (!ok || !strings.Contains(text, "T")) {
			return outcome.New(outcome.Invalid, "_since and _until take an instant, such as 2026-03-01T00:00:00Z")
		}
	}
	if len(r.Patients) > 0 && r.Level == System {
		return outcome.New(outcome.Invalid, "the parameter patient is one of Patient/$export and Group/[id]/$export")
	}
	if len(r.Patients) > MaxPatients || len(r.Filters) > MaxFilters || len(r.Elements) > search.MaxElements {
		return outcome.New(outcome.TooCostly, fmt.Sprintf("an export takes at most %d patients, %d _typeFilter and %d _elements: ask for several exports", MaxPatients, MaxFilters, search.MaxElements))
	}
	if r.Organized {
		switch {
		case r.Provenance != "":
			return outcome.New(outcome.Invalid, "organizeOutputBy and includeAssociatedData do not go together here: ask for two exports")
		case !open("Patient"):
			return authz.ErrDenied
		}
	}
	if len(r.Types) == 0 {
		for _, t := range fhir.ResourceTypes() {
			if belongs(t) && open(t) {
				r.Types = append(r.Types, t)
			}
		}
		if len(r.Types) == 0 {
			return authz.ErrDenied
		}
		return nil
	}
	var kept []fhir.ResourceType
	elsewhere := false
	for _, t := range r.Types {
		switch {
		case !t.Valid() && !r.Lenient:
			return outcome.New(outcome.Invalid, "_type names something that is no R4 resource type")
		case t.Valid() && !belongs(t) && r.Release != nil:
			return errElsewhere
		case t.Valid() && !belongs(t): // clients ask at every level for the same types
			elsewhere = true
			r.Ignore(string(t), "nothing of this type is in the compartment of a patient")
		case t.Valid() && belongs(t) && open(t):
			kept = append(kept, t)
		case t.Valid() && !r.Lenient:
			return authz.ErrDenied
		default:
			r.Ignore(string(t), "_type names a type of which there is nothing in this export")
		}
	}
	if len(kept) == 0 && elsewhere && !r.Lenient {
		return errElsewhere
	}
	if len(kept) == 0 {
		return authz.ErrDenied
	}
	if r.Provenance != "" {
		switch {
		case open(provenance):
			kept = append(kept, provenance)
		case !r.Lenient:
			return authz.ErrDenied
		default:
			r.Ignore("includeAssociatedData", "there is no Provenance in this export")
		}
	}
	slices.Sort(kept)
	r.Types = slices.Compact(kept)
	return nil
}

// The bounds on what is said of what was ignored.
const (
	maxIgnored = 32
	maxName    = 64 // bytes
)

// Ignore notes that something is left out of a request, and why; what is in the words of the client.
func (r *Request) Ignore(what, why string) {
	if len(what) > maxName {
		what = strings.ToValidUTF8(what[:maxName], "") + "..."
	}
	if len(r.Ignored) < maxIgnored {
		r.Ignored = append(r.Ignored, what+": "+why)
	}
}

// belongs reports whether an export of that level can have something of a type.
func (r *Request) belongs(t fhir.ResourceType) bool {
	return r.Level == System && !r.Organized || t == "Patient" || compartment.InPatientCompartment(t)
}

// filtered splits a _typeFilter, in which commas separate queries, at those before the name of a type.
var filtered = regexp.MustCompile(`,([A-Z][A-Za-z]*\?)`)

// SplitFilters gives the queries of one _typeFilter.
func SplitFilters(text string) []string {
	return strings.Split(filtered.ReplaceAllString(text, "\x00$1"), "\x00")
}

var errFilter = outcome.New(outcome.Invalid, "_typeFilter takes queries such as Observation?status=final, made of search parameters alone, on types of the export")

// about reports whether a filter is on a type of the export.
func (r *Request) about(filter string) bool {
	name, _, _ := strings.Cut(filter, "?")
	return slices.Contains(r.Types, fhir.ResourceType(name))
}

// filters reads the queries for a type; their conditions are alternatives.
func (r *Request) filters(t fhir.ResourceType, opt search.Options) ([]search.Criterion, error) {
	var groups [][]search.Criterion
	for _, f := range r.Filters {
		name, text, ok := strings.Cut(f, "?")
		if of := fhir.ResourceType(name); !ok || !of.Valid() {
			return nil, errFilter
		} else if of != t {
			continue
		}
		values, err := url.ParseQuery(text)
		if err != nil || len(values) == 0 {
			return nil, errFilter
		}
		for name := range values {
			switch base, _, _ := strings.Cut(name, ":"); base {
			case "_include", "_revinclude", "_count", "_sort", "_total", "_summary", "_elements", "_contained", "_containedType", "_format", "_pretty", search.PageParam:
				return nil, errFilter
			}
		}
		q, _, err := search.Parse(t, values, opt)
		if err != nil {
			return nil, err
		}
		groups = append(groups, q.Legs[0].Where)
	}
	switch len(groups) {
	case 0:
		return nil, nil
	case 1:
		return groups[0], nil
	}
	return []search.Criterion{{Op: search.Either, Groups: groups}}, nil
}

// query is the search for the resources of a type, in the order of their ids, in which
// nothing moves while the export goes on.
func (r *Request) query(t fhir.ResourceType, opt search.Options) (search.Query, error) {
	values := url.Values{"_sort": {"_id"}}
	associated := t == provenance && r.Provenance != ""
	if r.Since != "" && !associated {
		values.Add("_lastUpdated", "gt"+r.Since)
	}
	if r.Until != "" && !associated {
		values.Add("_lastUpdated", "le"+r.Until)
	}
	q, _, err := search.Parse(t, values, opt)
	if err != nil {
		return q, err
	}
	where, err := r.filters(t, opt)
	if err != nil {
		return q, err
	}
	l := &q.Legs[0]
	l.Where = append(l.Where, where...)
	if associated {
		exported, err := r.exported(opt)
		l.Where = append(l.Where, exported)
		return q, err
	}
	if r.Level == System && !r.Organized {
		return q, nil
	}
	who := r.who()
	if t == "Patient" {
		l.Where = append(l.Where, who...)
		return q, nil
	}
	ways := r.ways(t, who)
	if t == provenance {
		// What is said of a resource in the compartment of a patient is there, too.
		of := search.Criterion{Op: search.Chain, Param: "target", Type: search.Reference}
		for _, other := range r.Types {
			if other != provenance && other != "Patient" && compartment.InPatientCompartment(other) {
				of.Hops = append(of.Hops, search.Hop{Type: other, Where: []search.Criterion{{Op: search.Either, Groups: r.ways(other, who)}}})
			}
		}
		if of.Hops != nil {
			ways = append(ways, []search.Criterion{of})
		}
	}
	l.Where = append(l.Where, search.Criterion{Op: search.Either, Groups: ways})
	return q, nil
}

// ways are the conditions one of which holds for what is in the compartment of a patient who is meant.
func (r *Request) ways(t fhir.ResourceType, who []search.Criterion) (ways [][]search.Criterion) {
	for _, code := range compartment.Parameters(t) {
		ways = append(ways, []search.Criterion{{Op: search.Chain, Param: code, Type: search.Reference, Hops: []search.Hop{{Type: "Patient", Where: who}}}})
	}
	return ways
}

// who are the patients that are meant: conditions on a Patient. Only those whom the
// caller sees count, and members of a Group only where she sees the Group.
func (r *Request) who() (where []search.Criterion) {
	if r.block != "" {
		where = append(where, oneOf([]fhir.ID{r.block}))
	}
	if len(r.Patients) > 0 {
		c := search.Criterion{Param: "_id", Type: search.Token}
		for _, id := range r.Patients {
			c.Any = append(c.Any, search.Value{ID: id})
		}
		where = append(where, c)
	}
	if r.Level == Group {
		member := search.Criterion{Param: "_id", Type: search.Token, Any: []search.Value{{ID: r.Group}}}
		where = append(where, search.Criterion{Op: search.Has, Param: "_has", Hops: []search.Hop{{Type: "Group", Via: "member", Where: []search.Criterion{member}}}})
	}
	return where
}

// view is what _elements leaves of a type.
func (r *Request) view(t fhir.ResourceType) record.View {
	var v record.View
	for _, name := range r.Elements {
		if of, _, ok := strings.Cut(name, "."); !ok || !fhir.ResourceType(of).Valid() || of == string(t) {
			v.Elements = append(v.Elements, name)
		}
	}
	return v
}

// options are how the queries of a request are read now.
func (s *Service) options(ctx context.Context, g authz.Grant, now time.Time) (search.Options, error) {
	opt := search.Options{Base: s.Base, Now: now, Context: ctx, Membership: compartment.Membership, Terminology: s.Terminology}
	r, err := s.Engine.Plan(ctx, g, fhir.Read, "SearchParameter")
	if err != nil {
		return opt, err
	}
	opt.Registry, err = s.Records.Parameters(ctx, r)
	return opt, err
}
