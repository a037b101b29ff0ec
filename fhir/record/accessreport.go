package record

import (
	"context"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// AccessReport releases a page of who saw and changed what of a patient's records, when and
// why, each told in a sentence: to her, to who stands for her, and to who oversees access.
// The patient was read under gr. The question itself is recorded first. What
// the caller may not know to exist is not in the answer (P21, L43).
func (g *Gate) AccessReport(ctx context.Context, gr authz.Grant, patient Sealed, q Traces) (TrailPage, error) {
	h, c := vault.Head(patient), gr.Caller()
	read, err := g.decider.Extend(gr, fhir.Read, h.Ref.Type)
	if err != nil {
		return TrailPage{}, err
	}
	if !MayAccount(c) || h.Ref.Type != "Patient" || g.ledger == nil || q.Count <= 0 {
		return TrailPage{}, authz.ErrDenied
	}
	as, ok := asking(c, h.Facts)
	if !ok {
		return TrailPage{}, authz.ErrDenied
	}
	if err := g.permitted(ctx, read, patient); err != nil {
		return TrailPage{}, err
	}
	ev := g.event(gr, trail, audit.Success)
	ev.Entities = append(ev.Entities, entity(h))
	if err := g.record(ctx, ev); err != nil {
		return TrailPage{}, err
	}
	reach, err := g.reach(ctx, read, fhir.Read, fhir.ResourceTypes())
	if err != nil {
		return TrailPage{}, err
	}
	q.As, q.Patients, q.EventsOnly, q.Outcomes = as, []fhir.ID{h.Ref.ID}, true, []string{string(audit.Success)}
	return g.traced(ctx, reach, gr, TrailSearch{Traces: q, plain: true})
}
