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

// deleted finds the next resources of a type that were deleted since, and until the
// moment of the export: what is deleted while it is under way is for the next one.
func (w *work) deleted(ctx context.Context, g authz.Grant, at Position, t fhir.ResourceType) ([]record.Sealed, Position, error) {
	_, since, _ := search.Instants(w.c.Request.Since) // it was checked at kick-off
	reach, err := w.s.Engine.Outbound(ctx, g, fhir.SearchType, t)
	if err != nil {
		return nil, at, err
	}
	r := reach.Of(t)
	found, err := w.s.Records.Tombstones(ctx, r, since, w.j.Transaction, at.After, w.s.Page)
	if err != nil {
		return nil, at, err
	}
	next := Position{Step: at.Step + 1}
	if len(found) == w.s.Page {
		last := vault.Head(found[len(found)-1])
		next = Position{Step: at.Step, After: &search.Cursor{Type: t, ID: last.Ref.ID, Row: last.Row}}
	}
	ids := make([]fhir.ID, len(found))
	for i, x := range found {
		ids[i] = vault.Head(x).Ref.ID
	}
	now, err := w.s.Records.Current(ctx, r, ids)
	if err != nil {
		return nil, at, err
	}
	meant, err := w.meant(ctx, g, t, now)
	if err != nil {
		return nil, at, err
	}
	// Two resources can bear one id. It is told once, and not while one of them is there.
	var told fhir.ID
	if at.After != nil {
		told = at.After.ID
	}
	found = slices.DeleteFunc(found, func(x record.Sealed) bool {
		h := vault.Head(x)
		again := h.Ref.ID == told
		told = h.Ref.ID
		return again || slices.ContainsFunc(now[h.Ref.ID], func(v record.Sealed) bool { return !vault.Head(v).Deleted }) ||
			!slices.ContainsFunc(now[h.Ref.ID], func(v record.Sealed) bool { return vault.Head(v).Row == h.Row && meant(v) })
	})
	return found, next, nil
}

// meant says of what was deleted whether the request is about it: what was in the
// compartment of a patient who is meant. Patients whom the client does not see, or could
// not when they were deleted, are nobody.
func (w *work) meant(ctx context.Context, g authz.Grant, t fhir.ResourceType, deleted map[fhir.ID][]record.Sealed) (func(record.Sealed) bool, error) {
	r := &w.c.Request
	if r.Level != Group && len(r.Patients) == 0 {
		return func(record.Sealed) bool { return true }, nil
	}
	of := func(v record.Sealed) []fhir.ID {
		switch h := vault.Head(v); {
		case t == "Patient":
			return []fhir.ID{h.Ref.ID}
		case h.Patients != nil:
			return h.Patients
		default:
			return []fhir.ID{h.Patient}
		}
	}
	var all []fhir.ID
	for _, vs := range deleted {
		for _, v := range vs {
			all = append(all, of(v)...)
		}
	}
	slices.Sort(all)
	all = slices.DeleteFunc(slices.Compact(all), func(id fhir.ID) bool { return len(r.Patients) > 0 && !slices.Contains(r.Patients, id) })
	known := map[fhir.ID]bool{}
	reach, err := w.s.Engine.Outbound(ctx, g, fhir.SearchType, "Patient", "Group")
	if err != nil {
		return nil, err
	}
	seen, err := w.s.Records.Current(ctx, reach.Of("Patient"), all)
	if err != nil {
		return nil, err
	}
	for _, id := range all {
		if known[id] = len(seen[id]) > 0; known[id] && r.Level == Group {
			if known[id], err = w.member(ctx, g, reach, id); err != nil {
				return nil, err
			}
		}
	}
	return func(v record.Sealed) bool {
		return slices.ContainsFunc(of(v), func(p fhir.ID) bool { return known[p] })
	}, nil
}

// member reports whether a patient is a member of the Group, as far as the client sees that.
func (w *work) member(ctx context.Context, g authz.Grant, reach authz.Reach, patient fhir.ID) (bool, error) {
	opt, err := w.s.options(ctx, g, w.j.Transaction)
	if err != nil {
		return false, err
	}
	q, _, err := search.Parse("Group", url.Values{"_id": {string(w.c.Request.Group)}, "member": {"Patient/" + string(patient)}}, opt)
	if err != nil {
		return false, err
	}
	q.Count = 1
	page, err := w.s.Records.Search(ctx, reach, q)
	return len(page.Entries) > 0, err
}
