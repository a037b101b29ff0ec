// Package envelope encrypts content under data keys, and data keys under key
// encryption keys, which stay with whoever keeps them: a file, Vault, a KMS.
//
// A data key is a Tink keyset of one AES-256-GCM key. It is stored wrapped, and
// what it encrypts is bound to the place where it is stored: moved elsewhere, it
// does not open.
package envelope

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keys are key encryption keys: the one that wraps new data keys, and older
// ones that some data keys are still wrapped under.
type Keys struct{ all []kek }

// kek is a key encryption key and its name.
type kek struct {
	uri  string
	aead func() tink.AEADWithContext // behind a func, which no fmt verb calls
}

// New makes the key encryption key of that name from a primitive.
func New(uri string, primitive tink.AEAD) *Keys {
	var x tink.AEADWithContext = bounded{primitive}
	return &Keys{[]kek{{uri, func() tink.AEADWithContext { return x }}}}
}

// With is k with the keys of older behind its own.
func (k *Keys) With(older *Keys) *Keys { return &Keys{slices.Concat(k.all, older.all)} }

// Open finds keys by their URIs, which say who keeps them: see [Keepers]. uri is
// the one that wraps new data keys. It reads files, and asks no server yet.
func Open(uri string, older ...string) (*Keys, error) {
	k := &Keys{}
	for _, u := range append([]string{uri}, older...) {
		keeper, err := keeperOf(u)
		if err != nil {
			return nil, err
		}
		primitive, err := keeper(u)
		if err != nil {
			return nil, err
		}
		k.all = append(k.all, New(u, primitive).all...)
	}
	return k, nil
}

// URI names the key that wraps new data keys.
func (k *Keys) URI() string { return k.all[0].uri }

// Format keeps keys out of every fmt verb.
func (Keys) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[key encryption keys]") }

// DataKey encrypts content.
type DataKey struct {
	seal, open func(text, bound []byte) ([]byte, error)
}

// Seal encrypts; only who names the same bound opens it again.
func (d *DataKey) Seal(plaintext, bound []byte) ([]byte, error) { return d.seal(plaintext, bound) }

// Open decrypts what was sealed with this key and the same bound.
func (d *DataKey) Open(ciphertext, bound []byte) ([]byte, error) { return d.open(ciphertext, bound) }

// NewDataKey makes a data key, and its wrapped form, which opens for the same owner only.
func (k *Keys) NewDataKey(ctx context.Context, owner []byte) (*DataKey, []byte, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, nil, fmt.Errorf("envelope: %w", err)
	}
	wrapped, err := k.wrap(ctx, h, owner)
	if err != nil {
		return nil, nil, err
	}
	d, err := dataKey(h)
	return d, wrapped, err
}

// Unwrap opens a data key that was wrapped under the key of that URI. A key
// that is no longer known by that name (a file that was moved) may be any of k.
func (k *Keys) Unwrap(ctx context.Context, uri string, wrapped, owner []byte) (*DataKey, error) {
	h, err := k.unwrap(ctx, uri, wrapped, owner)
	if err != nil {
		return nil, err
	}
	return dataKey(h)
}

// Rewrap wraps a data key anew, under the key that wraps new ones.
func (k *Keys) Rewrap(ctx context.Context, uri string, wrapped, owner []byte) ([]byte, error) {
	h, err := k.unwrap(ctx, uri, wrapped, owner)
	if err != nil {
		return nil, err
	}
	return k.wrap(ctx, h, owner)
}

func (k *Keys) wrap(ctx context.Context, h *keyset.Handle, owner []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := h.WriteWithContext(ctx, keyset.NewBinaryWriter(&b), k.all[0].aead(), owner); err != nil {
		return nil, fmt.Errorf("envelope: %s did not wrap a data key: %w", k.all[0].uri, err)
	}
	return b.Bytes(), nil
}

func (k *Keys) unwrap(ctx context.Context, uri string, wrapped, owner []byte) (*keyset.Handle, error) {
	named := slices.DeleteFunc(slices.Clone(k.all), func(x kek) bool { return x.uri != uri })
	if len(named) == 0 {
		named = k.all
	}
	errs := []error{fmt.Errorf("envelope: a data key that %s wrapped was not unwrapped", uri)}
	for _, x := range named {
		h, err := keyset.ReadWithContext(ctx, keyset.NewBinaryReader(bytes.NewReader(wrapped)), x.aead(), owner)
		if err == nil {
			return h, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", x.uri, err))
	}
	return nil, errors.Join(errs...)
}

func dataKey(h *keyset.Handle) (*DataKey, error) {
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	return &DataKey{a.Encrypt, a.Decrypt}, nil
}

// bounded is a primitive whose calls end by themselves, so that nothing has to
// end them.
type bounded struct{ tink.AEAD }

func (p bounded) EncryptWithContext(ctx context.Context, plaintext, associated []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err //nolint:wrapcheck // the context's own
	}
	return p.Encrypt(plaintext, associated) //nolint:wrapcheck // by the caller
}

func (p bounded) DecryptWithContext(ctx context.Context, ciphertext, associated []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err //nolint:wrapcheck // the context's own
	}
	return p.Decrypt(ciphertext, associated) //nolint:wrapcheck // by the caller
}
