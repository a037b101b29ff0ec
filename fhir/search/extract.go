package search

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Extract reads what the store keeps of a resource of type t so that searches
// find it: the values of every searchable parameter of t, and the bare target
// of every local reference or url anywhere in it (see [TargetHash]). Contained
// resources are not searched on their own (R4 search, 3.1.1.5.7). Only relative
// literals are local: see [Options.Extract] for absolute ones.
func Extract(t fhir.ResourceType, root *element.Node) Index { return Options{}.Extract(t, root) }

// Extract is the package's Extract for a server at o.Base: an absolute literal
// under it is as local as a relative one.
func (o Options) Extract(t fhir.ResourceType, root *element.Node) Index {
	x := extraction{root: root, base: o.Base, ctx: o.Context}
	if x.ctx == nil {
		x.ctx = context.Background()
	}
	x.tokens = make([]int64, 0, 64)
	r4 := registry()
	if p := r4.clinical[t]; p != nil {
		x.clinical = p.Code
	}
	w := r4.walkers[t]
	if w == nil && t.Valid() {
		w = r4.bare
	}
	if w != nil && root != nil {
		x.visit(&w.root, root)
		for _, p := range w.truths {
			x.truth(p)
		}
	}
	for _, p := range o.Registry.own(t) {
		x.evaluated(p)
	}
	for _, r := range References(o.Base, root) {
		x.refs = append(x.refs, RefEntry{0, TargetHash(r)})
	}
	return x.index()
}

// extraction gathers the index values of one resource.
type extraction struct {
	root     *element.Node
	base     string
	ctx      context.Context // of evaluations
	code     string          // of the parameter at hand
	clinical string          // code of the type's clinical date
	coding   []coding
	spans    []span

	tokens         []int64
	refs           []RefEntry
	dates          []DateEntry
	strings        []StringEntry
	quantities     []QuantityEntry
	atLo, atHi     time.Time
	key, keySystem int64 // of the element of a composite at hand
}

// coding is a token: a code, an identifier ... in its system, "" for none.
type coding struct{ system, code string }

func (x *extraction) value(t ParamType, p *path, n *element.Node) {
	switch t {
	case Token:
		x.token(p, n)
	case Reference:
		x.reference(p.leaf, n)
	case Date:
		x.date(p.leaf, n)
	case String:
		x.string(p.leaf, n)
	case URI:
		x.uri(n)
	case Number:
		x.number(p.leaf, n)
	case Quantity:
		x.quantity(p.leaf, n)
	}
}

// truth is the shape "x.exists() and x != false": true or false, never absent.
func (x *extraction) truth(p *Param) {
	answer := "false"
	for i := range p.paths {
		each(x.root, x.root, p.paths[i].steps, func(n *element.Node) {
			if n.Kind != element.Bool || n.Text != "false" {
				answer = "true"
			}
		})
	}
	x.code = p.Code
	x.coded("", answer)
}

func (x *extraction) token(p *path, n *element.Node) {
	x.coding = appendCodings(x.coding[:0], p, n)
	for _, c := range x.coding {
		x.coded(c.system, c.code)
	}
	if p.leaf == leafIdentifier {
		x.ofType(n)
	}
}

// appendCodings appends what is searched as a token in n.
func appendCodings(dst []coding, p *path, n *element.Node) []coding {
	switch p.leaf {
	case leafCodeableConcept:
		for _, c := range n.Get("coding").List() {
			dst = append(dst, coding{c.Get("system").String(), c.Get("code").String()})
		}
	case leafCoding:
		dst = append(dst, coding{n.Get("system").String(), n.Get("code").String()})
	case leafIdentifier:
		dst = append(dst, coding{n.Get("system").String(), n.Get("value").String()})
	case leafContactPoint:
		system, value := n.Get("system").String(), n.Get("value").String()
		dst = append(dst, coding{system, value})
		if plain := plainContact(system, value); plain != value {
			dst = append(dst, coding{system, plain})
		}
	case leafBoolean:
		if n.Kind == element.Bool {
			dst = append(dst, coding{"", n.Text})
		}
	default:
		if code := n.String(); code != "" {
			dst = append(dst, coding{"", code})
			if p.system != "" {
				dst = append(dst, coding{p.system, code})
			}
		}
	}
	return dst
}

func (x *extraction) coded(system, code string) {
	if system != "" {
		x.tokens = append(x.tokens, hash(kindSystem, x.code, system))
	}
	if code != "" {
		x.tokens = append(x.tokens, hash(kindSystemCode, x.code, system, code), hash(kindCode, x.code, code))
	}
}

// ofType indexes an identifier with its types (modifier :of-type).
func (x *extraction) ofType(n *element.Node) {
	value := n.Get("value").String()
	if value == "" {
		return
	}
	for _, c := range n.Get("type").Get("coding").List() {
		if code := c.Get("code").String(); code != "" {
			x.tokens = append(x.tokens, ofTypeHash(x.code, c.Get("system").String(), code, value))
		}
	}
}

// plainContact is a ContactPoint, which is indexed as written, in the form that
// people search for: a phone number by its digits, an address of electronic
// mail in lower case (R4 search, token: special handling at the server's discretion).
func plainContact(system, value string) string {
	switch system {
	case "phone", "fax", "sms", "pager":
		return strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' || r == '+' {
				return r
			}
			return -1
		}, value)
	case "email":
		return strings.ToLower(value)
	default:
		return value
	}
}

func (x *extraction) reference(l leaf, n *element.Node) {
	if l == leafReference {
		if id := n.Get("identifier"); id != nil {
			code := x.code
			x.code = identifierParam(code)
			x.coded(id.Get("system").String(), id.Get("value").String())
			x.code = code
		}
	}
	param := ParamKey(x.code)
	a, b := x.targets(l, n)
	if a != 0 {
		x.refs = append(x.refs, RefEntry{param, a})
	}
	if b != 0 {
		x.refs = append(x.refs, RefEntry{param, b})
	}
}

// targets are the hashes of what n refers to: of a canonical with a version
// also the one without, 0 if there is none.
func (x *extraction) targets(l leaf, n *element.Node) (target, unversioned int64) {
	var literal string
	switch l {
	case leafReference:
		literal = n.Get("reference").String()
	case leafResource:
		literal = n.Get("resourceType").String() + "/" + n.Get("id").String()
	default:
		literal = n.String()
	}
	if literal == "" || literal[0] == '#' {
		return 0, 0
	}
	if r, ok := LocalRef(x.base, literal); ok {
		return TargetHash(r), 0
	}
	if l == leafResource {
		return 0, 0
	}
	target = URLHash(literal)
	if url, version, ok := strings.Cut(literal, "|"); ok && version != "" {
		unversioned = URLHash(url)
	}
	return target, unversioned
}

func (x *extraction) uri(n *element.Node) {
	s := n.String()
	if s == "" {
		return
	}
	x.tokens = append(x.tokens, hash(kindURI, x.code, s))
	if url, version, ok := strings.Cut(s, "|"); ok && version != "" {
		x.tokens = append(x.tokens, hash(kindURI, x.code, url))
	}
}

func (x *extraction) date(l leaf, n *element.Node) {
	var lo, hi time.Time
	var ok bool
	switch l {
	case leafPeriod:
		lo, hi, ok = period(n)
	case leafTiming:
		lo, hi, ok = timing(n)
	default:
		lo, hi, ok = Instants(n.String())
	}
	switch {
	case !ok:
	case x.code == x.clinical:
		x.atLo, x.atHi = lo, hi
	default:
		x.dates = append(x.dates, DateEntry{Param: x.code, Key: x.key, KeySystem: x.keySystem, Lo: lo, Hi: hi})
	}
}

// period is the range of a Period; an absent end is open, two are no value.
func period(n *element.Node) (lo, hi time.Time, ok bool) {
	start, end := n.Get("start").String(), n.Get("end").String()
	if start == "" && end == "" {
		return
	}
	lo, hi = Earliest, Latest
	if start != "" {
		if lo, _, ok = Instants(start); !ok {
			return
		}
	}
	if end != "" {
		if _, hi, ok = Instants(end); !ok {
			return
		}
	}
	return lo, hi, lo.Before(hi)
}

// timing is the outer limits of a Timing (R4 search, date): its events and its
// boundsPeriod. One without any of them has no place in time.
func timing(n *element.Node) (lo, hi time.Time, ok bool) {
	extend := func(a, b time.Time, valid bool) {
		if !valid {
			return
		}
		if !ok || a.Before(lo) {
			lo = a
		}
		if !ok || b.After(hi) {
			hi = b
		}
		ok = true
	}
	for _, e := range n.Get("event").List() {
		extend(Instants(e.String()))
	}
	extend(period(n.Get("repeat").Get("boundsPeriod")))
	return lo, hi, ok
}

func (x *extraction) string(l leaf, n *element.Node) {
	switch l {
	case leafHumanName:
		x.parts(n, nameParts)
	case leafAddress:
		x.parts(n, addressParts)
	default:
		x.text(n.String())
	}
}

func (x *extraction) parts(n *element.Node, names []string) {
	for _, name := range names {
		for _, v := range n.Get(name).List() {
			x.text(v.String())
		}
	}
}

func (x *extraction) text(s string) {
	exact := clip(s)
	if text := clip(Normalise(exact)); text != "" {
		x.strings = append(x.strings, StringEntry{Param: x.code, Key: x.key, KeySystem: x.keySystem, Text: text, Exact: exact})
	}
}

func (x *extraction) index() Index {
	slices.Sort(x.tokens)
	slices.SortFunc(x.refs, func(a, b RefEntry) int { return cmp.Or(cmp.Compare(a.Param, b.Param), cmp.Compare(a.Target, b.Target)) })
	slices.SortFunc(x.dates, func(a, b DateEntry) int {
		return cmp.Or(strings.Compare(a.Param, b.Param), cmp.Compare(a.Key, b.Key), cmp.Compare(a.KeySystem, b.KeySystem), a.Lo.Compare(b.Lo), a.Hi.Compare(b.Hi))
	})
	slices.SortFunc(x.strings, func(a, b StringEntry) int {
		return cmp.Or(strings.Compare(a.Param, b.Param), cmp.Compare(a.Key, b.Key), cmp.Compare(a.KeySystem, b.KeySystem), strings.Compare(a.Text, b.Text), strings.Compare(a.Exact, b.Exact))
	})
	slices.SortFunc(x.quantities, func(a, b QuantityEntry) int {
		return cmp.Or(strings.Compare(a.Param, b.Param), cmp.Compare(a.Key, b.Key), cmp.Compare(a.KeySystem, b.KeySystem),
			cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi), cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.UnitLo, b.UnitLo), cmp.Compare(a.UnitHi, b.UnitHi))
	})
	return Index{
		Tokens:     slices.Compact(x.tokens),
		Refs:       slices.Compact(x.refs),
		Dates:      slices.Compact(x.dates),
		Strings:    slices.Compact(x.strings),
		Quantities: slices.Compact(x.quantities),
		AtLo:       x.atLo, AtHi: x.atHi,
	}
}
