package record

import (
	"context"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/audit/anomaly"
	"github.com/cloister-health/cloister/fhir"
)

// Anomalous is a question for what is out of the ordinary in the accesses of some time.
type Anomalous struct {
	From, Until time.Time
	Before      time.Duration // of history with which it is compared
	VIPs        []fhir.ID     // patients beside those whose meta.tag says so
	Rules       anomaly.Rules
}

// Anomalies are findings that the gate let out to the holder of one grant.
type Anomalies struct {
	holder   authz.Grant
	findings []anomaly.Finding
}

// HeldBy reports whether a was released to the request of g.
func (a Anomalies) HeldBy(g authz.Grant) bool { return a.holder.Same(g) }

// Findings are the findings, in their order. The caller owns the slice.
func (a Anomalies) Findings() []anomaly.Finding { return slices.Clone(a.findings) }

// anomalyBatch is how many rows of the trail are read at a time.
const anomalyBatch = 1000

// Anomalies finds, for who oversees access, what is out of the ordinary among the accesses
// that she may know of, and nothing that depends on any other. The question is recorded
// first, and then whom the answer names.
func (g *Gate) Anomalies(ctx context.Context, gr authz.Grant, q Anomalous) (Anomalies, error) {
	tr, err := g.decider.Trail(gr, fhir.SearchType)
	if err != nil {
		return Anomalies{}, err
	}
	if g.ledger == nil || !q.From.Before(q.Until) || q.Rules.Hours.Zone == nil {
		return Anomalies{}, authz.ErrDenied
	}
	read, err := g.decider.Extend(tr, fhir.Read, "Consent")
	if err != nil {
		return Anomalies{}, err
	}
	reach, err := g.reach(ctx, read, fhir.Read, fhir.ResourceTypes())
	if err != nil {
		return Anomalies{}, err
	}
	h := anomaly.History{From: q.From, Until: q.Until}
	patients := map[fhir.ID]audit.Entity{}
	if h.Accesses, err = g.accesses(ctx, reach, q, patients); err != nil {
		return Anomalies{}, err
	}
	if h.People, err = g.ledger.People(ctx, reach, h.Accesses); err != nil {
		return Anomalies{}, err
	}
	for _, id := range q.VIPs {
		ref := fhir.Ref{Type: "Patient", ID: id}
		if p, known := h.People[ref]; known {
			p.VIP = true
			h.People[ref] = p
		}
	}
	if h.Emergencies, err = g.ledger.Sessions(ctx, reach); err != nil {
		return Anomalies{}, err
	}
	out := Anomalies{gr, anomaly.Find(h, q.Rules)}
	ev := g.event(tr, trail, audit.Success)
	for _, f := range out.findings {
		if x, ok := patients[fhir.ID(f.Patient)]; ok && !slices.ContainsFunc(ev.Entities, func(e audit.Entity) bool { return e.Ref == x.Ref }) {
			ev.Entities = append(ev.Entities, x)
		}
	}
	return out, g.record(ctx, ev)
}

// accesses are those of people to records that may be known, one for each patient.
func (g *Gate) accesses(ctx context.Context, reach authz.Reach, q Anomalous, patients map[fhir.ID]audit.Entity) (out []anomaly.Access, err error) {
	t := teller{gate: g, gr: reach.Grant(), reach: reach, known: map[cell]bool{}}
	rows := Traces{From: q.From.Add(-q.Before), Until: q.Until, Outcomes: []string{string(audit.Success)}, EventsOnly: true, Oldest: true, Count: anomalyBatch}
	for {
		found, err := g.ledger.Trail(ctx, reach, rows)
		if err != nil {
			return nil, err
		}
		for _, row := range found {
			place := row.place()
			rows.After = &place
			e := row.Event
			withheld, hidden := t.agent(row)
			if withheld || hidden || e.Caller.User.ID == "" || e.Type == trail {
				continue
			}
			entities, err := t.entities(ctx, row)
			if err != nil {
				return nil, err
			}
			of := map[fhir.ID]*anomaly.Access{}
			var order []fhir.ID
			for _, x := range entities {
				if x.Patient == "" {
					continue
				}
				a := of[x.Patient]
				if a == nil {
					a = &anomaly.Access{
						Event: audit.PartID(e.ID, e.At, x.Patient, false), At: e.At, User: e.Caller.User, Patient: x.Patient,
						Within: authz.RecipientOf(e.Caller.Roles) == authz.Workforce,
						// What facts a change rests on is not recorded; whoever changes a record has read it.
						Treating: audit.Action(e.Interaction) != "R" && e.Interaction != fhir.SearchType && e.Interaction != fhir.SearchSystem,
					}
					of[x.Patient] = a
					order = append(order, x.Patient)
					patients[x.Patient] = row.Patients[x.Patient]
				}
				a.Treating = a.Treating || x.Facts&(authz.Treating|authz.Supervising) != 0
				a.Session = a.Session || x.Session != ""
			}
			for _, p := range order {
				out = append(out, *of[p])
			}
		}
		if len(found) < rows.Count {
			return out, nil
		}
	}
}
