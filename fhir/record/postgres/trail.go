package postgres

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// Trail reads both tables of the trail in one order of time, and leaves out of each row
// what the holder of the reach may not know to exist.
func (s *Store) Trail(ctx context.Context, reach authz.Reach, q record.Traces) ([]record.Trace, error) {
	if !reach.Grant().Valid() || q.Count <= 0 {
		return nil, authz.ErrDenied
	}
	sought, err := s.seek(ctx, reach, q)
	if err != nil {
		return nil, err
	}
	var out []record.Trace
	if !q.SecurityOnly && sought.events {
		events, err := s.tracedEvents(ctx, reach.Grant(), q, sought)
		if err != nil {
			return nil, err
		}
		out = append(out, events...)
	}
	if !q.EventsOnly && sought.security {
		events, err := s.tracedSecurity(ctx, reach.Grant(), q, sought)
		if err != nil {
			return nil, err
		}
		out = append(out, events...)
	}
	slices.SortFunc(out, func(a, b record.Trace) int {
		c := cmp.Or(a.At().Compare(b.At()), strings.Compare(a.ID(), b.ID()))
		if !q.Oldest {
			c = -c
		}
		return c
	})
	if len(out) > q.Count {
		out = out[:q.Count]
	}
	return out, s.tell(ctx, reach, q, out)
}

// traced writes what the questions for both tables have in common.
func traced(x *statement, q record.Traces) {
	if !q.From.IsZero() {
		x.WriteString(" AND e.at >= " + x.arg(q.From))
	}
	if !q.Until.IsZero() {
		x.WriteString(" AND e.at < " + x.arg(q.Until))
	}
	if q.IDs != nil {
		x.WriteString(" AND e.id = ANY (" + x.arg(q.IDs) + "::text[]::uuid[])")
	}
	if q.Moments != nil {
		x.WriteString(" AND e.at = ANY (" + x.arg(q.Moments) + "::timestamptz[])")
	}
	if q.Outcomes != nil {
		x.WriteString(" AND e.outcome = ANY (" + x.arg(q.Outcomes) + "::text[])")
	}
}

// placed writes where a page begins, the order and the length.
func placed(x *statement, q record.Traces) {
	order, than := " DESC", "<"
	if q.Oldest {
		order, than = "", ">"
	}
	if q.After != nil && len(q.After.Keys) == 1 {
		if q.Again {
			than += "="
		}
		x.WriteString(" AND (e.at, e.id) " + than + " (" + x.arg(q.After.Keys[0].Text) + "::text::timestamptz, " + x.arg(string(q.After.ID)) + "::text::uuid)")
	}
	x.WriteString(" ORDER BY e.at" + order + ", e.id" + order + " LIMIT " + x.arg(q.Count))
}

func (s *Store) tracedEvents(ctx context.Context, g authz.Grant, q record.Traces, sought sought) (out []record.Trace, err error) {
	var x statement
	x.WriteString("SELECT e.at, e.id::text, e.outcome, e.interaction, e.type, e.subject, e.client, e.fhir_user, e.roles, e.purpose, e.policy, e.request, e.organizations, e.entities, e.labels, e.facts, e.consents, e.patients, e.sessions" +
		" FROM audit.event e WHERE e.tenant = " + x.arg(g.Caller().Tenant))
	traced(&x, q)
	if q.Patients != nil {
		x.WriteString(" AND e.patients && " + x.arg(sought.patients) + "::text[]")
	}
	if q.Users != nil {
		x.WriteString(" AND e.fhir_user = ANY (" + x.arg(sought.users) + "::text[])")
	}
	if q.Interactions != nil {
		x.WriteString(" AND e.interaction = ANY (" + x.arg(q.Interactions) + "::text[])")
	}
	if q.Entities != nil { // there is an index of patients alone
		x.WriteString(" AND e.patients && " + x.arg(sought.owners) + "::text[]")
	}
	placed(&x, q)
	var at time.Time
	var id, result, interaction, typ, subject, client, user, purpose, policy, request string
	var roles, organizations, entities, consents, patients, sessions []string
	var labels, facts []int32
	err = forEach(ctx, s.side, x.String(), x.args, []any{&at, &id, &result, &interaction, &typ, &subject, &client, &user, &roles, &purpose, &policy, &request, &organizations, &entities, &labels, &facts, &consents, &patients, &sessions}, func() error {
		ev := audit.Event{
			ID: id, At: at.UTC(), Interaction: fhir.Interaction(interaction), Type: fhir.ResourceType(typ), Outcome: audit.Outcome(result),
			Caller: authz.Caller{
				Tenant: g.Caller().Tenant, Subject: subject, Client: client, Roles: slices.Clone(roles), Purpose: purpose,
				Organizations: slices.Clone(organizations), PolicyVersion: policy, RequestID: request,
			},
		}
		ev.Caller.User, _ = fhir.ParseRef(user)
		for i := range entities {
			if x, ok := tracedEntity(i, entities, patients, sessions, consents, labels, facts); ok {
				ev.Entities = append(ev.Entities, x)
			}
		}
		if len(entities) == 0 {
			ev.Acts = slices.Clone(sessions)
		}
		out = append(out, record.Trace{Event: ev, Had: len(entities)})
		return nil
	})
	return out, failed(err)
}

// tracedEntity reads one entity of a row whose columns are parallel.
func tracedEntity(i int, entities, patients, sessions, consents []string, labels, facts []int32) (x audit.Entity, ok bool) {
	if i >= len(labels) || i >= len(patients) {
		return x, false
	}
	ref, version, _ := strings.Cut(entities[i], "/_history/")
	if x.Ref, ok = fhir.ParseRef(ref); !ok {
		return x, false
	}
	x.Version, _ = fhir.ParseVersionID(version)
	x.Labels, x.Patient = label.Set(labels[i]), fhir.ID(patients[i])
	if i < len(facts) {
		x.Facts = authz.Fact(facts[i])
	}
	if i < len(consents) {
		x.Consents = consentIDs(consents[i])
	}
	if i < len(sessions) {
		x.Session = sessions[i]
	}
	return x, true
}

func (s *Store) tracedSecurity(ctx context.Context, g authz.Grant, q record.Traces, sought sought) (out []record.Trace, err error) {
	var x statement
	x.WriteString("SELECT e.at, e.id::text, e.kind, e.outcome, e.reason, e.account, e.fhir_user, e.actor, e.client, e.session, e.methods, e.address FROM audit.security e WHERE e.tenant = " + x.arg(g.Caller().Tenant))
	traced(&x, q)
	if q.Users != nil {
		x.WriteString(" AND e.fhir_user = ANY (" + x.arg(sought.users) + "::text[])")
	}
	placed(&x, q)
	var e audit.Security
	var user, from string
	err = forEach(ctx, s.side, x.String(), x.args, []any{&e.At, &e.ID, &e.Kind, &e.Outcome, &e.Reason, &e.Account, &user, &e.By, &e.Client, &e.Session, &e.Methods, &from}, func() error {
		one := e
		one.Tenant, one.At, one.Methods = g.Caller().Tenant, e.At.UTC(), slices.Clone(e.Methods)
		one.User, _ = fhir.ParseRef(user)
		one.Address, _ = netip.ParseAddr(from)
		out = append(out, record.Trace{Security: &one})
		return nil
	})
	return out, failed(err)
}

// tell leaves out the entities that the holder of the reach may not know, and names who and what she may.
func (s *Store) tell(ctx context.Context, reach authz.Reach, q record.Traces, in []record.Trace) error {
	asked, records := parties{}, parties{}
	for _, t := range in {
		if u := t.User(); u.ID != "" {
			asked.add(u.Type, string(u.ID))
		}
		for _, o := range t.Event.Caller.Organizations {
			asked.add("Organization", o)
		}
		for _, x := range t.Event.Entities {
			if x.Labels.Any(label.Notes) {
				continue
			}
			records.add(x.Ref.Type, string(x.Ref.ID))
			if x.Patient != "" {
				asked.add("Patient", string(x.Patient))
			}
			for _, id := range x.Consents {
				asked.add("Consent", string(id))
			}
		}
	}
	seen, err := s.seenParties(ctx, reach, asked)
	if err != nil {
		return err
	}
	known, err := s.knownRecords(ctx, reach, q.As, records, owners)
	if err != nil {
		return err
	}
	for i := range in {
		t := &in[i]
		t.Parties, t.Patients = map[fhir.Ref]audit.Party{}, map[fhir.ID]audit.Entity{}
		name := func(r fhir.Ref) {
			p, ok := seen[r]
			if !ok {
				return
			}
			t.Parties[r] = p.Party
			if r.Type == "Patient" {
				t.Patients[r.ID] = audit.Entity{Ref: r, Version: p.version, Labels: p.labels, Patient: r.ID}
			}
		}
		name(t.User())
		for _, o := range t.Event.Caller.Organizations {
			name(fhir.Ref{Type: "Organization", ID: fhir.ID(o)})
		}
		kept := t.Event.Entities[:0]
		for _, x := range t.Event.Entities {
			if x.Labels.Any(label.Notes) {
				continue
			}
			patient := fhir.Ref{Type: "Patient", ID: x.Patient}
			if _, ok := seen[patient]; x.Patient != "" && !ok {
				continue
			}
			facts, ok := known.of(x)
			if !ok {
				continue
			}
			name(patient)
			for _, id := range x.Consents {
				name(fhir.Ref{Type: "Consent", ID: id})
			}
			kept, t.Holds = append(kept, x), append(t.Holds, facts)
		}
		t.Event.Entities = kept
	}
	return nil
}
