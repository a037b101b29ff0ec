package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// DefaultAgeOfMajority is that of most states; Alabama and Nebraska have 19,
// Mississippi 21 (Ala. Code 26-1-1, Neb. Rev. Stat. 43-2101, Miss. Code 1-3-27).
const DefaultAgeOfMajority = 18

// What bounds the time in which a related person stands for a patient.
const (
	boundNone  int16 = 0
	untilOfAge int16 = 1 // 45 CFR 164.502(g)(3)
	fromDeath  int16 = 2 // 45 CFR 164.502(g)(4), 42 CFR 2.15(b)
)

const roleCode = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"

// authorities are the relationships by which somebody is a personal
// representative (45 CFR 164.502(g)), by their codes. A spouse, a step-parent or a friend
// is none by that alone. A guardian counts as one of a minor: that an adult was
// adjudicated incompetent the code does not say.
var authorities = []struct {
	bound int16
	codes []string
}{
	{boundNone, []string{"HPOWATT", "DPOWATT", "POWATT"}}, // the widest first
	{untilOfAge, []string{"PRN", "MTH", "FTH", "NPRN", "NMTH", "NFTH", "NFTHF", "ADOPTP", "ADOPTM", "ADOPTF", "GUARD"}},
	{fromDeath, []string{"EXCEST"}},
}

func authority(relationships []consent.Code) (bound int16, ok bool) {
	for _, a := range authorities {
		if slices.ContainsFunc(relationships, func(c consent.Code) bool { return c.System == roleCode && slices.Contains(a.codes, c.Code) }) {
			return a.bound, true
		}
	}
	return 0, false
}

// bind brings up to date when those who stand for a patient begin and cease to,
// by her birth date and her death: for the relations that this transaction
// brings, and for those of the Patients that it changes. Of whom no birth date is
// known, or no death, nobody stands for by it.
func (w *write) bind(ctx context.Context, relations relationRows) error {
	var patients []string
	for i, b := range relations.bounds {
		if b != boundNone {
			patients = append(patients, relations.patients[i])
		}
	}
	for _, r := range w.rows {
		if r.c.Ref.Type == "Patient" && !r.unchanged && r.shadow == 0 {
			patients = append(patients, string(r.c.Ref.ID))
		}
	}
	if patients == nil {
		return nil
	}
	var ids []string
	var ofAge, died []time.Time
	var id string
	var birth, death *string
	var dead bool
	if err := forEach(ctx, w.tx, `SELECT b.patient, r.body->>'birthDate', r.body->>'deceasedDateTime', COALESCE(r.body->'deceasedBoolean' = 'true', false)
FROM (SELECT DISTINCT patient FROM record.relation WHERE tenant = $1 AND bound <> 0 AND patient = ANY ($2::text[])) AS b
LEFT JOIN record.resource r ON r.tenant = $1 AND r.type = $3 AND r.id = b.patient AND r.shadow = 0 AND NOT r.deleted`,
		[]any{w.tenant(), patients, fhir.ResourceType("Patient").Code()}, []any{&id, &birth, &death, &dead}, func() error {
			ids = append(ids, id)
			ofAge = append(ofAge, w.s.comesOfAge(birth))
			died = append(died, passed(death, dead))
			return nil
		}); err != nil || ids == nil {
		return err
	}
	_, err := w.tx.Exec(ctx, `UPDATE record.relation rel
SET ends = CASE rel.bound WHEN 1 THEN LEAST(rel.term, b.of_age) ELSE rel.term END, starts = CASE rel.bound WHEN 2 THEN GREATEST(rel.since, b.died) ELSE rel.since END
FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS b(patient, of_age, died)
WHERE rel.tenant = $1 AND rel.bound <> 0 AND rel.patient = b.patient`, w.tenant(), ids, ofAge, died)
	return err
}

// comesOfAge is when a patient stands for herself: of a birth date without a day
// the earliest moment, and of none the beginning of time.
func (s *Store) comesOfAge(birth *string) time.Time {
	if birth != nil {
		if born, _, ok := search.Instants(*birth); ok {
			return born.AddDate(s.majority, 0, 0)
		}
	}
	return search.Earliest
}

// passed is when a patient has certainly died: the end of time where she is not known to have.
func passed(death *string, dead bool) time.Time {
	switch {
	case death != nil:
		if _, last, ok := search.Instants(*death); ok {
			return last
		}
	case dead:
		return search.Earliest
	}
	return search.Latest
}
