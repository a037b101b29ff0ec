package codec

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir"
)

//go:generate sh -c "go run ./internal/tablegen \"$CLOISTER_R4_DEFINITIONS\" > r4.table"

//go:embed r4.table
var tableText string

// typeDef is what R4 says of one type: a resource type, a data type, or an
// element that has elements of its own.
type typeDef struct {
	name     string
	resource bool
	abstract bool
	fields   map[string]*fieldDef // by JSON name
	slots    []slotDef
	meaning  meaning
}

// slotDef is a choice of types, or a required element: what can occur at most
// or must occur at least once.
type slotDef struct {
	name     string
	required bool
}

// maxSlots bounds the slots of a type; the loader insists on it.
const maxSlots = 16

// fieldDef is one element under one of its JSON names.
type fieldDef struct {
	name      string // as in a FHIRPath: without the type of a choice
	json      string
	prim      primitive // 0: typ says what it is
	typ       *typeDef
	any       bool // a resource of any type
	attribute bool // cannot carry an extension of its own
	list      bool
	forbidden bool
	summary   bool // part of _summary=true
	modifier  bool // changes the meaning of the rest
	required  bool
	slot      int // -1: none
	codes     *codeSet
	targets   map[fhir.ResourceType]bool // of a Reference; nil: any
}

// meaning marks the types whose content the codec itself must understand.
type meaning uint8

const (
	plain meaning = iota
	isReference
	isCoding
	isConcept
	isQuantity
	isMeta
	isExtension
	isCompanion
)

var meanings = map[string]meaning{
	"Reference": isReference, "Coding": isCoding, "CodeableConcept": isConcept, "Meta": isMeta,
	"Extension": isExtension, "Quantity": isQuantity, "SimpleQuantity": isQuantity,
	"MoneyQuantity": isQuantity, "Age": isQuantity, "Count": isQuantity, "Distance": isQuantity, "Duration": isQuantity,
}

// codeSet is the expansion of a required binding.
type codeSet struct {
	pattern func(string) bool
	codes   map[string]bool            // whatever the system, for elements of type code
	systems map[string]map[string]bool // system -> codes, for Coding and CodeableConcept
}

func (s *codeSet) has(code string) bool {
	if s.pattern != nil {
		return s.pattern(code)
	}
	return s.codes[code]
}

// types is the table, read at first use: a program that parses nothing does not
// pay for it.
var types = sync.OnceValue(func() map[string]*typeDef {
	t, err := loadTable(tableText)
	if err != nil {
		panic("codec: r4.table: " + err.Error())
	}
	return t
})

type rawType struct {
	def      *typeDef
	base     string
	lines    []string
	complete bool
}

type loader struct {
	raw  map[string]*rawType
	sets map[string]*codeSet
	refs map[string]map[fhir.ResourceType]bool
}

func loadTable(text string) (map[string]*typeDef, error) {
	l := &loader{raw: map[string]*rawType{}, refs: map[string]map[fhir.ResourceType]bool{},
		sets: map[string]*codeSet{"^currency": {pattern: isCurrency}}}
	var set *codeSet
	var typ *rawType
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '=':
			set = &codeSet{codes: map[string]bool{}, systems: map[string]map[string]bool{}}
			l.sets[line[1:]] = set
		case line[0] == '+' && set != nil:
			f := strings.Split(line[1:], "\t")
			in := set.systems[f[0]]
			if in == nil {
				in = make(map[string]bool, len(f))
				set.systems[f[0]] = in
			}
			for _, code := range f[1:] {
				in[code], set.codes[code] = true, true
			}
		case line[0] == ':':
			f := strings.Split(line[1:], "\t")
			if len(f) != 3 {
				return nil, fmt.Errorf("type line %q", line)
			}
			typ = &rawType{base: f[1], def: &typeDef{name: f[0], resource: f[2] == "resource", abstract: f[2] == "abstract",
				fields: map[string]*fieldDef{}, meaning: meanings[f[0]]}}
			l.raw[f[0]] = typ
		case typ != nil:
			typ.lines = append(typ.lines, line)
		default:
			return nil, fmt.Errorf("stray line %q", line)
		}
	}
	out := make(map[string]*typeDef, len(l.raw))
	for name, r := range l.raw {
		if err := l.complete(r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(r.def.slots) > maxSlots {
			return nil, fmt.Errorf("%s: more than %d slots", name, maxSlots)
		}
		out[name] = r.def
	}
	return out, nil
}

func (l *loader) complete(r *rawType) error {
	if r.complete {
		return nil
	}
	r.complete = true
	if r.base != "" {
		b := l.raw[r.base]
		if b == nil {
			return fmt.Errorf("no base type %q", r.base)
		}
		if err := l.complete(b); err != nil {
			return err
		}
		for k, v := range b.def.fields {
			r.def.fields[k] = v
		}
		r.def.slots = append(r.def.slots, b.def.slots...)
	}
	for _, line := range r.lines {
		if err := l.field(r.def, strings.Split(line, "\t")); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
	}
	return nil
}

func (l *loader) field(d *typeDef, f []string) error {
	if len(f) < 3 {
		return fmt.Errorf("too few columns")
	}
	least, most, ok := strings.Cut(f[1], "..")
	if !ok {
		return fmt.Errorf("no cardinality")
	}
	marked, summary := strings.CutPrefix(f[0], "~")
	marked, modifier := strings.CutPrefix(marked, "!")
	name, choice := strings.CutSuffix(marked, "[x]")
	slot := -1
	if choice || least != "0" {
		slot = len(d.slots)
		d.slots = append(d.slots, slotDef{name, least != "0"})
	}
	var codes *codeSet
	if len(f) > 3 {
		if codes = l.sets[f[3]]; codes == nil {
			return fmt.Errorf("no value set %q", f[3])
		}
	}
	for _, t := range splitTypes(f[2]) {
		e := &fieldDef{name: name, json: name, list: most == "*", forbidden: most == "0", slot: slot, codes: codes,
			summary: summary, modifier: modifier, required: least != "0"}
		t, targets, _ := strings.Cut(t, "(")
		t, e.attribute = strings.CutPrefix(t, "@")
		if choice {
			suffix := t
			if t == "SimpleQuantity" || t == "MoneyQuantity" {
				suffix = "Quantity"
			}
			e.json += strings.ToUpper(suffix[:1]) + suffix[1:]
		}
		if targets != "" {
			e.targets = l.targets(strings.TrimSuffix(targets, ")"))
		}
		switch p, ok := primitives[t]; {
		case ok:
			e.prim = p
		case t == "Resource":
			e.any = true
		default:
			r := l.raw[t]
			if r == nil {
				return fmt.Errorf("no type %q", t)
			}
			e.typ = r.def
		}
		d.fields[e.json] = e
	}
	return nil
}

func splitTypes(s string) []string {
	return strings.Split(s, "|")
}

func (l *loader) targets(list string) map[fhir.ResourceType]bool {
	if m := l.refs[list]; m != nil {
		return m
	}
	m := map[fhir.ResourceType]bool{}
	for t := range strings.SplitSeq(list, ",") {
		m[fhir.ResourceType(t)] = true
	}
	l.refs[list] = m
	return m
}

func isCurrency(code string) bool {
	return len(code) == 3 && strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}
