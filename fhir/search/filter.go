package search

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloister-health/cloister/fhir"
)

// expression is a part of a _filter: a test, or others that "and" or "or" join.
type expression struct {
	at   int    // where it stands: characters, from 1
	not  bool   // it must not hold
	join string // "and" or "or" of parts; "" for a test
	part []*expression
	// A test.
	links []link
	asked question
}

// filterReader reads the syntax of R4 search_filter.html. Beyond it, a link may
// name its type as in a chain (subject:Patient.name), and a path may hold
// reverse chains (_has:Observation:patient:code), as in R5.
type filterReader struct {
	text string
	at   int // bytes
	deep int
}

// maxNesting is how deep parentheses and brackets of a _filter may be.
const maxNesting = 16

// filter reads a _filter as one condition on resources of type t.
func (p *parser) filter(t fhir.ResourceType, text string) (Criterion, *fault) {
	if len(text) > MaxFilter {
		return Criterion{}, faultf("is longer than %d bytes", MaxFilter)
	}
	r := &filterReader{text: text}
	e, f := r.expression()
	if f == nil && r.at < len(r.text) {
		f = r.expected("and, or, or its end")
	}
	if f != nil {
		return Criterion{}, f
	}
	where, f := p.lower(t, e)
	if f != nil {
		// To leave out a filter for one name in it would change the meaning of the rest.
		f.unknown = false
		return Criterion{}, f
	}
	return allOf(where), nil
}

func (r *filterReader) position() int { return utf8.RuneCountInString(r.text[:r.at]) + 1 }

func (r *filterReader) expected(what string) *fault {
	return faultf("does not read at character %d: expected %s", r.position(), what)
}

// expression reads tests joined by "and" and "or", which have no precedence:
// from left to right (R4 search_filter.html).
func (r *filterReader) expression() (*expression, *fault) {
	left, f := r.term()
	for f == nil {
		r.space()
		if r.at == len(r.text) || r.next() == ')' || r.next() == ']' {
			return left, nil
		}
		start := r.at
		word := r.word()
		if word != "and" && word != "or" {
			r.at = start
			return nil, r.expected("and, or, or its end")
		}
		var right *expression
		right, f = r.term()
		if left.join == word && !left.not {
			left.part = append(left.part, right)
		} else {
			left = &expression{at: left.at, join: word, part: []*expression{left, right}}
		}
	}
	return nil, f
}

func (r *filterReader) term() (*expression, *fault) {
	r.space()
	start := r.at
	not := false
	if r.word() == "not" {
		not = true
		r.space()
	} else {
		r.at = start // a name that starts with letters
	}
	if r.next() == '(' {
		e, f := r.nested(')')
		if f != nil {
			return nil, f
		}
		if not {
			e.not = !e.not
		}
		return e, nil
	}
	if not {
		return nil, r.expected("an opening parenthesis after not")
	}
	return r.test()
}

// nested reads an expression in parentheses or brackets.
func (r *filterReader) nested(end byte) (*expression, *fault) {
	if r.deep++; r.deep > maxNesting {
		return nil, faultf("is nested more than %d deep", maxNesting)
	}
	defer func() { r.deep-- }()
	r.at++
	e, f := r.expression()
	if f != nil {
		return nil, f
	}
	if r.next() != end {
		return nil, r.expected("a closing " + string(end))
	}
	r.at++
	return e, nil
}

func (r *filterReader) test() (*expression, *fault) {
	e := &expression{at: r.position()}
	for done := false; !done; {
		name := r.name()
		if name == "" {
			return nil, r.expected("the name of a parameter")
		}
		links, asked, f := trail(name)
		if f != nil {
			return nil, f.placed(e.at)
		}
		e.links = append(e.links, links...)
		switch r.next() {
		case '.', '[':
			l := link{code: asked.code, typ: fhir.ResourceType(asked.modifier)}
			if asked.modified && !l.typ.Valid() {
				return nil, faultf("names a type that R4 does not have").placed(e.at)
			}
			if r.next() == '[' {
				if l.where, f = r.nested(']'); f != nil {
					return nil, f
				}
			}
			if r.next() != '.' {
				return nil, r.expected("a dot after the brackets")
			}
			r.at++
			e.links = append(e.links, l)
		default:
			if asked.modified {
				return nil, faultf("has a modifier: operations stand in place of them").placed(e.at)
			}
			e.asked = asked
			done = true
		}
		if len(e.links) > MaxDepth {
			return nil, faultf("is a chain of more than %d links", MaxDepth).placed(e.at)
		}
	}
	r.space()
	start := r.at
	e.asked.op = r.word()
	if !operations[e.asked.op] {
		r.at = start
		return nil, r.expected("an operation: eq, ne, co, sw, ew, gt, lt, ge, le, ap, sa, eb, pr, po, ss, sb, in, ni or re")
	}
	r.space()
	var f *fault
	e.asked.literal, f = r.value()
	return e, f
}

var operations = map[string]bool{
	"eq": true, "ne": true, "co": true, "sw": true, "ew": true, "gt": true, "lt": true, "ge": true, "le": true, "ap": true,
	"sa": true, "eb": true, "pr": true, "po": true, "ss": true, "sb": true, "in": true, "ni": true, "re": true,
}

// value reads a JSON string, or whatever goes up to the next space, ) or ].
func (r *filterReader) value() (string, *fault) {
	if r.next() != '"' {
		start := r.at
		for r.at < len(r.text) {
			c, size := utf8.DecodeRuneInString(r.text[r.at:])
			if unicode.IsSpace(c) || c == ')' || c == ']' {
				break
			}
			r.at += size
		}
		if r.at == start {
			return "", r.expected("a value")
		}
		return r.text[start:r.at], nil
	}
	end := r.at + 1
	for end < len(r.text) && r.text[end] != '"' {
		if r.text[end] == '\\' {
			end++
		}
		end++
	}
	var s string
	if end >= len(r.text) || json.Unmarshal([]byte(r.text[r.at:end+1]), &s) != nil || !printable(s) {
		return "", r.expected("a JSON string")
	}
	r.at = end + 1
	if s == "" {
		return "", r.expected("a value that is not empty")
	}
	return s, nil
}

func (r *filterReader) next() byte {
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

func (r *filterReader) space() {
	for r.at < len(r.text) {
		c, size := utf8.DecodeRuneInString(r.text[r.at:])
		if !unicode.IsSpace(c) {
			return
		}
		r.at += size
	}
}

func (r *filterReader) word() string {
	start := r.at
	for c := r.next(); c >= 'a' && c <= 'z'; c = r.next() {
		r.at++
	}
	return r.text[start:r.at]
}

func (r *filterReader) name() string {
	start := r.at
	for {
		c := r.next()
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case r.at > start && (c >= '0' && c <= '9' || c == '-' || c == ':'):
		default:
			return r.text[start:r.at]
		}
		r.at++
	}
}

// placed says where in a _filter the fault is: by number, because what stands
// there is a part of a value.
func (f *fault) placed(at int) *fault {
	if strings.HasPrefix(f.reason, "at character ") {
		return f
	}
	return &fault{unknown: f.unknown, reason: fmt.Sprintf("at character %d %s", at, f.reason)}
}

// lower turns an expression into conditions on resources of type t, all of which must hold.
func (p *parser) lower(t fhir.ResourceType, e *expression) ([]Criterion, *fault) {
	var where []Criterion
	switch e.join {
	case "":
		c, f := p.follow(t, e.links, e.asked)
		if f != nil {
			return nil, f.placed(e.at)
		}
		where = []Criterion{c}
	case "and":
		for _, x := range e.part {
			w, f := p.lower(t, x)
			if f != nil {
				return nil, f
			}
			where = append(where, w...)
		}
	default:
		c := Criterion{Op: Either}
		for _, x := range e.part {
			w, f := p.lower(t, x)
			if f != nil {
				return nil, f
			}
			c.Groups = append(c.Groups, w)
		}
		where = []Criterion{c}
	}
	if e.not {
		c := allOf(where)
		c.Not = !c.Not
		where = []Criterion{c}
	}
	return where, nil
}

// operation lowers a test to what the same question is as a parameter with a
// modifier or a prefix.
func (p *parser) operation(t fhir.ResourceType, def *Param, q question) (Criterion, *fault) {
	op := q.op
	if op == "pr" {
		if q.literal != "true" && q.literal != "false" {
			return Criterion{}, faultf("takes true or false with the operation pr")
		}
		c, f := p.present(t, def)
		c.Not = q.literal == "false"
		return c, f
	}
	m, literal, ok := lowered(def, op, q.literal)
	if !ok {
		return Criterion{}, faultf("has the operation %s, which parameters of type %s do not have here", op, def.FHIRType)
	}
	c, f := p.posed(t, def, m, literal)
	if f != nil || op != "ne" || !m.not || def.Code == "_id" {
		return c, f
	}
	// An item with an unequal value: there must be one.
	there, f := p.present(t, def)
	return allOf([]Criterion{there, c}), f
}

// lowered gives the modifier and the literal of a parameter that ask the same
// as an operation with a value.
func lowered(def *Param, op, value string) (m modifier, literal string, ok bool) {
	m.not = op == "ne" || op == "ni"
	// In a filter only the | of tokens and quantities and the $ of composites stand for themselves.
	literal = strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(value)
	switch def.Type {
	case Token:
		switch op {
		case "eq", "ne":
		case "in", "ni":
			m.set = inValueSet
			literal = Escape(value)
		case "ss":
			m.set = below
		case "sb":
			m.set = above
		default:
			return m, "", false
		}
		if def.Code == "_id" {
			return m, literal, m.set == 0
		}
		return m, strings.ReplaceAll(literal, "$", `\$`), true
	case String:
		m.match, ok = map[string]StringMatch{"eq": Equal, "ne": Equal, "co": Contains, "sw": StartsWith, "ew": Ends}[op]
		return m, Escape(value), ok
	case Reference:
		return m, Escape(value), op == "eq" || op == "ne" || op == "re"
	case URI:
		return m, Escape(value), op == "eq" || op == "ne"
	case Composite:
		return m, literal, op == "eq" || op == "ne"
	case Date, Number, Quantity:
		m.not = false
		switch op {
		case "po":
			if def.Type != Date {
				return m, "", false
			}
			m.overlap = true
			op = "ap"
		case "eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb":
		default:
			return m, "", false
		}
		return m, op + literal, true
	}
	return m, "", false
}
