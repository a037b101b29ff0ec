package search

import (
	"math"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/search/ucum"
)

// span is a number or quantity, or a range of them, in one unit.
type span struct {
	lo, hi         float64 // as written
	unit           int64
	unitLo, unitHi float64
}

func (x *extraction) number(l leaf, n *element.Node) {
	lo, hi := n, n
	if l == leafRange {
		lo, hi = n.Get("low").Get("value"), n.Get("high").Get("value")
	}
	s := span{lo: bound(lo, math.Inf(-1)), hi: bound(hi, math.Inf(1))}
	s.unitLo, s.unitHi = s.lo, s.hi
	x.spanned(s)
}

func (x *extraction) quantity(l leaf, n *element.Node) {
	x.spans = appendSpans(x.spans[:0], l, n)
	for _, s := range x.spans {
		x.spanned(s)
	}
}

func (x *extraction) spanned(s span) {
	// What is no number at all, or open at both ends, has no place among numbers.
	if !(s.lo <= s.hi && s.unitLo <= s.unitHi) || math.IsInf(s.lo, 0) && math.IsInf(s.hi, 0) {
		return
	}
	x.quantities = append(x.quantities, QuantityEntry{
		Param: x.code, Key: x.key, KeySystem: x.keySystem,
		Lo: s.lo, Hi: s.hi, Unit: s.unit, UnitLo: s.unitLo, UnitHi: s.unitHi,
	})
}

// bound is a number as written: open if it is absent, NaN if it is none.
func bound(n *element.Node, open float64) float64 {
	if n == nil {
		return open
	}
	if n.Kind == element.Number {
		if f, err := strconv.ParseFloat(n.Text, 64); err == nil {
			return f
		}
	}
	return math.NaN()
}

// appendSpans appends a quantity once for each unit by which it is found:
// most have one.
func appendSpans(dst []span, l leaf, n *element.Node) []span {
	lo, hi, of := n.Get("value"), n.Get("value"), n
	switch l {
	case leafRange:
		low, high := n.Get("low"), n.Get("high")
		if low.Get("value") == nil && high.Get("value") == nil {
			return dst
		}
		if of = low; low.Get("value") == nil {
			of = high
		}
		lo, hi = low.Get("value"), high.Get("value")
		if high != nil && (high.Get("system").String() != of.Get("system").String() || high.Get("code").String() != of.Get("code").String()) {
			return dst // two units, which R4 forbids (Range, rng-2)
		}
	case leafSampledData:
		if lo, hi = sampled(n); lo == nil {
			return dst
		}
		of = n.Get("origin")
	default:
		if lo == nil {
			return dst
		}
		switch n.Get("comparator").String() {
		case "<", "<=":
			lo = nil
		case ">", ">=":
			hi = nil
		}
	}
	s := span{lo: bound(lo, math.Inf(-1)), hi: bound(hi, math.Inf(1))}
	s.unitLo, s.unitHi = s.lo, s.hi
	if l == leafMoney {
		if currency := n.Get("currency").String(); currency != "" {
			s.unit = hash(kindUnit, currency)
		}
		return append(dst, s)
	}
	return appendUnits(dst, s, of, lo, hi)
}

// appendUnits appends s in the units of the quantity of: see [UnitOf] for what
// searches them.
func appendUnits(dst []span, s span, of, lo, hi *element.Node) []span {
	system, code, unit := of.Get("system").String(), of.Get("code").String(), of.Get("unit").String()
	known := ""
	switch {
	case system == "":
		if code != "" {
			dst = append(dst, s.as(hash(kindUnit, code)))
		}
	case code == "":
	case system == ucum.System:
		u, ok := ucum.Parse(code)
		if !ok {
			dst = append(dst, s.as(hash(kindUnit, system, code, "")), s.as(hash(kindUnit, code)))
			break
		}
		known = u.Canonical()
		converted := s
		converted.unitLo, converted.unitHi = canonical(u, lo, s.lo), canonical(u, hi, s.hi)
		dst = append(dst, converted.as(hash(kindUnit, ucum.System, known)))
	default:
		dst = append(dst, s.as(hash(kindUnit, system, code, "")), s.as(hash(kindUnit, code)))
	}
	// The unit as people write it is found without a system only, and needs no
	// row where that search means the code just as well.
	if unit != "" && unit != code {
		if u, ok := ucum.Parse(unit); known == "" || !ok || u.Canonical() != known {
			dst = append(dst, s.as(hash(kindUnit, unit)))
		}
	}
	if system == "" && code == "" && unit == "" || len(dst) == 0 {
		dst = append(dst, s)
	}
	return dst
}

func (s span) as(unit int64) span {
	s.unit = unit
	return s
}

// canonical is the number n in the canonical unit of u; open where it is absent.
func canonical(u ucum.Unit, n *element.Node, open float64) float64 {
	if n == nil {
		return open
	}
	if f, ok := u.Float(n.Text); ok {
		return f
	}
	return math.NaN()
}

// sampled is the least and the greatest value of a SampledData: its origin plus
// its data times its factor (R4 datatypes, SampledData). E is no value, L and U
// are the limits; nil if there is no value.
func sampled(n *element.Node) (lo, hi *element.Node) {
	origin := bound(n.Get("origin").Get("value"), math.NaN())
	factor := bound(n.Get("factor"), 1)
	least, most := math.Inf(1), math.Inf(-1)
	extend := func(v float64) { least, most = min(least, v), max(most, v) }
	for word := range strings.FieldsSeq(n.Get("data").String()) {
		switch word {
		case "E":
			continue
		case "L":
			extend(bound(n.Get("lowerLimit"), math.NaN()))
		case "U":
			extend(bound(n.Get("upperLimit"), math.NaN()))
		default:
			v, err := strconv.ParseFloat(word, 64)
			if err != nil {
				return nil, nil
			}
			extend(origin + v*factor)
		}
	}
	if !(least <= most) {
		return nil, nil
	}
	number := func(f float64) *element.Node {
		return &element.Node{Kind: element.Number, Text: strconv.FormatFloat(f, 'g', -1, 64)}
	}
	return number(least), number(most)
}
