package record

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/audit/anomaly"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// Ledger is where the gate reads what it has recorded.
type Ledger interface {
	// Disclosures gives, newest first, at most Count events in which records of the
	// patient were read of which the holder of the Reach may know, and which may be disclosures, from
	// the place After on. Names and Consents are those that she may see.
	Disclosures(context.Context, authz.Reach, Accounting) ([]Access, error)
	// Trail gives at most Count rows of the trail, in the order of time, from a place on.
	// What the holder of the Reach may not know is left out of each.
	Trail(context.Context, authz.Reach, Traces) ([]Trace, error)
	// People are the patients of some accesses, and the practice's Practitioners.
	People(context.Context, authz.Reach, []anomaly.Access) (map[fhir.Ref]anomaly.Person, error)
	// Sessions are the declared emergencies.
	Sessions(context.Context, authz.Reach) ([]anomaly.Emergency, error)
}

// Access is one event of the ledger, as far as it is about one patient.
type Access struct {
	Event    audit.Event   // with the entities of this patient
	Names    []audit.Party // of the recipients that may be known
	Consents []fhir.ID     // of the entities' consents, those that may be known
}

// Accounting is a question for the disclosures of one patient's records.
type Accounting struct {
	Patient fhir.ID
	// Since and Until bound what is without a consent under part 2, ConsentedSince
	// and Until what is with one.
	Since, ConsentedSince, Until time.Time
	Consented                    bool // only the latter
	Count                        int  // entries on a page
	After                        *search.Cursor
	// As is by which fact the caller may read records of the patient; 0 for the privacy officer.
	As authz.Fact
}

// NewAccounting is the accounting that the law asks for at a moment: of six
// years (45 CFR 164.528(a)(1)), and of three with a consent under part 2 (42 CFR 2.24, 2.25).
func NewAccounting(patient fhir.ID, asked time.Time) Accounting {
	three, _ := part2.IntermediaryList(asked)
	return Accounting{Patient: patient, Since: asked.AddDate(-6, 0, 0), ConsentedSince: three, Until: asked}
}

// Accounted is one page of an accounting that the gate let out to the holder of one grant.
type Accounted struct {
	holder  authz.Grant
	entries []audit.Disclosure
	More    bool
	Last    search.Cursor // the place of the last entry
}

// HeldBy reports whether a was released to the request of g.
func (a Accounted) HeldBy(g authz.Grant) bool { return a.holder.Same(g) }

// Len is the number of entries.
func (a Accounted) Len() int { return len(a.entries) }

// ID is the UUID of an entry's event.
func (a Accounted) ID(i int) string { return a.entries[i].ID }

// Render writes the AuditEvent of an entry.
func (a Accounted) Render(w io.Writer, i int) error {
	_, err := w.Write(audit.RenderDisclosure(a.entries[i]).AppendJSON(nil))
	return err
}

// Accounting is g with the ledger that its audit records are kept in.
func (g *Gate) Accounting(l Ledger) *Gate {
	h := *g
	h.ledger = l
	return &h
}

// roles that may ask for an accounting: the privacy officer for anybody whom she
// knows to be a patient, a patient for herself, and whoever stands for a patient as her
// personal representative (45 CFR 164.502(g)(1), 164.528(a)).
const (
	roleOfficer        = "privacy-officer"
	rolePatient        = "patient"
	roleRepresentative = "proxy"
)

// MayAccount reports whether a caller may ask for an accounting of somebody's.
func MayAccount(c authz.Caller) bool {
	return slices.Contains(c.Roles, roleOfficer) && c.Purpose == "HOPERAT" ||
		(slices.Contains(c.Roles, rolePatient) || slices.Contains(c.Roles, roleRepresentative)) && c.Purpose == "PATRQT"
}

// Account releases a page of the accounting of a patient, who was read under gr.
// The question itself is recorded first. What the caller may not know to exist is not
// in the answer: an access to a note of a session is not, whoever had it (P21, L43).
func (g *Gate) Account(ctx context.Context, gr authz.Grant, patient Sealed, q Accounting) (Accounted, error) {
	h, c := vault.Head(patient), gr.Caller()
	read, err := g.decider.Extend(gr, fhir.Read, h.Ref.Type)
	if err != nil {
		return Accounted{}, err
	}
	if !MayAccount(c) || h.Ref.Type != "Patient" || h.Ref.ID != q.Patient || g.ledger == nil {
		return Accounted{}, authz.ErrDenied
	}
	as, ok := asking(c, h.Facts)
	if !ok {
		return Accounted{}, authz.ErrDenied
	}
	if err := g.permitted(ctx, read, patient); err != nil {
		return Accounted{}, err
	}
	ev := g.event(gr, "AuditEvent", audit.Success)
	ev.Entities = append(ev.Entities, entity(h))
	if err := g.record(ctx, ev); err != nil {
		return Accounted{}, err
	}
	reach, err := g.reach(ctx, read, fhir.Read, fhir.ResourceTypes())
	if err != nil {
		return Accounted{}, err
	}
	k := knowing{g: g, gr: read, as: as, known: map[cell]bool{}}
	out := Accounted{holder: gr}
	batch := q
	batch.As = as
	for batch.Count = max(q.Count, ledgerBatch); ; {
		found, err := g.ledger.Disclosures(ctx, reach, batch)
		if err != nil {
			return Accounted{}, err
		}
		for _, a := range found {
			d, counts, err := k.disclosure(ctx, a, q)
			if err != nil {
				return Accounted{}, err
			}
			at := search.Cursor{Keys: []search.Key{{Text: a.Event.At.UTC().Format(time.RFC3339Nano)}}, Type: "AuditEvent", ID: fhir.ID(a.Event.ID)}
			batch.After = &at
			if !counts {
				continue
			}
			if len(out.entries) == q.Count {
				out.More = true
				return out, nil
			}
			out.entries, out.Last = append(out.entries, d), at
		}
		if len(found) < batch.Count {
			return out, nil
		}
	}
}

// ledgerBatch is how many events are read at a time.
const ledgerBatch = 200

// knowing decides what of the ledger one caller may know.
type knowing struct {
	g     *Gate
	gr    authz.Grant
	as    authz.Fact // by which she may read records of the patient; 0 for the privacy officer
	known map[cell]bool
}

// asking is by which fact a caller asks for an accounting: as the patient, as her
// representative, or by none, as the privacy officer.
func asking(c authz.Caller, facts authz.Fact) (as authz.Fact, ok bool) {
	switch {
	case facts.Has(authz.Self) && slices.Contains(c.Roles, rolePatient):
		return authz.Self, true
	case facts.Has(authz.Proxy) && slices.Contains(c.Roles, roleRepresentative):
		return authz.Proxy, true
	}
	return 0, slices.Contains(c.Roles, roleOfficer)
}

type cell struct {
	t      fhir.ResourceType
	labels label.Set
	facts  authz.Fact
}

// disclosure is an event as an entry of the accounting; it counts if anything is left of it.
func (k *knowing) disclosure(ctx context.Context, a Access, q Accounting) (audit.Disclosure, bool, error) {
	e, c := a.Event, a.Event.Caller
	d := audit.Disclosure{
		ID: e.ID, At: e.At, Interaction: e.Interaction, Purpose: c.Purpose, Patient: q.Patient, Client: c.Client,
		Recipients: a.Names, Resources: map[fhir.ResourceType]int{},
	}
	for _, x := range e.Entities {
		due := obligation.Of(obligation.Disclosure{
			Labels: x.Labels, Facts: x.Facts, Consents: x.Consents, Recipient: authz.RecipientOf(c.Roles), Purpose: c.Purpose,
		})
		consented := slices.Contains(due, part2.CopyOfConsent)
		since := q.Since
		if consented {
			since = q.ConsentedSince
		}
		if !slices.Contains(due, part2.AccountingEntry) || e.At.Before(since) || q.Consented && !consented {
			continue
		}
		ok, err := k.knows(ctx, x, a.Consents)
		if err != nil {
			return d, false, err
		}
		if !ok {
			continue
		}
		d.Resources[x.Ref.Type]++
		for _, id := range x.Consents {
			if slices.Contains(a.Consents, id) && !slices.Contains(d.Consents, id) {
				d.Consents = append(d.Consents, id)
			}
		}
	}
	slices.Sort(d.Consents)
	return d, len(d.Resources) > 0, nil
}

// knows decides whether the caller may know that a record exists. The patient
// may if she may read it, and so may whoever stands for her. The privacy officer reads no clinical record, but
// consents to its disclosure: she may where she may read a consent with such labels. Whether
// she is of the program then follows from the consents that the disclosure was made with.
func (k *knowing) knows(ctx context.Context, x audit.Entity, visible []fhir.ID) (bool, error) {
	if x.Labels.Any(label.Notes) {
		return false, nil
	}
	what := cell{x.Ref.Type, x.Labels, k.as | authz.Unrestricted}
	if k.as == 0 {
		what = cell{"Consent", x.Labels, authz.Unrestricted}
		if len(x.Consents) > 0 && !slices.ContainsFunc(x.Consents, func(id fhir.ID) bool { return !slices.Contains(visible, id) }) {
			what.facts |= authz.Program
		}
	}
	if ok, decided := k.known[what]; decided {
		return ok, nil
	}
	d, err := k.g.decider.Decide(ctx, k.gr, fhir.Read, authz.Resource{Type: what.t, Labels: what.labels, Facts: what.facts, Patient: x.Patient})
	if err != nil {
		return false, err
	}
	k.known[what] = d.Permit
	return d.Permit, nil
}

// permitted decides whether a resource that was read under gr may be disclosed.
func (g *Gate) permitted(ctx context.Context, gr authz.Grant, s Sealed) error {
	h := vault.Head(s)
	if !vault.ReadFor(s, gr) {
		return authz.ErrDenied.Because(fmt.Errorf("record: %s was read for another request", h.Ref.Type))
	}
	about := authz.Resource{Type: h.Ref.Type, Labels: h.Labels, Facts: h.Facts, Patient: h.Patient, Deleted: h.Deleted}
	if authz.Constrained(gr, gr.Interaction(), h.Ref.Type) && !h.Deleted {
		content, err := opened(ctx, s)
		if err != nil {
			return err
		}
		about.Tokens = search.Extract(h.Ref.Type, content.Root).Tokens
	}
	d, err := g.decider.Decide(ctx, gr, gr.Interaction(), about)
	if err != nil {
		return err
	}
	if !d.Permit {
		return outcome.New(outcome.Internal, "the server failed; its log says why").Because(
			fmt.Errorf("record: the query let a %s through that the policy does not permit (labels %s, facts %b)", h.Ref.Type, h.Labels, h.Facts))
	}
	return nil
}

func entity(h vault.Header) audit.Entity {
	return audit.Entity{Ref: h.Ref, Version: h.Version, Labels: h.Labels, Patient: h.Patient, Facts: h.Facts, Consents: h.Consents}
}

// entities are h as the access record has it: once for each patient whose it is, so that the
// accounting of each has it.
func entities(h vault.Header) []audit.Entity {
	if len(h.Patients) == 0 {
		return []audit.Entity{entity(h)}
	}
	out := make([]audit.Entity, len(h.Patients))
	for i, p := range h.Patients {
		out[i] = entity(h)
		out[i].Patient = p
	}
	return out
}

// record makes the audit record of a disclosure durable.
func (g *Gate) record(ctx context.Context, ev audit.Event) error {
	if err := g.recorder.Record(ctx, ev); err != nil {
		return outcome.New(outcome.Unavailable, "the access could not be recorded, so nothing was disclosed: try again").Because(err)
	}
	return nil
}
