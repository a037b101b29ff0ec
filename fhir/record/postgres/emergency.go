package postgres

import (
	"context"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// declaration is an emergency that a transaction declares.
type declaration struct {
	record.Emergency
	patient authz.Restriction // what the caller may read of Patients once it is declared
}

// DeclareEmergency stores an emergency of the grant's caller, together with the
// changes that tell of it, or nothing. A patient who would not be visible in that
// emergency is not found, like one who does not exist; so is one whom the
// identifier does not name alone.
func (s *Store) DeclareEmergency(ctx context.Context, cleared []record.Cleared, patient authz.Restriction, e record.Emergency) error {
	if len(cleared) == 0 || patient.Type() != "Patient" {
		return authz.ErrDenied
	}
	_, err := s.commit(ctx, cleared, also{emergency: &declaration{e, patient}})
	return err
}

// declare adds the session, and looks whether the patient is there for it.
func (w *write) declare(ctx context.Context) error {
	if w.emergency == nil {
		return nil
	}
	e := w.emergency
	if !e.patient.Grant().Same(w.grant) || !e.Starts.Before(e.Ends) {
		return authz.ErrDenied
	}
	c := w.grant.Caller()
	patient, err := w.declaredPatient(ctx, e)
	if err != nil {
		return err
	}
	if _, err := w.tx.Exec(ctx, `INSERT INTO record.emergency (tenant, id, member, subject, patient, purpose, reason, nature, recipient, facility, discloser, starts, ends)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		w.tenant(), e.ID, c.User.String(), c.Subject, patient, c.Purpose, e.Reason, e.Nature, e.Recipient, e.Facility, e.Discloser, e.Starts, e.Ends); err != nil {
		return err
	}
	return visible(ctx, w.tx, e.patient, fhir.ID(patient))
}

// declaredPatient is the id of the patient of a declaration.
func (w *write) declaredPatient(ctx context.Context, e *declaration) (id string, err error) {
	if e.Identifier == "" {
		return string(e.Patient), nil
	}
	q, _, err := search.Parse("Patient", url.Values{"identifier": {e.Identifier}}, search.Options{})
	if err != nil || len(q.Legs) != 1 || len(q.Legs[0].Where) != 1 || len(q.Legs[0].Where[0].Any) != 1 {
		return "", errNotFound.Because(err)
	}
	n := 0
	err = forEach(ctx, w.tx, "SELECT r.id FROM record.resource r WHERE r.tenant = $1 AND r.type = $2 AND NOT r.deleted AND r.shadow = 0 AND r.tokens @> ARRAY[$3::bigint] LIMIT 2",
		[]any{w.tenant(), fhir.ResourceType("Patient").Code(), TokenIndex(w.tenant(), "Patient", q.Legs[0].Where[0].Any[0].Hash)}, []any{&id}, func() error { n++; return nil })
	if err == nil && n != 1 {
		err = errNotFound
	}
	return id, err
}

// visible is errNotFound where no current resource of that id is visible under r.
func visible(ctx context.Context, tx querier, r authz.Restriction, id fhir.ID) error {
	var q statement
	x := restrict(&q, r)
	x.keyed = true
	key := q.arg(string(id))
	q.WriteString("SELECT r.id FROM record.resource r WHERE NOT r.deleted AND r.id = " + key + " AND " + x.where("r"))
	err := errNotFound
	found := ""
	if failure := forEach(ctx, tx, q.String(), q.args, []any{&found}, func() error { err = nil; return nil }); failure != nil {
		return failure
	}
	if err != nil {
		return err
	}
	return nil
}

// EndEmergency ends sessions now, and records that it did: the one of that id, or
// the caller's own for a patient. Unless the caller oversees them, they are her own.
func (s *Store) EndEmergency(ctx context.Context, g authz.Grant, id string, patient fhir.ID, oversees bool) error {
	if !g.Valid() || id == "" && patient == "" {
		return authz.ErrDenied
	}
	c := g.Caller()
	sql := "UPDATE record.emergency SET ends = $1 WHERE tenant = $2 AND ends > $1 AND "
	args := []any{c.Now, c.Tenant}
	switch {
	case id != "" && oversees:
		sql, args = sql+"id::text = $3", append(args, id)
	case id != "":
		sql, args = sql+"id::text = $3 AND member = $4", append(args, id, c.User.String())
	default:
		sql, args = sql+"patient = $3 AND member = $4", append(args, string(patient), c.User.String())
	}
	return s.act(ctx, g, "Patient", func(tx pgx.Tx) ([]string, error) { return ended(ctx, tx, sql, args) })
}

// ended runs an UPDATE that ends sessions or exceptions, and names them.
func ended(ctx context.Context, tx pgx.Tx, sql string, args []any) (ids []string, err error) {
	var id string
	err = forEach(ctx, tx, sql+" RETURNING id::text", args, []any{&id}, func() error { ids = append(ids, id); return nil })
	if err == nil && ids == nil {
		err = errNotFound
	}
	return ids, err
}

// act does what documents or ends something, and records it, in one transaction:
// what the law has documented is never in force without the record of who did it.
func (s *Store) act(ctx context.Context, g authz.Grant, t fhir.ResourceType, do func(pgx.Tx) ([]string, error)) error {
	return failed(pgx.BeginFunc(ctx, s.app, func(tx pgx.Tx) error {
		ids, err := do(tx)
		if err != nil {
			return err
		}
		e := audit.Event{ID: record.NewID(), At: s.now().UTC(), Caller: g.Caller(), Interaction: fhir.Operation, Type: t, Outcome: audit.Success, Acts: ids}
		return s.inserted(ctx, tx, e, "the act could not be recorded, so nothing was done: try again")
	}))
}

// listed is how many sessions or exceptions a list has at most, the newest.
const listed = 1000

// Emergencies lists the declared emergencies of the practice, the newest first.
// What tells of a patient is left out where the caller may not read the Patient.
func (s *Store) Emergencies(ctx context.Context, patient authz.Restriction) ([]record.Emergency, error) {
	if !patient.Grant().Valid() || patient.Type() != "Patient" {
		return nil, authz.ErrDenied
	}
	var q statement
	x := restrict(&q, patient)
	q.WriteString("SELECT e.id::text, e.member, COALESCE(e.patient, ''), e.purpose, e.reason, e.nature, e.recipient, e.facility, e.discloser, e.starts, e.ends, " +
		x.known("e.patient") + " FROM record.emergency e WHERE e.tenant = " + x.tenant + " ORDER BY e.starts DESC, e.id LIMIT " + q.arg(listed))
	var out []record.Emergency
	var e record.Emergency
	var member, of string
	var known bool
	err := forEach(ctx, s.app, q.String(), q.args, []any{&e.ID, &member, &of, &e.Purpose, &e.Reason, &e.Nature, &e.Recipient, &e.Facility, &e.Discloser, &e.Starts, &e.Ends, &known}, func() error {
		row := e
		row.Member, _ = fhir.ParseRef(member)
		row.Starts, row.Ends = e.Starts.UTC(), e.Ends.UTC()
		if row.Patient = fhir.ID(of); !known {
			row.Patient, row.Nature = "", ""
		}
		out = append(out, row)
		return nil
	})
	return out, failed(err)
}

// known says of a column whether it names a patient whom the caller may read.
func (x *restriction) known(column string) string {
	return "EXISTS (SELECT FROM record.resource r WHERE NOT r.deleted AND r.id = " + column + " AND " + x.where("r") + ")"
}

// underEmergency names, for each entity of an event, the session under which it
// was disclosed. An event of no emergency is left as it is.
func (s *Store) underEmergency(ctx context.Context, e *audit.Event) error {
	c := e.Caller
	if c.Purpose != "ETREAT" && c.Purpose != "BTG" || len(e.Entities) == 0 {
		return nil
	}
	sessions := map[fhir.ID]string{}
	last := ""
	var id, patient string
	if err := forEach(ctx, s.side, "SELECT id::text, patient FROM record.emergency WHERE tenant = $1 AND member = $2 AND starts <= $3 AND ends > $3 ORDER BY starts, id",
		[]any{c.Tenant, c.User.String(), c.Now}, []any{&id, &patient}, func() error {
			sessions[fhir.ID(patient)], last = id, id
			return nil
		}); err != nil {
		return err
	}
	for i := range e.Entities {
		x := &e.Entities[i]
		if x.Session != "" {
			continue
		}
		if x.Session = sessions[x.Patient]; x.Session == "" && x.Patient == "" {
			x.Session = last // of several patients, for each of whom she declared one
		}
	}
	return nil
}

// DocumentException stores an exception together with the record of it. Patient and
// program have to be visible to who documents it, under the restrictions of reach.
func (s *Store) DocumentException(ctx context.Context, reach authz.Reach, e record.Exception) error {
	g := reach.Grant()
	if !g.Valid() {
		return authz.ErrDenied
	}
	c := g.Caller()
	return s.act(ctx, g, "", func(tx pgx.Tx) ([]string, error) {
		for t, id := range map[fhir.ResourceType]fhir.ID{"Patient": e.Patient, "Organization": e.Program} {
			if id == "" {
				continue
			}
			if err := visible(ctx, tx, reach.Of(t), id); err != nil {
				return nil, err
			}
		}
		var types []int16
		for _, t := range e.Types {
			types = append(types, t.Code())
		}
		var records []string
		for _, r := range e.Records {
			records = append(records, recordKey(r))
		}
		_, err := tx.Exec(ctx, `INSERT INTO record.exception (tenant, id, kind, purposes, recipient, patient, program, originator, types, records, starts, ends, documentation, documented_by, recorded)
VALUES ($1, $2, $3, $4, $5, NULLIF($6, ''), NULLIF($7, ''), NULLIF($8, ''), $9, $10, $11, $12, $13, $14, $15)`,
			c.Tenant, e.ID, e.Kind, e.Purposes, e.Recipient.String(), string(e.Patient), string(e.Program), e.Originator.String(), types, records,
			e.Starts, e.Ends, e.Documentation, c.User.String(), c.Now)
		return []string{e.ID}, err
	})
}

// EndException ends an exception of the practice now, and records that it did.
func (s *Store) EndException(ctx context.Context, g authz.Grant, id string) error {
	if !g.Valid() {
		return authz.ErrDenied
	}
	c := g.Caller()
	return s.act(ctx, g, "", func(tx pgx.Tx) ([]string, error) {
		return ended(ctx, tx, "UPDATE record.exception SET ends = $1 WHERE tenant = $2 AND id::text = $3 AND ends > $1", []any{c.Now, c.Tenant, id})
	})
}

// Exceptions lists the documented exceptions of the practice, the newest first.
// What tells of a patient is left out where the caller may not read the Patient.
func (s *Store) Exceptions(ctx context.Context, patient authz.Restriction) ([]record.Exception, error) {
	if !patient.Grant().Valid() || patient.Type() != "Patient" {
		return nil, authz.ErrDenied
	}
	var q statement
	x := restrict(&q, patient)
	q.WriteString("SELECT e.id::text, e.kind, e.purposes, e.recipient, COALESCE(e.patient, ''), COALESCE(e.program, ''), COALESCE(e.originator, ''), e.starts, e.ends, e.recorded, e.documentation, e.documented_by, e.patient IS NULL OR " +
		x.known("e.patient") + " FROM record.exception e WHERE e.tenant = " + x.tenant + " ORDER BY e.recorded DESC, e.id LIMIT " + q.arg(listed))
	var out []record.Exception
	var row struct {
		id, kind, recipient, patient, program, originator, by string
		purposes                                              []string
		starts, ends, recorded                                time.Time
		documentation                                         map[string]string
		known                                                 bool
	}
	err := forEach(ctx, s.app, q.String(), q.args, []any{&row.id, &row.kind, &row.purposes, &row.recipient, &row.patient, &row.program, &row.originator,
		&row.starts, &row.ends, &row.recorded, &row.documentation, &row.by, &row.known}, func() error {
		e := record.Exception{ID: row.id, Recorded: row.recorded.UTC()}
		e.Kind, e.Purposes, e.Starts, e.Ends = row.kind, row.purposes, row.starts.UTC(), row.ends.UTC()
		e.Recipient, _ = fhir.ParseRef(row.recipient)
		e.Originator, _ = fhir.ParseRef(row.originator)
		e.By, _ = fhir.ParseRef(row.by)
		if row.known {
			e.Patient, e.Program, e.Documentation = fhir.ID(row.patient), fhir.ID(row.program), row.documentation
		}
		row.documentation, row.purposes = nil, nil
		out = append(out, e)
		return nil
	})
	return out, failed(err)
}
