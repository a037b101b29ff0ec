package oidc

import (
	"container/list"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/cloister-health/cloister/authz"
)

const (
	// maxCached is how many verified tokens are remembered.
	maxCached = 10_000
	// maxAge is after what time a token is verified again although it has not
	// expired, so that a withdrawn key or a closed practice takes effect.
	maxAge = 5 * time.Minute
)

// cache remembers the principals of verified tokens, least recently used out
// first. Its keys are hashes: a dump of its memory gives nobody a token.
type cache struct {
	mu    sync.Mutex
	size  int
	order *list.List // of *entry, most recent first
	byKey map[[sha256.Size]byte]*list.Element
}

type entry struct {
	key       [sha256.Size]byte
	principal authz.Principal
	keys      []string // what the token ends with, see [Ended]
	until     time.Time
}

func newCache(size int) *cache {
	return &cache{size: size, order: list.New(), byKey: map[[sha256.Size]byte]*list.Element{}}
}

func (c *cache) get(token string, now time.Time) (p authz.Principal, keys []string, ok bool) {
	key := sha256.Sum256([]byte(token))
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return authz.Principal{}, nil, false
	}
	found, _ := e.Value.(*entry)
	if !now.Before(found.until) {
		c.order.Remove(e)
		delete(c.byKey, key)
		return authz.Principal{}, nil, false
	}
	c.order.MoveToFront(e)
	return clone(found.principal), found.keys, true
}

func (c *cache) put(token string, p authz.Principal, keys []string, now time.Time) {
	until := now.Add(maxAge)
	if p.Expiry.Before(until) {
		until = p.Expiry
	}
	key := sha256.Sum256([]byte(token))
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		c.order.Remove(e)
	}
	c.byKey[key] = c.order.PushFront(&entry{key, clone(p), keys, until})
	for c.order.Len() > c.size {
		last := c.order.Back()
		oldest, _ := c.order.Remove(last).(*entry)
		delete(c.byKey, oldest.key)
	}
}

// clone keeps a caller from changing the principal of the next request.
func clone(p authz.Principal) authz.Principal {
	p.Roles = slices.Clone(p.Roles)
	p.Organizations = slices.Clone(p.Organizations)
	return p
}
