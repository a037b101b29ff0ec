package export

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent/deidentify"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// A release is an export of what is de-identified under a profile. It is made in two passes over the same pages: the
// survey finds what can be in it and draws a surrogate for each resource; what is rare is settled; then what was
// surveyed is read again, page by page in the order of the surrogates, and written. Each page of either pass is one turn.

// Release is what a release goes by, as it was at kick-off.
type Release struct {
	Profile   string   `json:"profile"`            // with its version
	Reference fhir.Ref `json:"reference,omitzero"` // of the agreement or the determination
	Grounds   []byte   `json:"grounds"`            // digest: a release that was begun by others does not go on
}

// The steps of a release beside those that write.
const (
	survey Kind = "survey"
	settle Kind = "settle"
)

// rounds is how often a release is surveyed at most.
const rounds = 3

// ErrDrift says that records are not what was surveyed.
var ErrDrift = errors.New("export: records are not what was surveyed")

var (
	errProfile = outcome.New(outcome.Invalid, "_profile names no release profile of this server: it is safe-harbor, limited-data-set or expert-determination, or their canonical URL, with or without |version")
	errSafe    = outcome.New(outcome.Invalid, "a de-identified release takes _type, _outputFormat and _profile alone: what _since, _until, _typeFilter, _elements, includeAssociatedData or patient select would tell of the records what the release leaves out")
	errOff     = outcome.New(outcome.Invalid, "no de-identified releases are made here")
	errGone    = outcome.New(outcome.Deleted, "something of this release was changed or withdrawn since: ask for a new one")
	errPurpose = outcome.New(outcome.Forbidden, "a limited data set is for research, public health and operations alone (45 CFR 164.514(e)(3)): the purpose of the token is another")
	errSmall   = errors.New("export: a release of too few patients")
)

// releasing settles what of r is about a release, and gives the grant under which it is made; for any other export that is g.
func (s *Service) releasing(g authz.Grant, r *Request) (authz.Grant, error) {
	if !r.Released {
		if g.Profile() == "" && r.Format != "" {
			return g, errTables
		}
		if g.Profile() == "" {
			return g, nil
		}
		r.Profile = g.Profile() // such a client gets nothing else
	}
	r.Released = true
	p, ok := deident.Asked(r.Profile)
	switch {
	case !ok:
		return g, errProfile
	case s.Releases == nil || s.OptOuts == nil || s.Terms == nil:
		return g, errOff
	case r.Since != "" || r.Until != "" || len(r.Filters) > 0 || len(r.Elements) > 0 || len(r.Patients) > 0 || r.Provenance != "" || r.Organized || len(r.Ignored) > 0:
		return g, errSafe
	}
	out, err := s.Engine.Releasing(g, p.Name)
	if err != nil {
		return g, err
	}
	if r.Release, _, err = s.grounds(out, p, r.Purpose); err != nil {
		return g, err
	}
	released := deident.TypesOf(p)
	if len(r.Types) == 0 {
		for _, t := range released {
			if _, err := s.Engine.Extend(out, fhir.SearchType, t); err == nil && r.belongs(t) {
				r.Types = append(r.Types, t)
			}
		}
		if len(r.Types) == 0 {
			return g, authz.ErrDenied
		}
	}
	for _, t := range r.Types {
		if !slices.Contains(released, t) {
			return g, outcome.New(outcome.Invalid, "_type names a type of which nothing is released under this profile; it may name "+join(released))
		}
	}
	if err := r.tabled(); err != nil {
		return g, err
	}
	r.Partial = false // it is made over should it change on the way
	r.Lenient = false // what a release cannot honour is not ignored
	return out, nil
}

func join(types []fhir.ResourceType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}

// grounds finds what a release goes by now.
func (s *Service) grounds(g authz.Grant, p deident.Profile, purpose string) (*Release, terms.Grounds, error) {
	c := g.Caller()
	if purpose == "" {
		purpose = c.Purpose
	}
	if p.Method == deident.LimitedSet && !deidentify.LimitedSetPermits(true, purpose) {
		return nil, terms.Grounds{}, errPurpose
	}
	x, err := s.Terms.Of(c.Tenant).For(p, c.Client, c.Now)
	return &Release{Profile: p.String(), Reference: x.Reference, Grounds: x.Digest[:]}, x, err
}

// maker resumes the making of a release for a caller: by the grounds on which it was begun, or not at all.
func (s *Service) maker(who authz.Grant, k Key, r *Request) (*maker, error) {
	p, ok := deident.Asked(r.Release.Profile)
	if !ok || s.Releases == nil {
		return nil, authz.ErrDenied
	}
	g, err := s.Engine.Releasing(who, p.Name)
	if err != nil {
		return nil, err
	}
	now, x, err := s.grounds(g, p, r.Purpose)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(now.Grounds, r.Release.Grounds) {
		return nil, authz.ErrDenied
	}
	return &maker{s: s, g: g, k: k, r: r, p: p, x: x}, nil
}

// releaseTurn does the next piece of a release.
func (s *Service) releaseTurn(ctx context.Context, w *work) error {
	j := w.j
	k := Key{j.ID, j.Turn}
	m, err := w.maker(ctx, k)
	if err != nil {
		return err
	}
	steps := w.c.Request.steps()
	end := len(steps) // of a round; the place behind it is that of a round that is done
	round := j.Step / (end + 1)
	if err := s.Releases.Enter(ctx, k, j.Tenant, round); err != nil {
		return err
	}
	at := Position{Step: j.Step % (end + 1), After: j.After}
	for worked := false; at.Step < end && !worked; {
		if at, worked, err = w.piece(ctx, m, at, steps[at.Step]); err != nil {
			break
		}
	}
	switch {
	case errors.Is(err, ErrDrift) && round+1 < rounds:
		return s.Jobs.Restart(ctx, *j, Position{Step: (round + 1) * (end + 1)})
	case errors.Is(err, ErrDrift):
		return s.fail(ctx, *j, Changed)
	case errors.Is(err, errSmall):
		return s.fail(ctx, *j, Small)
	case err != nil:
		return err
	}
	done := at.Step == end
	at.Step += round * (end + 1)
	if err := s.Jobs.Publish(ctx, *j, at, w.parts, nil, s.Longest); err != nil || !done {
		return err
	}
	until := s.Now().Add(s.Keep)
	if err := s.Releases.Keep(ctx, k, until); err != nil {
		return err
	}
	return s.Jobs.Finish(ctx, *j, Done, "", until)
}

// maker lets the client of a release go on with it, as of now.
func (w *work) maker(ctx context.Context, k Key) (*maker, error) {
	who, err := w.s.Engine.Authorize(ctx, w.c.Principal.Principal(scopes), fhir.Operation, "")
	if err != nil {
		return nil, err
	}
	m, err := w.s.maker(who, k, &w.c.Request)
	if err == nil {
		m.at = w.j.Transaction
	}
	return m, err
}

// piece does one piece, and gives the place behind it.
func (w *work) piece(ctx context.Context, m *maker, at Position, st step) (next Position, worked bool, err error) {
	next = Position{Step: at.Step + 1}
	switch st.kind {
	case survey:
		after, n, err := m.survey(ctx, st.t, at.After)
		if after != nil {
			next = Position{Step: at.Step, After: after}
		}
		return next, n > 0 || after != nil, err
	case settle:
		_, err := m.settle(ctx)
		return next, true, err
	}
	if w.c.Request.Format != "" {
		return w.tables(ctx, m, at, st.t)
	}
	var after fhir.ID
	if at.After != nil {
		after = at.After.ID
	}
	page, err := m.write(ctx, st.t, after)
	if err != nil {
		return at, false, err
	}
	if page.next != "" {
		next = Position{Step: at.Step, After: &search.Cursor{Type: st.t, ID: page.next}}
	}
	if len(page.made) == 0 {
		return next, page.next != "", nil
	}
	o, err := w.create(ctx, Part{Kind: Output, Type: st.t})
	if err != nil {
		return at, false, err
	}
	defer o.abandon()
	for _, d := range page.made {
		if err := page.of.NDJSON(&released{o, d.Ref().ID}).Put(d); err != nil {
			return at, false, err
		}
	}
	return next, true, w.done(o)
}

// released is a part of a release. Nothing but the sink of the release writes to it, and that takes nothing
// but [deident.Deidentified]. What is known of a line is its surrogate.
type released struct {
	o  *object
	id fhir.ID
}

// Write writes one line.
func (x *released) Write(line []byte) (int, error) {
	n := len(line)
	return n, x.o.line(line[:n-1], vault.Header{Ref: fhir.Ref{Type: x.o.Type, ID: x.id}})
}

var _ io.Writer = (*released)(nil)

// fetchRelease lets a file of a release out whole, as long as its client may see all that is behind it: with a line
// left out, others would refer to nothing, and groups would be smaller than they have to be.
func (s *Service) fetchRelease(ctx context.Context, g authz.Grant, j Job, c contents, name string, file []Part) (record.Stream, error) {
	m, err := s.maker(g, Key{Release: j.ID}, &c.Request)
	if err != nil {
		return record.Stream{}, err
	}
	key, _, err := s.open(ctx, &j)
	if err != nil {
		return record.Stream{}, err
	}
	if err := s.standing(ctx, c.Principal); err != nil {
		return record.Stream{}, err
	}
	// Who fetched what is durable before the first byte.
	if _, err := s.Gate.Release(ctx, g, file[0].Type); err != nil {
		return record.Stream{}, err
	}
	d := &download{s: s, keep: m.whole, key: key, job: j.ID, parts: file}
	if err := d.decide(ctx, name); err != nil {
		return record.Stream{}, err
	}
	return vault.Flow(g, false, d.tag, d.size, func(w io.Writer, from, to int64) error { return d.copy(ctx, w, from, to) }), nil
}

// whole keeps all lines of a part, or none.
func (m *maker) whole(ctx context.Context, p *Part) ([]bool, []record.Sealed, error) {
	if err := m.stands(ctx, p); err != nil {
		return nil, nil, err
	}
	all := make([]bool, len(p.IDs))
	for i := range all {
		all[i] = true
	}
	return all, nil, nil
}

// stands reports as [errGone] that the client may not see any more what is behind a part, or that somebody in it wants out.
func (m *maker) stands(ctx context.Context, p *Part) error {
	list, err := m.s.Releases.Sources(ctx, m.k.Release, p.Type, p.IDs)
	if err != nil {
		return err
	}
	if len(list) != len(p.IDs) {
		return errGone
	}
	g, err := m.s.Engine.Extend(m.g, fhir.SearchType, p.Type)
	if err != nil {
		return err
	}
	behind := Part{Kind: Output, Type: p.Type}
	var patients []fhir.ID
	for _, x := range list {
		behind.IDs, behind.Versions, behind.Rows = append(behind.IDs, x.ID), append(behind.Versions, x.Version), append(behind.Rows, x.Row)
		if x.Member.Patient != "" {
			patients = append(patients, x.Member.Patient)
		}
	}
	keep, _, err := m.s.visible(ctx, g, &behind)
	if err != nil {
		return err
	}
	slices.Sort(patients)
	out, err := m.s.OptOuts.OptedOut(ctx, g, slices.Compact(patients))
	if err != nil {
		return err
	}
	if slices.Contains(keep, false) || len(out) > 0 {
		return errGone
	}
	return nil
}

// Told is what the manifest of a release tells of it.
type Told struct {
	Profile   string // with its version
	Canonical string
	Citation  string
	Reference fhir.Ref // of the agreement or the determination
	Held      *Held    // nil: nothing was held back for the sake of a determination
}

// Held is what whoever gets a release is told of what a determination held back. Who answers for the release has
// [deident.Report]; here no code is named, and no number of patients under eleven is told (D8).
type Held struct {
	Groups      int            // of patients who are alike in all quasi-identifiers
	Smallest    int            // of these groups
	Generalised string         // patients without any quasi-identifier
	Suppressed  string         // patients who are not in it
	Codes       map[string]int // by element: how many different codes are left out there
}

func heldBack(d *deident.Determined) *Held {
	if d == nil {
		return nil
	}
	h := &Held{Groups: d.Groups, Smallest: d.Smallest, Generalised: deidentify.Count(d.Generalised), Suppressed: deidentify.Count(d.Suppressed), Codes: map[string]int{}}
	for _, c := range d.Cells {
		h.Codes[c.Element]++
	}
	return h
}

// tell is what the manifest of a release that is done tells of it.
func (s *Service) tell(ctx context.Context, id string, r *Request) (*Told, error) {
	t := r.told()
	if t == nil || s.Releases == nil {
		return t, nil
	}
	report, err := s.Releases.Report(ctx, id)
	if errors.Is(err, ErrOver) {
		return nil, errGone
	}
	t.Held = heldBack(report.Determined)
	return t, err
}

func (r *Request) told() *Told {
	if r.Release == nil {
		return nil
	}
	p, _ := deident.Asked(r.Release.Profile)
	return &Told{Profile: r.Release.Profile, Canonical: p.Canonical(), Citation: p.Citation, Reference: r.Release.Reference}
}

// releaseSteps are the steps of one round.
func (r *Request) releaseSteps() []step {
	out := make([]step, 0, 2*len(r.Types)+1)
	for _, t := range r.Types {
		out = append(out, step{survey, t})
	}
	out = append(out, step{settle, ""})
	for _, t := range r.Types {
		out = append(out, step{Output, t})
	}
	return out
}

// progress is how far a release is, in steps of the round that is under way.
func (r *Request) progress(j *Job) (step, steps int) {
	steps = len(r.steps())
	if r.Release == nil {
		return j.Step, steps
	}
	return j.Step % (steps + 1), steps
}
