package search

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

// Registry is the search parameters that a practice has: those of R4, and its
// own on top. A nil *Registry is those of R4 alone. It does not change, so that
// it is safe for concurrent use.
type Registry struct {
	list map[fhir.ResourceType][]*Param
}

// Overlay puts parameters of [Compile] on top of those of R4. The error names a
// parameter whose code a type knows already: those of R4 carry compartments and
// links, so nobody redefines them.
func Overlay(own ...*Param) (*Registry, error) {
	r := &Registry{list: map[fhir.ResourceType][]*Param{}}
	for _, p := range own {
		for _, t := range p.Bases {
			if _, taken := r.Lookup(t, p.Code); taken {
				return nil, fmt.Errorf("%s has a search parameter %s already", t, p.Code)
			}
			r.list[t] = append(r.list[t], p.on(t))
		}
	}
	for _, list := range r.list {
		slices.SortFunc(list, func(a, b *Param) int { return strings.Compare(a.Code, b.Code) })
	}
	return r, nil
}

// Params lists the search parameters of t: parameters of every resource (_id,
// _tag ...) first, those of R4 by code, the practice's own by code; refused
// ones included. The caller must not change them.
func (r *Registry) Params(t fhir.ResourceType) []*Param {
	if !t.Valid() {
		return nil
	}
	return slices.Concat(common, registry().list["Resource"], registry().list[t], r.own(t))
}

// Lookup finds the parameter code of t, refused or not.
func (r *Registry) Lookup(t fhir.ResourceType, code string) (*Param, bool) {
	if !t.Valid() {
		return nil, false
	}
	for _, p := range common {
		if p.Code == code {
			return p, true
		}
	}
	if p, ok := registry().index[key{t, code}]; ok {
		return p, true
	}
	if p, ok := registry().index[key{"Resource", code}]; ok {
		return p, true
	}
	for _, p := range r.own(t) {
		if p.Code == code {
			return p, true
		}
	}
	return nil, false
}

func (r *Registry) own(t fhir.ResourceType) []*Param {
	if r == nil {
		return nil
	}
	return r.list[t]
}
