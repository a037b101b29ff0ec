package lru

import (
	"testing"

	"pgregory.net/rapid"
)

// A cache agrees with a slow model of itself, whatever is done to it.
func TestCacheAgreesWithItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const bound = 20
		c := New[int, int](bound)
		type kept struct{ key, value, size int }
		var model []kept // most recently used first
		take := func(key int) (kept, bool) {
			for i, m := range model {
				if m.key == key {
					model = append(model[:i:i], model[i+1:]...)
					return m, true
				}
			}
			return kept{}, false
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			key := rapid.IntRange(0, 9).Draw(t, "key")
			if rapid.Bool().Draw(t, "get") {
				m, want := take(key)
				if want {
					model = append([]kept{m}, model...)
				}
				if v, ok := c.Get(key); ok != want || v != m.value {
					t.Fatalf("Get(%d) = %d, %t, want %d, %t", key, v, ok, m.value, want)
				}
				continue
			}
			m := kept{key, rapid.Int().Draw(t, "value"), rapid.IntRange(1, bound+3).Draw(t, "size")}
			c.Put(m.key, m.value, int64(m.size))
			take(key)
			if m.size <= bound {
				model = append([]kept{m}, model...)
			}
			sum := 0
			for i, x := range model {
				if sum += x.size; sum > bound {
					model = model[:i]
					sum -= x.size
					break
				}
			}
			if c.Bytes() != int64(sum) {
				t.Fatalf("%d bytes, want %d", c.Bytes(), sum)
			}
		}
	})
}
