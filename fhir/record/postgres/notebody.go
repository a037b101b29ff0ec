package postgres

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strconv"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// The body of a note is a JSON string in the schema notes:
// "1.<number of the data key>.<ciphertext in base64>".
const noteFormat = `"1.`

var errNoteBody = errors.New("postgres: the body of a note is not what was stored")

// bound is what a body is bound to: in another row, or as another version of its
// own, it does not open.
func bound(tenant int32, ref fhir.Ref, v fhir.VersionID) []byte {
	return []byte("cloister note\n" + strconv.Itoa(int(tenant)) + "\n" + ref.String() + "/_history/" + v.String())
}

func encryptNote(key *envelope.DataKey, id int64, tenant int32, ref fhir.Ref, v fhir.VersionID, body []byte) ([]byte, error) {
	text, err := key.Seal(body, bound(tenant, ref, v))
	if err != nil {
		return nil, err
	}
	out := append(strconv.AppendInt([]byte(noteFormat), id, 10), '.')
	return append(base64.RawStdEncoding.AppendEncode(out, text), '"'), nil
}

// encrypt makes of each note what is stored of it, under the data key of its patient.
func (w *write) encrypt(ctx context.Context) error {
	type made struct {
		id  int64
		key *envelope.DataKey
	}
	keys := map[fhir.ID]made{}
	for _, r := range w.rows {
		if r.schema != "notes" || r.body == nil {
			continue
		}
		var patient fhir.ID
		if len(r.patients) > 0 {
			patient = r.patients[0]
		}
		k, ok := keys[patient]
		if !ok {
			var err error
			if k.id, k.key, err = w.s.noteKeys.of(ctx, w.tx, w.tenant(), patient); err != nil {
				if errors.Is(err, errNoKeys) {
					return w.fail(r, err)
				}
				return err
			}
			keys[patient] = k
		}
		var err error
		if r.body, err = encryptNote(k.key, k.id, w.tenant(), r.c.Ref, r.version, r.body); err != nil {
			return err
		}
		r.index = noteIndex(r.c.Ref.Type, r.c.Content.Root)
	}
	return nil
}

// box closes the box around a body. That of a note is decrypted when the gate
// opens the box, after it has decided, and never otherwise.
func (s *Store) box(h vault.Header, g authz.Grant, body []byte) record.Sealed {
	if !h.Labels.Any(label.Notes) && !bytes.HasPrefix(body, []byte{'"'}) || body == nil {
		return vault.Seal(h, g, body)
	}
	return vault.SealEncrypted(h, g, func(ctx context.Context) ([]byte, error) {
		c := g.Caller()
		return s.decrypt(ctx, s.notes, c.Tenant, c.Subject, h.Ref, h.Version, body)
	})
}

// decrypt gives the resource that the body of a note holds. subject is on whose behalf.
func (s *Store) decrypt(ctx context.Context, q querier, tenant int32, subject string, ref fhir.Ref, v fhir.VersionID, body []byte) ([]byte, error) {
	number, text, ok := bytes.Cut(bytes.TrimSuffix(bytes.TrimPrefix(body, []byte(noteFormat)), []byte{'"'}), []byte{'.'})
	id, err := strconv.ParseInt(string(number), 10, 64)
	if !ok || err != nil || !bytes.HasPrefix(body, []byte(noteFormat)) {
		return nil, failed(errNoteBody)
	}
	sealed, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return nil, failed(errNoteBody)
	}
	key, err := s.noteKeys.get(ctx, q, holding{id, tenant, subject})
	if err != nil {
		return nil, err
	}
	out, err := key.Open(sealed, bound(tenant, ref, v))
	if err != nil {
		return nil, failed(errNoteBody)
	}
	return out, nil
}
