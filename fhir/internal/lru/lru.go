// Package lru keeps the most recently used values within a bound of bytes.
package lru

import (
	"container/list"
	"sync"
)

// Cache is safe for concurrent use. Values must not be changed once they are in it.
type Cache[K comparable, V any] struct {
	mu    sync.Mutex
	bound int64
	bytes int64
	order *list.List // front: most recently used
	byKey map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
	size  int64
}

// New makes a cache of values whose sizes sum up to no more than bound bytes.
func New[K comparable, V any](bound int64) *Cache[K, V] {
	return &Cache[K, V]{bound: bound, order: list.New(), byKey: map[K]*list.Element{}}
}

// Get returns the value of key, if it is still there.
func (c *Cache[K, V]) Get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true //nolint:errcheck,forcetypeassert // Put alone fills the list
}

// Put keeps value under key, and forgets what was used longest ago where size
// bytes need its place. A value larger than the bound is not kept.
func (c *Cache[K, V]) Put(key K, value V, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		c.remove(e)
	}
	if size > c.bound {
		return
	}
	c.byKey[key] = c.order.PushFront(&entry[K, V]{key, value, size})
	for c.bytes += size; c.bytes > c.bound; {
		c.remove(c.order.Back())
	}
}

func (c *Cache[K, V]) remove(e *list.Element) {
	x := c.order.Remove(e).(*entry[K, V]) //nolint:errcheck,forcetypeassert // Put alone fills the list
	delete(c.byKey, x.key)
	c.bytes -= x.size
}

// Bytes is the sum of the sizes of what is in the cache.
func (c *Cache[K, V]) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
