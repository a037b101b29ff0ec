package state_test

import (
	"testing"

	"github.com/cloister-health/cloister/consent/state"
)

// S28, J11: where no law that is known to hold lets a minor consent alone, the minor does not.
func TestS28_J11_MinorsUnderTheLawOfAPractice(t *testing.T) {
	washington, err := state.Select("US-WA")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set  state.Set
		age  int
		want bool
	}{"no law is known": {nil, 17, false}, "thirteen in Washington": {washington, 13, true}, "twelve in Washington": {washington, 12, false}} {
		if got := c.set.MayConsentAlone(state.SubstanceUse, c.age); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
