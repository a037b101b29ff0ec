package search

import (
	"cmp"
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
	x := extraction{root: root, base: o.Base}
	x.tokens = make([]int64, 0, 64)
	for _, p := range registry().list[t] {
		x.param(p)
	}
	if t.Valid() {
		for _, p := range registry().list["Resource"] {
			x.param(p)
		}
	}
	for _, r := range References(o.Base, root) {
		x.refs = append(x.refs, RefEntry{0, TargetHash(r)})
	}
	return x.index()
}

// extraction gathers the index values of one resource.
type extraction struct {
	root    *element.Node
	base    string
	code    string // of the parameter at hand
	tokens  []int64
	refs    []RefEntry
	dates   []DateEntry
	strings []StringEntry
}

func (x *extraction) param(p *Param) {
	if !p.Searchable() {
		return
	}
	x.code = p.Code
	if p.Type == Token && p.paths[0].leaf == leafTruth {
		x.truth(p)
		return
	}
	for i := range p.paths {
		path := &p.paths[i]
		each(x.root, x.root, path.steps, func(n *element.Node) { x.value(p.Type, path, n) })
	}
}

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
	x.coded("", answer)
}

func (x *extraction) token(p *path, n *element.Node) {
	switch p.leaf {
	case leafCodeableConcept:
		for _, c := range n.Get("coding").List() {
			x.coded(c.Get("system").String(), c.Get("code").String())
		}
	case leafCoding:
		x.coded(n.Get("system").String(), n.Get("code").String())
	case leafIdentifier:
		x.coded(n.Get("system").String(), n.Get("value").String())
	case leafContactPoint:
		x.contact(n.Get("system").String(), n.Get("value").String())
	case leafBoolean:
		if n.Kind == element.Bool {
			x.coded("", n.Text)
		}
	default:
		code := n.String()
		x.coded("", code)
		if p.system != "" && code != "" {
			x.tokens = append(x.tokens, hash(kindSystemCode, x.code, p.system, code), hash(kindSystem, x.code, p.system))
		}
	}
}

func (x *extraction) coded(system, code string) {
	if system != "" {
		x.tokens = append(x.tokens, hash(kindSystem, x.code, system))
	}
	if code != "" {
		x.tokens = append(x.tokens, hash(kindSystemCode, x.code, system, code), hash(kindCode, x.code, code))
	}
}

// contact indexes a ContactPoint as written and in the form people search for:
// a phone number by its digits, an address of electronic mail in lower case
// (R4 search, token: special handling at the server's discretion).
func (x *extraction) contact(system, value string) {
	x.coded(system, value)
	plain := value
	switch system {
	case "phone", "fax", "sms", "pager":
		plain = strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' || r == '+' {
				return r
			}
			return -1
		}, value)
	case "email":
		plain = strings.ToLower(value)
	}
	if plain != value {
		x.coded(system, plain)
	}
}

func (x *extraction) reference(l leaf, n *element.Node) {
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
		return
	}
	if r, ok := LocalRef(x.base, literal); ok {
		x.refs = append(x.refs, RefEntry{ParamKey(x.code), TargetHash(r)})
		return
	}
	if l == leafResource {
		return
	}
	x.refs = append(x.refs, RefEntry{ParamKey(x.code), URLHash(literal)})
	if url, version, ok := strings.Cut(literal, "|"); ok && version != "" {
		x.refs = append(x.refs, RefEntry{ParamKey(x.code), URLHash(url)})
	}
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
	if ok {
		x.dates = append(x.dates, DateEntry{Param: x.code, Lo: lo, Hi: hi})
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
		x.parts(n, "text", "family", "given", "prefix", "suffix")
	case leafAddress:
		x.parts(n, "text", "line", "city", "district", "state", "postalCode", "country")
	default:
		x.text(n.String())
	}
}

func (x *extraction) parts(n *element.Node, names ...string) {
	for _, name := range names {
		for _, v := range n.Get(name).List() {
			x.text(v.String())
		}
	}
}

func (x *extraction) text(s string) {
	exact := clip(s)
	if text := clip(Normalise(exact)); text != "" {
		x.strings = append(x.strings, StringEntry{Param: x.code, Text: text, Exact: exact})
	}
}

func (x *extraction) index() Index {
	slices.Sort(x.tokens)
	slices.SortFunc(x.refs, func(a, b RefEntry) int { return cmp.Or(cmp.Compare(a.Param, b.Param), cmp.Compare(a.Target, b.Target)) })
	slices.SortFunc(x.dates, func(a, b DateEntry) int {
		return cmp.Or(strings.Compare(a.Param, b.Param), a.Lo.Compare(b.Lo), a.Hi.Compare(b.Hi))
	})
	slices.SortFunc(x.strings, func(a, b StringEntry) int {
		return cmp.Or(strings.Compare(a.Param, b.Param), strings.Compare(a.Text, b.Text), strings.Compare(a.Exact, b.Exact))
	})
	return Index{
		Tokens:  slices.Compact(x.tokens),
		Refs:    slices.Compact(x.refs),
		Dates:   slices.Compact(x.dates),
		Strings: slices.Compact(x.strings),
	}
}
