package search

import (
	"slices"

	"github.com/cloister-health/cloister/fhir/element"
)

// walker is the paths of all parameters of one type as one tree, so that one
// pass over a resource finds the values of all of them.
type walker struct {
	root   branch
	truths []*Param // of the shape "x.exists() and x != false": true or false, never absent
}

// branch is a place in a resource.
type branch struct {
	edges  map[string][]edge // by the name of the field; more than one where filters differ
	values []action
}

type edge struct {
	step step
	to   *branch
}

// action is what is done with a value: to index it as one of p, by path, or as
// an element of the composite p where path is nil.
type action struct {
	p    *Param
	path *path
}

func newWalker(lists ...[]*Param) *walker {
	w := &walker{}
	for _, list := range lists {
		for _, p := range list {
			switch {
			case !p.Searchable() || len(p.UnionOf) > 0:
			case p.Type == Token && p.paths[0].leaf == leafTruth:
				w.truths = append(w.truths, p)
			default:
				w.add(p)
			}
		}
	}
	return w
}

func (w *walker) add(p *Param) {
	for i := range p.paths {
		a := action{p: p, path: &p.paths[i]}
		switch {
		case p.Type == Composite:
			a.path = nil
		case a.path.keyed:
			continue
		}
		b := &w.root
		for _, s := range p.paths[i].steps {
			b = b.step(s)
		}
		b.values = append(b.values, a)
	}
}

func (b *branch) step(s step) *branch {
	for _, e := range b.edges[s.name] {
		if e.step == s {
			return e.to
		}
	}
	if b.edges == nil {
		b.edges = map[string][]edge{}
	}
	to := &branch{}
	b.edges[s.name] = append(b.edges[s.name], edge{s, to})
	return to
}

// settleComposites decides where the elements of each composite of one type
// stand in the index: together with the values of the parameter that its other
// part is, so that an element does not make two rows.
func settleComposites(list []*Param) {
	for _, c := range list {
		if !c.Searchable() || c.Type != Composite {
			continue
		}
		c.OnRoot = len(c.paths) == 1 && len(c.paths[0].steps) == 0
		if t := c.components[1].Type; t == Token || t == Reference || len(c.UnionOf) > 0 {
			continue
		}
		c.Under = c.Code
		i := slices.IndexFunc(list, func(p *Param) bool {
			return p.Code == c.components[1].Code && p.Type == c.components[1].Type && p.Searchable() && len(p.UnionOf) == 0
		})
		if i >= 0 && c.covers(list[i]) {
			c.Under = list[i].Code
		}
	}
}

// covers reports that every value of the other part of the composite p is one
// of that parameter, and notes which.
func (p *Param) covers(other *Param) bool {
	var found []*path
	for _, e := range p.paths {
		for _, part := range p.components[1].paths {
			whole := slices.Concat(e.steps, part.steps)
			i := slices.IndexFunc(other.paths, func(x path) bool { return x.leaf == part.leaf && slices.Equal(x.steps, whole) })
			if i < 0 {
				return false
			}
			found = append(found, &other.paths[i])
		}
	}
	for _, f := range found {
		f.keyed = true
	}
	return true
}

// visit indexes what lies at and below n, which stands at the place b.
func (x *extraction) visit(b *branch, n *element.Node) {
	for _, a := range b.values {
		if a.path == nil {
			x.element(a.p, n)
			continue
		}
		x.code = a.p.Code
		x.value(a.p.Type, a.path, n)
	}
	if b.edges == nil {
		return
	}
	for i := range n.Fields {
		f := &n.Fields[i]
		if edges := b.edges[f.Name]; edges != nil {
			x.follow(edges, f.Value)
		}
	}
}

func (x *extraction) follow(edges []edge, v *element.Node) {
	if v == nil {
		return
	}
	for i := range edges {
		e := &edges[i]
		if v.Kind != element.Array {
			if e.step.admits(x.root, v) {
				x.visit(e.to, v)
			}
			continue
		}
		for i, item := range v.Items {
			if e.step.first && i > 0 {
				break
			}
			if e.step.admits(x.root, item) {
				x.visit(e.to, item)
			}
		}
	}
}
