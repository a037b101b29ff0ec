package profile

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
)

// compiled is a StructureDefinition as it is checked.
type compiled struct {
	url     string
	typ     string // the FHIR type that it constrains
	root    *elem  // nil: there is no snapshot
	problem string // why it cannot be used, or cannot be used in full; "" if it can
}

// elem is one element of a snapshot, or one slice of it.
type elem struct {
	name       string // in FHIRPath: without [x]
	slice      string // sliceName, "" for the element itself
	min, max   int    // max -1: no bound
	types      []typeRef
	fixed      *element.Node
	pattern    *element.Node
	maxLength  int
	strength   string // of the binding; "" without one
	valueSet   string
	invariants []invariant
	children   []*elem
	slicing    *slicing
	slices     []*elem
	ref        *elem // contentReference
}

type typeRef struct {
	code     string
	profiles []string
	targets  []string
}

// slicing says how the values of an element are told apart (profiling.html#slicing).
type slicing struct {
	discriminators []discriminator
	closed         bool
	openAtEnd      bool
	ordered        bool
}

type discriminator struct {
	kind string
	path string
	expr *fhirpath.Expression
	segs []string // the names on the path
}

// maxProfiles bounds the cache. US Core has 70, and brings in 30 more.
const maxProfiles = 512

// cache keeps what was compiled, by canonical, for one revision of the source.
type cache struct {
	mu       sync.RWMutex
	revision int64
	m        map[string]*compiled
}

func (k *cache) get(revision int64, canonical string) (*compiled, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.revision != revision {
		return nil, false
	}
	p, ok := k.m[canonical]
	return p, ok
}

func (k *cache) put(revision int64, canonical string, p *compiled) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.revision != revision || k.m == nil {
		k.revision, k.m = revision, map[string]*compiled{}
	}
	if len(k.m) >= maxProfiles {
		for old := range k.m { // any one: what is in use comes back
			delete(k.m, old)
			break
		}
	}
	k.m[canonical] = p
}

// find gives a profile, or nil where it is not installed. Absence is not kept: a client can ask for any name.
func (v *Validator) find(ctx context.Context, revision int64, canonical string) (*compiled, error) {
	if p, ok := v.cache.get(revision, canonical); ok {
		return p, nil
	}
	n, ok, err := v.source.Find(ctx, "StructureDefinition", canonical)
	if err != nil || !ok {
		return nil, err
	}
	p := compile(n)
	v.cache.put(revision, canonical, p)
	return p, nil
}

// compile reads a StructureDefinition with a snapshot.
func compile(n *element.Node) *compiled {
	p := &compiled{url: n.Get("url").String(), typ: n.Get("type").String()}
	list := n.Get("snapshot").Get("element").List()
	switch {
	case len(list) == 0:
		p.problem = "it has no snapshot"
		return p
	case n.Get("fhirVersion").String() != "" && !strings.HasPrefix(n.Get("fhirVersion").String(), "4.0"):
		p.problem = "it is for another version of FHIR"
		return p
	}
	b := builder{p: p, byID: map[string]*elem{}, refs: map[*elem]string{}}
	for _, e := range list {
		b.add(e)
	}
	for e, id := range b.refs {
		if e.ref = b.byID[id]; e.ref == nil {
			p.note("a contentReference leads nowhere")
		}
	}
	return p
}

func (p *compiled) note(text string) {
	if p.problem == "" {
		p.problem = text
	}
}

type builder struct {
	p    *compiled
	byID map[string]*elem
	refs map[*elem]string
}

// add places one ElementDefinition by its id: "Patient.extension:race.url".
func (b *builder) add(n *element.Node) {
	id := n.Get("id").String()
	if id == "" {
		b.p.note("an element of its snapshot has no id")
		return
	}
	last := id
	up := ""
	if i := strings.LastIndexByte(id, '.'); i >= 0 {
		up, last = id[:i], id[i+1:]
	}
	name, slice, sliced := strings.Cut(last, ":")
	name = strings.TrimSuffix(name, "[x]")
	e := b.element(n, name, slice)
	switch {
	case up == "" && b.p.root == nil:
		b.p.root = e
	case sliced && strings.Contains(slice, "/"):
		b.p.note("slices of slices are not checked")
		return
	case sliced:
		host := b.byID[strings.TrimSuffix(id, ":"+slice)]
		if host == nil {
			b.p.note("a slice of its snapshot has no element")
			return
		}
		host.slices = append(host.slices, e)
	default:
		host := b.byID[up]
		if host == nil {
			if !strings.Contains(up, "/") {
				b.p.note("an element of its snapshot has no parent")
			}
			return
		}
		host.children = append(host.children, e)
	}
	b.byID[id] = e
}

func (b *builder) element(n *element.Node, name, slice string) *elem {
	e := &elem{name: name, slice: slice, max: -1}
	e.min, _ = strconv.Atoi(text(n.Get("min")))
	if m := n.Get("max").String(); m != "*" {
		e.max, _ = strconv.Atoi(m)
	}
	e.maxLength, _ = strconv.Atoi(text(n.Get("maxLength")))
	for _, t := range n.Get("type").List() {
		code := t.Get("code").String()
		if strings.HasPrefix(code, "http://hl7.org/fhirpath/") {
			continue // the value of a primitive, and ids: codec checks them
		}
		e.types = append(e.types, typeRef{code, texts(t.Get("profile")), texts(t.Get("targetProfile"))})
	}
	for i := range n.Fields {
		switch f := n.Fields[i]; {
		case strings.HasPrefix(f.Name, "fixed"):
			e.fixed = f.Value
		case strings.HasPrefix(f.Name, "pattern"):
			e.pattern = f.Value
		}
	}
	if bind := n.Get("binding"); bind != nil && bind.Get("valueSet") != nil {
		e.strength, e.valueSet = bind.Get("strength").String(), bind.Get("valueSet").String()
	}
	for _, x := range n.Get("constraint").List() {
		b.invariant(e, x)
	}
	if s := n.Get("slicing"); s != nil {
		e.slicing = b.slicing(s)
	}
	if r := n.Get("contentReference").String(); r != "" {
		b.refs[e] = r[strings.IndexByte(r, '#')+1:]
	}
	return e
}

func (b *builder) invariant(e *elem, x *element.Node) {
	key, source := x.Get("key").String(), x.Get("expression").String()
	if inBase()[key] || source == "" {
		return
	}
	expr, err := fhirpath.Compile(source)
	if err != nil {
		b.p.note("its rule " + key + " cannot be evaluated")
		return
	}
	e.invariants = append(e.invariants, invariant{key, x.Get("human").String(), x.Get("severity").String() == "warning", expr})
}

func (b *builder) slicing(n *element.Node) *slicing {
	s := &slicing{closed: n.Get("rules").String() == "closed", openAtEnd: n.Get("rules").String() == "openAtEnd", ordered: text(n.Get("ordered")) == "true"}
	for _, d := range n.Get("discriminator").List() {
		x := discriminator{kind: d.Get("type").String(), path: d.Get("path").String()}
		var err error
		if x.expr, err = fhirpath.Compile(x.path); err != nil {
			b.p.note("a discriminator cannot be evaluated")
			continue
		}
		switch x.kind {
		case "value", "pattern", "exists", "type", "profile":
		default:
			b.p.note("a discriminator of another kind than R4 has is not checked")
			continue
		}
		x.segs = pathNames(x.path)
		s.discriminators = append(s.discriminators, x)
	}
	return s
}

// pathNames gives the elements on the path of a discriminator (profiling.html#discriminator): names, and the functions
// extension(url), resolve() and ofType(type), as they stand.
func pathNames(path string) []string {
	var out []string
	depth, from := 0, 0
	quoted := false
	for i := 0; i <= len(path); i++ {
		switch {
		case i == len(path) || path[i] == '.' && depth == 0 && !quoted:
			if s := path[from:i]; s != "$this" && s != "" {
				out = append(out, s)
			}
			from = i + 1
		case path[i] == '\'':
			quoted = !quoted
		case path[i] == '(' && !quoted:
			depth++
		case path[i] == ')' && !quoted:
			depth--
		}
	}
	return out
}

func text(n *element.Node) string {
	if n == nil {
		return ""
	}
	return n.Text
}

func texts(n *element.Node) []string {
	var out []string
	for _, x := range n.List() {
		if x.String() != "" {
			out = append(out, x.String())
		}
	}
	return out
}

// typeOfCanonical is the type that a canonical of HL7 names: ".../StructureDefinition/Patient".
func typeOfCanonical(canonical string) fhir.ResourceType {
	const base = "http://hl7.org/fhir/StructureDefinition/"
	url, _, _ := strings.Cut(canonical, "|")
	name, ok := strings.CutPrefix(url, base)
	if !ok {
		return ""
	}
	if t := fhir.ResourceType(name); t.Valid() || name == "Resource" || name == "DomainResource" {
		return t
	}
	return ""
}
