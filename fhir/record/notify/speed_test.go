package notify_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cloister-health/cloister/fhir"
)

// BenchmarkWrite is one transaction of one resource, where nobody has subscribed and where somebody has.
func BenchmarkWrite(b *testing.B) {
	for _, subscribed := range []bool{false, true} {
		b.Run(fmt.Sprintf("subscribed=%v", subscribed), func(b *testing.B) {
			h := newHouse(b)
			if subscribed {
				h.active(h.exchange(), subscription("resource-change", "id-only", "", "Observation"))
			}
			n := 0
			for b.Loop() {
				n++
				x, err := h.Admit(fhir.Update, []string{observation(fmt.Sprint("b", n%50), "anna", fmt.Sprintf(`,"valueInteger":%d`, n))})
				if err != nil {
					b.Fatal(err)
				}
				h.Clock.Add(1)
				if _, err := h.Store.Commit(context.Background(), x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
