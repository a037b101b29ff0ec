package terminology

import (
	"context"
	"errors"
	"slices"

	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Translate asks for the counterparts of codes (conceptmap-operation-translate.html).
type Translate struct {
	ConceptMap   string        // canonical; "" for every installed map that fits
	Inline       *element.Node // a ConceptMap that comes with the request
	Codings      []Coding
	Source       string       // canonical of the value set that the codes come from, or ""
	Target       string       // canonical of the value set that the translation should come from, or ""
	TargetSystem string       // system of the translation, or ""
	Reverse      bool         // from target to source
	Dependencies []Dependency // what else is known (ConceptMap.group.element.target.dependsOn)
}

// Dependency is an element beside the code that a mapping may depend on.
type Dependency struct {
	Element string // uri
	Concept Coding
}

// most is how many maps and matches one answer takes.
const (
	mostMaps    = 1000
	mostMatches = 1000
)

// Translate gives the Parameters of the answer. The error is an *outcome.Error:
// not-found (422) where the concept map is not installed.
func (s *Service) Translate(ctx context.Context, q Translate) (*element.Node, error) {
	r, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	maps, err := r.maps(q)
	if err != nil {
		return nil, public(err)
	}
	t := translation{run: r, q: q}
	for _, m := range maps {
		for _, c := range q.Codings {
			if err := t.through(m, c, 0); err != nil {
				return nil, public(err)
			}
		}
	}
	p := &parameters{}
	p.flag("result", t.translated)
	if !t.translated {
		p.text("message", "valueString", "no installed concept map has a counterpart for this")
	}
	p.items = append(p.items, t.matches...)
	return p.resource(), nil
}

// maps gives the concept maps to look in.
func (r *run) maps(q Translate) ([]*element.Node, error) {
	if q.Inline != nil {
		return []*element.Node{q.Inline}, nil
	}
	if q.ConceptMap != "" {
		m, err := r.conceptMap(q.ConceptMap)
		if err != nil {
			return nil, err
		}
		return []*element.Node{m}, nil
	}
	all, ok := r.source.(definition.Lister)
	if !ok {
		return nil, unknown("name the concept map: this server keeps no list of them")
	}
	names, err := all.Canonicals(r.ctx, "ConceptMap")
	if err != nil {
		return nil, err
	}
	var out []*element.Node
	seen := map[string]bool{}
	for _, c := range names {
		url := bareSystem(c)
		if seen[url] {
			continue
		}
		seen[url] = true
		if len(seen) > mostMaps {
			return nil, outcome.New(outcome.TooCostly, "too many concept maps are installed to look in all of them: name one")
		}
		m, err := r.conceptMap(url)
		if err != nil {
			return nil, err
		}
		source, target := scope(m, "source"), scope(m, "target")
		if q.Reverse {
			source, target = target, source
		}
		if q.Source != "" && source != q.Source || q.Target != "" && target != q.Target {
			continue
		}
		out = append(out, m)
	}
	return out, nil
}

// scope is source[x] or target[x] of a map.
func scope(m *element.Node, end string) string {
	for _, kind := range []string{"Canonical", "Uri"} {
		if v := m.Get(end + kind).String(); v != "" {
			return v
		}
	}
	return ""
}

func (r *run) conceptMap(canonical string) (*element.Node, error) {
	m, ok, err := r.source.Find(r.ctx, "ConceptMap", canonical)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, unknown("the concept map %s is not installed", canonical)
	}
	return m, nil
}

type translation struct {
	*run
	q          Translate
	matches    []*element.Node
	translated bool
}

// through looks for counterparts of c in one map. depth counts the maps that sent it here (unmapped.mode other-map).
func (t *translation) through(m *element.Node, c Coding, depth int) error {
	const deepest = 8
	if depth > deepest {
		return outcome.New(outcome.TooCostly, "concept maps refer to each other too deeply")
	}
	for _, g := range m.Get("group").List() {
		source, target := g.Get("source").String(), g.Get("target").String()
		from, to := source, target
		if t.q.Reverse {
			from, to = target, source
		}
		if from != "" && c.System != "" && from != bareSystem(c.System) || t.q.TargetSystem != "" && to != t.q.TargetSystem {
			continue
		}
		mapped := false
		for _, e := range g.Get("element").List() {
			targets := e.Get("target").List()
			if err := t.spend(1 + len(targets)); err != nil {
				return err
			}
			if !t.q.Reverse && e.Get("code").String() != c.Code {
				continue
			}
			for _, x := range targets {
				end := x
				if t.q.Reverse {
					if x.Get("code").String() != c.Code {
						continue
					}
					end = e
				}
				if !t.depends(x) {
					continue
				}
				mapped = true
				if err := t.match(m, x, Coding{System: to, Code: end.Get("code").String(), Display: end.Get("display").String()}); err != nil {
					return err
				}
			}
		}
		if !mapped && !t.q.Reverse {
			if err := t.unmapped(m, g, c, to, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// unmapped: what the map says of codes that it does not list (ConceptMap.group.unmapped).
func (t *translation) unmapped(m, g *element.Node, c Coding, to string, depth int) error {
	u := g.Get("unmapped")
	switch u.Get("mode").String() {
	case "provided":
		return t.match(m, u, Coding{System: to, Code: c.Code, Display: c.Display})
	case "fixed":
		return t.match(m, u, Coding{System: to, Code: u.Get("code").String(), Display: u.Get("display").String()})
	case "other-map":
		other, err := t.conceptMap(u.Get("url").String())
		if err != nil {
			return err
		}
		return t.through(other, c, depth+1)
	}
	return nil
}

// depends reports whether everything that a mapping depends on was sent along.
func (t *translation) depends(target *element.Node) bool {
	for _, d := range target.Get("dependsOn").List() {
		if !slices.ContainsFunc(t.q.Dependencies, func(x Dependency) bool {
			return x.Element == d.Get("property").String() && x.Concept.Code == d.Get("value").String() &&
				(d.Get("system") == nil || bareSystem(d.Get("system").String()) == x.Concept.System)
		}) {
			return false
		}
	}
	return true
}

// inverse turns "the target is ... than the source" around (concept-map-equivalence).
var inverse = map[string]string{"wider": "narrower", "narrower": "wider", "subsumes": "specializes", "specializes": "subsumes"}

func (t *translation) match(m, x *element.Node, to Coding) error {
	if len(t.matches) >= mostMatches {
		return outcome.New(outcome.TooCostly, "there are too many matches: name the concept map")
	}
	equivalence := x.Get("equivalence").String()
	if equivalence == "" {
		equivalence = "inexact" // unmapped, of which the map says no more
		if x.Get("mode").String() == "provided" {
			equivalence = "equal"
		}
	}
	if other, ok := inverse[equivalence]; ok && t.q.Reverse {
		equivalence = other
	}
	if t.q.Target != "" && to.Code != "" {
		// The code has to be in that value set; where nobody knows, the map is believed.
		in, err := t.contains(t.q.Target, to.System, to.Code)
		var u *unknownError
		if err != nil && !errors.As(err, &u) {
			return err
		}
		if err == nil && !in {
			return nil
		}
	}
	if to.Code != "" && to.Display == "" {
		if cs, err := t.system(to.System, ""); err == nil {
			if c, _ := cs.find(to.Code); c != nil {
				to.Display = c.display
			}
		}
	}
	part := &parameters{}
	part.text("equivalence", "valueCode", equivalence)
	if to.Code != "" {
		part.value("concept", "valueCoding", codingNode(to))
	}
	for _, d := range x.Get("product").List() {
		product := &parameters{}
		product.text("element", "valueUri", d.Get("property").String())
		product.value("concept", "valueCoding", codingNode(Coding{System: d.Get("system").String(), Code: d.Get("value").String(), Display: d.Get("display").String()}))
		part.parts("product", product)
	}
	part.text("source", "valueUri", m.Get("url").String())
	p := &parameters{}
	p.parts("match", part)
	t.matches = append(t.matches, p.items...)
	if equivalence != "unmatched" && equivalence != "disjoint" {
		t.translated = true
	}
	return nil
}
