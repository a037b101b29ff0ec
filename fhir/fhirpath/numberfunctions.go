package fhirpath

import (
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// What a function costs in steps: a logarithm or a power takes as long as a walk over a small resource.
const (
	cheap = 5
	dear  = 5000
)

// onNumber makes a function of one Integer, Decimal or Quantity, with number arguments. cost is in steps.
func onNumber(cost, lo, hi int, f func(v Value, x *apd.Decimal, unit string, args []*apd.Decimal) ([]Value, error)) *function {
	return &function{min: lo, max: hi, call: func(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
		if len(in) == 0 {
			return nil, nil
		}
		if len(in) > 1 {
			return nil, ErrSingle
		}
		if !in[0].usable() {
			return nil, nil
		}
		x, unit, ok := in[0].quantity()
		if !ok {
			return nil, ErrType
		}
		args := make([]*apd.Decimal, len(n.args))
		for i, a := range n.args {
			v, err := ev.single(a, s)
			if err != nil || v == nil {
				return nil, err
			}
			if args[i], _, ok = v.quantity(); !ok || !v.isNumber() {
				return nil, ErrType
			}
		}
		if err := ev.step(cost); err != nil {
			return nil, err
		}
		return f(in[0], x, unit, args)
	}}
}

// toWhole rounds a number to an Integer.
func toWhole(round func(d, x *apd.Decimal) (apd.Condition, error)) *function {
	return onNumber(cheap, 0, 0, func(v Value, x *apd.Decimal, unit string, _ []*apd.Decimal) ([]Value, error) {
		out := new(apd.Decimal)
		if x.Exponent > 20 {
			return nil, nil // no Integer is that great
		}
		if _, err := round(out, x); err != nil {
			return nil, nil //nolint:nilerr // out of range is empty
		}
		if !v.isNumber() {
			return []Value{like(v, unit, out)}, nil
		}
		return whole(out)
	})
}

// realNumber computes a Decimal.
func realNumber(f func(d, x *apd.Decimal, args []*apd.Decimal) (apd.Condition, error), n int) *function {
	return onNumber(dear, n, n, func(_ Value, x *apd.Decimal, _ string, args []*apd.Decimal) ([]Value, error) {
		const great = 1e6 // beyond that, exponentials cost more than they tell
		limit := apd.New(great, 0)
		for _, a := range append([]*apd.Decimal{x}, args...) {
			if new(apd.Decimal).Abs(a).Cmp(limit) > 0 && n > 0 {
				return nil, nil
			}
		}
		out := new(apd.Decimal)
		if _, err := f(out, x, args); err != nil || out.Form != apd.Finite {
			return nil, nil //nolint:nilerr // what has no real value is empty
		}
		out, _ = new(apd.Decimal).Reduce(out)
		return []Value{decimal(out)}, nil
	})
}

// maxPower bounds the exponent of exp and power.
var maxPower = apd.New(4000, 0)

func numberFunctions() map[string]*function {
	return map[string]*function{
		"abs": onNumber(cheap, 0, 0, func(v Value, x *apd.Decimal, unit string, _ []*apd.Decimal) ([]Value, error) {
			return []Value{like(v, unit, new(apd.Decimal).Abs(x))}, nil
		}),
		"ceiling": toWhole(func(d, x *apd.Decimal) (apd.Condition, error) { return arithmetic.Ceil(d, x) }),
		"floor":   toWhole(func(d, x *apd.Decimal) (apd.Condition, error) { return arithmetic.Floor(d, x) }),
		"truncate": toWhole(func(d, x *apd.Decimal) (apd.Condition, error) {
			if x.Negative {
				return arithmetic.Ceil(d, x)
			}
			return arithmetic.Floor(d, x)
		}),
		"exp": realNumber(func(d, x *apd.Decimal, _ []*apd.Decimal) (apd.Condition, error) {
			if new(apd.Decimal).Abs(x).Cmp(maxPower) > 0 {
				return 0, ErrType
			}
			return arithmetic.Exp(d, x)
		}, 0),
		"ln":   realNumber(func(d, x *apd.Decimal, _ []*apd.Decimal) (apd.Condition, error) { return arithmetic.Ln(d, x) }, 0),
		"sqrt": realNumber(func(d, x *apd.Decimal, _ []*apd.Decimal) (apd.Condition, error) { return arithmetic.Sqrt(d, x) }, 0),
		"log": realNumber(func(d, x *apd.Decimal, args []*apd.Decimal) (apd.Condition, error) {
			base := new(apd.Decimal)
			if c, err := arithmetic.Ln(base, args[0]); err != nil {
				return c, err
			}
			if c, err := arithmetic.Ln(d, x); err != nil {
				return c, err
			}
			if c, err := arithmetic.Quo(d, d, base); err != nil {
				return c, err
			}
			return apd.BaseContext.WithPrecision(28).Round(d, d)
		}, 1),
		"power": onNumber(dear, 1, 1, func(v Value, x *apd.Decimal, _ string, args []*apd.Decimal) ([]Value, error) {
			if new(apd.Decimal).Abs(args[0]).Cmp(maxPower) > 0 || x.Exponent > 40 {
				return nil, nil
			}
			out := new(apd.Decimal)
			if _, err := arithmetic.Pow(out, x, args[0]); err != nil || out.Form != apd.Finite {
				return nil, nil //nolint:nilerr // what has no real value is empty
			}
			if v.kind == Integer && args[0].Exponent >= 0 && !args[0].Negative {
				return whole(out)
			}
			out, _ = new(apd.Decimal).Reduce(out)
			return []Value{decimal(out)}, nil
		}),
		"round": onNumber(cheap, 0, 1, func(v Value, x *apd.Decimal, unit string, args []*apd.Decimal) ([]Value, error) {
			places := int64(0)
			if len(args) == 1 {
				var err error
				if places, err = args[0].Int64(); err != nil || places < 0 || places > 30 {
					return nil, ErrType
				}
			}
			out := new(apd.Decimal)
			if _, err := arithmetic.Quantize(out, x, int32(-places)); err != nil {
				return nil, nil //nolint:nilerr // out of range is empty
			}
			if v.kind == Quantity || v.kind == Complex {
				return []Value{{kind: Quantity, text: formatDecimal(out), unit: unit, index: -1}}, nil
			}
			return []Value{decimal(out)}, nil
		}),
	}
}

// convert makes toX and convertsToX of one conversion.
func convert(m map[string]*function, name string, f func(v Value) (Value, bool)) {
	one := func(in []Value) (v Value, ok bool, err error) {
		if len(in) > 1 {
			return Value{}, false, ErrSingle
		}
		if !in[0].usable() {
			return Value{}, false, nil
		}
		v, ok = f(in[0])
		return v, ok, nil
	}
	m["to"+name] = &function{call: func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
		if len(in) == 0 {
			return nil, nil
		}
		v, ok, err := one(in)
		if err != nil || !ok {
			return nil, err
		}
		return []Value{v}, nil
	}}
	m["convertsTo"+name] = &function{call: func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
		if len(in) == 0 {
			return nil, nil
		}
		_, ok, err := one(in)
		if err != nil {
			return nil, err
		}
		return is(ok)
	}}
}

var truths = map[string]string{
	"true": "true", "t": "true", "yes": "true", "y": "true", "1": "true", "1.0": "true",
	"false": "false", "f": "false", "no": "false", "n": "false", "0": "false", "0.0": "false",
}

func conversions() map[string]*function {
	m := map[string]*function{}
	convert(m, "Boolean", func(v Value) (Value, bool) {
		s := v.text
		if v.isNumber() {
			s = reduced(s)
			if s == "1e+0" || s == "1E+0" {
				s = "1"
			}
		}
		b, ok := truths[strings.ToLower(s)]
		return Value{kind: Boolean, text: b, index: -1}, ok && (v.kind == Boolean || v.kind == String || v.isNumber())
	})
	convert(m, "Integer", func(v Value) (Value, bool) {
		switch {
		case v.kind == Boolean && v.text == "true":
			return integer(1), true
		case v.kind == Boolean:
			return integer(0), true
		case v.kind == Integer || v.kind == String:
			i, ok := parseInt(v.text)
			return integer(i), ok
		}
		return Value{}, false
	})
	convert(m, "Decimal", func(v Value) (Value, bool) {
		switch {
		case v.kind == Boolean && v.text == "true":
			return Value{kind: Decimal, text: "1.0", index: -1}, true
		case v.kind == Boolean:
			return Value{kind: Decimal, text: "0.0", index: -1}, true
		case v.isNumber() || v.kind == String && v.text != "" && len(v.text) <= 128 && strings.Trim(v.text, "0123456789+-.eE") == "":
			d, ok := number(v.text)
			if !ok {
				return Value{}, false
			}
			return decimal(d), true
		}
		return Value{}, false
	})
	convert(m, "String", func(v Value) (Value, bool) {
		switch v.kind {
		case Complex:
			num, unit, ok := v.quantity()
			if !ok {
				return Value{}, false
			}
			return text(formatDecimal(num) + " '" + unit + "'"), true
		case Quantity:
			return text(v.text + " '" + v.unit + "'"), true
		default:
			return text(v.text), true
		}
	})
	for name, k := range map[string]Kind{"Date": Date, "DateTime": DateTime, "Time": Time} {
		convert(m, name, func(v Value) (Value, bool) {
			if v.kind != String && !v.temporal() || (v.kind == Time) != (k == Time) && v.kind != String {
				return Value{}, false
			}
			s := v.text
			if k == Date {
				s, _, _ = strings.Cut(s, "T")
			}
			out := Value{kind: k, text: s, index: -1}
			_, ok := out.moment()
			return out, ok
		})
	}
	convert(m, "Quantity", func(v Value) (Value, bool) {
		if v.kind == String {
			num, unit, _ := strings.Cut(strings.TrimSpace(v.text), " ")
			unit = strings.Trim(strings.TrimSpace(unit), "'")
			if unit == "" {
				unit = "1"
			}
			d, ok := number(num)
			if !ok || len(num) > 128 || strings.Trim(num, "0123456789+-.") != "" {
				return Value{}, false
			}
			return Value{kind: Quantity, text: formatDecimal(d), unit: unit, index: -1}, true
		}
		num, unit, ok := v.quantity()
		if !ok {
			return Value{}, false
		}
		return Value{kind: Quantity, text: formatDecimal(num), unit: unit, index: -1}, true
	})
	return m
}
