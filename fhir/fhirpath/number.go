package fhirpath

import (
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// arithmetic computes with 28 digits, as FHIRPath asks at least, and within exponents that codec lets in.
var arithmetic = func() *apd.Context {
	c := apd.BaseContext.WithPrecision(40)
	c.MaxExponent, c.MinExponent = 2000, -2000
	c.Traps = apd.DefaultTraps &^ (apd.Subnormal | apd.Underflow)
	return c
}()

func parseInt(s string) (int64, bool) {
	i, err := strconv.ParseInt(s, 10, 64)
	return i, err == nil
}

func formatInt(i int64) string { return strconv.FormatInt(i, 10) }

func integer(i int64) Value { return Value{kind: Integer, text: formatInt(i), index: -1} }

func boolean(b bool) Value { return Value{kind: Boolean, text: strconv.FormatBool(b), index: -1} }

func text(s string) Value { return Value{kind: String, text: s, index: -1} }

// number is the value of an Integer, a Decimal or the number of a Quantity.
func number(s string) (*apd.Decimal, bool) {
	d, _, err := apd.NewFromString(s)
	if err != nil || d.Form != apd.Finite || d.Exponent > 1200 || d.Exponent < -1200 {
		return nil, false
	}
	return d, true
}

func decimal(d *apd.Decimal) Value {
	return Value{kind: Decimal, text: formatDecimal(d), index: -1}
}

// formatDecimal writes a decimal without an exponent where that stays short.
func formatDecimal(d *apd.Decimal) string {
	if e := d.Exponent; e > 40 || e < -80 {
		return d.String()
	}
	s := d.Text('f')
	if strings.HasPrefix(s, "-") && strings.Trim(s, "-0.") == "" {
		return s[1:]
	}
	return s
}

// reduced is one form for all decimals of one value.
func reduced(s string) string {
	d, ok := number(s)
	if !ok {
		return s
	}
	r, _ := new(apd.Decimal).Reduce(d)
	if r.IsZero() {
		return "0"
	}
	return r.Text('e')
}

// quantity is v as number and unit: a computed Quantity, an element of that type, or a bare number.
// code says that the unit is a UCUM code rather than words.
func (v Value) quantity() (num *apd.Decimal, unit string, ok bool) {
	switch {
	case v.kind == Quantity:
		num, ok = number(v.text)
		return num, v.unit, ok
	case v.kind == Integer || v.kind == Decimal:
		num, ok = number(v.text)
		return num, "1", ok
	case v.kind == Complex && v.Is("Quantity"):
		n := v.node.Get("value")
		if n == nil || v.node.Get("comparator") != nil {
			return nil, "", false
		}
		if num, ok = number(n.Text); !ok {
			return nil, "", false
		}
		if unit = v.node.Get("code").String(); unit == "" {
			unit = v.node.Get("unit").String()
		}
		if unit == "" {
			unit = "1"
		}
		return num, unit, true
	}
	return nil, "", false
}

// scale is how many of the base unit one of the unit is, for the units whose relation needs no knowledge of
// chemistry. Others compare only with themselves.
var scale = map[string]struct{ base, factor string }{
	"g": {"g", "1"}, "kg": {"g", "1e3"}, "mg": {"g", "1e-3"}, "ug": {"g", "1e-6"}, "ng": {"g", "1e-9"}, "pg": {"g", "1e-12"},
	"m": {"m", "1"}, "km": {"m", "1e3"}, "cm": {"m", "1e-2"}, "mm": {"m", "1e-3"}, "um": {"m", "1e-6"}, "nm": {"m", "1e-9"},
	"[in_i]": {"m", "0.0254"}, "[ft_i]": {"m", "0.3048"}, "[lb_av]": {"g", "453.59237"}, "[oz_av]": {"g", "28.349523125"},
	"L": {"L", "1"}, "l": {"L", "1"}, "dL": {"L", "1e-1"}, "mL": {"L", "1e-3"}, "uL": {"L", "1e-6"},
	"s": {"s", "1"}, "ms": {"s", "1e-3"}, "min": {"s", "60"}, "h": {"s", "3600"}, "d": {"s", "86400"}, "wk": {"s", "604800"},
	"second": {"s", "1"}, "millisecond": {"s", "1e-3"}, "minute": {"s", "60"}, "hour": {"s", "3600"}, "day": {"s", "86400"}, "week": {"s", "604800"},
	"a": {"a", "12"}, "mo": {"a", "1"}, "year": {"a", "12"}, "month": {"a", "1"},
	"mol": {"mol", "1"}, "mmol": {"mol", "1e-3"}, "umol": {"mol", "1e-6"}, "nmol": {"mol", "1e-9"},
	"1": {"1", "1"}, "%": {"1", "1e-2"},
}

// canonical brings a quantity to the base of its unit.
func canonicalQuantity(num *apd.Decimal, unit string) (*apd.Decimal, string) {
	s, ok := scale[unit]
	if !ok {
		return num, unit
	}
	f, _ := number(s.factor)
	out := new(apd.Decimal)
	if _, err := arithmetic.Mul(out, num, f); err != nil {
		return num, unit
	}
	return out, s.base
}
