package export

import (
	"context"
	"errors"
	"net/url"
	"sync"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/compartment"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// people are the patients of one piece of a release, as its client sees them: who is hidden from it is not known.
type people struct {
	m      *maker
	known  map[fhir.ID]*deident.Subject // nil: who is not known
	shifts map[fhir.ID]int
}

func newPeople(m *maker) *people {
	return &people{m, map[fhir.ID]*deident.Subject{}, map[fhir.ID]int{}}
}

// meet finds those to whom these resources belong.
func (p *people) meet(ctx context.Context, in []record.Sealed) error {
	var ids []fhir.ID
	for _, x := range in {
		h := vault.Head(x)
		id := h.Patient
		if h.Ref.Type == "Patient" {
			id = h.Ref.ID
		}
		if _, met := p.known[id]; !met && id != "" {
			p.known[id] = nil
			ids = append(ids, id)
		}
	}
	if ids == nil {
		return nil
	}
	list, err := p.m.s.patients(ctx, p.m.g, ids)
	if err != nil {
		return err
	}
	out, err := p.m.s.OptOuts.OptedOut(ctx, p.m.g, ids)
	if err != nil {
		return err
	}
	for id, birth := range list {
		p.known[id] = &deident.Subject{Birth: birth, OptedOut: out[id]}
	}
	if p.m.x.Expert == nil {
		return nil
	}
	drawn, err := p.m.s.Releases.Shifts(ctx, p.m.k, ids, func() (int, error) { return deident.NewShift(p.m.x.Expert.Days) })
	for id, days := range drawn {
		p.shifts[id] = days
	}
	return err
}

// Subject implements [deident.Subjects].
func (p *people) Subject(_ context.Context, id fhir.ID) (deident.Subject, bool, error) {
	if s := p.known[id]; s != nil {
		return *s, true, nil
	}
	return deident.Subject{}, false, nil
}

var errUnmet = errors.New("export: nobody drew by how much the dates of a patient are moved")

// Shift implements [deident.Shifts].
func (p *people) Shift(_ context.Context, id fhir.ID, _ int) (int, error) {
	days, ok := p.shifts[id]
	if !ok {
		return 0, errUnmet
	}
	return days, nil
}

// patients gives the dates of birth of those patients whom the holder of g sees, as they are stored. Who is seen is
// asked each time; what was read of a patient is read again when she has changed.
func (s *Service) patients(ctx context.Context, g authz.Grant, ids []fhir.ID) (map[fhir.ID]string, error) {
	out := map[fhir.ID]string{}
	reach, err := s.Engine.Outbound(ctx, g, fhir.SearchType, "Patient")
	if err != nil || reach.Of("Patient").Empty() {
		return out, err
	}
	now, err := s.Records.Current(ctx, reach.Of("Patient"), ids)
	if err != nil {
		return nil, err
	}
	var ask []fhir.ID
	for id, seen := range now {
		birth, read := "", len(seen) == 1
		if read {
			birth, read = s.births.get(vault.Head(seen[0]))
		}
		if read {
			out[id] = birth
		} else {
			ask = append(ask, id)
		}
	}
	if ask == nil {
		return out, nil
	}
	opt := search.Options{Base: s.Base, Now: s.Now(), Context: ctx, Membership: compartment.Membership, Terminology: s.Terminology}
	q, _, err := search.Parse("Patient", url.Values{"_sort": {"_id"}}, opt)
	if err != nil {
		return nil, err
	}
	q.Legs[0].Where = append(q.Legs[0].Where, oneOf(ask))
	q.Count, q.Bytes = s.Page, s.Bytes
	for {
		found, err := s.Records.Search(ctx, reach, q)
		if err != nil {
			return nil, err
		}
		for _, x := range found.Entries {
			body, err := vault.Open(ctx, x)
			if err != nil {
				return nil, err
			}
			root, err := codec.ReadJSON(body, codec.Limits{})
			if err != nil {
				return nil, errors.New("export: a stored Patient does not read")
			}
			birth := root.Get("birthDate").String()
			out[vault.Head(x).Ref.ID] = birth
			s.births.put(vault.Head(x), birth)
		}
		if !found.More {
			return out, nil
		}
		q.After = &found.Last
	}
}

// births remembers the dates of birth of versions of patients. Each page of a release is of many patients, and the
// next one of the same.
type births struct {
	mu    sync.Mutex
	known map[version]string
}

// version is one view of a resource in one state.
type version struct {
	row     int64
	version fhir.VersionID
	labels  label.Set
}

// birthsMost is how many are remembered: some megabytes.
const birthsMost = 1 << 16

func (b *births) get(h vault.Header) (birth string, ok bool) {
	if h.Deleted {
		return "", false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	birth, ok = b.known[version{h.Row, h.Version, h.Labels}]
	return birth, ok
}

func (b *births) put(h vault.Header, birth string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil || len(b.known) >= birthsMost {
		b.known = map[version]string{}
	}
	b.known[version{h.Row, h.Version, h.Labels}] = birth
}

// oneOf is the condition that a resource has one of these ids.
func oneOf(ids []fhir.ID) search.Criterion {
	c := search.Criterion{Param: "_id", Type: search.Token}
	for _, id := range ids {
		c.Any = append(c.Any, search.Value{ID: id})
	}
	return c
}

// members are what one piece of a release refers to, as far as it is in the release.
type members struct {
	m     *maker
	known map[fhir.Ref]*deident.Member // nil: what is not in it
}

func newMembers(m *maker) *members { return &members{m, map[fhir.Ref]*deident.Member{}} }

// meet looks for what these resources refer to, and for themselves.
func (x *members) meet(ctx context.Context, in []record.Sealed) error {
	refs, err := deident.Mentions(ctx, in...)
	if err != nil {
		return err
	}
	for _, s := range in {
		refs = append(refs, vault.Head(s).Ref)
	}
	return x.look(ctx, refs)
}

func (x *members) look(ctx context.Context, refs []fhir.Ref) error {
	var ask []fhir.Ref
	for _, r := range refs {
		if _, asked := x.known[r]; !asked {
			x.known[r] = nil
			ask = append(ask, r)
		}
	}
	if ask == nil {
		return nil
	}
	found, err := x.m.s.Releases.Members(ctx, x.m.k.Release, ask)
	for r, m := range found {
		x.known[r] = &m
	}
	return err
}

// Member implements [deident.Surrogates].
func (x *members) Member(ctx context.Context, r fhir.Ref) (deident.Member, bool, error) {
	if err := x.look(ctx, []fhir.Ref{r}); err != nil || x.known[r] == nil {
		return deident.Member{}, false, err
	}
	return *x.known[r], true, nil
}

// Admit implements [deident.Surrogates]; a survey in pieces admits nobody by it.
func (x *members) Admit(context.Context, fhir.Ref, fhir.ID) error { return errors.ErrUnsupported }
