package searchtest

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// filter is an expression of R4 search_filter.html on type t.
func (g *generator) filter(t fhir.ResourceType, depth int) string {
	if depth > 0 && g.chance(50) {
		join := one(g.r, []string{" and ", " or "})
		return g.filter(t, depth-1) + join + g.filter(t, depth-1)
	}
	if depth > 0 && g.chance(30) {
		return one(g.r, []string{"(", "not (", "not("}) + g.filter(t, depth-1) + ")"
	}
	return g.test(t, depth)
}

func (g *generator) test(t fhir.ResourceType, depth int) string {
	path := ""
	if g.chance(25) {
		if prefix, other, ok := g.link(t); ok {
			path = prefix
			if depth > 0 && g.chance(30) && strings.HasSuffix(prefix, ".") {
				path = strings.TrimSuffix(prefix, ".") + "[" + g.test(other, 0) + "]."
			}
			t = other
		}
	}
	for range 20 {
		p := one(g.r, search.Params(t))
		if !p.Searchable() || p.Code == "_filter" || p.Code == "_list" || p.Type == search.Composite {
			continue
		}
		if g.chance(10) && len(p.Paths()) > 0 {
			return path + p.Code + " pr " + one(g.r, []string{"true", "false"})
		}
		op, value := g.operation(t, p)
		return path + p.Code + " " + op + " " + value
	}
	return path + "_id eq none"
}

// operation is an operation that the parameter has, and a value for it.
func (g *generator) operation(t fhir.ResourceType, p *search.Param) (op, value string) {
	ordered := []string{"eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb"}
	equal := []string{"eq", "ne"}
	switch {
	case p.Code == "_text" || p.Code == "_content":
		return "co", quote(g.word())
	case p.Code == "_id":
		return one(g.r, equal), string(g.id(t))
	case p.Type != search.Date && len(p.Paths()) == 0:
		equal = equal[:1] // ne asks for presence, too
	}
	switch p.Type {
	case search.Date:
		return one(g.r, append(ordered, "po")), pick(g, g.m.Dates, "1900-01-01")
	case search.Number:
		return one(g.r, ordered), pick(g, g.m.Numbers, "-1")
	case search.Quantity:
		v := pick(g, g.m.Numbers, "-1")
		if len(g.m.Units) > 0 && g.chance(50) {
			u := one(g.r, g.m.Units)
			v += "|" + u.System + "|" + u.Code
		}
		return one(g.r, ordered), quote(v)
	case search.String:
		return one(g.r, append([]string{"co", "sw", "ew"}, equal...)), quote(g.word())
	case search.URI:
		return one(g.r, equal), quote(g.url())
	case search.Reference:
		targets := p.Targets
		if targets == nil {
			targets = g.m.Types
		}
		target := one(g.r, targets)
		return one(g.r, append([]string{"re"}, equal...)), string(target) + "/" + string(g.id(target))
	}
	if g.boolean(t, p) {
		return one(g.r, equal), one(g.r, []string{"true", "false"})
	}
	c := g.coded()
	switch n := g.r.IntN(10); {
	case n == 0 && len(g.m.ValueSets) > 0:
		return one(g.r, []string{"in", "ni"}), quote(one(g.r, g.m.ValueSets))
	case n == 1 && g.m.Subsumable && c.System != "":
		return one(g.r, []string{"ss", "sb"}), quote(c.System + "|" + c.Code)
	case n < 5 && !strings.Contains(c.System+c.Code, "|"):
		return one(g.r, equal), quote(c.System + "|" + c.Code)
	case strings.Contains(c.Code, "|"):
		return one(g.r, equal), "none"
	}
	return one(g.r, equal), quote(c.Code)
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `"none"`
	}
	return string(b)
}

// results adds parameters that govern the result.
func (g *generator) results(v url.Values) {
	if g.chance(25) {
		g.sort(v)
	}
	if g.chance(30) {
		v.Set("_count", strconv.Itoa(one(g.r, []int{0, 1, 2, 3, 5, 10, 50, 1000})))
	}
	if g.chance(20) {
		v.Set("_total", one(g.r, []string{"none", "estimate", "accurate"}))
	}
	if g.chance(20) {
		v.Set("_elements", one(g.r, []string{"id", "code,subject", "name", "identifier,status", "meta"}))
	}
	included := false
	for range g.few() {
		if g.chance(25) {
			name, literal, ok := g.include()
			if ok {
				v.Add(name, literal)
				included = true
			}
		}
	}
	if g.chance(15) {
		summary := []string{"true", "data", "count", "false", "text"}
		if included {
			summary = summary[:4]
		}
		v.Set("_summary", one(g.r, summary))
	}
}

func (g *generator) sort(v url.Values) {
	var keys []string
	used := map[string]bool{}
	for range 1 + g.r.IntN(3) {
		p := one(g.r, search.Params(g.legs[0]))
		if !g.everywhere(p) || p.Type == search.Composite || used[p.Code] || len(p.UnionOf) > 0 || strings.HasPrefix(p.Code, "_") && p.Code != "_id" && p.Code != "_lastUpdated" {
			continue
		}
		used[p.Code] = true
		keys = append(keys, one(g.r, []string{"", "-"})+p.Code)
	}
	if len(keys) > 0 {
		v.Set("_sort", strings.Join(keys, ","))
	}
}

func (g *generator) include() (name, literal string, ok bool) {
	name = one(g.r, []string{"_include", "_revinclude", "_include:iterate", "_revinclude:iterate"})
	if g.chance(10) {
		return name, "*", true
	}
	source := one(g.r, g.m.Types)
	if strings.HasPrefix(name, "_include") && g.chance(80) {
		source = one(g.r, g.legs)
	}
	if g.chance(10) {
		return name, string(source) + ":*", true
	}
	for range 30 {
		p := one(g.r, search.Params(source))
		if !p.Searchable() || p.Type != search.Reference {
			continue
		}
		literal = string(source) + ":" + p.Code
		if g.chance(30) {
			targets := p.Targets
			if targets == nil {
				targets = g.m.Types
			}
			literal += ":" + string(one(g.r, targets))
		}
		return name, literal, true
	}
	return "", "", false
}
