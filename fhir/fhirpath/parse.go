package fhirpath

import (
	"strings"
)

// What one expression may be. The longest of R4 has 1,200 characters.
const (
	MaxExpression = 10_000 // bytes
	maxNesting    = 60
	maxNumber     = 40 // digits of a literal
)

type op uint8

const (
	opLiteral op = iota
	opEmpty
	opThis
	opIndex
	opTotal
	opExternal
	opMember
	opCall
	opIndexer
	opNegate
	opPlus // unary
	opBinary
	opIs
	opAs
)

// node is one node of a compiled expression.
type node struct {
	op    op
	left  *node // opMember, opCall: the focus; nil: the context
	args  []*node
	name  string
	value Value
	typ   typeName
	fn    *function
	pattern
}

// typeName is a type specifier: FHIR.Patient, System.String, string.
type typeName struct{ space, name string }

type parser struct {
	toks  []token
	pos   int
	depth int
	more  map[string]*function // besides those of FHIRPath and R4
}

func parse(text string) (*node, error) { return parseWith(text, nil) }

func parseWith(text string, more map[string]*function) (*node, error) {
	if len(text) > MaxExpression {
		return nil, &SyntaxError{MaxExpression, "the expression is too long"}
	}
	toks, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks, more: more}
	n, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	if p.peek().kind != tEnd {
		return nil, p.wrong("an operator or the end is expected here")
	}
	return n, nil
}

func (p *parser) peek() token { return p.toks[p.pos] }

func (p *parser) next() token {
	t := p.toks[p.pos]
	if t.kind != tEnd {
		p.pos++
	}
	return t
}

func (p *parser) wrong(text string) error { return &SyntaxError{p.peek().at, text} }

func (p *parser) accept(symbol string) bool {
	if t := p.peek(); t.kind == tSymbol && t.text == symbol {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expect(symbol string) error {
	if !p.accept(symbol) {
		return p.wrong("a " + symbol + " is expected here")
	}
	return nil
}

// precedence of the binary operators (FHIRPath N1, operator precedence), from the loosest.
var precedence = map[string]int{
	"implies": 1, "or": 2, "xor": 2, "and": 3, "in": 4, "contains": 4,
	"=": 5, "~": 5, "!=": 5, "!~": 5, "<": 6, ">": 6, "<=": 6, ">=": 6,
	"|": 7, "is": 8, "as": 8, "+": 9, "-": 9, "&": 9, "*": 10, "/": 10, "div": 10, "mod": 10,
}

func (p *parser) expression(least int) (*node, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, p.wrong("the expression is nested too deep")
	}
	defer func() { p.depth-- }()
	left, err := p.unary()
	if err != nil {
		return nil, err
	}
	for {
		t := p.peek()
		if t.kind != tSymbol && t.kind != tName {
			return left, nil
		}
		level := precedence[t.text]
		if level == 0 || level <= least {
			return left, nil
		}
		p.next()
		if t.text == "is" || t.text == "as" {
			typ, err := p.typeName()
			if err != nil {
				return nil, err
			}
			left = &node{op: opIs, left: left, typ: typ}
			if t.text == "as" {
				left.op = opAs
			}
			continue
		}
		right, err := p.expression(level)
		if err != nil {
			return nil, err
		}
		left = &node{op: opBinary, name: t.text, args: []*node{left, right}}
	}
}

func (p *parser) unary() (*node, error) {
	negate, signs := false, 0
	for {
		switch {
		case p.accept("-"):
			negate = !negate
		case p.accept("+"):
		default:
			n, err := p.path()
			if err != nil || signs == 0 {
				return n, err
			}
			o := opPlus
			if negate {
				o = opNegate
			}
			return &node{op: o, left: n}, nil
		}
		signs++
	}
}

// path reads a term with everything that hangs on it.
func (p *parser) path() (*node, error) {
	n, err := p.term()
	if err != nil {
		return nil, err
	}
	for links := 0; ; links++ {
		if links > 20*maxNesting {
			return nil, p.wrong("the expression is nested too deep")
		}
		switch {
		case p.accept("."):
			if n, err = p.invocation(n); err != nil {
				return nil, err
			}
		case p.accept("["):
			i, err := p.expression(0)
			if err != nil {
				return nil, err
			}
			if err := p.expect("]"); err != nil {
				return nil, err
			}
			n = &node{op: opIndexer, left: n, args: []*node{i}}
		default:
			return n, nil
		}
	}
}

func (p *parser) term() (*node, error) {
	t := p.peek()
	switch t.kind {
	case tString:
		p.next()
		return literal(Value{kind: String, text: t.text, index: -1}), nil
	case tNumber:
		p.next()
		return p.number(t)
	case tTime:
		p.next()
		return timeLiteral(t)
	case tExternal:
		p.next()
		return &node{op: opExternal, name: t.text}, nil
	case tName:
		if t.text == "true" || t.text == "false" {
			p.next()
			return literal(Value{kind: Boolean, text: t.text, index: -1}), nil
		}
	case tSymbol:
		switch t.text {
		case "(":
			p.next()
			n, err := p.expression(0)
			if err != nil {
				return nil, err
			}
			return n, p.expect(")")
		case "{":
			p.next()
			return &node{op: opEmpty}, p.expect("}")
		}
	}
	return p.invocation(nil)
}

func literal(v Value) *node { return &node{op: opLiteral, value: v} }

var calendar = map[string]string{
	"year": "year", "years": "year", "month": "month", "months": "month", "week": "week", "weeks": "week", "day": "day", "days": "day",
	"hour": "hour", "hours": "hour", "minute": "minute", "minutes": "minute", "second": "second", "seconds": "second",
	"millisecond": "millisecond", "milliseconds": "millisecond",
}

func (p *parser) number(t token) (*node, error) {
	switch u := p.peek(); {
	case u.kind == tString:
		p.next()
		return literal(Value{kind: Quantity, text: t.text, unit: u.text, index: -1}), nil
	case u.kind == tName && calendar[u.text] != "":
		p.next()
		return literal(Value{kind: Quantity, text: t.text, unit: calendar[u.text], index: -1}), nil
	}
	v := Value{kind: Decimal, text: t.text, index: -1}
	if !strings.Contains(t.text, ".") {
		v.kind = Integer
		i, ok := parseInt(t.text)
		if !ok {
			return nil, &SyntaxError{t.at, "the number is out of the range of integers"}
		}
		v.text = formatInt(i)
	}
	return literal(v), nil
}

func timeLiteral(t token) (*node, error) {
	v := Value{kind: Date, text: t.text, index: -1}
	switch {
	case strings.HasPrefix(t.text, "T"):
		v.kind, v.text = Time, t.text[1:]
	case strings.Contains(t.text, "T"):
		v.kind, v.text = DateTime, strings.TrimSuffix(t.text, "T")
	}
	if _, ok := v.moment(); !ok {
		return nil, &SyntaxError{t.at, "this is no date or time"}
	}
	return literal(v), nil
}

// invocation reads what may stand behind a dot, or alone.
func (p *parser) invocation(focus *node) (*node, error) {
	t := p.next()
	switch {
	case t.kind == tQuoted:
		return &node{op: opMember, left: focus, name: t.text}, nil
	case t.kind == tSymbol && t.text == "$this":
		return thisOf(focus, opThis, t)
	case t.kind == tSymbol && t.text == "$index":
		return thisOf(focus, opIndex, t)
	case t.kind == tSymbol && t.text == "$total":
		return thisOf(focus, opTotal, t)
	case t.kind != tName:
		return nil, &SyntaxError{t.at, "an element, a function or a value is expected here"}
	}
	if !p.accept("(") {
		return &node{op: opMember, left: focus, name: t.text}, nil
	}
	fn := functions()[t.text]
	if fn == nil {
		fn = p.more[t.text]
	}
	if fn == nil {
		return nil, &SyntaxError{t.at, "this function is not supported"}
	}
	n := &node{op: opCall, left: focus, name: t.text, fn: fn}
	if fn.typeArg && !(fn.optional && p.peek().kind == tSymbol && p.peek().text == ")") {
		typ, err := p.typeName()
		if err != nil {
			return nil, err
		}
		n.typ = typ
		return n, p.expect(")")
	}
	for !p.accept(")") {
		if len(n.args) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		arg, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, arg)
	}
	if len(n.args) < fn.min || len(n.args) > fn.max {
		return nil, &SyntaxError{t.at, t.text + "() has another number of arguments"}
	}
	if err := n.prepare(t.at); err != nil {
		return nil, err
	}
	return n, nil
}

func thisOf(focus *node, o op, t token) (*node, error) {
	if focus != nil {
		return nil, &SyntaxError{t.at, t.text + " cannot stand behind a dot"}
	}
	return &node{op: o}, nil
}

func (p *parser) typeName() (typeName, error) {
	t := p.next()
	if t.kind != tName && t.kind != tQuoted {
		return typeName{}, &SyntaxError{t.at, "the name of a type is expected here"}
	}
	out := typeName{name: t.text}
	if p.accept(".") {
		u := p.next()
		if u.kind != tName && u.kind != tQuoted {
			return typeName{}, &SyntaxError{u.at, "the name of a type is expected here"}
		}
		out = typeName{t.text, u.text}
	}
	switch out.space {
	case "":
		if model()[out.name] == nil && !systemTypes[out.name] {
			return out, &SyntaxError{t.at, "there is no such type"}
		}
	case "FHIR":
		if model()[out.name] == nil {
			return out, &SyntaxError{t.at, "FHIR R4 has no such type"}
		}
	case "System":
		if !systemTypes[out.name] {
			return out, &SyntaxError{t.at, "System has no such type"}
		}
	default:
		// An element that has elements of its own is a type, too: Patient.contact.
		if out = (typeName{"FHIR", out.space + "." + out.name}); model()[out.name] == nil {
			return out, &SyntaxError{t.at, "there is no such type"}
		}
	}
	return out, nil
}

var systemTypes = func() map[string]bool {
	m := map[string]bool{"Any": true}
	for _, n := range kindNames[1:] {
		m[n] = true
	}
	return m
}()

// matches reports whether v is of the type.
func (t typeName) matches(v Value) bool {
	if t.space != "System" {
		if want := model()[t.name]; want != nil && v.typ != nil {
			return v.typ.is(want)
		}
	}
	if t.space == "FHIR" {
		return false
	}
	// A computed value, or an element asked for as the System type that it stands for.
	if t.name == "Any" {
		return true
	}
	return v.kind != Complex && kindNames[v.kind] == t.name
}
