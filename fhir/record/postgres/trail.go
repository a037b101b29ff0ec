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

// Trail reads both tables of the trail in one order of time: of the rows of which the holder of the reach
// may know something, what she may know to exist.
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
		events, err := s.tracedEvents(ctx, reach, q, sought)
		if err != nil {
			return nil, err
		}
		out = append(out, events...)
	}
	if !q.EventsOnly && sought.security {
		events, err := s.tracedSecurity(ctx, reach, q, sought)
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
	return out, s.name(ctx, reach, out)
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

// placed writes where a page begins, its order and its length.
func placed(x *statement, q record.Traces) {
	than := "<"
	if q.Oldest {
		than = ">"
	}
	if q.After != nil && len(q.After.Keys) == 1 {
		if q.Again {
			than += "="
		}
		x.WriteString(" AND (e.at, e.id) " + than + " (" + x.arg(q.After.Keys[0].Text) + "::text::timestamptz, " + x.arg(string(q.After.ID)) + "::text::uuid)")
	}
	ordered(x, q.Oldest)
	x.WriteString(" LIMIT " + x.arg(q.Count))
}

func ordered(x *statement, oldest bool) {
	order := " DESC"
	if oldest {
		order = ""
	}
	x.WriteString(" ORDER BY e.at" + order + ", e.id" + order)
}

func (s *Store) tracedEvents(ctx context.Context, reach authz.Reach, q record.Traces, sought sought) (out []record.Trace, err error) {
	var x statement
	j := s.judge(&x, reach, q.As)
	tenant := reach.Grant().Caller().Tenant
	x.WriteString("SELECT e.at, e.id::text, e.outcome, e.interaction, e.type, e.subject, e.client, e.fhir_user, e.roles, e.purpose, e.policy, e.request, e.organizations," +
		" cardinality(e.entities) = 0, CASE WHEN cardinality(e.entities) = 0 THEN e.sessions ELSE k.sessions END, k.n, k.entities, k.labels, k.facts, k.consents, k.patients, k.holds FROM ")
	asked := ""
	switch {
	case q.Patients != nil:
		asked = x.arg(sought.patients)
	case q.Entities != nil: // there is an index of patients alone
		asked = x.arg(sought.owners)
	}
	rows := func() {
		x.WriteString(" WHERE e.tenant = " + j.x.tenant)
		traced(&x, q)
		if q.Users != nil {
			x.WriteString(" AND e.fhir_user = ANY (" + x.arg(sought.users) + "::text[])")
		}
		if q.Interactions != nil {
			x.WriteString(" AND e.interaction = ANY (" + x.arg(q.Interactions) + "::text[])")
		}
	}
	if asked == "" {
		x.WriteString("audit.event e")
		j.told("")
		rows()
		x.WriteString(" AND (cardinality(e.entities) = 0 OR k.entities IS NOT NULL)")
	} else { // rows are found by their patients and put in order, and then judged until the page is full
		x.WriteString("(SELECT e.* FROM audit.event e")
		rows()
		x.WriteString(" AND e.patients && " + asked + "::text[]")
		ordered(&x, q.Oldest)
		x.WriteString(" OFFSET 0) AS e")
		j.told(asked)
		x.WriteString(" WHERE k.sought")
	}
	if q.Patients != nil && q.Entities != nil {
		x.WriteString(" AND k.patients && " + x.arg(sought.owners) + "::text[]")
	}
	x.WriteString(" AND " + j.agent(record.PersonalRoles()))
	placed(&x, q)
	var at time.Time
	var id, result, interaction, typ, subject, client, user, purpose, policy, request string
	var of trailed
	var bare bool
	var roles, organizations []string
	err = forEach(ctx, s.side, x.String(), x.args, []any{&at, &id, &result, &interaction, &typ, &subject, &client, &user, &roles, &purpose, &policy, &request, &organizations,
		&bare, &of.sessions, &of.n, &of.entities, &of.labels, &of.facts, &of.consents, &of.patients, &of.holds}, func() error {
		ev := audit.Event{
			ID: id, At: at.UTC(), Interaction: fhir.Interaction(interaction), Type: fhir.ResourceType(typ), Outcome: audit.Outcome(result),
			Caller: authz.Caller{
				Tenant: tenant, Subject: subject, Client: client, Roles: slices.Clone(roles), Purpose: purpose,
				Organizations: slices.Clone(organizations), PolicyVersion: policy, RequestID: request,
			},
		}
		ev.Caller.User, _ = fhir.ParseRef(user)
		t := record.Trace{Event: ev, Bare: bare}
		if bare {
			t.Event.Acts = slices.Clone(of.sessions)
		} else {
			t.Event.Entities, t.Holds = of.read(q.As)
		}
		out = append(out, t)
		return nil
	})
	return out, failed(err)
}

// trailed are the entities of a row as columns that are parallel, in no order.
type trailed struct {
	n                                      []int64 // the place of each in the row
	entities, sessions, consents, patients []string
	labels, facts, holds                   []int32
}

// read gives them in the order of the row, and what holds between each and a reader who reads by as.
func (t *trailed) read(as authz.Fact) ([]audit.Entity, []authz.Fact) {
	order := make([]int, len(t.n))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(t.n[a], t.n[b]) })
	entities, holds := make([]audit.Entity, 0, len(order)), make([]authz.Fact, 0, len(order))
	for _, i := range order {
		text, version, _ := strings.Cut(t.entities[i], "/_history/")
		ref, ok := fhir.ParseRef(text)
		if !ok {
			continue
		}
		x := audit.Entity{Ref: ref, Labels: label.Set(t.labels[i]), Patient: fhir.ID(t.patients[i]), Facts: authz.Fact(t.facts[i]), Consents: consentIDs(t.consents[i]), Session: t.sessions[i]}
		x.Version, _ = fhir.ParseVersionID(version)
		entities, holds = append(entities, x), append(holds, authz.Fact(t.holds[i])|authz.Unrestricted|as)
	}
	return entities, holds
}

func (s *Store) tracedSecurity(ctx context.Context, reach authz.Reach, q record.Traces, sought sought) (out []record.Trace, err error) {
	var x statement
	j, tenant := s.judge(&x, reach, q.As), reach.Grant().Caller().Tenant
	x.WriteString("SELECT e.at, e.id::text, e.kind, e.outcome, e.reason, e.account, e.fhir_user, e.actor, e.client, e.session, e.methods, e.address FROM audit.security e WHERE e.tenant = " + j.x.tenant)
	traced(&x, q)
	if q.Users != nil {
		x.WriteString(" AND e.fhir_user = ANY (" + x.arg(sought.users) + "::text[])")
	}
	x.WriteString(" AND " + j.agent(nil))
	placed(&x, q)
	var e audit.Security
	var user, from string
	err = forEach(ctx, s.side, x.String(), x.args, []any{&e.At, &e.ID, &e.Kind, &e.Outcome, &e.Reason, &e.Account, &user, &e.By, &e.Client, &e.Session, &e.Methods, &from}, func() error {
		one := e
		one.Tenant, one.At, one.Methods = tenant, e.At.UTC(), slices.Clone(e.Methods)
		one.User, _ = fhir.ParseRef(user)
		one.Address, _ = netip.ParseAddr(from)
		out = append(out, record.Trace{Security: &one})
		return nil
	})
	return out, failed(err)
}

// name names who and what the holder of the reach may know of rows that she may know of.
func (s *Store) name(ctx context.Context, reach authz.Reach, in []record.Trace) error {
	asked := parties{}
	for _, t := range in {
		if u := t.User(); u.ID != "" {
			asked.add(u.Type, string(u.ID))
		}
		for _, o := range t.Event.Caller.Organizations {
			asked.add("Organization", o)
		}
		for _, x := range t.Event.Entities {
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
		entities, holds := t.Event.Entities[:0], t.Holds[:0]
		for n, x := range t.Event.Entities {
			patient := fhir.Ref{Type: "Patient", ID: x.Patient}
			if _, ok := seen[patient]; x.Patient != "" && !ok {
				continue // she was hidden in between
			}
			name(patient)
			for _, id := range x.Consents {
				name(fhir.Ref{Type: "Consent", ID: id})
			}
			entities, holds = append(entities, x), append(holds, t.Holds[n])
		}
		t.Event.Entities, t.Holds = entities, holds
	}
	return nil
}
