package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/envelope"
)

const (
	// heldLife is for how long an unwrapped data key stays in memory.
	heldLife = 5 * time.Minute
	// heldMost is how many stay there.
	heldMost = 1000
)

// noteKeys finds and makes the data keys of notes.
type noteKeys struct {
	keys *envelope.Keys // nil: notes are neither stored nor opened
	now  func() time.Time

	mu   sync.Mutex
	held map[holding]held
}

// holding is a data key in the hand of one caller. Nobody shares what somebody
// else has unwrapped: how long it takes to open a note of one's own must not
// tell that somebody has looked at another note of the same patient.
type holding struct {
	id      int64
	tenant  int32
	subject string
}

type held struct {
	key   *envelope.DataKey
	until time.Time
}

func newNoteKeys(keys *envelope.Keys, now func() time.Time) *noteKeys {
	return &noteKeys{keys: keys, now: now, held: map[holding]held{}}
}

var (
	errNoKeys = outcome.New(outcome.BusinessRule, "psychotherapy and SUD counseling notes cannot be stored here: there is no key to encrypt them")
	errKeyOut = outcome.New(outcome.Unavailable, "the key of a psychotherapy or SUD counseling note cannot be reached: try again")
)

// unreached is the public face of what went wrong with a key.
func unreached(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return failed(err)
	}
	return errKeyOut.Because(err)
}

// keyOwner is what a wrapped data key is bound to.
func keyOwner(tenant int32, patient string) []byte {
	return []byte("cloister data key\n" + strconv.Itoa(int(tenant)) + "\n" + patient)
}

// get is the data key of that number, for a caller who may read what it encrypts.
func (n *noteKeys) get(ctx context.Context, q querier, h holding) (*envelope.DataKey, error) {
	if n.keys == nil {
		return nil, errKeyOut
	}
	now := n.now()
	n.mu.Lock()
	x, ok := n.held[h]
	n.mu.Unlock()
	if ok && now.Before(x.until) {
		return x.key, nil
	}
	var patient, kek string
	var wrapped []byte
	err := forEach(ctx, q, "SELECT patient, kek, wrapped FROM notes.data_key WHERE id = $1 AND tenant = $2", []any{h.id, h.tenant}, []any{&patient, &kek, &wrapped}, func() error { return nil })
	if err != nil {
		return nil, failed(err)
	}
	if wrapped == nil {
		return nil, failed(fmt.Errorf("%w: its data key is not there", errNoteBody))
	}
	key, err := n.keys.Unwrap(ctx, kek, wrapped, keyOwner(h.tenant, patient))
	if err != nil {
		return nil, unreached(err)
	}
	n.hold(h, held{key, now.Add(heldLife)}, now)
	return key, nil
}

// hold remembers a key, in the place of expired ones or of any.
func (n *noteKeys) hold(h holding, x held, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.held) >= heldMost {
		for old, y := range n.held {
			if !now.Before(y.until) {
				delete(n.held, old)
			}
		}
		for old := range n.held {
			if len(n.held) < heldMost {
				break
			}
			delete(n.held, old)
		}
	}
	n.held[h] = x
}

// of is the data key of a patient, for what is about to be stored; her first note
// makes it. Either way the keeper of the keys is asked once, and nothing is taken
// from memory: the time that it takes does not tell whether there is a note already.
func (n *noteKeys) of(ctx context.Context, q querier, tenant int32, patient fhir.ID) (id int64, key *envelope.DataKey, err error) {
	if n.keys == nil {
		return 0, nil, errNoKeys
	}
	whose := keyOwner(tenant, string(patient))
	// A key that another process makes at the same moment is found the second time.
	for range 2 {
		var kek string
		var wrapped []byte
		if err := forEach(ctx, q, "SELECT id, kek, wrapped FROM notes.data_key WHERE tenant = $1 AND patient = $2", []any{tenant, string(patient)}, []any{&id, &kek, &wrapped}, func() error { return nil }); err != nil {
			return 0, nil, err
		}
		if wrapped != nil {
			if key, err = n.keys.Unwrap(ctx, kek, wrapped, whose); err != nil {
				return 0, nil, unreached(err)
			}
			return id, key, nil
		}
		if key, wrapped, err = n.keys.NewDataKey(ctx, whose); err != nil {
			return 0, nil, unreached(err)
		}
		if err := forEach(ctx, q, "INSERT INTO notes.data_key (tenant, patient, kek, wrapped) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant, patient) DO NOTHING RETURNING id",
			[]any{tenant, string(patient), n.keys.URI(), wrapped}, []any{&id}, func() error { return nil }); err != nil {
			return 0, nil, err
		}
		if id != 0 {
			return id, key, nil
		}
	}
	return 0, nil, errCollision
}

// CheckKeys unwraps one data key for each key encryption key that some were
// wrapped under, and fails where that does not work.
func (s *Store) CheckKeys(ctx context.Context) error {
	if s.noteKeys.keys == nil {
		return errKeyOut
	}
	var all []wrappedKey
	var x wrappedKey
	if err := forEach(ctx, s.notes, "SELECT DISTINCT ON (kek) id, tenant, patient, kek, wrapped FROM notes.data_key ORDER BY kek, id DESC", nil, x.scan(), func() error {
		all = append(all, x)
		return nil
	}); err != nil {
		return failed(err)
	}
	for _, x := range all {
		if _, err := s.noteKeys.keys.Unwrap(ctx, x.kek, x.wrapped, keyOwner(x.tenant, x.patient)); err != nil {
			return err
		}
	}
	_, _, err := s.noteKeys.keys.NewDataKey(ctx, nil)
	return err
}

// wrappedKey is a row of notes.data_key.
type wrappedKey struct {
	id           int64
	tenant       int32
	patient, kek string
	wrapped      []byte // pgx makes it anew for each row
}

func (x *wrappedKey) scan() []any { return []any{&x.id, &x.tenant, &x.patient, &x.kek, &x.wrapped} }
