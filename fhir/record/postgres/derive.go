package postgres

import (
	"context"
	"time"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

// derive brings up to date what a resource says about access: who treats whom
// and who stands for whom become relations, Consent becomes grants. What cannot
// be read grants nothing.
func (w *write) derive(ctx context.Context) error {
	var relations relationRows
	var grants consentRows
	var names nameRows
	var situation situationRows
	var sources []int64
	attested, err := w.attest(ctx)
	if err != nil {
		return err
	}
	for _, r := range w.rows {
		if r.unchanged {
			continue
		}
		if derives[r.c.Ref.Type] && r.old != nil {
			sources = append(sources, r.pk)
			for _, o := range r.kin {
				sources = append(sources, o.pk)
			}
		}
		if r.c.Content == nil {
			continue
		}
		switch r.c.Ref.Type {
		case "CareTeam":
			relations.careTeam(r, &situation)
			names.careTeam(r)
		case "Practitioner":
			names.identifiers(r)
		case "Organization":
			names.organization(r)
		case "Group":
			names.group(r)
			situation.management(r)
		case "Encounter", "Appointment", "EpisodeOfCare", "ServiceRequest":
			relations.treatment(r, w.s.windows, w.s.now())
		case "PractitionerRole":
			situation.practitionerRole(r)
			names.practitionerRole(r)
		case "OrganizationAffiliation":
			situation.agreement(r)
		case "RelatedPerson":
			relations.relatedPerson(r)
		case "Consent":
			grants.consent(w.tenant(), r, attested[r.pk])
		}
	}
	// Whom the caller treats is asked before anything of it changes.
	if err := relations.assigned(ctx, w); err != nil {
		return err
	}
	if len(sources) > 0 {
		for _, table := range []string{"relation", "membership", "supervision", "agreement", "consent_grant", "recipient_name"} {
			if _, err := w.tx.Exec(ctx, "DELETE FROM record."+table+" WHERE tenant = $1 AND source = ANY ($2::bigint[])", w.tenant(), sources); err != nil {
				return err
			}
		}
		if _, err := w.tx.Exec(ctx, "DELETE FROM record.relation WHERE tenant = $1 AND via = ANY ($2::bigint[])", w.tenant(), sources); err != nil {
			return err
		}
	}
	if err := relations.insert(ctx, w); err != nil {
		return err
	}
	if err := situation.insert(ctx, w, relations); err != nil {
		return err
	}
	if err := w.bind(ctx, relations); err != nil {
		return err
	}
	if err := names.insert(ctx, w); err != nil {
		return err
	}
	if err := grants.insert(ctx, w); err != nil {
		return err
	}
	return w.related(ctx, grants)
}

// derives are the types that say something about access.
var derives = map[fhir.ResourceType]bool{
	"CareTeam": true, "RelatedPerson": true, "Consent": true,
	"Encounter": true, "Appointment": true, "EpisodeOfCare": true, "ServiceRequest": true, "PractitionerRole": true, "OrganizationAffiliation": true,
	"Practitioner": true, "Organization": true, "Group": true,
}

type relationRows struct {
	kinds             []int16
	members, patients []string
	starts, ends      []*time.Time
	sources           []int64
	bounds            []int16
	weak              []bool // of a resource whose writer must be one who may assign care
}

func (t *relationRows) add(kind int16, member fhir.Ref, patient fhir.ID, p consent.Period, source int64) {
	t.kinds = append(t.kinds, kind)
	t.members = append(t.members, member.String())
	t.patients = append(t.patients, string(patient))
	t.starts = append(t.starts, moment(p.Start))
	t.ends = append(t.ends, moment(p.End))
	t.sources = append(t.sources, source)
	t.weak = append(t.weak, false)
	t.bounds = append(t.bounds, boundNone)
}

func (t *relationRows) relatedPerson(r *row) {
	v, err := codec.RelatedPerson(r.c.Content)
	if err != nil || !v.Active || v.Patient.Type != "Patient" {
		return
	}
	if bound, ok := authority(v.Relationships); ok {
		t.add(relationProxy, r.c.Ref, v.Patient.ID, v.Period, r.pk)
		t.bounds[len(t.bounds)-1] = bound
	}
}

func (t *relationRows) insert(ctx context.Context, w *write) error {
	if len(t.kinds) == 0 {
		return nil
	}
	_, err := w.tx.Exec(ctx, `INSERT INTO record.relation (tenant, kind, member, patient, starts, ends, source, bound, since, term)
SELECT $1, kind, member, patient, starts, ends, source, bound, starts, ends
FROM unnest($2::smallint[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::bigint[], $8::smallint[]) AS n(kind, member, patient, starts, ends, source, bound)`,
		w.tenant(), t.kinds, t.members, t.patients, t.starts, t.ends, t.sources, t.bounds)
	return err
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// within is the time that two periods share.
func within(a, b consent.Period) consent.Period {
	if a.Start.IsZero() || !b.Start.IsZero() && b.Start.After(a.Start) {
		a.Start = b.Start
	}
	if a.End.IsZero() || !b.End.IsZero() && b.End.Before(a.End) {
		a.End = b.End
	}
	return a
}
