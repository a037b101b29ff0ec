package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

// Windows say for how long around an event of care its participants treat the
// patient (45 CFR 164.506(c)). They hold for what is stored from then on.
type Windows struct {
	EncounterAfter    time.Duration // after the end of an Encounter, or of the time for which a referral was made
	AppointmentBefore time.Duration // before the start of an Appointment, to prepare
	AppointmentAfter  time.Duration // after its end
}

// DefaultWindows are those of a server that is told nothing else.
var DefaultWindows = Windows{EncounterAfter: 30 * day, AppointmentBefore: 7 * day, AppointmentAfter: day}

const day = 24 * time.Hour

func (t *relationRows) careTeam(r *row, s *situationRows) {
	v, err := codec.CareTeam(r.c.Content)
	if err != nil || v.Status != "active" {
		return
	}
	if slices.Contains(v.Categories, supervisionTeam) {
		s.supervision(r, v) // it treats nobody
		return
	}
	for _, p := range v.Participants {
		period := within(v.Period, p.Period)
		if v.Patient.Type == "Patient" && (p.Member.Type == "Practitioner" || p.Member.Type == "PractitionerRole") {
			t.add(relationTreating, p.Member, v.Patient.ID, period, r.pk)
		}
		if p.Member.Type == "Practitioner" && (v.Patient.Type == "Patient" || v.Patient == (fhir.Ref{})) {
			s.member(r, p.Member, v.Patient.ID, period)
		}
	}
}

// treatment adds who treats whom by an event of care. What is over already can
// never count again and is not kept: most of an import is.
func (t *relationRows) treatment(r *row, w Windows, now time.Time) {
	v := codec.Treatment(r.c.Content)
	for _, m := range v.Members {
		p := w.around(r.c.Ref.Type, m.Period)
		if !p.End.IsZero() && !p.End.After(now) {
			continue
		}
		for _, patient := range v.Patients {
			t.add(relationTreating, m.Member, patient, p, r.pk)
			t.weak[len(t.weak)-1] = true
		}
	}
}

// around is the time in which the relation of an event holds.
func (w Windows) around(t fhir.ResourceType, p consent.Period) consent.Period {
	after := time.Duration(0)
	switch t {
	case "Encounter", "ServiceRequest":
		after = w.EncounterAfter
	case "Appointment":
		p.Start, after = p.Start.Add(-w.AppointmentBefore), w.AppointmentAfter
	}
	if !p.End.IsZero() {
		p.End = p.End.Add(after)
	}
	return p
}

// operations is the purpose under which the workforce of a practice arranges
// care, such as the front desk that books an appointment.
const operations = "HOPERAT"

// assigned takes out relations that the caller may not give. An event of care
// gives one if the caller treats the patient already, or arranges care for the
// practice and not for herself. So an exchange, who may bring in an Encounter,
// gives nobody access by it.
func (t *relationRows) assigned(ctx context.Context, w *write) error {
	c := w.grant.Caller()
	if !slices.Contains(t.weak, true) || slices.Contains(c.Roles, authz.Operator) {
		return nil
	}
	treated, mine := map[string]bool{}, map[string]bool{c.User.String(): true}
	if c.User != (fhir.Ref{}) {
		var patient, role string
		if err := forEach(ctx, w.tx, `SELECT DISTINCT patient FROM record.relation WHERE tenant = $1 AND kind = $2 AND member = $3 AND patient = ANY ($4::text[])
AND (starts IS NULL OR starts <= $5) AND (ends IS NULL OR ends > $5)`, []any{w.tenant(), relationTreating, c.User.String(), t.patients, c.Now}, []any{&patient}, func() error {
			treated[patient] = true
			return nil
		}); err != nil {
			return err
		}
		if err := forEach(ctx, w.tx, "SELECT whole FROM record.membership WHERE tenant = $1 AND member = $2 AND whole = ANY ($3::text[])",
			[]any{w.tenant(), c.User.String(), t.members}, []any{&role}, func() error { mine[role] = true; return nil }); err != nil {
			return err
		}
	}
	var kept relationRows
	for i := range t.kinds {
		if t.weak[i] && !treated[t.patients[i]] && (c.Purpose != operations || mine[t.members[i]]) {
			continue
		}
		kept.copy(t, i)
	}
	*t = kept
	return nil
}

func (t *relationRows) copy(from *relationRows, i int) {
	t.kinds = append(t.kinds, from.kinds[i])
	t.members = append(t.members, from.members[i])
	t.patients = append(t.patients, from.patients[i])
	t.starts = append(t.starts, from.starts[i])
	t.ends = append(t.ends, from.ends[i])
	t.sources = append(t.sources, from.sources[i])
	t.weak = append(t.weak, from.weak[i])
	t.bounds = append(t.bounds, from.bounds[i])
}

// resolveMembers gives each Practitioner for whom a member stands a relation of
// her own: for the relations that this transaction brings, and for those that
// name a role or team which it changes.
func (w *write) resolveMembers(ctx context.Context, relations relationRows, memberships []int64) error {
	const resolve = `INSERT INTO record.relation (tenant, kind, member, patient, starts, ends, source, via)
SELECT b.tenant, b.kind, m.member, b.patient, GREATEST(b.starts, m.starts), LEAST(b.ends, m.ends), m.source, b.source
FROM record.relation b JOIN record.membership m ON m.tenant = b.tenant AND m.whole = b.member AND (m.patient IS NULL OR m.patient = b.patient)
WHERE b.tenant = $1 AND b.via IS NULL AND b.kind = $2 AND `
	var bases []int64
	for i, m := range relations.members {
		if ref, ok := fhir.ParseRef(m); ok && (ref.Type == "PractitionerRole" || ref.Type == "CareTeam") && !slices.Contains(bases, relations.sources[i]) {
			bases = append(bases, relations.sources[i])
		}
	}
	if bases != nil {
		if _, err := w.tx.Exec(ctx, resolve+"b.source = ANY ($3::bigint[])", w.tenant(), relationTreating, bases); err != nil {
			return err
		}
	}
	if memberships == nil {
		return nil
	}
	_, err := w.tx.Exec(ctx, resolve+"m.source = ANY ($3::bigint[]) AND b.source <> ALL ($4::bigint[])", w.tenant(), relationTreating, memberships, append([]int64{}, bases...))
	return err
}

// expired is how many relations that have ended one round of [Store.Forget] removes.
const expired = 10000

// forgetRelations removes relations that have ended: they never count again, and
// each of them would be looked at in nearly every statement.
func (s *Store) forgetRelations(ctx context.Context) error {
	_, err := s.side.Exec(ctx, `DELETE FROM record.relation r USING (SELECT ctid FROM record.relation WHERE ends <= $1 AND bound = 0 LIMIT $2 FOR UPDATE SKIP LOCKED) AS old WHERE r.ctid = old.ctid`,
		s.now().UTC().Add(-day), expired)
	return err
}
