package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
)

// standingSQL says of the Consents s of a practice that were signed here what the last signature covers.
const standingSQL = "SELECT DISTINCT ON (s.source) s.source, s.digest, s.ended FROM record.consent_signature s WHERE s.tenant = $1 AND s.source = ANY ($2::bigint[]) ORDER BY s.source, s.version DESC"

// attest keeps the signatures that the transaction adds to Consents, and says of each Consent that it
// writes whether signatures of it were made here, and cover what it says now. Whatever
// changes one afterwards, by whatever way it comes, comes through here.
func (w *write) attest(ctx context.Context) (map[int64]consent.Attested, error) {
	out := map[int64]consent.Attested{}
	rows := map[int64]*row{}
	var pks, signed, over []int64
	for _, r := range w.rows {
		if r.c.Ref.Type != "Consent" || r.unchanged {
			continue
		}
		rows[r.pk] = r
		pks = append(pks, r.pk)
		if s := r.c.Signature; s != nil {
			signed = append(signed, r.pk)
			if s.First {
				over = append(over, r.pk)
			}
		}
	}
	if pks == nil {
		return out, nil
	}
	var pk int64
	var digest []byte
	var ended bool
	if err := forEach(ctx, w.tx, standingSQL, []any{w.tenant(), pks}, []any{&pk, &digest, &ended}, func() error {
		r := rows[pk]
		switch {
		case r.c.Signature != nil:
		case !ended && r.c.Content != nil && bytes.Equal(digest, covers(r.c.Content)):
			out[pk] = consent.Covered
		default:
			out[pk] = consent.Lapsed
			if r.c.Content == nil || r.c.Content.Root.Get("status").String() != "active" {
				over = append(over, pk)
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if over != nil {
		if _, err := w.tx.Exec(ctx, "UPDATE record.consent_signature SET ended = true WHERE tenant = $1 AND source = ANY ($2::bigint[]) AND NOT ended", w.tenant(), over); err != nil {
			return nil, err
		}
	}
	for _, pk := range signed {
		r := rows[pk]
		s := r.c.Signature
		if _, err := w.tx.Exec(ctx, "INSERT INTO record.consent_signature (tenant, source, version, role, signer, subject, at, digest) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
			w.tenant(), pk, r.version, s.Role, s.Who.String(), s.Subject, s.At, covers(r.c.Content)); err != nil {
			return nil, err
		}
		out[pk] = consent.Covered
	}
	return out, nil
}

// covers is the digest of what a signature of a Consent covers.
func covers(r *codec.Resource) []byte {
	sum := sha256.Sum256(r.Canonical())
	return sum[:]
}

// Standing gives the signatures that cover what a Consent says now, the oldest first. Of a Consent that
// the Restriction hides it is that of one which does not exist.
func (s *Store) Standing(ctx context.Context, r authz.Restriction, id fhir.ID) (out record.Standing, err error) {
	if r.Empty() {
		return out, errNotFound
	}
	var q statement
	x := restrict(&q, r)
	x.keyed = true
	// A Consent is of one view, and of one schema.
	q.WriteString("SELECT r.pk, CASE WHEN r.co_patients IS NULL THEN COALESCE(r.patient, '') ELSE '' END, r.body::text FROM record.resource r WHERE r.id = " + q.arg(string(id)) + " AND NOT r.deleted AND " + x.where("r") + " ORDER BY r.shadow LIMIT 1")
	var pk int64
	var patient string
	var body []byte
	if err := forEach(ctx, s.app, q.String(), q.args, []any{&pk, &patient, &body}, func() error { return nil }); err != nil {
		return out, failed(err)
	}
	if pk == 0 {
		return out, errNotFound
	}
	out.Patient = fhir.ID(patient)
	root, err := codec.ReadJSON(body, codec.DefaultLimits)
	if err != nil {
		return out, failed(err)
	}
	content := &codec.Resource{Type: r.Type(), Root: root}
	var made record.Signature
	var signer string
	var digest []byte
	var ended bool
	last := false
	if err := forEach(ctx, s.app, "SELECT version, role, signer, subject, digest, ended FROM record.consent_signature WHERE tenant = $1 AND source = $2 ORDER BY version",
		[]any{r.Grant().Caller().Tenant, pk}, []any{&made.Version, &made.Role, &signer, &made.Subject, &digest, &ended}, func() error {
			out.Attested = consent.Lapsed
			last = !ended && bytes.Equal(digest, covers(content))
			if !ended {
				made.Who, _ = fhir.ParseRef(signer)
				out.Signatures = append(out.Signatures, made)
			}
			return nil
		}); err != nil {
		return out, failed(err)
	}
	if !last {
		out.Signatures = nil
		return out, nil
	}
	out.Attested = consent.Covered
	return out, nil
}

// Attested says of each Consent of a patient that was signed here, and that the Restriction shows, whether
// the signatures cover what it says now.
func (s *Store) Attested(ctx context.Context, r authz.Restriction, patient fhir.ID) (map[fhir.ID]consent.Attested, error) {
	out := map[fhir.ID]consent.Attested{}
	if r.Empty() {
		return out, nil
	}
	var q statement
	x := restrict(&q, r)
	q.WriteString("SELECT r.id FROM record.resource r WHERE r.patient = " + q.arg(string(patient)) + " AND NOT r.deleted AND " + x.where("r") +
		" AND EXISTS (SELECT FROM record.consent_signature s WHERE s.tenant = r.tenant AND s.source = r.pk)")
	var ids []fhir.ID
	var id fhir.ID
	if err := forEach(ctx, s.app, q.String(), q.args, []any{&id}, func() error { ids = append(ids, id); return nil }); err != nil {
		return nil, failed(err)
	}
	for _, id := range ids {
		st, err := s.Standing(ctx, r, id)
		if err != nil {
			return nil, err
		}
		out[id] = st.Attested
	}
	return out, nil
}
