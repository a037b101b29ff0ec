// Package envelopetest has a key encryption key for tests, and one that fails.
package envelopetest

import (
	"errors"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/cloister-health/cloister/fhir/record/envelope"
)

// Keys is the same key in every process, because tests copy databases that
// other processes have filled. It is known to everybody, and protects nothing.
func Keys() *envelope.Keys { return envelope.New("test:known", Primitive("known to everybody")) }

// Primitive is a key that is made of a text.
func Primitive(text string) tink.AEAD {
	key := make([]byte, 32)
	copy(key, text)
	a, err := subtle.NewAESGCM(key)
	if err != nil {
		panic(err)
	}
	return a
}

// Keeper is a KMS that can be out of reach, and counts what it is asked.
type Keeper struct {
	tink.AEAD
	Down   atomic.Bool
	Calls  atomic.Int64
	Before func() // is called once, before the next wrapping; nil: nothing
}

var errDown = errors.New("envelopetest: the keeper of the keys cannot be reached")

// Encrypt wraps.
func (k *Keeper) Encrypt(plaintext, associated []byte) ([]byte, error) {
	k.Calls.Add(1)
	if k.Down.Load() {
		return nil, errDown
	}
	if f := k.Before; f != nil {
		k.Before = nil
		f()
	}
	return k.AEAD.Encrypt(plaintext, associated)
}

// Decrypt unwraps.
func (k *Keeper) Decrypt(ciphertext, associated []byte) ([]byte, error) {
	k.Calls.Add(1)
	if k.Down.Load() {
		return nil, errDown
	}
	return k.AEAD.Decrypt(ciphertext, associated)
}
