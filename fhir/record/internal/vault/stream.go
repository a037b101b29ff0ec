package vault

import (
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
	copy    func(io.Writer) error
}

// Flow makes a stream. noticed says that the notice of 42 CFR 2.32 goes with it.
func Flow(g authz.Grant, noticed bool, copied func(io.Writer) error) Stream {
	return Stream{g, noticed, copied}
}

// HeldBy reports whether s was let out to the request of g.
func (s Stream) HeldBy(g authz.Grant) bool { return s.grant.Same(g) }

// Noticed reports whether the notice of 42 CFR 2.32 goes with s.
func (s Stream) Noticed() bool { return s.noticed }

// Copy writes the content. After an error, what was written is not all of it.
func (s Stream) Copy(w io.Writer) error {
	if s.copy == nil {
		return authz.ErrDenied
	}
	return s.copy(w)
}

// Format keeps the content out of every fmt verb.
func (Stream) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[stream]") }

// LogValue keeps the content out of logs.
func (Stream) LogValue() slog.Value { return slog.StringValue("[stream]") }
