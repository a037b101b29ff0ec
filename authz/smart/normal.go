package smart

import (
	"cmp"
	"slices"
	"strings"
)

// String writes the scopes in their normal form: in the words of the second
// version, sorted, each once, and none that another one contains. What leaves
// nothing open is not in it.
func (s Scopes) String() string {
	out := make([]string, len(s.all))
	for i, c := range s.all {
		out[i] = c.String()
	}
	return strings.Join(out, " ")
}

func (c clause) String() string {
	s := string(c.level) + "/" + string(c.typ) + "." + c.may.String()
	if c.params != nil {
		s += "?" + c.constraint.String()
	}
	return s
}

func (p permission) String() string {
	var b strings.Builder
	for i := range letters {
		if p&(1<<i) != 0 {
			b.WriteByte(letters[i])
		}
	}
	return b.String()
}

// within reports whether d covers all resources that c covers, whatever may be done with them.
func (c clause) within(d clause) bool {
	return c.level == d.level && (c.typ == d.typ || d.typ == wildcard) && c.constraint.within(d.constraint)
}

// compare orders clauses that cover different resources.
func (c clause) compare(d clause) int {
	return cmp.Or(cmp.Compare(c.level, d.level), cmp.Compare(c.typ, d.typ), slices.CompareFunc(c.params, d.params, compareParams))
}

// normal sorts clauses, joins those for the same resources, and takes out of each
// what a wider one permits.
func normal(all []clause) []clause {
	all = slices.Clone(all)
	slices.SortFunc(all, clause.compare)
	joined := all[:0]
	for _, c := range all {
		if n := len(joined); n > 0 && joined[n-1].compare(c) == 0 {
			joined[n-1].may |= c.may
			continue
		}
		joined = append(joined, c)
	}
	out := make([]clause, 0, len(joined))
	for _, c := range joined {
		may := c.may
		for _, d := range joined {
			if c.within(d) && !d.within(c) {
				may &^= d.may
			}
		}
		if c.may = may; may != 0 {
			out = append(out, c)
		}
	}
	return out
}

// Narrow gives what of the requested scopes is within the granted ones, joined
// by spaces: clinical scopes of the same level, type by type, with the letters
// and under the constraints of both, in normal form; of all others (openid,
// launch/patient, offline_access) those that are in both, in the order of the request.
// What it leaves open, each of the two leaves open.
func Narrow(granted, requested string) string {
	var out []string
	grants := strings.Split(granted, " ")
	for other := range strings.SplitSeq(requested, " ") {
		if other != "" && !clinical(other) && slices.Contains(grants, other) && !slices.Contains(out, other) {
			out = append(out, other)
		}
	}
	var both []clause
	for _, a := range Parse(granted).all {
		for _, b := range Parse(requested).all {
			if c, ok := a.meet(b); ok {
				both = append(both, c)
			}
		}
	}
	if s := of(both).String(); s != "" {
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// clinical reports whether a scope has the form of one for resources, malformed ones included.
func clinical(scope string) bool {
	first, _, ok := strings.Cut(scope, "/")
	return ok && (level(first) == ofPatient || level(first) == ofUser || level(first) == ofSystem)
}

// meet is what both cover.
func (c clause) meet(d clause) (clause, bool) {
	switch {
	case c.level != d.level || c.may&d.may == 0:
		return clause{}, false
	case c.typ == wildcard:
		c.typ = d.typ
	case d.typ != wildcard && c.typ != d.typ:
		return clause{}, false
	}
	c.may &= d.may
	if c.params == nil && d.params == nil {
		return c, true
	}
	var ok bool
	c.constraint, ok = constraint{params: slices.Concat(c.params, d.params)}.settle(c.typ)
	return c, ok
}
