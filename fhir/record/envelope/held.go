package envelope

import (
	"sync"
	"time"
)

// Held remembers unwrapped keys for a while: workers need one in each turn, and its keeper may be far.
type Held[K any] struct {
	mu   sync.Mutex
	keys map[string]held[K]
}

type held[K any] struct {
	key   K
	until time.Time
}

const (
	heldLife = 5 * time.Minute
	heldMost = 256
)

// Get gives the key of that name, which unwrap gets where it is not remembered.
func (h *Held[K]) Get(name string, now time.Time, unwrap func() (K, error)) (K, error) {
	h.mu.Lock()
	x, ok := h.keys[name]
	h.mu.Unlock()
	if ok && now.Before(x.until) {
		return x.key, nil
	}
	key, err := unwrap()
	if err != nil {
		return key, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keys == nil || len(h.keys) >= heldMost {
		h.keys = map[string]held[K]{}
	}
	h.keys[name] = held[K]{key, now.Add(heldLife)}
	return key, nil
}

// Forget forgets a key.
func (h *Held[K]) Forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.keys, name)
}
