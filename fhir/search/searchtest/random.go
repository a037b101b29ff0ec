// Package searchtest makes random searches over the whole grammar of R4 search.
package searchtest

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// Material is what searches are made of: whatever a data set holds, so that
// they meet something. What is left empty gets a value that meets nothing.
type Material struct {
	Types      []fhir.ResourceType // that chains and includes go through; none is all
	IDs        map[fhir.ResourceType][]fhir.ID
	Codings    []search.Coding
	Words      []string // of names, texts and narratives
	Dates      []string // dates and instants, without a prefix
	Numbers    []string
	Units      []search.Coding // of quantities
	URLs       []string        // profiles, canonical urls, references to elsewhere
	ValueSets  []string        // for :in and :not-in, which are left out without any
	Subsumable bool            // :above and :below of tokens can be asked
}

// Random makes the parameters of a search on type t, or of the system if t is
// "". Nearly all of them are accepted by [search.Parse] and
// [search.ParseSystem]; the same sequence of r gives the same search.
func Random(r *rand.Rand, t fhir.ResourceType, m Material) url.Values {
	if len(m.Types) == 0 {
		m.Types = fhir.ResourceTypes()
	}
	g := generator{r: r, m: m, legs: []fhir.ResourceType{t}}
	v := url.Values{}
	if t == "" {
		g.legs = nil
		for range 1 + r.IntN(3) {
			g.legs = append(g.legs, one(r, m.Types))
		}
		slices.Sort(g.legs)
		g.legs = slices.Compact(g.legs)
		names := make([]string, len(g.legs))
		for i, l := range g.legs {
			names[i] = string(l)
		}
		v.Set("_type", strings.Join(names, ","))
	}
	for range g.few() {
		if name, literal, ok := g.parameter(); ok {
			v.Add(name, literal)
		}
	}
	g.results(v)
	return v
}

type generator struct {
	r    *rand.Rand
	m    Material
	legs []fhir.ResourceType
}

func one[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func (g *generator) chance(percent int) bool { return g.r.IntN(100) < percent }

// few is zero to four, one most of the time.
func (g *generator) few() int { return []int{0, 1, 1, 1, 1, 2, 2, 2, 3, 4}[g.r.IntN(10)] }

func (g *generator) parameter() (name, literal string, ok bool) {
	t := g.legs[0]
	switch {
	case len(g.legs) > 1:
		return g.common()
	case g.chance(7):
		return "_filter", g.filter(t, 3), true
	case g.chance(8):
		if g.chance(50) {
			return "_list", string(g.id("List")), true
		}
		return one(g.r, []string{"_text", "_content"}), g.words(), true
	}
	return g.path(t, 0)
}

// common is a parameter that all legs have, and of the same type.
func (g *generator) common() (name, literal string, ok bool) {
	for range 20 {
		p := one(g.r, search.Params(g.legs[0]))
		if g.everywhere(p) {
			return g.end(g.legs[0], p)
		}
	}
	return "_id", string(g.id(g.legs[0])), true
}

func (g *generator) everywhere(p *search.Param) bool {
	for _, t := range g.legs {
		other, ok := search.Lookup(t, p.Code)
		if !ok || !other.Searchable() || other.Type != p.Type || !slices.Equal(other.Targets, p.Targets) || other.Type == search.Composite {
			return false
		}
	}
	return p.Searchable()
}

// path is a parameter of t itself, or of what a chain leads to.
func (g *generator) path(t fhir.ResourceType, depth int) (name, literal string, ok bool) {
	if depth < 3 && g.chance(30) {
		prefix, other, ok := g.link(t)
		if ok {
			if name, literal, ok = g.path(other, depth+1); ok {
				return prefix + name, literal, true
			}
		}
	}
	for range 20 {
		if p := one(g.r, search.Params(t)); p.Searchable() && p.Code != "_filter" && p.Code != "_list" {
			return g.end(t, p)
		}
	}
	return "", "", false
}

// link is the beginning of a chain from t, and the type that it leads to.
func (g *generator) link(t fhir.ResourceType) (prefix string, other fhir.ResourceType, ok bool) {
	back := g.chance(40)
	for range 50 {
		source := t
		if back {
			source = one(g.r, g.m.Types)
		}
		p := one(g.r, search.Params(source))
		if !p.Searchable() || p.Type != search.Reference {
			continue
		}
		if back {
			if p.Targets == nil || slices.Contains(p.Targets, t) {
				return "_has:" + string(source) + ":" + p.Code + ":", source, true
			}
			continue
		}
		targets := slices.DeleteFunc(slices.Clone(g.m.Types), func(x fhir.ResourceType) bool {
			return p.Targets != nil && !slices.Contains(p.Targets, x)
		})
		if len(targets) == 0 {
			continue
		}
		other := one(g.r, targets)
		if p.Targets == nil || g.chance(50) {
			return p.Code + ":" + string(other) + ".", other, true
		}
		return p.Code + ".", other, true
	}
	return "", "", false
}

// end is a parameter of t with a modifier, perhaps, and values.
func (g *generator) end(t fhir.ResourceType, p *search.Param) (name, literal string, ok bool) {
	if g.chance(8) && len(p.Paths()) > 0 {
		return p.Code + ":missing", one(g.r, []string{"true", "false"}), true
	}
	name = p.Code
	value := func() string { return g.value(t, p) }
	if g.chance(30) {
		modifier, v := g.modified(t, p)
		if modifier != "" {
			name, value = p.Code+":"+modifier, v
		}
	}
	items := make([]string, []int{1, 1, 1, 1, 1, 2, 3}[g.r.IntN(7)])
	for i := range items {
		items[i] = value()
	}
	return name, strings.Join(items, ","), true
}

// modified gives a modifier that the parameter takes, and the values that go with it.
func (g *generator) modified(t fhir.ResourceType, p *search.Param) (modifier string, value func() string) {
	plain := func() string { return g.value(t, p) }
	if p.Code == "_lastUpdated" || p.Code == "_text" || p.Code == "_content" {
		return "", nil
	}
	texts := len(p.TextPaths()) > 0
	switch p.Type {
	case search.Token:
		switch n := g.r.IntN(6); {
		case n < 2 || p.Code == "_id":
			return "not", plain
		case n == 2 && texts:
			return "text", g.words
		case n == 3 && len(g.m.ValueSets) > 0:
			return one(g.r, []string{"in", "not-in"}), func() string { return search.Escape(one(g.r, g.m.ValueSets)) }
		case n == 4 && g.m.Subsumable:
			return one(g.r, []string{"above", "below"}), func() string { return g.coding(true) }
		case n == 5 && p.Code == "identifier":
			return "of-type", func() string { return g.coding(true) + "|" + search.Escape(g.coded().Code) }
		}
	case search.String:
		return one(g.r, []string{"exact", "contains"}), plain
	case search.URI:
		if len(p.Paths()) == 0 {
			return "", nil
		}
		return one(g.r, []string{"above", "below"}), func() string { return search.Escape(g.url()) }
	case search.Reference:
		switch {
		case g.chance(40):
			return "identifier", func() string { return g.coding(false) }
		case texts && g.chance(20):
			return "text", g.words
		case p.Targets == nil:
			return "", nil
		}
		target := one(g.r, p.Targets)
		return string(target), func() string { return string(g.id(target)) }
	}
	return "", nil
}

func (g *generator) id(t fhir.ResourceType) fhir.ID {
	if ids := g.m.IDs[t]; len(ids) > 0 && !g.chance(5) {
		return one(g.r, ids)
	}
	return fhir.ID("none-" + strconv.Itoa(g.r.IntN(10)))
}

func pick(g *generator, from []string, otherwise string) string {
	if len(from) == 0 {
		return otherwise
	}
	return one(g.r, from)
}

func (g *generator) url() string  { return pick(g, g.m.URLs, "http://nowhere.example/x") }
func (g *generator) word() string { return pick(g, g.m.Words, "nothing") }

func (g *generator) words() string {
	w := g.word()
	if g.chance(20) {
		w += " " + g.word()
	}
	return search.Escape(w)
}

func (g *generator) coded() search.Coding {
	if len(g.m.Codings) == 0 {
		return search.Coding{System: "urn:none", Code: "none"}
	}
	return one(g.r, g.m.Codings)
}

// coding is a token, with its system if full.
func (g *generator) coding(full bool) string {
	c := g.coded()
	system, code := search.Escape(c.System), search.Escape(c.Code)
	switch n := g.r.IntN(10); {
	case full && system == "":
		return "urn:none|" + code
	case full || n < 3:
		return system + "|" + code
	case n == 3:
		return "|" + code
	case n == 4 && system != "":
		return system + "|"
	default:
		return code
	}
}

func (g *generator) prefix() string {
	return one(g.r, []string{"", "", "", "eq", "ne", "lt", "gt", "le", "ge", "sa", "eb", "ap"})
}

// value is one value of a parameter without a modifier.
func (g *generator) value(t fhir.ResourceType, p *search.Param) string {
	switch p.Type {
	case search.Token:
		if p.Code == "_id" {
			return string(g.id(t))
		}
		if strings.HasPrefix(p.Code, "is-") || slices.Contains([]string{"active", "deceased", "experimental", "restricted-by"}, p.Code) || g.boolean(t, p) {
			return one(g.r, []string{"true", "false"})
		}
		return g.coding(false)
	case search.Reference:
		if p.Targets == nil && g.chance(50) {
			return search.Escape(g.url())
		}
		targets := p.Targets
		if targets == nil {
			targets = g.m.Types
		}
		target := one(g.r, targets)
		if p.Targets != nil && len(p.Targets) < 10 && g.chance(50) {
			return string(g.id(target))
		}
		return string(target) + "/" + string(g.id(target))
	case search.Date:
		return g.prefix() + pick(g, g.m.Dates, "1900-01-01")
	case search.Number:
		return g.prefix() + pick(g, g.m.Numbers, "-1")
	case search.Quantity:
		v := g.prefix() + pick(g, g.m.Numbers, "-1")
		if len(g.m.Units) == 0 || g.chance(40) {
			return v
		}
		u := one(g.r, g.m.Units)
		if g.chance(30) {
			return v + "||" + search.Escape(u.Code)
		}
		return v + "|" + search.Escape(u.System) + "|" + search.Escape(u.Code)
	case search.String:
		return search.Escape(g.word())
	case search.URI:
		return search.Escape(g.url())
	case search.Composite:
		return g.composite(t, p)
	}
	return "none"
}

// boolean finds out whether a token takes true and false only.
func (g *generator) boolean(t fhir.ResourceType, p *search.Param) bool {
	_, _, err := search.Parse(t, url.Values{p.Code: {"none"}}, search.Options{})
	return err != nil
}

func (g *generator) composite(t fhir.ResourceType, p *search.Param) string {
	parts := p.Components()
	if len(parts) == 0 {
		if len(p.UnionOf) == 0 {
			return "none$none"
		}
		if member, ok := search.Lookup(t, p.UnionOf[0]); ok {
			parts = member.Components()
		}
	}
	out := make([]string, len(parts))
	for i, c := range parts {
		other, ok := search.Lookup(t, c.Code)
		switch {
		case c.Type == search.Token:
			out[i] = search.Escape(g.coded().Code)
			if g.chance(50) {
				out[i] = g.coding(true)
			}
		case ok:
			out[i] = g.value(t, other)
		default:
			out[i] = "none"
		}
	}
	return strings.Join(out, "$")
}
