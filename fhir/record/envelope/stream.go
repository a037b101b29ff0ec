package envelope

import (
	"context"
	"fmt"
	"io"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/streamingaead"
)

// StreamKey encrypts content that is too long to be held in memory, in segments of 1 MiB
// (AES-256-GCM with a key of its own for each stream, Tink's AES-GCM-HKDF). A stream that was
// cut off, or whose segments were moved, does not open to its end.
type StreamKey struct {
	seal func(w io.Writer, bound []byte) (io.WriteCloser, error)
	open func(r io.Reader, bound []byte) (io.Reader, error)
}

// Seal encrypts what is written until Close, which does not close w; only who names
// the same bound opens it again.
func (k *StreamKey) Seal(w io.Writer, bound []byte) (io.WriteCloser, error) { return k.seal(w, bound) }

// Open decrypts what was sealed with this key and the same bound. What it has read before
// an error is authentic, and not all.
func (k *StreamKey) Open(r io.Reader, bound []byte) (io.Reader, error) { return k.open(r, bound) }

// NewStreamKey makes a key for streams, and its wrapped form, which opens for the same owner only.
func (k *Keys) NewStreamKey(ctx context.Context, owner []byte) (*StreamKey, []byte, error) {
	h, err := keyset.NewHandle(streamingaead.AES256GCMHKDF1MBKeyTemplate())
	if err != nil {
		return nil, nil, fmt.Errorf("envelope: %w", err)
	}
	wrapped, err := k.wrap(ctx, h, owner)
	if err != nil {
		return nil, nil, err
	}
	s, err := streamKey(h)
	return s, wrapped, err
}

// UnwrapStream is [Keys.Unwrap] for a key of [Keys.NewStreamKey].
func (k *Keys) UnwrapStream(ctx context.Context, uri string, wrapped, owner []byte) (*StreamKey, error) {
	h, err := k.unwrap(ctx, uri, wrapped, owner)
	if err != nil {
		return nil, err
	}
	return streamKey(h)
}

func streamKey(h *keyset.Handle) (*StreamKey, error) {
	a, err := streamingaead.New(h)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	return &StreamKey{a.NewEncryptingWriter, a.NewDecryptingReader}, nil
}
