package search

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// number is a searched decimal with the half of its last digit.
type number struct{ at, half *big.Rat }

// The most that a searched decimal may be long, and its exponent large.
const (
	maxDigits   = 40
	maxExponent = 100
)

// decimal reads a decimal (R4 datatypes, decimal), with or without an exponent.
func decimal(s string) (number, bool) {
	mantissa, exponent := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		var err error
		exponent, err = strconv.Atoi(s[i+1:])
		if err != nil || exponent < -maxExponent || exponent > maxExponent {
			return number{}, false
		}
		mantissa = s[:i]
	}
	digits, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, pointed := strings.Cut(digits, ".")
	if whole == "" || pointed && fraction == "" || len(whole)+len(fraction) > maxDigits {
		return number{}, false
	}
	for _, part := range []string{whole, fraction} {
		for i := 0; i < len(part); i++ {
			if part[i] < '0' || part[i] > '9' {
				return number{}, false
			}
		}
	}
	n, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return number{}, false
	}
	if negative {
		n.Neg(n)
	}
	last := exponent - len(fraction)
	half := new(big.Rat).Mul(big.NewRat(1, 2), tens(last))
	if len(mantissa) < len(s) && len(whole)+len(fraction) == 1 {
		// R4 search, number, reads 1e2 as [95, 105): a lone digit before an
		// exponent counts as two.
		half.Quo(half, big.NewRat(10, 1))
	}
	return number{at: new(big.Rat).Mul(new(big.Rat).SetInt(n), tens(last)), half: half}, true
}

func tens(power int) *big.Rat {
	n := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(power, -power))), nil)
	if power < 0 {
		return new(big.Rat).SetFrac(big.NewInt(1), n)
	}
	return new(big.Rat).SetInt(n)
}

// numbered makes the value of a number, its bounds turned by float into what
// the index keeps.
func numbered(prefix string, n number, float func(*big.Rat) float64) (Value, bool) {
	margin := n.half
	if prefix == "ap" {
		tenth := new(big.Rat).Mul(new(big.Rat).Abs(n.at), big.NewRat(1, 10))
		if tenth.Cmp(margin) > 0 {
			margin = tenth
		}
	}
	v := Value{
		Prefix: prefix, At: float(n.at),
		Low: float(new(big.Rat).Sub(n.at, margin)), High: float(new(big.Rat).Add(n.at, margin)),
	}
	if v.High <= v.At {
		// Written to more digits than a float has: never an empty range.
		v.High = math.Nextafter(v.At, math.Inf(1))
	}
	return v, !math.IsInf(v.Low, 0) && !math.IsInf(v.High, 0)
}

func plainFloat(v *big.Rat) float64 {
	f, _ := v.Float64()
	return f
}

const noNumber = "has a value that is no decimal number, or one beyond all use"

// numberValue reads R4 search, number: a decimal with or without a prefix.
func numberValue(item string) ([]Value, string) {
	prefix, rest, reason := prefixed(item)
	if reason != "" {
		return nil, reason
	}
	n, ok := decimal(rest)
	if !ok {
		return nil, noNumber
	}
	v, ok := numbered(prefix, n, plainFloat)
	if !ok {
		return nil, noNumber
	}
	return []Value{v}, ""
}

// quantityValue reads R4 search, quantity: number, number|system|code and number||code.
func quantityValue(item string) ([]Value, string) {
	parts, reason := tokenParts(item)
	if reason != "" {
		return nil, reason
	}
	if len(parts) != 1 && (len(parts) != 3 || parts[2] == "") {
		return nil, "takes a number, or number|system|code, or number||code"
	}
	if len(parts) == 1 {
		return numberValue(parts[0])
	}
	prefix, rest, reason := prefixed(parts[0])
	if reason != "" {
		return nil, reason
	}
	n, ok := decimal(rest)
	if !ok {
		return nil, noNumber
	}
	var out []Value
	for _, u := range UnitOf(parts[1], parts[2]) {
		v, ok := numbered(prefix, n, u.Float)
		if !ok {
			return nil, noNumber
		}
		v.Unit = u.Hash
		out = append(out, v)
	}
	return out, ""
}
