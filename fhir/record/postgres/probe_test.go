package postgres

import "testing"

// WithoutProbes asks each row about its chains, as if every hop led to too many.
func WithoutProbes(t testing.TB) {
	was := probeLimit
	probeLimit = -1
	t.Cleanup(func() { probeLimit = was })
}
