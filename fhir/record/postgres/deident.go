package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// Releases keeps the keys of de-identified releases, under a role that reaches no record.
func (s *Store) Releases() export.Releases { return releases{s} }

type releases struct{ s *Store }

// Begin implements [export.Releases].
func (x releases) Begin(ctx context.Context, release string, tenant int32, expires time.Time) error {
	_, err := x.s.keys.Exec(ctx, "INSERT INTO deident.release (id, tenant, turn, round, expires) VALUES ($1, $2, 0, 0, $3)", release, tenant, expires)
	return failed(err)
}

// Enter implements [export.Releases].
func (x releases) Enter(ctx context.Context, k export.Key, tenant int32, round int) error {
	return one(1, pgx.BeginFunc(ctx, x.s.keys, func(tx pgx.Tx) error {
		was := round
		err := tx.QueryRow(ctx, "SELECT round FROM deident.release WHERE id = $1 FOR UPDATE", k.Release).Scan(&was)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		tag, err := tx.Exec(ctx, "UPDATE deident.release SET turn = $3, round = $4, report = CASE WHEN round = $4 THEN report END WHERE id = $1 AND tenant = $2 AND turn <= $3 AND round <= $4",
			k.Release, tenant, k.Turn, round)
		if err != nil || tag.RowsAffected() != 1 {
			return one(tag.RowsAffected(), err)
		}
		if was == round {
			return nil
		}
		for _, table := range []string{"member", "patient", "cell", "rare", "piece"} {
			if _, err := tx.Exec(ctx, "DELETE FROM deident."+table+" WHERE release = $1", k.Release); err != nil {
				return err
			}
		}
		return nil
	}))
}

// within writes to a release under its newest turn.
func (x releases) within(ctx context.Context, k export.Key, do func(pgx.Tx) error) error {
	return one(1, pgx.BeginFunc(ctx, x.s.keys, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "SELECT FROM deident.release WHERE id = $1 AND turn = $2 FOR UPDATE", k.Release, k.Turn)
		if err != nil || tag.RowsAffected() != 1 {
			return one(tag.RowsAffected(), err)
		}
		return do(tx)
	}))
}

// Survey implements [export.Releases].
func (x releases) Survey(ctx context.Context, k export.Key, piece string, found []deident.Found, part deident.Report) error {
	text, err := json.Marshal(part)
	if err != nil {
		return failed(err)
	}
	types, ids, surrogates, patients, counted := make([]string, len(found)), make([]string, len(found)), make([]string, len(found)), make([]string, len(found)), make([][]byte, len(found))
	var owners, alike, cells, whose []string
	at := map[fhir.ID]int{}
	for i, f := range found {
		types[i], ids[i], surrogates[i], patients[i], counted[i] = string(f.Ref.Type), string(f.Ref.ID), string(deident.NewSurrogate()), string(f.Patient), f.Counted
		if f.Counted == nil {
			continue
		}
		n, there := at[f.Patient]
		if !there {
			n = len(owners)
			at[f.Patient], owners, alike = n, append(owners, string(f.Patient)), append(alike, "")
		}
		if f.Like != "" {
			alike[n] = f.Like
		}
		for _, c := range f.Cells {
			cells, whose = append(cells, c), append(whose, string(f.Patient))
		}
	}
	return x.within(ctx, k, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		// Who surveyed the page before, and did not come to its end, has counted it: it counts once, and as it is.
		batch.Queue("INSERT INTO deident.member AS m (release, type, id, surrogate, patient, counted) SELECT $1::uuid, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[]) "+
			"ON CONFLICT (release, type, id) DO UPDATE SET patient = m.patient WHERE m.patient = excluded.patient AND m.counted IS NOT DISTINCT FROM excluded.counted",
			k.Release, types, ids, surrogates, patients, counted).Exec(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() != int64(len(found)) {
				return export.ErrDrift
			}
			return nil
		})
		if owners != nil {
			// Most pages are of patients whom others were of: what is there is not written again.
			batch.Queue("INSERT INTO deident.patient AS p (release, patient, alike, member) SELECT $1::uuid, u.patient, u.alike, true FROM unnest($2::text[], $3::text[]) AS u(patient, alike) "+
				"ON CONFLICT (release, patient) DO UPDATE SET member = true, alike = CASE WHEN excluded.alike = '' THEN p.alike ELSE excluded.alike END WHERE NOT p.member OR excluded.alike NOT IN ('', p.alike)", k.Release, owners, alike)
		}
		if cells != nil {
			batch.Queue("INSERT INTO deident.cell (release, cell, patient) SELECT $1::uuid, * FROM unnest($2::text[], $3::text[]) ON CONFLICT DO NOTHING", k.Release, cells, whose)
		}
		batch.Queue("INSERT INTO deident.piece (release, piece, report) VALUES ($1, $2, $3::jsonb) ON CONFLICT (release, piece) DO UPDATE SET report = excluded.report", k.Release, piece, json.RawMessage(text))
		return tx.SendBatch(ctx, batch).Close()
	})
}

// Counts implements [export.Releases].
func (x releases) Counts(ctx context.Context, release string, into *deident.Tally) (patients int, report deident.Report, err error) {
	err = pgx.BeginTxFunc(ctx, x.s.keys, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var text []byte
		if err := forEach(ctx, tx, "SELECT report FROM deident.piece WHERE release = $1", []any{release}, []any{&text}, func() error {
			var part deident.Report
			if err := json.Unmarshal(text, &part); err != nil {
				return err
			}
			report.Add(part)
			return nil
		}); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT count(DISTINCT patient) FROM deident.member WHERE release = $1 AND patient <> ''", release).Scan(&patients); err != nil {
			return err
		}
		if into == nil {
			return nil
		}
		var a, b string
		if err := forEach(ctx, tx, "SELECT patient, alike FROM deident.patient WHERE release = $1 AND member ORDER BY patient", []any{release}, []any{&a, &b}, func() error {
			into.Patient(fhir.ID(a), b)
			return nil
		}); err != nil {
			return err
		}
		return forEach(ctx, tx, "SELECT cell, patient FROM deident.cell WHERE release = $1", []any{release}, []any{&a, &b}, func() error {
			into.Cell(a, fhir.ID(b))
			return nil
		})
	})
	return patients, report, failed(err)
}

// Settle implements [export.Releases].
func (x releases) Settle(ctx context.Context, k export.Key, v deident.Verdict, report deident.Report) error {
	text, err := json.Marshal(report)
	if err != nil {
		return failed(err)
	}
	rare := make([]string, 0, len(v.Rare))
	for c := range v.Rare {
		rare = append(rare, c)
	}
	return x.within(ctx, k, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue("UPDATE deident.patient SET suppressed = patient = ANY ($2::text[]), generalised = patient = ANY ($3::text[]) WHERE release = $1 AND (suppressed OR generalised OR patient = ANY ($2::text[]) OR patient = ANY ($3::text[]))",
			k.Release, those(v.Suppressed), those(v.Generalised))
		batch.Queue("DELETE FROM deident.rare WHERE release = $1", k.Release)
		batch.Queue("INSERT INTO deident.rare (release, cell) SELECT $1::uuid, * FROM unnest($2::text[])", k.Release, rare)
		batch.Queue("UPDATE deident.release SET report = $2::jsonb WHERE id = $1", k.Release, json.RawMessage(text))
		return tx.SendBatch(ctx, batch).Close()
	})
}

func those(set map[fhir.ID]bool) []string {
	out := make([]string, 0, len(set))
	for id := range set {
		out = append(out, string(id))
	}
	return out
}

// Verdict implements [export.Releases].
func (x releases) Verdict(ctx context.Context, release string) (deident.Verdict, error) {
	v := deident.Verdict{Suppressed: map[fhir.ID]bool{}, Generalised: map[fhir.ID]bool{}, Rare: map[string]bool{}}
	err := pgx.BeginTxFunc(ctx, x.s.keys, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var settled, suppressed, generalised bool
		var text string
		if err := tx.QueryRow(ctx, "SELECT report IS NOT NULL FROM deident.release WHERE id = $1", release).Scan(&settled); err != nil {
			return err
		}
		if !settled {
			return errors.New("postgres: a release that is not settled")
		}
		if err := forEach(ctx, tx, "SELECT patient, suppressed, generalised FROM deident.patient WHERE release = $1 AND (suppressed OR generalised)", []any{release}, []any{&text, &suppressed, &generalised}, func() error {
			if suppressed {
				v.Suppressed[fhir.ID(text)] = true
			}
			if generalised {
				v.Generalised[fhir.ID(text)] = true
			}
			return nil
		}); err != nil {
			return err
		}
		return forEach(ctx, tx, "SELECT cell FROM deident.rare WHERE release = $1", []any{release}, []any{&text}, func() error {
			v.Rare[text] = true
			return nil
		})
	})
	return v, failed(err)
}

// Report implements [export.Releases].
func (x releases) Report(ctx context.Context, release string) (r deident.Report, err error) {
	var text []byte
	err = x.s.keys.QueryRow(ctx, "SELECT report FROM deident.release WHERE id = $1 AND report IS NOT NULL", release).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, export.ErrOver
	}
	if err != nil {
		return r, failed(err)
	}
	err = json.Unmarshal(text, &r)
	return r, failed(err)
}

const sourceColumns = "SELECT surrogate, id, patient, counted, version, row FROM deident.member WHERE release = $1 AND type = $2 AND "

func (x releases) sources(ctx context.Context, sql string, args ...any) (out []export.Source, err error) {
	var surrogate, id, patient string
	var counted []byte
	var version int32
	var row int64
	err = forEach(ctx, x.s.keys, sourceColumns+sql, args, []any{&surrogate, &id, &patient, &counted, &version, &row}, func() error {
		m := deident.Member{ID: fhir.ID(surrogate), Patient: fhir.ID(patient), Counted: append([]byte(nil), counted...)}
		if len(counted) == 0 {
			m.Counted = nil
		}
		out = append(out, export.Source{Surrogate: m.ID, ID: fhir.ID(id), Member: m, Version: fhir.VersionID(version), Row: row})
		return nil
	})
	return out, failed(err)
}

// Walk implements [export.Releases].
func (x releases) Walk(ctx context.Context, release string, t fhir.ResourceType, after fhir.ID, most int) ([]export.Source, error) {
	return x.sources(ctx, "surrogate > $3 ORDER BY surrogate LIMIT $4", release, string(t), string(after), most)
}

// Sources implements [export.Releases].
func (x releases) Sources(ctx context.Context, release string, t fhir.ResourceType, surrogates []fhir.ID) ([]export.Source, error) {
	return x.sources(ctx, "surrogate = ANY ($3::text[])", release, string(t), texts(surrogates))
}

// Members implements [export.Releases].
func (x releases) Members(ctx context.Context, release string, refs []fhir.Ref) (map[fhir.Ref]deident.Member, error) {
	types, ids := make([]string, len(refs)), make([]string, len(refs))
	for i, r := range refs {
		types[i], ids[i] = string(r.Type), string(r.ID)
	}
	out := make(map[fhir.Ref]deident.Member, len(refs))
	var t, id, surrogate, patient string
	var counted []byte
	err := forEach(ctx, x.s.keys, "SELECT m.type, m.id, m.surrogate, m.patient, m.counted FROM unnest($2::text[], $3::text[]) AS u(type, id) JOIN deident.member m ON m.release = $1 AND m.type = u.type AND m.id = u.id",
		[]any{release, types, ids}, []any{&t, &id, &surrogate, &patient, &counted}, func() error {
			m := deident.Member{ID: fhir.ID(surrogate), Patient: fhir.ID(patient)}
			if len(counted) > 0 {
				m.Counted = append([]byte(nil), counted...)
			}
			out[fhir.Ref{Type: fhir.ResourceType(t), ID: fhir.ID(id)}] = m
			return nil
		})
	return out, failed(err)
}

// Shifts implements [export.Releases].
func (x releases) Shifts(ctx context.Context, k export.Key, patients []fhir.ID, draw func() (int, error)) (map[fhir.ID]int, error) {
	out := make(map[fhir.ID]int, len(patients))
	err := x.within(ctx, k, func(tx pgx.Tx) error {
		var id string
		var n int16
		keep := func() error { out[fhir.ID(id)] = int(n); return nil }
		if err := forEach(ctx, tx, "SELECT patient, shift FROM deident.patient WHERE release = $1 AND patient = ANY ($2::text[]) AND shift IS NOT NULL", []any{k.Release, texts(patients)}, []any{&id, &n}, keep); err != nil {
			return err
		}
		var undrawn []fhir.ID
		var days []int16
		for _, p := range patients {
			if _, drawn := out[p]; drawn {
				continue
			}
			d, err := draw()
			if err != nil {
				return err
			}
			undrawn, days = append(undrawn, p), append(days, int16(d))
		}
		if undrawn == nil {
			return nil
		}
		return forEach(ctx, tx, "INSERT INTO deident.patient AS p (release, patient, shift) SELECT $1::uuid, * FROM unnest($2::text[], $3::smallint[]) "+
			"ON CONFLICT (release, patient) DO UPDATE SET shift = COALESCE(p.shift, excluded.shift) RETURNING p.patient, p.shift", []any{k.Release, texts(undrawn), days}, []any{&id, &n}, keep)
	})
	return out, err
}

// Wrote implements [export.Releases].
func (x releases) Wrote(ctx context.Context, k export.Key, t fhir.ResourceType, list []export.Source) error {
	ids, versions, rows := make([]string, len(list)), make([]int32, len(list)), make([]int64, len(list))
	for i, s := range list {
		ids[i], versions[i], rows[i] = string(s.ID), int32(s.Version), s.Row
	}
	return x.within(ctx, k, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE deident.member m SET version = u.version, row = u.row FROM unnest($3::text[], $4::integer[], $5::bigint[]) AS u(id, version, row) WHERE m.release = $1 AND m.type = $2 AND m.id = u.id",
			k.Release, string(t), ids, versions, rows)
		if err == nil && tag.RowsAffected() != int64(len(list)) {
			err = fmt.Errorf("postgres: %d of %d members of a release were written", tag.RowsAffected(), len(list))
		}
		return err
	})
}

// Keep implements [export.Releases].
func (x releases) Keep(ctx context.Context, k export.Key, expires time.Time) error {
	tag, err := x.s.keys.Exec(ctx, "UPDATE deident.release SET expires = $3 WHERE id = $1 AND turn = $2", k.Release, k.Turn, expires)
	return one(tag.RowsAffected(), err)
}

// Erase implements [export.Releases].
func (x releases) Erase(ctx context.Context, release string) error {
	_, err := x.s.keys.Exec(ctx, "DELETE FROM deident.release WHERE id = $1", release)
	return failed(err)
}

// EraseExpired implements [export.Releases].
func (x releases) EraseExpired(ctx context.Context) error {
	_, err := x.s.keys.Exec(ctx, "DELETE FROM deident.release WHERE expires <= $1", x.s.now().UTC())
	return failed(err)
}

// Kept implements [export.Releases].
func (x releases) Kept(ctx context.Context) (out []string, err error) {
	var id string
	err = forEach(ctx, x.s.keys, "SELECT id FROM deident.release ORDER BY id", nil, []any{&id}, func() error {
		out = append(out, id)
		return nil
	})
	return out, failed(err)
}

// OptedOut says which of these patients want no use of their records, not even of de-identified ones: a Consent of that
// kind in force denies something, whatever it is.
func (s *Store) OptedOut(ctx context.Context, g authz.Grant, patients []fhir.ID) (map[fhir.ID]bool, error) {
	out := map[fhir.ID]bool{}
	c := g.Caller()
	var id string
	err := forEach(ctx, s.app, "SELECT DISTINCT patient FROM record.consent_grant WHERE tenant = $1 AND patient = ANY ($2::text[]) AND about & $3::smallint <> 0 AND NOT permits AND (starts IS NULL OR starts <= $4) AND (ends IS NULL OR ends > $4)",
		[]any{c.Tenant, texts(patients), int16(consent.OptOut.Bit()), c.Now}, []any{&id}, func() error {
			out[fhir.ID(id)] = true
			return nil
		})
	return out, failed(err)
}
