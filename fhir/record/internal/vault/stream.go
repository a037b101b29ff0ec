package vault

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"

	"github.com/cloister-health/cloister/authz"
)

// Stream is content that the trusted subtree lets out to the holder of one grant,
// too long to be held in memory. Its source is behind a closure, like that of a [Sealed].
type Stream struct {
	grant   authz.Grant
	noticed bool
	tag     string
	size    int64
	copy    func(w io.Writer, from, to int64) error
}

// Flow makes a stream of so many bytes, of which copied writes those from the one offset
// and before the other. Two streams of one tag have the same bytes. noticed says that the
// notice of 42 CFR 2.32 goes with it.
func Flow(g authz.Grant, noticed bool, tag string, size int64, copied func(w io.Writer, from, to int64) error) Stream {
	return Stream{g, noticed, tag, size, copied}
}

// Whole makes a stream of these bytes.
func Whole(g authz.Grant, noticed bool, body []byte) Stream {
	sum := sha256.Sum256(body)
	return Flow(g, noticed, hex.EncodeToString(sum[:16]), int64(len(body)), func(w io.Writer, from, to int64) error {
		_, err := w.Write(body[from:to])
		return err //nolint:wrapcheck // a writer's own
	})
}

// Flowing makes a stream whose size is known at its end.
func Flowing(g authz.Grant, noticed bool, copied func(io.Writer) error) Stream {
	return Flow(g, noticed, "", -1, func(w io.Writer, _, _ int64) error { return copied(w) })
}

// HeldBy reports whether s was let out to the request of g.
func (s Stream) HeldBy(g authz.Grant) bool { return s.grant.Same(g) }

// Noticed reports whether the notice of 42 CFR 2.32 goes with s.
func (s Stream) Noticed() bool { return s.noticed }

// Tag is the same for streams of the same bytes alone: letters and digits.
func (s Stream) Tag() string { return s.tag }

// Size is how many bytes s has; below 0 where that is known at its end.
func (s Stream) Size() int64 { return s.size }

// Copy writes the content. After an error, what was written is not all of it.
func (s Stream) Copy(w io.Writer) error { return s.CopyRange(w, 0, s.size) }

// CopyRange writes the bytes from the one offset and before the other.
func (s Stream) CopyRange(w io.Writer, from, to int64) error {
	if s.copy == nil {
		return authz.ErrDenied
	}
	return s.copy(w, from, to)
}

// Format keeps the content out of every fmt verb.
func (Stream) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[stream]") }

// LogValue keeps the content out of logs.
func (Stream) LogValue() slog.Value { return slog.StringValue("[stream]") }
