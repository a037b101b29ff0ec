package terminology

import (
	"strconv"

	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// valueSet is a ValueSet ready to be evaluated.
type valueSet struct {
	key              string // canonical by which it was found; "" for one that came with the request
	node             *element.Node
	include, exclude []clause
	activeOnly       bool     // compose.inactive is false
	defined          bool     // it has a compose
	stored           []member // expansion that came with it, where that is whole
	size             int64
}

// clause is one compose.include or compose.exclude.
type clause struct {
	system, version string
	listed          []*element.Node // concept
	byCode          map[string]int
	filters         []filter
	valueSets       []string
}

// cost is that of asking the clause about one concept.
func (c *clause) cost() int {
	sum := 1
	for _, f := range c.filters {
		sum += f.cost
	}
	return sum
}

// member is one code of an expansion.
type member struct {
	system, version, code, display string
	inactive, abstract             bool
	listed                         *element.Node // compose.include.concept or expansion.contains, where it brings designations
}

type memberKey struct{ system, code string }

func (m member) key() memberKey { return memberKey{m.system, m.code} }

func compile(n *element.Node) (*valueSet, error) {
	vs := &valueSet{node: n, size: definition.Size(n)}
	if compose := n.Get("compose"); compose != nil {
		vs.defined = true
		vs.activeOnly = compose.Get("inactive") != nil && !isTrue(compose.Get("inactive"))
		var err error
		if vs.include, err = clauses(compose.Get("include").List(), "ValueSet.compose.include"); err != nil {
			return nil, err
		}
		if vs.exclude, err = clauses(compose.Get("exclude").List(), "ValueSet.compose.exclude"); err != nil {
			return nil, err
		}
		for _, c := range vs.include {
			vs.size += int64(len(c.byCode)) * 60
		}
	}
	vs.stored = whole(n.Get("expansion"))
	vs.size += int64(len(vs.stored)) * 100
	return vs, nil
}

func clauses(nodes []*element.Node, path string) ([]clause, error) {
	out := make([]clause, 0, len(nodes))
	for i, n := range nodes {
		at := path + "[" + strconv.Itoa(i) + "]"
		c := clause{system: n.Get("system").String(), version: n.Get("version").String(), listed: n.Get("concept").List()}
		if len(c.listed) > 0 {
			c.byCode = make(map[string]int, len(c.listed))
			for j, x := range c.listed {
				c.byCode[x.Get("code").String()] = j
			}
		}
		for j, x := range n.Get("filter").List() {
			f, err := newFilter(x, at+".filter["+strconv.Itoa(j)+"]")
			if err != nil {
				return nil, err
			}
			c.filters = append(c.filters, f)
		}
		for _, x := range n.Get("valueSet").List() {
			c.valueSets = append(c.valueSets, x.String())
		}
		switch {
		case c.system == "" && len(c.valueSets) == 0: // vsd-1
			return nil, outcome.At(outcome.Required, at, "a system or a value set is needed here")
		case c.system == "" && (len(c.listed) > 0 || len(c.filters) > 0): // vsd-2
			return nil, outcome.At(outcome.Required, at+".system", "concepts and filters need a system")
		case len(c.listed) > 0 && len(c.filters) > 0: // vsd-3
			return nil, outcome.At(outcome.Unprocessable, at, "concepts and filters cannot be in the same place")
		}
		out = append(out, c)
	}
	return out, nil
}

// whole reads a stored expansion, or gives nil for one of which a part is missing.
func whole(expansion *element.Node) []member {
	if expansion == nil {
		return nil
	}
	for _, p := range expansion.Get("parameter").List() {
		switch name := p.Get("name").String(); name {
		case "limitedExpansion", "count", "offset", "filter":
			return nil
		}
	}
	var out []member
	var add func([]*element.Node)
	add = func(nodes []*element.Node) {
		for _, n := range nodes {
			m := member{
				system: n.Get("system").String(), version: n.Get("version").String(), code: n.Get("code").String(), display: n.Get("display").String(),
				inactive: isTrue(n.Get("inactive")), abstract: isTrue(n.Get("abstract")),
			}
			if n.Get("designation") != nil {
				m.listed = n
			}
			if m.code != "" { // a heading
				out = append(out, m)
			}
			add(n.Get("contains").List())
		}
	}
	add(expansion.Get("contains").List())
	if total := expansion.Get("total"); total != nil && total.Text != strconv.Itoa(len(out)) {
		return nil
	}
	return out
}
