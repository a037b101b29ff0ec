package export

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// open reports whether an export is for the holder of g: a client that is registered with a release profile gets releases alone.
func open(g authz.Grant, r *Request) bool {
	return g.Profile() == "" || r.Release != nil && strings.HasPrefix(r.Release.Profile, g.Profile()+"|")
}

// find finds a job of the caller's own. Whoever does not act for itself has none.
func (s *Service) find(ctx context.Context, g authz.Grant, id string) (Job, []Part, error) {
	if _, err := authz.Freeze(g); err != nil {
		return Job{}, nil, err
	}
	c := g.Caller()
	return s.Jobs.Find(ctx, c.Tenant, ownerOf(c), id)
}

// Fetch lets a file out to its owner: the lines of it that the owner may see now. What it
// may not see any more is left out, whatever it was when the file was written.
func (s *Service) Fetch(ctx context.Context, g authz.Grant, id, name string) (record.Stream, error) {
	j, parts, err := s.find(ctx, g, id)
	if err != nil {
		return record.Stream{}, err
	}
	var file []Part
	noticed := false
	for _, p := range parts {
		if p.fileName() == name {
			file, noticed = append(file, p), noticed || p.Noticed
		}
	}
	if len(file) == 0 || !j.shown(file[0].File) {
		return record.Stream{}, outcome.New(outcome.NotFound, "")
	}
	key, c, err := s.open(ctx, &j)
	if err != nil {
		return record.Stream{}, err
	}
	if !open(g, &c.Request) {
		return record.Stream{}, outcome.New(outcome.NotFound, "")
	}
	if c.Request.Release != nil {
		return s.fetchRelease(ctx, g, j, c, name, file)
	}
	if err := s.standing(ctx, c.Principal); err != nil {
		return record.Stream{}, err
	}
	sub := g
	if file[0].Kind != Error {
		if sub, err = s.Engine.Extend(g, fhir.SearchType, file[0].Type); err != nil {
			return record.Stream{}, err
		}
	}
	// Who fetches what is durable before the first byte, and each part's resources before theirs.
	if _, err := s.Gate.Release(ctx, sub, file[0].Type); err != nil {
		return record.Stream{}, err
	}
	d := &download{
		s: s, key: key, job: j.ID, parts: file,
		keep:     func(ctx context.Context, p *Part) ([]bool, []record.Sealed, error) { return s.visible(ctx, sub, p) },
		disclose: func(ctx context.Context, lines []record.Sealed) error { return s.disclose(ctx, sub, lines) },
	}
	if err := d.decide(ctx, name); err != nil {
		return record.Stream{}, err
	}
	return vault.Flow(g, noticed, d.tag, d.size, func(w io.Writer, from, to int64) error { return d.copy(ctx, w, from, to) }), nil
}

// visible says of each line of a part whether the caller may see it now: the very view, and
// if the resource has changed since, the very version; that something was deleted, while it is.
// It gives the resources of those that she may.
func (s *Service) visible(ctx context.Context, g authz.Grant, p *Part) (keep []bool, lines []record.Sealed, err error) {
	keep = make([]bool, len(p.IDs))
	if p.Kind == Error {
		scopes, err := s.Consents.ConsentScopes(ctx, g, slices.DeleteFunc(slices.Clone(p.IDs), func(id fhir.ID) bool { return id == "" }))
		for i, id := range p.IDs {
			keep[i] = id == "" // of no consent: what the client said itself
			for _, x := range scopes {
				keep[i] = keep[i] || x.Consent == id
			}
		}
		return keep, nil, err
	}
	if len(p.Types) > 0 {
		return s.inBlocks(ctx, g, p)
	}
	reach, err := s.Engine.Outbound(ctx, g, fhir.SearchType, p.Type)
	if err != nil {
		return nil, nil, err
	}
	r := reach.Of(p.Type)
	now, err := s.Records.Current(ctx, r, p.IDs)
	if err != nil {
		return nil, nil, err
	}
	for i, id := range p.IDs {
		x, ok, err := s.line(ctx, r, p, i, now[id])
		if err != nil {
			return nil, nil, err
		}
		if keep[i] = ok; ok {
			lines = append(lines, x)
		}
	}
	return keep, lines, nil
}

// line gives the resource of a line of a part as the caller may see it now, among what she sees under its id.
func (s *Service) line(ctx context.Context, r authz.Restriction, p *Part, i int, now []record.Sealed) (record.Sealed, bool, error) {
	for _, x := range now {
		h := vault.Head(x)
		if h.Row != p.Rows[i] {
			continue
		}
		if h.Version != p.Versions[i] && !h.Deleted && p.Kind != Deleted {
			var err error
			if x, err = s.Records.VRead(ctx, r, p.IDs[i], p.Versions[i]); err != nil {
				if outcome.Of(err).Status() == outcome.New(outcome.NotFound, "").Status() {
					return x, false, nil
				}
				return x, false, err
			}
			h = vault.Head(x)
		}
		return x, h.Row == p.Rows[i] && h.Deleted == (p.Kind == Deleted), nil
	}
	return record.Sealed{}, false, nil
}
