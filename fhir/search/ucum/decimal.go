package ucum

import (
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

// exact is the largest whole number below which every one is a float64.
const exact = 1 << 53

var powers = [...]float64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// maxDecimal and maxExponent bound the decimals that are computed with: what is
// beyond them no float64 can hold.
const (
	maxDecimal  = 400 // bytes
	maxExponent = 400
)

// Decimal reads a decimal as FHIR and search URLs write it ("5.40", "1e-3"),
// exactly. It gives false for anything else and for what no float64 comes near to.
func Decimal(text string) (*big.Rat, bool) {
	if _, _, ok := split(text); !ok {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// split reads [-+]digits[.digits][e[+-]digits] as the text of its digits and
// the power of ten of the last one.
func split(text string) (mantissa string, exponent int, ok bool) {
	if len(text) > maxDecimal {
		return "", 0, false
	}
	mantissa = text
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		n, err := strconv.Atoi(text[i+1:])
		if err != nil || n > maxExponent || n < -maxExponent {
			return "", 0, false
		}
		mantissa, exponent = text[:i], n
	}
	digits := mantissa
	if digits != "" && (digits[0] == '-' || digits[0] == '+') {
		digits = digits[1:]
	}
	whole, fraction, point := strings.Cut(digits, ".")
	if whole == "" || point && fraction == "" || countDigits(whole) != len(whole) || countDigits(fraction) != len(fraction) {
		return "", 0, false
	}
	return mantissa, exponent - len(fraction), true
}

// Float is the float64 nearest to what the decimal is in the canonical unit. It
// gives false for what is no decimal or too large.
func (u Unit) Float(decimal string) (float64, bool) {
	mantissa, exponent, ok := split(decimal)
	if !ok {
		return 0, false
	}
	if u.simple {
		if f, ok := u.quick(mantissa, exponent+u.power); ok {
			return f, true
		}
	}
	r, ok := new(big.Rat).SetString(decimal)
	if !ok {
		return 0, false
	}
	f, _ := u.Convert(r).Float64()
	return f, f-f == 0
}

// quick computes in float64 where that is exact but for one last rounding: whole
// numbers below 2^53 and powers of ten up to 10^22, one over or times the other.
func (u Unit) quick(mantissa string, power int) (float64, bool) {
	negative := false
	var n uint64
	for i := 0; i < len(mantissa); i++ {
		switch c := mantissa[i]; c {
		case '-':
			negative = true
		case '+', '.':
		default:
			if n >= exact/10 {
				return 0, false
			}
			n = n*10 + uint64(c-'0')
		}
	}
	// times and over are positive, and no power is so large as to matter.
	high, product := bits.Mul64(n, uint64(u.times)) //nolint:gosec // see above
	if high != 0 || product >= exact || power < -22 || power > 22 {
		return 0, false
	}
	f, over := float64(product), float64(u.over)
	switch {
	case power < 0:
		over *= powers[-power]
	case power > 0 && u.over > 1:
		f *= powers[power]
		if f >= exact {
			return 0, false
		}
	default:
		f *= powers[power]
	}
	if u.over > 1 && over >= exact {
		return 0, false
	}
	f /= over
	if negative {
		f = -f
	}
	return f, true
}

// decimalFactor writes a factor as times / over * 10^power where both are below
// 2^53, over without a factor of ten.
func decimalFactor(r *big.Rat) (times, over int64, power int, ok bool) {
	num, up := withoutTens(r.Num())
	den, down := withoutTens(r.Denom())
	// Twos and fives below become tens, so that more factors have an over of 1.
	for _, p := range []int64{2, 5} {
		for q, m := new(big.Int).QuoRem(den, big.NewInt(p), new(big.Int)); m.Sign() == 0; q, m = q.QuoRem(den, big.NewInt(p), m) {
			den.Set(q)
			num.Mul(num, big.NewInt(10/p))
			down++
		}
	}
	if num.BitLen() > 53 || den.BitLen() > 53 || num.Sign() <= 0 {
		return 0, 0, 0, false
	}
	return num.Int64(), den.Int64(), up - down, true
}

func withoutTens(n *big.Int) (*big.Int, int) {
	n = new(big.Int).Set(n)
	ten, count := big.NewInt(10), 0
	for n.Sign() != 0 {
		q, m := new(big.Int).QuoRem(n, ten, new(big.Int))
		if m.Sign() != 0 {
			break
		}
		n = q
		count++
	}
	return n, count
}
