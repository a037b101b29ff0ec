package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

// situationRows are the rows, beside relations and grants, of what resources say about access.
type situationRows struct {
	wholes, members []string
	patients        []*string
	starts, ends    []*time.Time
	sources         []int64
	supervisions    pairs
	agreements      pairs
	managed         [][]any
}

// pairs are rows of a table that says for how long two stand in a relation.
type pairs struct {
	ones, others []string
	starts, ends []*time.Time
	sources      []int64
}

func (t *pairs) add(one, other string, p consent.Period, source int64) {
	t.ones = append(t.ones, one)
	t.others = append(t.others, other)
	t.starts = append(t.starts, moment(p.Start))
	t.ends = append(t.ends, moment(p.End))
	t.sources = append(t.sources, source)
}

// insert stores the pairs in a table by the names of its columns.
func (t *pairs) insert(ctx context.Context, w *write, table, one, other string) error {
	if len(t.ones) == 0 {
		return nil
	}
	_, err := w.tx.Exec(ctx, "INSERT INTO record."+table+" (tenant, "+one+", "+other+", starts, ends, source) "+
		"SELECT $1, * FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bigint[])",
		w.tenant(), t.ones, t.others, t.starts, t.ends, t.sources)
	return err
}

// member adds whom a PractitionerRole or CareTeam stands for. A resource in the
// shadow of another one of its id stands for nobody: a reference names the other.
func (t *situationRows) member(r *row, member fhir.Ref, patient fhir.ID, p consent.Period) {
	if r.shadow != 0 {
		return
	}
	t.wholes = append(t.wholes, r.c.Ref.String())
	t.members = append(t.members, member.String())
	var of *string
	if patient != "" {
		id := string(patient)
		of = &id
	}
	t.patients = append(t.patients, of)
	t.starts = append(t.starts, moment(p.Start))
	t.ends = append(t.ends, moment(p.End))
	t.sources = append(t.sources, r.pk)
}

func (t *situationRows) practitionerRole(r *row) {
	if role := codec.PractitionerRole(r.c.Content); role.Practitioner != (fhir.Ref{}) {
		t.member(r, role.Practitioner, "", role.Period)
	}
}

func (t *situationRows) agreement(r *row) {
	if a := codec.QualifiedService(r.c.Content); a.Program != "" {
		t.agreements.add(string(a.Program), string(a.Service), a.Period, r.pk)
	}
}

// management adds which organization manages this version of a Group.
func (t *situationRows) management(r *row) {
	if m := refIn(r.c.Content.Root.Get("managingEntity")); m.Type == "Organization" && said(r.c.Content.Root) {
		t.managed = append(t.managed, []any{nil, r.pk, int32(r.version), string(m.ID)})
	}
}

// What a CareTeam of supervision says (codes of [fhir.CareTeamKind]).
var (
	supervisionTeam = consent.Code{System: fhir.CareTeamKind, Code: "supervision"}
	supervisorRole  = consent.Code{System: fhir.CareTeamKind, Code: "supervisor"}
	superviseeRole  = consent.Code{System: fhir.CareTeamKind, Code: "supervisee"}
)

// supervision adds who supervises whom: every supervisor of a team every
// supervisee of it, while both belong to it.
func (t *situationRows) supervision(r *row, v codec.CareTeamView) {
	if v.Patient != (fhir.Ref{}) {
		return
	}
	for _, above := range v.Participants {
		for _, below := range v.Participants {
			if above.Member.Type != "Practitioner" || below.Member.Type != "Practitioner" || above.Member == below.Member ||
				!slices.Contains(above.Roles, supervisorRole) || !slices.Contains(below.Roles, superviseeRole) {
				continue
			}
			t.supervisions.add(above.Member.String(), below.Member.String(), within(v.Period, within(above.Period, below.Period)), r.pk)
		}
	}
}

func (t *situationRows) insert(ctx context.Context, w *write, relations relationRows) error {
	if len(t.wholes) > 0 {
		if _, err := w.tx.Exec(ctx, `INSERT INTO record.membership (tenant, whole, member, patient, starts, ends, source)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::bigint[])`,
			w.tenant(), t.wholes, t.members, t.patients, t.starts, t.ends, t.sources); err != nil {
			return err
		}
	}
	if err := t.agreements.insert(ctx, w, "agreement", "program", "organization"); err != nil {
		return err
	}
	if err := t.supervisions.insert(ctx, w, "supervision", "supervisor", "supervisee"); err != nil {
		return err
	}
	for _, m := range t.managed {
		m[0] = w.tenant()
	}
	if err := w.copy(ctx, "record", "management", []string{"tenant", "source", "version", "organization"}, t.managed); err != nil {
		return err
	}
	return w.resolveMembers(ctx, relations, t.sources)
}
