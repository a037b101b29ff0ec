package postgres

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
)

// disclosing are the interactions in which something is read.
var disclosing = []string{
	string(fhir.Read), string(fhir.VRead), string(fhir.HistoryInstance), string(fhir.HistoryType), string(fhir.HistorySystem), string(fhir.SearchType), string(fhir.SearchSystem),
}

// Disclosures reads the ledger by patient, as far as the holder of the reach may know of it: what the practice's own workforce, the
// patient and her representatives read without a consent, an emergency or an agreement is left
// out, because it is no disclosure.
func (s *Store) Disclosures(ctx context.Context, reach authz.Reach, q record.Accounting) ([]record.Access, error) {
	g := reach.Grant()
	if !g.Valid() {
		return nil, authz.ErrDenied
	}
	var x statement
	j := s.judge(&x, reach, q.As)
	patient := x.arg(string(q.Patient))
	since := q.Since
	if q.ConsentedSince.Before(since) || q.Consented {
		since = q.ConsentedSince
	}
	special := x.arg(int32(authz.Emergency | authz.Agreement))
	x.WriteString("SELECT e.at, e.id::text, e.interaction, e.type, e.subject, e.client, e.fhir_user, e.roles, e.purpose, e.organizations, k.n, k.entities, k.labels, k.facts, k.sessions, k.holds, k.consents, k.patients FROM (SELECT e.* FROM audit.event e")
	outside := "(NOT e.roles <@ " + x.arg(authz.WithinRoles()) + "::text[] OR cardinality(e.roles) <> 1"
	x.WriteString(" WHERE e.tenant = " + j.x.tenant + " AND e.patients @> ARRAY[" + patient + "::text] AND e.outcome = '0' AND e.interaction = ANY (" + x.arg(disclosing) + "::text[])" +
		" AND e.at >= " + x.arg(since) + " AND e.at < " + x.arg(q.Until) +
		" AND " + outside + " OR EXISTS (SELECT FROM unnest(e.consents) AS c(c) WHERE c.c <> '') OR EXISTS (SELECT FROM unnest(e.facts) AS f(f) WHERE f.f & " + special + " <> 0))")
	ordered(&x, false)
	x.WriteString(" OFFSET 0) AS e")
	j.accounted(patient, special)
	x.WriteString(" WHERE k.n IS NOT NULL AND " + outside + " OR k.special)")
	if q.After != nil && len(q.After.Keys) == 1 {
		x.WriteString(" AND (e.at, e.id) < (" + x.arg(q.After.Keys[0].Text) + "::text::timestamptz, " + x.arg(string(q.After.ID)) + "::text::uuid)")
	}
	x.WriteString(" ORDER BY e.at DESC, e.id DESC LIMIT " + x.arg(q.Count))

	var out []record.Access
	var at time.Time
	var id, interaction, typ, subject, client, user, purpose string
	var roles, organizations []string
	var of trailed
	err := forEach(ctx, s.app, x.String(), x.args, []any{&at, &id, &interaction, &typ, &subject, &client, &user, &roles, &purpose, &organizations,
		&of.n, &of.entities, &of.labels, &of.facts, &of.sessions, &of.holds, &of.consents, &of.patients}, func() error {
		ev := audit.Event{
			ID: id, At: at.UTC(), Interaction: fhir.Interaction(interaction), Type: fhir.ResourceType(typ), Outcome: audit.Success,
			Caller: authz.Caller{Tenant: g.Caller().Tenant, Subject: subject, Client: client, Roles: slices.Clone(roles), Purpose: purpose, Organizations: slices.Clone(organizations)},
		}
		ev.Caller.User, _ = fhir.ParseRef(user) // "" for a caller who is no user
		ev.Entities, _ = of.read(q.As)
		out = append(out, record.Access{Event: ev})
		return nil
	})
	if err != nil {
		return nil, failed(err)
	}
	return out, s.nameParties(ctx, reach, out)
}

// consentIDs is the inverse of [joined].
func consentIDs(text string) (out []fhir.ID) {
	for _, s := range strings.Fields(text) {
		if r, ok := fhir.ParseRef(s); ok {
			out = append(out, r.ID)
		}
	}
	return out
}

// partyNames are the expressions of the names of those who can receive something.
var partyNames = map[fhir.ResourceType]string{
	"Organization":  "r.body->>'name'",
	"Practitioner":  humanName,
	"Patient":       humanName,
	"RelatedPerson": humanName,
}

const humanName = "COALESCE(r.body#>>'{name,0,text}', NULLIF(concat_ws(' ', r.body#>>'{name,0,given,0}', r.body#>>'{name,0,family}'), ''))"

// partyAddress is the address at work of those who can receive something: where
// somebody lives is in no accounting.
const partyAddress = `jsonb_path_query_first(r.body, '$.address[*] ? ((!exists(@.use) || @.use == "work") && !exists(@.period.end))')`

// nameParties fills in what the holder of the reach may see of recipients and consents.
func (s *Store) nameParties(ctx context.Context, reach authz.Reach, in []record.Access) error {
	asked := parties{}
	for _, a := range in {
		c := a.Event.Caller
		for _, o := range c.Organizations {
			asked.add("Organization", o)
		}
		if c.User.Type == "Practitioner" {
			asked.add("Practitioner", string(c.User.ID))
		}
		for _, e := range a.Event.Entities {
			for _, id := range e.Consents {
				asked.add("Consent", string(id))
			}
		}
	}
	seen, err := s.seenParties(ctx, reach, asked)
	if err != nil {
		return err
	}
	for i := range in {
		c := in[i].Event.Caller
		parties := make([]fhir.Ref, 0, len(c.Organizations)+1)
		for _, o := range c.Organizations {
			parties = append(parties, fhir.Ref{Type: "Organization", ID: fhir.ID(o)})
		}
		for _, ref := range append(parties, c.User) {
			if p, ok := seen[ref]; ok {
				in[i].Names = append(in[i].Names, p.Party)
			}
		}
		for _, e := range in[i].Event.Entities {
			for _, id := range e.Consents {
				if _, ok := seen[fhir.Ref{Type: "Consent", ID: id}]; ok && !slices.Contains(in[i].Consents, id) {
					in[i].Consents = append(in[i].Consents, id)
				}
			}
		}
	}
	return nil
}

// parties are ids by type.
type parties map[fhir.ResourceType]map[string]bool

func (p parties) add(t fhir.ResourceType, id string) {
	if p[t] == nil {
		p[t] = map[string]bool{}
	}
	p[t][id] = true
}

// seenParty is one that may be seen, with what its own access record needs.
type seenParty struct {
	audit.Party
	version fhir.VersionID
	labels  label.Set
}

// seenParties gives those that the holder of the reach may see.
func (s *Store) seenParties(ctx context.Context, reach authz.Reach, asked parties) (map[fhir.Ref]seenParty, error) {
	seen := map[fhir.Ref]seenParty{}
	for _, t := range slices.Sorted(maps.Keys(asked)) {
		ids, r := asked[t], reach.Of(t)
		if len(ids) == 0 || r.Empty() {
			continue
		}
		name, ok := partyNames[t]
		if !ok {
			name = "NULL"
		}
		var q statement
		x := restrict(&q, r)
		q.WriteString("SELECT r.id, r.version, r.label_class, " + name + ", " + partyAddress + " FROM record.resource r WHERE r.id = ANY (" + q.arg(slices.Sorted(maps.Keys(ids))) + "::text[]) AND " + x.where("r"))
		var id string
		var version fhir.VersionID
		var class int16
		var text *string
		var address []byte
		if err := forEach(ctx, s.app, q.String(), q.args, []any{&id, &version, &class, &text, &address}, func() (err error) {
			p := seenParty{Party: audit.Party{Ref: fhir.Ref{Type: t, ID: fhir.ID(id)}}, version: version}
			if p.labels, err = s.labels(ctx, class); err != nil {
				return err
			}
			if text != nil {
				p.Name = *text
			}
			if address != nil {
				p.Address, err = codec.ReadJSON(address, codec.DefaultLimits)
			}
			seen[p.Ref] = p
			return err
		}); err != nil {
			return nil, failed(err)
		}
	}
	return seen, nil
}
