package definition

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/internal/lru"
)

// Shelf is where installed packages lie.
type Shelf interface {
	// Revision is a number that changes with every package that is installed.
	Revision(ctx context.Context) (int64, error)
	// Entries lists all definitions, with the revision of that list.
	Entries(ctx context.Context) (int64, []Entry, error)
	// Body gives the JSON of an entry.
	Body(ctx context.Context, id int64) ([]byte, error)
}

// Library is a Source over a shelf. It reads a definition when it is asked
// for, keeps the last used ones within a bound of memory, and sees a newly
// installed package within [Stale].
type Library struct {
	shelf Shelf
	now   func() time.Time
	trees *lru.Cache[int64, *element.Node]

	refresh sync.Mutex // held while the shelf is asked
	known   atomic.Pointer[knowledge]
	checked atomic.Int64 // when the shelf was last asked, in nanoseconds since the epoch
}

type knowledge struct {
	revision int64
	index    index
}

// Stale is how late a Library may learn of a package that another process installed.
const Stale = time.Second

// DefaultMemory is how many bytes of trees a Library keeps.
const DefaultMemory = 32 << 20

// NewLibrary makes a Source over a shelf that keeps trees of up to memory
// bytes. now is the one clock of the server.
func NewLibrary(s Shelf, now func() time.Time, memory int64) *Library {
	return &Library{shelf: s, now: now, trees: lru.New[int64, *element.Node](memory)}
}

// knowledge gives the index, of the present revision where the last look at the shelf is too long ago.
func (l *Library) knowledge(ctx context.Context) (*knowledge, error) {
	k := l.known.Load()
	if k != nil && l.fresh() {
		return k, nil
	}
	if k == nil {
		l.refresh.Lock()
	} else if !l.refresh.TryLock() {
		return k, nil // somebody else is looking
	}
	defer l.refresh.Unlock()
	if k = l.known.Load(); k != nil {
		if l.fresh() {
			return k, nil
		}
		r, err := l.shelf.Revision(ctx)
		if err != nil {
			return nil, err
		}
		if r == k.revision {
			l.checked.Store(l.now().UnixNano())
			return k, nil
		}
	}
	r, entries, err := l.shelf.Entries(ctx)
	if err != nil {
		return nil, err
	}
	k = &knowledge{r, newIndex(entries)}
	l.known.Store(k)
	l.checked.Store(l.now().UnixNano())
	return k, nil
}

func (l *Library) fresh() bool {
	age := l.now().UnixNano() - l.checked.Load()
	return age >= 0 && age < int64(Stale)
}

// Refresh makes the next question look at the shelf first.
func (l *Library) Refresh() { l.checked.Store(0) }

// Revision is that of [Versioned].
func (l *Library) Revision(ctx context.Context) (int64, error) {
	k, err := l.knowledge(ctx)
	if err != nil {
		return 0, err
	}
	return k.revision, nil
}

// Find is that of [Source].
func (l *Library) Find(ctx context.Context, t fhir.ResourceType, canonical string) (*element.Node, bool, error) {
	k, err := l.knowledge(ctx)
	if err != nil {
		return nil, false, err
	}
	e, ok := k.index.find(t, canonical)
	if !ok {
		return nil, false, nil
	}
	if n, ok := l.trees.Get(e.ID); ok {
		return n, true, nil
	}
	body, err := l.shelf.Body(ctx, e.ID)
	if err != nil {
		return nil, false, err
	}
	n, err := Parse(body)
	if err != nil {
		return nil, false, fmt.Errorf("definition: %s: %w", e.Canonical(), err)
	}
	l.trees.Put(e.ID, n, Size(n))
	return n, true, nil
}

// Canonicals is that of [Lister].
func (l *Library) Canonicals(ctx context.Context, t fhir.ResourceType) ([]string, error) {
	k, err := l.knowledge(ctx)
	if err != nil {
		return nil, err
	}
	return k.index.canonicals(t), nil
}
