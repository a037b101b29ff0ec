package export

import (
	"bytes"
	"context"
	"errors"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// mostOfOne is how many resources the release of one patient has at most.
const mostOfOne = 2000

var (
	errNoGroup = outcome.New(outcome.Invalid, "one patient is no group: an expert's determination is about at least eleven who are alike")
	errMany    = outcome.New(outcome.TooCostly, "more than 2000 resources of the patient would be released: ask for fewer types, or export them")
	errUnasked = outcome.New(outcome.Invalid, "_profile is missing: it is safe-harbor or limited-data-set")
)

// Single makes a release of what the holder of g sees of one patient, as a Bundle of type collection. Who sees the
// patient herself knows who it is about; so a client that gets releases alone does not get this one.
func (s *Service) Single(ctx context.Context, g authz.Grant, patient fhir.ID, profile string, types []fhir.ResourceType) (record.Stream, error) {
	var none record.Stream
	if g.Profile() != "" {
		return none, authz.ErrDenied
	}
	if profile == "" {
		return none, errUnasked
	}
	r := Request{Level: Patient, Released: true, Profile: profile, Types: types}
	under, err := s.releasing(g, &r)
	if err != nil {
		return none, err
	}
	if p, _ := deident.Asked(profile); p.Method == deident.Expert {
		return none, errNoGroup
	}
	if err := r.settle(s.Engine, under); err != nil {
		return none, err
	}
	r.Patients = []fhir.ID{patient}
	k := Key{record.NewID(), 1}
	if err := s.Releases.Begin(ctx, k.Release, g.Caller().Tenant, s.Now().Add(kept)); err != nil {
		return none, err
	}
	defer func() { // also of what failed; what is left all the same expires
		if err := s.Releases.Erase(context.WithoutCancel(ctx), k.Release); err != nil {
			s.Log.Warn("the keys of a release stay until they expire", "error", err)
		}
	}()
	m, err := s.maker(g, k, &r)
	if err != nil {
		return none, err
	}
	m.at = g.Caller().Now
	there, _, err := s.resources(ctx, m.g, &r, "Patient", m.at, nil, []fhir.ID{patient})
	if err == nil && len(there) == 0 {
		err = outcome.New(outcome.NotFound, "")
	}
	if err != nil {
		return none, err
	}
	var b bytes.Buffer
	for round := range rounds {
		b.Reset()
		if err = s.bundle(ctx, m, round, &b); !errors.Is(err, ErrDrift) {
			break
		}
		k.Turn++
		m.k = k
	}
	if errors.Is(err, ErrDrift) {
		err = outcome.New(outcome.Conflict, "records changed again and again while the release was made: ask for it again").Because(err)
	}
	if err != nil {
		return none, err
	}
	return vault.Whole(g, false, b.Bytes()), nil
}

// bundle makes one round of the release of one patient.
func (s *Service) bundle(ctx context.Context, m *maker, round int, to *bytes.Buffer) error {
	if err := s.Releases.Enter(ctx, m.k, m.g.Caller().Tenant, round); err != nil {
		return err
	}
	out := &entries{to: to}
	to.WriteString(`{"resourceType":"Bundle","type":"collection"`)
	total := 0
	for _, st := range m.r.releaseSteps() {
		switch st.kind {
		case survey:
			for at, again := (*search.Cursor)(nil), true; again; again = at != nil {
				var n int
				var err error
				if at, n, err = m.survey(ctx, st.t, at); err != nil {
					return err
				}
				if total += n; total > mostOfOne {
					return errMany
				}
			}
		case settle:
			if _, err := m.settle(ctx); err != nil {
				return err
			}
		default:
			for after, again := fhir.ID(""), true; again; again = after != "" {
				page, err := m.write(ctx, st.t, after)
				if err != nil {
					return err
				}
				after = page.next
				for _, d := range page.made {
					if err := page.of.NDJSON(out).Put(d); err != nil {
						return err
					}
				}
			}
		}
	}
	if out.n > 0 {
		to.WriteString(`]`)
	}
	to.WriteString(`}`)
	return nil
}

// entries writes each line of a release as an entry of a Bundle.
type entries struct {
	to *bytes.Buffer
	n  int
}

// Write writes one line.
func (x *entries) Write(line []byte) (int, error) {
	if x.n++; x.n == 1 {
		x.to.WriteString(`,"entry":[{"resource":`)
	} else {
		x.to.WriteString(`,{"resource":`)
	}
	x.to.Write(line[:len(line)-1])
	x.to.WriteString(`}`)
	return len(line), nil
}
