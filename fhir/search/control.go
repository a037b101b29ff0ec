package search

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// control reads the parameters that govern the result (R4 search, 3.1.1.5); it reports
// whether name is one.
func (p *parser) control(name string, values []string) bool {
	code, _, modified := strings.Cut(name, ":")
	var read func(value string) bool
	switch code {
	case "_include", "_revinclude":
		p.includes(name, values)
		return true
	case "_format", "_pretty", PageParam:
		read = func(string) bool { return true }
	case "_count":
		read = p.count
	case "_sort":
		read = p.sort
	case "_total":
		read = func(v string) bool {
			var ok bool
			p.query.Total, ok = map[string]Total{"none": NoTotal, "estimate": Estimate, "accurate": Accurate}[v]
			return ok
		}
	case "_summary":
		read = func(v string) bool {
			p.countOnly = p.countOnly || v == "count"
			var ok bool
			p.query.Summary, ok = map[string]Summary{
				"false": Whole, "count": Whole, "true": SummaryTrue, "text": SummaryText, "data": SummaryData,
			}[v]
			return ok
		}
	case "_elements":
		read = p.elements
	case "_contained":
		read = func(v string) bool { return v == "false" }
	case "_containedType":
		p.fail("the parameter %s cannot be used here: contained resources are not searched on their own", Shown(name))
		return true
	default:
		return false
	}
	switch {
	case modified:
		p.fail("the parameter %s takes no modifier", Shown(name))
	case len(values) != 1:
		p.fail("the parameter %s may stand once", Shown(name))
	case !read(values[0]):
		p.fail("the parameter %s has a value that is not supported here: it takes %s", Shown(name), takes[code])
	}
	return true
}

var takes = map[string]string{
	"_count": "a whole number",
	"_sort": fmt.Sprintf("_id, _lastUpdated and parameters that all searched types have, but for composites; "+
		"a - before one turns its order, and commas separate at most %d", MaxSorts),
	"_total":     "none, estimate or accurate",
	"_summary":   "true, text, data, count or false",
	"_elements":  fmt.Sprintf("names of elements of the resource itself, at most %d, separated by commas", MaxElements),
	"_contained": "false",
}

// settle lets the result parameters agree with each other.
func (p *parser) settle() {
	if p.query.Summary == SummaryText && len(p.query.Includes) > 0 && !p.countOnly {
		// R4 search, 3.1.1.5.8.
		p.fail(`the parameter "_summary" has a value that is not supported here: text cannot be combined with included resources`)
	}
	if !p.countOnly {
		return
	}
	q := &p.query
	q.Count, q.Sort, q.Includes, q.Summary, q.Elements = 0, nil, nil, Whole, nil
	if q.Total == NoTotal {
		q.Total = Accurate
	}
}

func (p *parser) count(v string) bool {
	for i := 0; i < len(v); i++ {
		if v[i] < '0' || v[i] > '9' {
			return false
		}
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		// Only digits, so more than any page can hold; but not without end.
		if len(v) == 0 || len(v) > 20 {
			return false
		}
		n = MaxCount
	}
	p.query.Count = min(n, MaxCount)
	// R4 search, 3.1.1.5.4: zero is the same as _summary=count.
	p.countOnly = p.countOnly || n == 0
	return true
}

// defaultSort is the order without _sort.
const defaultSort = "-_lastUpdated"

func (p *parser) sort(v string) bool {
	if v == defaultSort {
		return true
	}
	keys := strings.SplitN(v, ",", MaxSorts+1)
	if len(keys) > MaxSorts {
		return false
	}
	var out []Sort
	for _, key := range keys {
		code, descending := strings.CutPrefix(key, "-")
		t, own, ok := p.sortable(code)
		if !ok || slices.ContainsFunc(out, func(s Sort) bool { return s.Param == code }) {
			return false
		}
		out = append(out, Sort{Param: code, Type: t, Descending: descending, Own: own})
	}
	p.query.Sort = out
	return true
}

// sortable finds the type of a parameter that all legs have, and the parameter
// itself where it is the practice's own, which one leg alone can be sorted by.
func (p *parser) sortable(code string) (t ParamType, own *Param, ok bool) {
	for _, l := range p.query.Legs {
		def, f := p.searchable(l.Type, code)
		if f != nil || !def.ordered() || t != 0 && t != def.Type || def.expression != nil && len(p.query.Legs) > 1 {
			return 0, nil, false
		}
		if t = def.Type; def.expression != nil {
			own = def
		}
	}
	return t, own, t != 0
}

// ordered reports that a store can put resources in the order of the parameter.
func (p *Param) ordered() bool {
	switch p.Type {
	case Composite:
		return false
	case Date, Number, Quantity:
		return len(p.UnionOf) == 0
	default:
		return p.Code == "_id" || len(p.UnionOf) == 0 && len(p.SortPaths()) > 0
	}
}

func (p *parser) elements(v string) bool {
	names := strings.SplitN(v, ",", MaxElements+1)
	if len(names) > MaxElements {
		return false
	}
	var out []string
	for _, name := range names {
		if !elementName(name) {
			return false
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	p.query.Elements = out
	return true
}

// elementName reports that s can be the name of an element (R4 ElementDefinition, path).
func elementName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || i > 0 && (c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}
