package smart

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	find "github.com/cloister-health/cloister/fhir/search"
)

// constraint is what the search parameters of a scope say (SMART App Launch 2.2,
// finer-grained resource constraints using search parameters); the zero one says nothing.
type constraint struct {
	params []param // sorted
	where  find.Constraint
}

// param is one parameter; of several, all must hold.
type param struct {
	name  string
	items []string // of which one must hold; sorted, distinct
}

// parseConstraint reads what follows the question mark. It is percent-encoded as
// the query of a search is.
func parseConstraint(t fhir.ResourceType, query string) (c constraint, ok bool) {
	if strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' || r == '?' }) {
		return c, false // no scope holds these, or no query
	}
	values, err := url.ParseQuery(query)
	if err != nil || strings.HasPrefix(query, "&") || strings.HasSuffix(query, "&") || strings.Contains(query, "&&") {
		return c, false
	}
	for name, literals := range values {
		for _, literal := range literals {
			c.params = append(c.params, param{name, items(literal)})
		}
	}
	return c.settle(t)
}

// settle brings the parameters into their normal form and asks the registry of
// search parameters what they mean of resources of type t.
func (c constraint) settle(t fhir.ResourceType) (constraint, bool) {
	c.params = simplified(c.params)
	values := url.Values{}
	for _, p := range c.params {
		values.Add(p.name, strings.Join(p.items, ","))
	}
	var err error
	c.where, err = find.Constrain(t, values)
	return c, err == nil && c.where != nil
}

// simplified leaves out of parameters that must all hold those that follow from another one.
func simplified(all []param) []param {
	slices.SortFunc(all, compareParams)
	out := make([]param, 0, len(all))
	for i, p := range all {
		if !slices.ContainsFunc(all, func(q param) bool { return q.implies(p) && !p.implies(q) }) && (i == 0 || compareParams(all[i-1], p) != 0) {
			out = append(out, p)
		}
	}
	return out
}

// implies reports whether p holds of nothing of which q does not hold.
func (p param) implies(q param) bool {
	return p.name == q.name && !slices.ContainsFunc(p.items, func(x string) bool { return !slices.Contains(q.items, x) })
}

func compareParams(a, b param) int {
	return cmp.Or(cmp.Compare(a.name, b.name), slices.Compare(a.items, b.items))
}

// items cuts a value at its commas; one after a backslash belongs to the item.
func items(literal string) []string {
	var out []string
	start := 0
	for i := 0; i < len(literal); i++ {
		switch literal[i] {
		case '\\':
			i++
		case ',':
			out = append(out, literal[start:i])
			start = i + 1
		}
	}
	out = append(out, literal[start:])
	slices.Sort(out)
	return slices.Compact(out)
}

// within reports whether all that meets c meets d, as far as their parameters tell.
func (c constraint) within(d constraint) bool {
	return !slices.ContainsFunc(d.params, func(p param) bool {
		return !slices.ContainsFunc(c.params, func(q param) bool { return q.implies(p) })
	})
}

// plain are the characters, beside letters and digits, that stand as they are in
// the normal form: an OAuth scope may hold them (RFC 6749, section 3.3), and they
// separate nothing in a query.
const plain = "-._~:/|,!*@$()"

// String is the constraint as the query of a search.
func (c constraint) String() string {
	var b strings.Builder
	for i, p := range c.params {
		if i > 0 {
			b.WriteByte('&')
		}
		encode(&b, p.name)
		b.WriteByte('=')
		for j, x := range p.items {
			if j > 0 {
				b.WriteByte(',')
			}
			encode(&b, x)
		}
	}
	return b.String()
}

func encode(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', strings.IndexByte(plain, c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
}
