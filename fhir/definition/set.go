package definition

import (
	"context"
	"fmt"
	"sync"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Set is a Source of packages in memory. It never changes.
type Set struct {
	index  index
	bodies [][]byte // by Entry.ID
	mu     sync.Mutex
	trees  map[int64]*element.Node
}

// NewSet makes a Source of packages. Trees are made when they are asked for,
// and kept.
func NewSet(packages ...*Package) *Set {
	s := &Set{trees: map[int64]*element.Node{}}
	var entries []Entry
	for _, p := range packages {
		for _, a := range p.Artifacts {
			entries = append(entries, Entry{int64(len(s.bodies)), a.Type, a.URL, a.Version, p.ID()})
			s.bodies = append(s.bodies, a.Body)
		}
	}
	s.index = newIndex(entries)
	return s
}

// Find is that of [Source].
func (s *Set) Find(_ context.Context, t fhir.ResourceType, canonical string) (*element.Node, bool, error) {
	e, ok := s.index.find(t, canonical)
	if !ok {
		return nil, false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.trees[e.ID]; n != nil {
		return n, true, nil
	}
	n, err := Parse(s.bodies[e.ID])
	if err != nil {
		return nil, false, fmt.Errorf("definition: %s: %w", e.Canonical(), err)
	}
	s.trees[e.ID] = n
	return n, true, nil
}

// Canonicals is that of [Lister].
func (s *Set) Canonicals(_ context.Context, t fhir.ResourceType) ([]string, error) {
	return s.index.canonicals(t), nil
}
