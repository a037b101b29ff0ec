package search

import "github.com/cloister-health/cloister/fhir/element"

// element indexes one element of the composite c: what its parts select within
// n belongs together, and with nothing beyond it.
func (x *extraction) element(c *Param, n *element.Node) {
	other := &c.components[1]
	if !selectsAny(other.paths, n) {
		return
	}
	var tokens []coding
	for i := range c.components[0].paths {
		p := &c.components[0].paths[i]
		each(x.root, n, p.steps, func(v *element.Node) { tokens = appendCodings(tokens, p, v) })
	}
	if other.Type == Token || other.Type == Reference {
		x.pairs(c, tokens, n)
		return
	}
	keyed := false
	for _, t := range tokens {
		if t.code != "" {
			x.key, x.keySystem = elementKeys(c.Code, t.system, t.code)
			x.part(c, n)
			keyed = true
		}
	}
	x.key, x.keySystem = 0, 0
	// The value stands for the parameter that it is under, with or without a code.
	if !keyed && c.Under != c.Code {
		x.part(c, n)
	}
}

// selectsAny reports whether some path may select something of n, by its first step.
func selectsAny(paths []path, n *element.Node) bool {
	for i := range paths {
		if len(paths[i].steps) == 0 || n.Get(paths[i].steps[0].name) != nil {
			return true
		}
	}
	return false
}

// part indexes the other part of an element, with the keys at hand.
func (x *extraction) part(c *Param, n *element.Node) {
	x.code = c.Under
	other := &c.components[1]
	for i := range other.paths {
		p := &other.paths[i]
		each(x.root, n, p.steps, func(v *element.Node) { x.value(other.Type, p, v) })
	}
}

// pairs indexes an element of two tokens, or of a token and a reference, by
// every way in which a search can write both.
func (x *extraction) pairs(c *Param, tokens []coding, n *element.Node) {
	var first, second []int64
	for _, t := range tokens {
		first = appendParts(first, t)
	}
	other := &c.components[1]
	for i := range other.paths {
		p := &other.paths[i]
		each(x.root, n, p.steps, func(v *element.Node) {
			if other.Type == Token {
				for _, t := range appendCodings(nil, p, v) {
					second = appendParts(second, t)
				}
				return
			}
			if target, _ := x.targets(p.leaf, v); target != 0 {
				second = append(second, target)
			}
		})
	}
	for _, a := range first {
		for _, b := range second {
			x.tokens = append(x.tokens, pairHash(c.Code, a, b))
		}
	}
}

func appendParts(dst []int64, t coding) []int64 {
	if t.code == "" {
		return dst
	}
	return append(dst, codePart(t.code), tokenPart(t.system, t.code))
}
