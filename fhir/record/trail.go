package record

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// Traces is a question for rows of the trail. What is nil leaves open.
type Traces struct {
	IDs         []string    // of events, UUIDs
	Moments     []time.Time // at one of which they were
	From, Until time.Time
	Patients    []fhir.ID
	Entities    []fhir.Ref
	Users       []string // fhirUser
	Outcomes    []string
	// Interactions are of accesses to records alone.
	Interactions []string
	EventsOnly   bool // accesses to records
	SecurityOnly bool // what concerns no record
	Oldest       bool // the oldest first
	Count        int
	After        *search.Cursor // the row behind which it begins
	Again        bool           // or with it
	// As is by which fact the reader may read records of the patient; 0 for who oversees access.
	As authz.Fact
}

// Trace is one row of the trail of which the reader may know, without the entities that she may not know to exist.
type Trace struct {
	Event    audit.Event
	Security *audit.Security // in place of Event
	Bare     bool            // the row names no records
	Holds    []authz.Fact    // for each entity, what holds between its record and the reader now
	// Parties are those of the users, organizations, patients and consents that may be known.
	Parties map[fhir.Ref]audit.Party
	// Patients are those among them, as an access record names them.
	Patients map[fhir.ID]audit.Entity
}

// At is the moment of the row.
func (t Trace) At() time.Time {
	if t.Security != nil {
		return t.Security.At
	}
	return t.Event.At
}

// ID is the UUID of the row.
func (t Trace) ID() string {
	if t.Security != nil {
		return t.Security.ID
	}
	return t.Event.ID
}

// User is who acted, or who it was done to.
func (t Trace) User() fhir.Ref {
	if t.Security != nil {
		return t.Security.User
	}
	return t.Event.Caller.User
}

func (t Trace) place() search.Cursor {
	return search.Cursor{Keys: []search.Key{{Text: t.At().UTC().Format(time.RFC3339Nano)}}, Type: trail, ID: fhir.ID(t.ID())}
}

const trail fhir.ResourceType = "AuditEvent"

// Trailed is one AuditEvent that the gate let out to the holder of one grant.
type Trailed struct {
	holder  authz.Grant
	id      fhir.ID
	at      time.Time
	node    *element.Node
	patient audit.Entity // whom it names, or zero
}

// Ref names it.
func (t Trailed) Ref() fhir.Ref { return fhir.Ref{Type: trail, ID: t.id} }

// Version is 1: nothing of the trail changes.
func (t Trailed) Version() fhir.VersionID { return 1 }

// Updated is when it was recorded.
func (t Trailed) Updated() time.Time { return t.at }

// Deleted is never: nothing of the trail is.
func (t Trailed) Deleted() bool { return false }

// Created is always.
func (t Trailed) Created() bool { return true }

// Posted is never: no client made it.
func (t Trailed) Posted() bool { return false }

// HeldBy reports whether t was released to the request of g.
func (t Trailed) HeldBy(g authz.Grant) bool { return t.holder.Same(g) }

// Confidentiality is restricted: it tells of accesses to records.
func (t Trailed) Confidentiality(Form) label.Confidentiality { return label.Confidentiality(0) }

// Scopes are none: an access record is no record of a program.
func (t Trailed) Scopes() []obligation.Scope { return nil }

// Render writes the AuditEvent.
func (t Trailed) Render(w io.Writer, _ Form) error {
	_, err := w.Write(t.node.AppendJSON(nil))
	return err
}

// TrailPage is one page of a search of the trail.
type TrailPage struct {
	Entries []Trailed
	More    bool
	Last    search.Cursor // the place of the last entry
}

// TrailSearch is a search of the trail: what is read of it, and what is then asked of
// each AuditEvent, as the reader gets it.
type TrailSearch struct {
	Traces
	Matches func(*element.Node) bool // nil: all do
	// plain has each access told in a sentence, and decisions with it.
	plain bool
}

// matches asks of an AuditEvent what the question for rows asked of its row, which may hold
// more than is told of it, and what is asked beside.
func (q TrailSearch) matches(n *element.Node) bool {
	if q.Patients != nil {
		refs := make([]fhir.Ref, len(q.Patients))
		for i, id := range q.Patients {
			refs[i] = fhir.Ref{Type: "Patient", ID: id}
		}
		if !Names(n, "entity", refs) {
			return false
		}
	}
	return (q.Entities == nil || Names(n, "entity", q.Entities)) && (q.Matches == nil || q.Matches(n))
}

// Names reports whether an AuditEvent names one of these among its entities or agents, in whatever version.
func Names(n *element.Node, list string, refs []fhir.Ref) bool {
	what := "what"
	if list == "agent" {
		what = "who"
	}
	return slices.ContainsFunc(n.Get(list).List(), func(x *element.Node) bool {
		text, _, _ := strings.Cut(x.Get(what).Get("reference").String(), "/_history/")
		r, ok := fhir.ParseRef(text)
		return ok && slices.Contains(refs, r)
	})
}

// Search releases a page of the audit trail to who oversees access. An AuditEvent
// names records: none that the reader may not know to exist is in one, nor counts for any
// parameter, and an access to nothing but such records is not there (P21, L43).
// The question is recorded before it is answered, with the patients that the answer names.
func (g *Gate) Search(ctx context.Context, gr authz.Grant, q TrailSearch) (TrailPage, error) {
	if _, err := g.decider.Trail(gr, gr.Interaction()); err != nil {
		return TrailPage{}, err
	}
	if g.ledger == nil || q.Count <= 0 {
		return TrailPage{}, authz.ErrDenied
	}
	read, err := g.decider.Extend(gr, fhir.Read, "Consent")
	if err != nil {
		return TrailPage{}, err
	}
	reach, err := g.reach(ctx, read, fhir.Read, fhir.ResourceTypes())
	if err != nil {
		return TrailPage{}, err
	}
	q.As = 0
	page, err := g.traced(ctx, reach, gr, q)
	if err != nil {
		return TrailPage{}, err
	}
	if err := g.recordTrail(ctx, gr, page); err != nil {
		return TrailPage{}, err
	}
	return page, nil
}

// recordTrail records who read the trail, and about whom.
func (g *Gate) recordTrail(ctx context.Context, gr authz.Grant, page TrailPage) error {
	ev := g.event(gr, trail, audit.Success)
	for _, x := range page.Entries {
		if x.patient.Ref.ID != "" && !slices.ContainsFunc(ev.Entities, func(e audit.Entity) bool { return e.Ref == x.patient.Ref }) {
			ev.Entities = append(ev.Entities, x.patient)
		}
	}
	return g.record(ctx, ev)
}

// traced collects a page: each row is told in parts, in the order of their ids, and a page may
// begin behind any of them.
func (g *Gate) traced(ctx context.Context, reach authz.Reach, gr authz.Grant, q TrailSearch) (out TrailPage, err error) {
	t := teller{gate: g, gr: reach.Grant(), reach: reach, as: q.As, known: map[cell]bool{}, plain: q.plain}
	count, from := q.Count, fhir.ID("")
	if q.After != nil { // the place is an AuditEvent: its row is read again
		row, at, ok := audit.EventOf(string(q.After.ID))
		if !ok {
			return out, outcome.New(outcome.Invalid, "this page link is not valid here: start the search again")
		}
		from = q.After.ID
		q.After, q.Again = &search.Cursor{Keys: []search.Key{{Text: at.Format(time.RFC3339Nano)}}, Type: trail, ID: fhir.ID(row)}, true
	}
	q.Traces.Count = max(count, ledgerBatch)
	if q.Matches == nil && q.Entities == nil { // each row has an AuditEvent on the page, but the one within which it begins
		q.Traces.Count = count + 2
	}
	for {
		rows, err := g.ledger.Trail(ctx, reach, q.Traces)
		if err != nil {
			return out, err
		}
		for _, row := range rows {
			place := row.place()
			q.After, q.Again = &place, false
			parts, err := t.tell(ctx, row)
			if err != nil {
				return out, err
			}
			for _, p := range parts {
				if from != "" && row.ID() == string(from[:len(row.ID())]) && p.id <= from {
					continue
				}
				if !q.matches(p.node) {
					continue
				}
				if len(out.Entries) == count {
					out.More = true
					return out, nil
				}
				p.holder = gr
				out.Entries = append(out.Entries, p)
				out.Last = search.Cursor{Keys: []search.Key{{Text: p.at.UTC().Format(time.RFC3339Nano)}}, Type: trail, ID: p.id}
			}
		}
		if len(rows) < q.Traces.Count {
			return out, nil
		}
	}
}

// PersonalRoles are those of patients and of who stands for them: that somebody acts in
// one of them is part of what may be known of a patient. The caller owns the slice.
func PersonalRoles() []string { return []string{rolePatient, roleRepresentative} }

// teller makes of rows what one reader may know of them.
type teller struct {
	gate  *Gate
	gr    authz.Grant
	reach authz.Reach
	as    authz.Fact
	known map[cell]bool
	plain bool
}

// tell makes the AuditEvents of a row.
func (t *teller) tell(ctx context.Context, row Trace) (out []Trailed, err error) {
	withheld, hidden := t.agent(row)
	if hidden {
		return nil, nil
	}
	if s := row.Security; s != nil {
		one := *s
		if withheld {
			one.User = fhir.Ref{}
		}
		one.ID = audit.PartID(s.ID, s.At, "", false)
		return []Trailed{{id: fhir.ID(one.ID), at: s.At, node: audit.RenderSecurity(one)}}, nil
	}
	whole := t.whole(row, withheld)
	entities, err := t.entities(ctx, row)
	if err != nil || !row.Bare && len(entities) == 0 {
		return nil, err
	}
	var patients []fhir.ID
	for _, x := range entities {
		if !slices.Contains(patients, x.Patient) {
			patients = append(patients, x.Patient)
		}
	}
	if patients == nil {
		patients = append(patients, "")
	}
	for _, p := range patients {
		part := whole
		part.Patient, part.Event.Entities, part.ID = p, nil, audit.PartID(row.Event.ID, row.Event.At, p, false)
		for _, x := range entities {
			if x.Patient != p {
				continue
			}
			part.Event.Entities = append(part.Event.Entities, x)
			for _, id := range x.Consents {
				if _, ok := row.Parties[fhir.Ref{Type: "Consent", ID: id}]; ok && !slices.Contains(part.Consents, id) {
					part.Consents = append(slices.Clone(part.Consents), id)
				}
			}
		}
		slices.Sort(part.Consents)
		if t.plain {
			one := row.trailed(part)
			one.node = part.Narrated(t.as == authz.Self)
			out = append(out, one)
			continue
		}
		out = append(out, row.trailed(part))
		if p != "" && len(part.Consents) > 0 {
			part.Decision, part.ID = true, audit.PartID(row.Event.ID, row.Event.At, p, true)
			out = append(out, row.trailed(part))
		}
	}
	slices.SortFunc(out, func(a, b Trailed) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return out, nil
}

func (t Trace) trailed(part audit.Told) Trailed {
	return Trailed{id: fhir.ID(part.ID), at: part.Event.At, node: part.Render(), patient: t.Patients[part.Patient]}
}

// whole is what may be told of a row apart from records.
func (t *teller) whole(row Trace, withheld bool) audit.Told {
	out := audit.Told{Event: row.Event, Withheld: withheld, Name: row.Parties[row.User()].Name}
	for _, o := range row.Event.Caller.Organizations {
		if p, ok := row.Parties[fhir.Ref{Type: "Organization", ID: fhir.ID(o)}]; ok {
			out.Of = append(out.Of, p)
		}
	}
	return out
}

// agent says whether who acted may not be known, and whether then nothing may: that
// somebody is a patient, or stands for one, shows in whatever she did.
func (t *teller) agent(row Trace) (withheld, hidden bool) {
	u := row.User()
	_, seen := row.Parties[u]
	seen = seen || u == t.gr.Caller().User
	roles := row.Event.Caller.Roles
	personal := u.Type == "Patient" || u.Type == "RelatedPerson" || slices.ContainsFunc(PersonalRoles(), func(r string) bool { return slices.Contains(roles, r) })
	switch {
	case personal:
		return !seen, !seen
	case u.ID == "", u.Type == "Person" && row.Security != nil:
		return false, false
	}
	return !seen, false
}

// entities are those of a row that the reader may know to exist: the labels that each had
// then are decided on, beside the record as it is now.
func (t *teller) entities(ctx context.Context, row Trace) (out []audit.Entity, err error) {
	for i, x := range row.Event.Entities {
		if x.Labels.Any(label.Notes) || i >= len(row.Holds) {
			continue
		}
		ok, err := t.knows(ctx, x.Ref.Type, x, row.Holds[i])
		if !ok && err == nil && t.as == 0 {
			ok, err = t.knows(ctx, "Consent", x, row.Holds[i])
		}
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, x)
		}
	}
	return out, nil
}

func (t *teller) knows(ctx context.Context, typ fhir.ResourceType, x audit.Entity, facts authz.Fact) (bool, error) {
	what := cell{typ, x.Labels, facts}
	if ok, decided := t.known[what]; decided {
		return ok, nil
	}
	d, err := t.gate.decider.Decide(ctx, t.gr, fhir.Read, authz.Resource{Type: typ, Labels: x.Labels, Facts: facts, Patient: x.Patient})
	if err != nil {
		return false, err
	}
	t.known[what] = d.Permit
	return d.Permit, nil
}
