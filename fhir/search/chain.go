package search

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

// link is one step of a chain from a resource to another one.
type link struct {
	// back goes from a resource to those that refer to it (_has), else the step
	// goes to what it refers to.
	back bool
	code string            // the reference parameter, of the type at hand or, back, of the other
	typ  fhir.ResourceType // at the other end; "" is every type that fits
	// where must also hold at the other end (the brackets of a _filter).
	where *expression
}

// question is what is asked of the resource at the end of a chain.
type question struct {
	code     string
	modifier string
	modified bool
	literal  string
	op       string // of a _filter, instead of a modifier; then literal has no escapes
}

// trail reads the name of a parameter (R4 search, 3.1.1.4.8 chained
// parameters and 3.1.1.4.9 reverse chaining): "subject:Patient.name:exact",
// "_has:Observation:patient:code", and any mix of the two.
func trail(name string) ([]link, question, *fault) {
	var links []link
	for {
		if strings.HasPrefix(name, "_has:") {
			part := strings.SplitN(name, ":", 4)
			if len(part) < 4 || part[3] == "" {
				return nil, question{}, faultf("is no reverse chain: write _has:Type:reference:parameter")
			}
			if !fhir.ResourceType(part[1]).Valid() {
				return nil, question{}, faultf("names a type that R4 does not have")
			}
			links = append(links, link{back: true, typ: fhir.ResourceType(part[1]), code: part[2]})
			name = part[3]
		} else {
			head, rest, chained := strings.Cut(name, ".")
			code, modifier, modified := strings.Cut(head, ":")
			if !chained {
				return links, question{code: code, modifier: modifier, modified: modified}, nil
			}
			l := link{code: code, typ: fhir.ResourceType(modifier)}
			if modified && !l.typ.Valid() {
				return nil, question{}, faultf("names a type that R4 does not have")
			}
			links = append(links, l)
			name = rest
		}
		if len(links) > MaxDepth {
			return nil, question{}, faultf("is a chain of more than %d links", MaxDepth)
		}
	}
}

// follow reads what is asked at the end of a chain that starts at type t.
func (p *parser) follow(t fhir.ResourceType, links []link, q question) (Criterion, *fault) {
	if len(links) == 0 {
		return p.ask(t, q)
	}
	if links[0].back {
		return p.back(t, links, q)
	}
	return p.forth(t, links, q)
}

// back is a reverse chain: resources of the link's type that refer to the one of type t.
func (p *parser) back(t fhir.ResourceType, links []link, q question) (Criterion, *fault) {
	l := links[0]
	def, f := p.chainable(l.typ, l.code)
	if f != nil {
		return Criterion{}, f
	}
	if !def.canTarget(t) {
		return Criterion{}, faultf("cannot be used here: %s of %s never refers to %s", l.code, l.typ, t)
	}
	where, f := p.hop(l.typ, links, q)
	if f != nil {
		return Criterion{}, f
	}
	c := Criterion{Op: Has, Param: "_has"}
	for _, via := range def.members() {
		c.Hops = append(c.Hops, Hop{Type: l.typ, Via: via, Where: where})
	}
	return c, nil
}

// members are the parameters that the index knows p by.
func (p *Param) members() []string {
	if len(p.UnionOf) > 0 {
		return p.UnionOf
	}
	return []string{p.name()}
}

// maxChainTypes is up to how many types a link may mean that names none.
const maxChainTypes = 16

// forth is a chain: what the resource of type t refers to. A link without a
// type means every type that the reference can point to and that knows what is asked.
func (p *parser) forth(t fhir.ResourceType, links []link, q question) (Criterion, *fault) {
	l := links[0]
	def, f := p.chainable(t, l.code)
	if f != nil {
		return Criterion{}, f
	}
	types := []fhir.ResourceType{l.typ}
	switch {
	case l.typ != "" && !def.canTarget(l.typ):
		return Criterion{}, faultf("cannot be used here: %s of %s never refers to %s", l.code, t, l.typ)
	case l.typ == "" && def.Targets != nil:
		types = def.Targets
	case l.typ == "":
		types = fhir.ResourceTypes()
	}
	types = slices.DeleteFunc(slices.Clone(types), func(t fhir.ResourceType) bool { return !p.knows(t, links[1:], q) })
	switch {
	case len(types) == 0:
		return Criterion{}, &fault{unknown: true, reason: "has a parameter at the end of a chain that is not known for any type that can stand there"}
	case len(types) > maxChainTypes:
		return Criterion{}, faultf("can go to many types: name one, as in %s:Patient", l.code)
	}
	var hops []Hop
	var first *fault
	for _, other := range types {
		where, f := p.hop(other, links, q)
		switch {
		case f == nil:
			hops = append(hops, Hop{Type: other, Where: where})
		case first == nil || first.unknown:
			first = f
		}
		if p.failed != nil || p.over != nil {
			return Criterion{}, f
		}
	}
	if len(hops) == 0 {
		return Criterion{}, first
	}
	ways := make([]Criterion, 0, 1)
	for _, code := range def.members() {
		ways = append(ways, Criterion{Op: Chain, Param: code, Type: Reference, Hops: hops})
	}
	return oneOf(ways), nil
}

// knows reports whether t has the parameter that comes next; what follows it may still be wrong.
func (p *parser) knows(t fhir.ResourceType, rest []link, q question) bool {
	code := q.code
	if len(rest) > 0 {
		if rest[0].back {
			return true
		}
		code = rest[0].code
	}
	_, ok := p.lookup(t, code)
	return ok || len(rest) == 0 && code == "_list"
}

// hop reads what must hold at the other end of the first link, which is of type t.
func (p *parser) hop(t fhir.ResourceType, links []link, q question) ([]Criterion, *fault) {
	if f := p.spend(0, 1, 0); f != nil {
		return nil, f
	}
	var where []Criterion
	if e := links[0].where; e != nil {
		var f *fault
		if where, f = p.lower(t, e); f != nil {
			return nil, f
		}
	}
	c, f := p.follow(t, links[1:], q)
	if f != nil {
		return nil, f
	}
	return append(where, c), nil
}

// chainable finds the reference parameter of a link.
func (p *parser) chainable(t fhir.ResourceType, code string) (*Param, *fault) {
	def, f := p.searchable(t, code)
	switch {
	case f != nil:
		return nil, f
	case def.Type != Reference:
		return nil, faultf("cannot be used here: only a reference can be chained")
	}
	return def, nil
}

// searchable finds a parameter of t that can be searched.
func (p *parser) searchable(t fhir.ResourceType, code string) (*Param, *fault) {
	def, ok := p.lookup(t, code)
	switch {
	case !ok:
		return nil, &fault{unknown: true, reason: "is not known for " + string(t)}
	case !def.Searchable():
		return nil, faultf("cannot be used here: %s", def.Refused)
	}
	return def, nil
}

// list is _list (R4 search, 3.1.1.4.7): the resources that a List holds.
func (p *parser) list(q question) (Criterion, *fault) {
	if q.modified {
		return Criterion{}, faultf("has a modifier that is not supported here")
	}
	if q.op != "" && q.op != "eq" {
		return Criterion{}, faultf("has the operation %s: _list takes eq", q.op)
	}
	if strings.HasPrefix(q.literal, "$") {
		return Criterion{}, faultf("names a functional list: those are not supported")
	}
	items := strings.Split(q.literal, ",")
	for i, item := range items {
		items[i] = strings.TrimPrefix(item, "List/")
	}
	id, f := p.ask("List", question{code: "_id", literal: strings.Join(items, ",")})
	if f != nil {
		return Criterion{}, f
	}
	if f := p.spend(0, 1, 0); f != nil {
		return Criterion{}, f
	}
	return Criterion{Op: Has, Param: "_list", Hops: []Hop{{Type: "List", Via: "item", Where: []Criterion{id}}}}, nil
}
