package export

import (
	"context"
	"errors"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// maker makes the pieces of a release under one grant.
type maker struct {
	s  *Service
	g  authz.Grant // for making this release
	k  Key
	r  *Request
	p  deident.Profile
	x  terms.Grounds
	at time.Time // of the release: ages are told as of then
}

// config is that of a piece, for those people and those members.
func (m *maker) config(who *people, in deident.Surrogates) deident.Config {
	c := deident.Config{Grant: m.g, Now: m.at, Subjects: who, Surrogates: in, Codes: m.x.Codes, Questionnaires: m.x.Answers, Purpose: m.r.Purpose}
	if m.p.Method == deident.LimitedSet {
		c.Agreement = m.x.Reference
	}
	if m.x.Expert != nil {
		d := *m.x.Expert
		d.Shifts = who
		c.Expert = &d
	}
	return c
}

// survey does the next page of a survey. after is where the next one begins, nil at the end of the type.
func (m *maker) survey(ctx context.Context, t fhir.ResourceType, at *search.Cursor) (after *search.Cursor, n int, err error) {
	found, after, err := m.s.resources(ctx, m.g, m.r, t, m.at, at, nil)
	if err != nil || len(found) == 0 {
		return after, 0, err
	}
	who := newPeople(m)
	if err := who.meet(ctx, found); err != nil {
		return nil, 0, err
	}
	r, err := deident.Begin(m.p, m.config(who, newMembers(m)))
	if err != nil {
		return nil, 0, err
	}
	in, part, err := r.Examine(ctx, found...)
	if err != nil {
		return nil, 0, err
	}
	piece := string(t)
	if at != nil {
		piece += "/" + string(at.ID)
	}
	return after, len(found), m.s.Releases.Survey(ctx, m.k, piece, in, part)
}

// settle ends the survey.
func (m *maker) settle(ctx context.Context) (deident.Report, error) {
	var tally *deident.Tally
	if m.x.Expert != nil {
		tally = deident.NewTally(m.x.Expert.K)
	}
	patients, report, err := m.s.Releases.Counts(ctx, m.k.Release, tally)
	if err != nil {
		return report, err
	}
	report.Profile = m.p.String()
	if m.r.Level == Group && patients < deident.MinK { // who is in so small a group is known to whoever knows the group
		return report, errSmall
	}
	var v deident.Verdict
	if tally != nil {
		v, report.Determined = tally.Settle()
	}
	return report, m.s.Releases.Settle(ctx, m.k, v, report)
}

// page is one page of a release, in the order of the surrogates.
type page struct {
	of   *deident.Release
	made []deident.Deidentified
	next fhir.ID // behind which the next page begins; "" at the end of the type
}

// write makes the next page of a type. What is not there any more as it was surveyed is [ErrDrift].
func (m *maker) write(ctx context.Context, t fhir.ResourceType, after fhir.ID) (out page, err error) {
	list, err := m.s.Releases.Walk(ctx, m.k.Release, t, after, m.s.Page)
	if err != nil || len(list) == 0 {
		return out, err
	}
	if len(list) == m.s.Page {
		out.next = list[len(list)-1].Surrogate
	}
	v, err := m.s.Releases.Verdict(ctx, m.k.Release)
	if err != nil {
		return out, err
	}
	var ids []fhir.ID
	for _, x := range list {
		if !v.Suppressed[x.Member.Patient] {
			ids = append(ids, x.ID)
		}
	}
	if ids == nil {
		return out, nil
	}
	g, err := m.s.Engine.Extend(m.g, fhir.SearchType, t)
	if err != nil {
		return out, err
	}
	who, in := newPeople(m), newMembers(m)
	for _, x := range list {
		in.known[fhir.Ref{Type: t, ID: x.ID}] = &x.Member
	}
	if out.of, err = deident.Resume(m.p, m.config(who, in), v); err != nil {
		return out, err
	}
	made, heads := map[fhir.ID]deident.Deidentified{}, map[fhir.ID]vault.Header{}
	for at := (*search.Cursor)(nil); ; {
		var found []record.Sealed
		if found, at, err = m.s.resources(ctx, m.g, m.r, t, m.at, at, ids); err != nil {
			return out, err
		}
		// The record of it is durable before anything is written.
		if err := errors.Join(m.s.Gate.Record(ctx, g, t, found...), who.meet(ctx, found), in.meet(ctx, found)); err != nil {
			return out, err
		}
		for _, x := range found {
			d, ok, err := out.of.Transform(ctx, x)
			if errors.Is(err, deident.ErrChanged) || err == nil && !ok {
				return out, ErrDrift
			}
			if err != nil {
				return out, err
			}
			h := vault.Head(x)
			made[h.Ref.ID], heads[h.Ref.ID] = d, h
		}
		if at == nil {
			break
		}
	}
	if len(made) != len(ids) {
		return out, ErrDrift
	}
	wrote := make([]Source, 0, len(ids))
	for _, x := range list {
		d, ok := made[x.ID]
		if !ok {
			continue
		}
		out.made = append(out.made, d)
		wrote = append(wrote, Source{Surrogate: x.Surrogate, ID: x.ID, Version: heads[x.ID].Version, Row: heads[x.ID].Row})
	}
	return out, m.s.Releases.Wrote(ctx, m.k, t, wrote)
}
