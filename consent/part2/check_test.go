package part2_test

import "testing"

// yes and no say what a rule decides; a rule has a test with both.
func yes(t *testing.T, got bool, what string) {
	t.Helper()
	if !got {
		t.Errorf("%s: denied", what)
	}
}

func no(t *testing.T, got bool, what string) {
	t.Helper()
	if got {
		t.Errorf("%s: permitted", what)
	}
}
