package export

import (
	"sync"
	"time"

	"github.com/cloister-health/cloister/fhir/record/envelope"
)

// heldKeys remembers the keys of jobs for a while: each page needs one, and its keeper may be far.
type heldKeys struct {
	mu   sync.Mutex
	keys map[string]heldKey
}

type heldKey struct {
	key   *envelope.StreamKey
	until time.Time
}

const (
	heldLife = 5 * time.Minute
	heldMost = 256
)

func newHeldKeys() *heldKeys { return &heldKeys{keys: map[string]heldKey{}} }

func (h *heldKeys) get(job string, now time.Time, unwrap func() (*envelope.StreamKey, error)) (*envelope.StreamKey, error) {
	h.mu.Lock()
	x, ok := h.keys[job]
	h.mu.Unlock()
	if ok && now.Before(x.until) {
		return x.key, nil
	}
	key, err := unwrap()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.keys) >= heldMost {
		clear(h.keys)
	}
	h.keys[job] = heldKey{key, now.Add(heldLife)}
	return key, nil
}

func (h *heldKeys) forget(job string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.keys, job)
}
