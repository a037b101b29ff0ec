package ucum

import (
	_ "embed" // the table
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"sync"
)

// The bounds on one unit.
const (
	maxLength = 128  // bytes
	maxPower  = 64   // of one component
	maxDepth  = 16   // parentheses
	maxBits   = 4096 // of numerator or denominator of the factor
)

// units.txt is the table of units, in the format that its head tells.
//
//go:embed units.txt
var units string

type atom struct {
	metric bool
	value
}

// prefixes are the metric ones, and those for binary multiples apart: see binary.
var prefixes = map[string]int{
	"Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1,
	"d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24,
}

var binary = map[string]uint{"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}

// atoms is read once; a table that does not read is a fault of the build.
var atoms = sync.OnceValue(func() map[string]atom {
	a, err := readUnits(units)
	if err != nil {
		panic("ucum: " + err.Error())
	}
	return a
})

func readUnits(text string) (map[string]atom, error) {
	type row struct{ metric, number, of string }
	rows := map[string]row{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		col := strings.Split(line, "\t")
		if len(col) != 4 {
			return nil, fmt.Errorf("table: %d columns in %q", len(col), line)
		}
		if _, twice := rows[col[0]]; twice {
			return nil, fmt.Errorf("table: %s stands there twice", col[0])
		}
		rows[col[0]] = row{col[1], col[2], col[3]}
	}
	out := make(map[string]atom, len(rows))
	open := map[string]bool{}
	// A unit may be defined by one that stands further down.
	var lookup func(code string) (atom, bool)
	lookup = func(code string) (atom, bool) {
		if a, ok := out[code]; ok {
			return a, true
		}
		r, ok := rows[code]
		if !ok || open[code] {
			return atom{}, false
		}
		open[code] = true
		a := atom{metric: r.metric == "m", value: value{factor: big.NewRat(1, 1), dims: dims{code: 1}}}
		if r.of != "!" {
			number, ok := new(big.Rat).SetString(r.number)
			if !ok {
				return atom{}, false
			}
			p := parser{rest: r.of, lookup: lookup}
			v, ok := p.main()
			if !ok {
				return atom{}, false
			}
			v.factor = new(big.Rat).Mul(v.factor, number)
			a.value = v
		}
		out[code] = a
		return a, true
	}
	for code := range rows {
		if _, ok := lookup(code); !ok {
			return nil, fmt.Errorf("table: %s cannot be read", code)
		}
	}
	return out, nil
}

// evaluate reads a whole unit.
func evaluate(code string) (value, bool) {
	if len(code) > maxLength {
		return value{}, false
	}
	p := parser{rest: code, lookup: func(code string) (atom, bool) { a, ok := atoms()[code]; return a, ok }}
	return p.main()
}

// parser reads the grammar of UCUM, section 2.1.
type parser struct {
	rest   string
	depth  int
	lookup func(code string) (atom, bool)
}

func (p *parser) main() (value, bool) {
	v, ok := p.term()
	return v, ok && p.rest == ""
}

func (p *parser) next(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// term is components joined by "." and "/", which bind from left to right; a
// leading "/" is one over.
func (p *parser) term() (value, bool) {
	v := one()
	sign := 1
	if p.next('/') {
		sign = -1
	}
	for {
		c, ok := p.component()
		if !ok {
			return value{}, false
		}
		v = v.combine(c, sign)
		if v.factor.Num().BitLen() > maxBits || v.factor.Denom().BitLen() > maxBits {
			return value{}, false
		}
		switch {
		case p.next('.'):
			sign = 1
		case p.next('/'):
			sign = -1
		default:
			return v, true
		}
	}
}

func (p *parser) component() (value, bool) {
	if p.next('(') {
		if p.depth++; p.depth > maxDepth {
			return value{}, false
		}
		v, ok := p.term()
		p.depth--
		if !ok || !p.next(')') {
			return value{}, false
		}
		return v, p.annotation()
	}
	if strings.HasPrefix(p.rest, "{") {
		return one(), p.annotation()
	}
	if strings.HasPrefix(p.rest, "10*") || strings.HasPrefix(p.rest, "10^") {
		return p.unit(p.take(3))
	}
	if digits := p.take(countDigits(p.rest)); digits != "" {
		n, ok := new(big.Rat).SetString(digits)
		return value{factor: n}, ok && n.Sign() > 0 && p.annotation()
	}
	return p.unit(p.take(symbolLength(p.rest)))
}

func (p *parser) take(n int) string {
	s := p.rest[:n]
	p.rest = p.rest[n:]
	return s
}

// unit is a symbol with its prefix, exponent and annotation.
func (p *parser) unit(symbol string) (value, bool) {
	v, ok := p.symbol(symbol)
	if !ok {
		return value{}, false
	}
	n := 0
	if p.rest != "" && (p.rest[0] == '+' || p.rest[0] == '-') {
		n = 1
	}
	digits := countDigits(p.rest[n:])
	if digits > 0 {
		power, err := strconv.Atoi(p.take(n + digits))
		if err != nil || power == 0 || power > maxPower || power < -maxPower {
			return value{}, false
		}
		v = v.raise(power)
	}
	return v, p.annotation()
}

func (p *parser) symbol(s string) (value, bool) {
	if s == "" {
		return value{}, false
	}
	if a, ok := p.lookup(s); ok {
		return a.value, true
	}
	for n := 1; n <= 2 && n < len(s); n++ {
		a, ok := p.lookup(s[n:])
		if !ok || !a.metric {
			continue
		}
		if power, ok := prefixes[s[:n]]; ok {
			return value{scale(power), nil}.combine(a.value, 1), true
		}
		if shift, ok := binary[s[:n]]; ok {
			return value{new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), shift)), nil}.combine(a.value, 1), true
		}
	}
	return value{}, false
}

// annotation passes over "{...}", which says nothing about the number.
func (p *parser) annotation() bool {
	for strings.HasPrefix(p.rest, "{") {
		i := strings.IndexByte(p.rest, '}')
		if i < 0 || strings.ContainsFunc(p.rest[1:i], func(r rune) bool { return r == '{' || r < ' ' || r > '~' }) {
			return false
		}
		p.rest = p.rest[i+1:]
	}
	return true
}

func countDigits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// symbolLength is up to where a symbol goes: digits, signs and operators end
// it, but for those within brackets.
func symbolLength(s string) int {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '[':
			n := strings.IndexByte(s[i:], ']')
			if n < 0 {
				return len(s)
			}
			i += n
		case c >= '0' && c <= '9', strings.IndexByte(".(){}/+- ", c) >= 0:
			return i
		}
	}
	return len(s)
}
