package export

import (
	"context"
	"net/url"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

const provenance fhir.ResourceType = "Provenance"

// exported is the condition on a Provenance that it is about something that the request exports.
func (r *Request) exported(opt search.Options) (search.Criterion, error) {
	c := search.Criterion{Op: search.Chain, Param: "target", Type: search.Reference}
	for _, t := range r.Types {
		if t == provenance {
			continue
		}
		q, err := r.query(t, opt)
		if err != nil {
			return c, err
		}
		c.Hops = append(c.Hops, search.Hop{Type: t, Where: q.Legs[0].Where})
	}
	if c.Hops == nil { // nothing but Provenance is asked for: of nothing
		return search.Criterion{Param: "_id", Type: search.Token}, nil
	}
	return c, nil
}

// latest leaves those of a page of Provenance that are the last ones, as far as the client
// sees, of something that the request exports.
func (w *work) latest(ctx context.Context, g authz.Grant, found []record.Sealed) ([]record.Sealed, error) {
	opt, err := w.s.options(ctx, g, w.j.Transaction)
	if err != nil {
		return nil, err
	}
	r := &w.c.Request
	var all search.Query
	for _, t := range r.Types {
		if t == provenance {
			continue
		}
		q, err := r.query(t, opt)
		if err != nil {
			return nil, err
		}
		all.Legs = append(all.Legs, q.Legs[0])
	}
	all.Count = search.MaxCount
	reach, err := w.s.Engine.Outbound(ctx, g, fhir.SearchType, append(all.Types(), "Group", provenance)...)
	if err != nil {
		return nil, err
	}
	last := map[fhir.Ref]int64{} // row of the last Provenance of a target
	var kept []record.Sealed
	for _, x := range found {
		h := vault.Head(x)
		of := all
		of.Legs = nil
		self := search.Criterion{Param: "_id", Type: search.Token, Any: []search.Value{{ID: h.Ref.ID}}}
		for _, l := range all.Legs {
			has := search.Criterion{Op: search.Has, Param: "_has", Hops: []search.Hop{{Type: provenance, Via: "target", Where: []search.Criterion{self}}}}
			of.Legs = append(of.Legs, search.Leg{Type: l.Type, Where: append(slices.Clone(l.Where), has)})
		}
		targets, err := w.s.Records.Search(ctx, reach, of)
		if err != nil {
			return nil, err
		}
		for _, t := range targets.Entries {
			ref := vault.Head(t).Ref
			row, known := last[ref]
			if !known {
				if row, err = w.lastOf(ctx, reach, opt, ref); err != nil {
					return nil, err
				}
				last[ref] = row
			}
			if row == h.Row {
				kept = append(kept, x)
				break
			}
		}
	}
	return kept, nil
}

// lastOf is the row of the Provenance of a resource that was recorded last.
func (w *work) lastOf(ctx context.Context, reach authz.Reach, opt search.Options, ref fhir.Ref) (int64, error) {
	q, _, err := search.Parse(provenance, url.Values{"target": {ref.String()}, "_sort": {"-recorded"}}, opt)
	if err != nil {
		return 0, err
	}
	q.Count = 1
	page, err := w.s.Records.Search(ctx, reach, q)
	if err != nil || len(page.Entries) == 0 {
		return 0, err
	}
	return vault.Head(page.Entries[0]).Row, nil
}
