// Package ucum reads units of the Unified Code for Units of Measure and
// converts numbers in them to their canonical base units, exactly.
package ucum

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// System is the URI of UCUM as a code system (R4 terminologies, 4.3.0).
const System = "http://unitsofmeasure.org"

// Unit is a unit as a rule how to turn numbers in it into numbers in the
// canonical unit of its dimension: times a factor, plus an offset. The zero
// Unit is none.
type Unit struct {
	canonical string
	factor    *big.Rat
	offset    *big.Rat // nil is none
	simple    bool     // factor is times / over * 10^power, and there is no offset
	times     int64
	over      int64
	power     int
}

// Canonical is the same text for all units of one dimension: the powers of the
// base units in alphabetical order ("g.m-3"), "1" for none.
func (u Unit) Canonical() string { return u.canonical }

// Convert turns a number in u into the number in the canonical unit.
func (u Unit) Convert(v *big.Rat) *big.Rat {
	out := new(big.Rat).Mul(v, u.factor)
	if u.offset != nil {
		out.Add(out, u.offset)
	}
	return out
}

// Revert turns a number in the canonical unit into the number in u.
func (u Unit) Revert(v *big.Rat) *big.Rat {
	out := new(big.Rat).Set(v)
	if u.offset != nil {
		out.Sub(out, u.offset)
	}
	return out.Quo(out, u.factor)
}

// cacheLimit bounds the units that Parse remembers: a practice uses a few
// hundred, and what clients make up beyond that is parsed each time.
const cacheLimit = 4096

var (
	cache  sync.Map // code -> Unit, the zero Unit for what is none
	cached atomic.Int64
)

// Parse reads a unit in the case-sensitive form ("mg/dL"). It gives false for
// what UCUM does not define, and for units beyond all use (of more than 128
// bytes, or of a factor of thousands of digits).
func Parse(code string) (Unit, bool) {
	if u, ok := cache.Load(code); ok {
		u, _ := u.(Unit) // the cache holds nothing else
		return u, u.factor != nil
	}
	u, ok := parse(code)
	if len(code) <= maxLength && cached.Add(1) <= cacheLimit {
		cache.Store(strings.Clone(code), u)
	}
	return u, ok
}

func parse(code string) (Unit, bool) {
	if u, ok := offsetUnit(code); ok {
		return u, true
	}
	v, ok := evaluate(code)
	if !ok {
		return Unit{}, false
	}
	u := Unit{canonical: v.dims.String(), factor: v.factor}
	u.times, u.over, u.power, u.simple = decimalFactor(v.factor)
	return u, true
}

// offsetUnit reads the units that are a scale with its own zero: they stand
// alone, never in a product (UCUM, section 3, special units).
func offsetUnit(code string) (Unit, bool) {
	if i := strings.IndexByte(code, '{'); i > 0 && strings.HasSuffix(code, "}") && strings.IndexByte(code, '}') == len(code)-1 {
		code = code[:i]
	}
	factor, offset := big.NewRat(1, 1), new(big.Rat)
	switch code {
	case "Cel":
		offset.SetFrac64(27315, 100)
	case "[degF]":
		factor.SetFrac64(5, 9)
		offset.SetFrac64(45967*5, 900)
	case "[degRe]":
		factor.SetFrac64(5, 4)
		offset.SetFrac64(27315, 100)
	default:
		rest, ok := strings.CutSuffix(code, "Cel")
		power, known := prefixes[rest]
		if !ok || !known {
			return Unit{}, false
		}
		factor = scale(power)
		offset.SetFrac64(27315, 100)
	}
	return Unit{canonical: "K", factor: factor, offset: offset}, true
}

// dims are the base units of a product with their powers.
type dims map[string]int

func (d dims) String() string {
	names := make([]string, 0, len(d))
	for n := range d {
		names = append(names, n)
	}
	if len(names) == 0 {
		return "1"
	}
	slices.Sort(names)
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(n)
		if p := d[n]; p != 1 {
			b.WriteString(strconv.Itoa(p))
		}
	}
	return b.String()
}

// value is a term while it is computed.
type value struct {
	factor *big.Rat
	dims   dims
}

// combine multiplies v by w to the power of sign, 1 or -1.
func (v value) combine(w value, sign int) value {
	out := value{factor: new(big.Rat), dims: make(dims, len(v.dims)+len(w.dims))}
	if sign < 0 {
		out.factor.Quo(v.factor, w.factor)
	} else {
		out.factor.Mul(v.factor, w.factor)
	}
	for n, p := range v.dims {
		out.dims[n] = p
	}
	for n, p := range w.dims {
		if out.dims[n] += sign * p; out.dims[n] == 0 {
			delete(out.dims, n)
		}
	}
	return out
}

func (v value) raise(power int) value {
	sign := 1
	if power < 0 {
		sign, power = -1, -power
	}
	out := one()
	for range power {
		out = out.combine(v, sign)
	}
	return out
}

func one() value { return value{factor: big.NewRat(1, 1)} }

// scale is ten to that power.
func scale(power int) *big.Rat {
	n := power
	if n < 0 {
		n = -n
	}
	r := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil))
	if power < 0 {
		r.Inv(r)
	}
	return r
}
