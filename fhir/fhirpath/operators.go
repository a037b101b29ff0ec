package fhirpath

import (
	"strings"

	"github.com/cockroachdb/apd/v3"
)

func (ev *evaluator) sign(n *node, s scope) ([]Value, error) {
	in, err := ev.single(n.left, s)
	if err != nil || in == nil {
		return nil, err
	}
	num, unit, ok := in.quantity()
	if !ok {
		return nil, ErrType
	}
	if n.op == opPlus {
		return []Value{*in}, nil
	}
	return []Value{like(*in, unit, new(apd.Decimal).Neg(num))}, nil
}

// like is num as a value of the kind of v.
func like(v Value, unit string, num *apd.Decimal) Value {
	switch v.kind {
	case Integer, Decimal:
		return Value{kind: v.kind, text: formatDecimal(num), index: -1}
	default:
		return Value{kind: Quantity, text: formatDecimal(num), unit: unit, index: -1}
	}
}

func (ev *evaluator) binary(n *node, s scope) ([]Value, error) {
	switch n.name {
	case "and", "or", "xor", "implies":
		return ev.logic(n, s)
	}
	a, err := ev.eval(n.args[0], s)
	if err != nil {
		return nil, err
	}
	b, err := ev.eval(n.args[1], s)
	if err != nil {
		return nil, err
	}
	switch n.name {
	case "|":
		return ev.union(a, b)
	case "=", "!=":
		equal, known, err := ev.equal(a, b)
		if err != nil || !known {
			return nil, err
		}
		return []Value{boolean(equal == (n.name == "="))}, nil
	case "~", "!~":
		same, err := ev.equivalent(a, b)
		if err != nil {
			return nil, err
		}
		return []Value{boolean(same == (n.name == "~"))}, nil
	case "in", "contains":
		if n.name == "contains" {
			a, b = b, a
		}
		if len(a) == 0 {
			return nil, nil
		}
		if len(a) > 1 {
			return nil, ErrSingle
		}
		found, err := ev.contains(b, a[0])
		return []Value{boolean(found)}, err
	}
	if len(a) > 1 || len(b) > 1 {
		return nil, ErrSingle
	}
	if n.name == "&" {
		return ev.concatenate(a, b)
	}
	if len(a) == 0 || len(b) == 0 {
		return nil, nil
	}
	switch n.name {
	case "<", ">", "<=", ">=":
		return order(n.name, a[0], b[0])
	default:
		return ev.arithmetic(n.name, a[0], b[0])
	}
}

func (ev *evaluator) logic(n *node, s scope) ([]Value, error) {
	one := func(i int) (b, known bool, err error) {
		c, err := ev.eval(n.args[i], s)
		if err != nil {
			return false, false, err
		}
		return truth(c)
	}
	a, known, err := one(0)
	if err != nil {
		return nil, err
	}
	switch { // what the left side alone decides
	case n.name == "and" && known && !a:
		return []Value{boolean(false)}, nil
	case n.name == "or" && known && a, n.name == "implies" && known && !a:
		return []Value{boolean(true)}, nil
	}
	b, other, err := one(1)
	if err != nil {
		return nil, err
	}
	switch n.name {
	case "and":
		if other && !b {
			return []Value{boolean(false)}, nil
		}
		b = true
	case "or":
		if other && b {
			return []Value{boolean(true)}, nil
		}
		b = false
	case "implies":
		if other && b {
			return []Value{boolean(true)}, nil
		}
		b = false
	case "xor":
		b = a != b
	}
	if !known || !other {
		return nil, nil
	}
	return []Value{boolean(b)}, nil
}

func (ev *evaluator) concatenate(a, b []Value) ([]Value, error) {
	var out strings.Builder
	for _, c := range [][]Value{a, b} {
		if len(c) == 0 {
			continue
		}
		if c[0].kind != String {
			return nil, ErrType
		}
		out.WriteString(c[0].text)
	}
	return ev.newText(out.String())
}

func (ev *evaluator) newText(s string) ([]Value, error) {
	if len(s) > ev.opts.Limits.Text {
		return nil, ErrText
	}
	return []Value{text(s)}, ev.step(len(s) >> 6)
}

func order(op string, a, b Value) ([]Value, error) {
	if !a.usable() || !b.usable() {
		return nil, nil
	}
	c, known, err := compare(a, b)
	if err != nil || !known {
		return nil, err
	}
	switch op {
	case "<":
		return []Value{boolean(c < 0)}, nil
	case ">":
		return []Value{boolean(c > 0)}, nil
	case "<=":
		return []Value{boolean(c <= 0)}, nil
	default:
		return []Value{boolean(c >= 0)}, nil
	}
}

// usable says that v is not an element with extensions only.
func (v *Value) usable() bool { return v.kind == Complex || v.typ == nil || v.node != nil }

func (v *Value) temporal() bool { return v.kind == Date || v.kind == DateTime || v.kind == Time }

func (v *Value) isNumber() bool { return v.kind == Integer || v.kind == Decimal }

// compare orders two values of comparable kinds.
func compare(a, b Value) (c int, known bool, err error) {
	switch {
	case a.kind == String && b.kind == String:
		return strings.Compare(a.text, b.text), true, nil
	case a.temporal() && b.temporal() && (a.kind == Time) == (b.kind == Time):
		x, ok1 := a.moment()
		y, ok2 := b.moment()
		if !ok1 || !ok2 {
			return 0, false, nil
		}
		c, known = x.compare(y)
		return c, known, nil
	}
	x, ux, ok1 := a.quantity()
	y, uy, ok2 := b.quantity()
	if !ok1 || !ok2 {
		if a.Is("Quantity") || b.Is("Quantity") {
			return 0, false, nil
		}
		return 0, false, ErrType
	}
	x, ux = canonicalQuantity(x, ux)
	y, uy = canonicalQuantity(y, uy)
	if ux != uy {
		return 0, false, nil
	}
	return x.Cmp(y), true, nil
}

func (ev *evaluator) arithmetic(op string, a, b Value) ([]Value, error) {
	if !a.usable() || !b.usable() {
		return nil, nil
	}
	switch {
	case op == "+" && a.kind == String && b.kind == String:
		return ev.newText(a.text + b.text)
	case a.temporal() && (op == "+" || op == "-"):
		return shift(a, b, op == "-")
	}
	if a.kind == Integer && b.kind == Integer {
		if out, ok := integers(op, a.text, b.text); ok {
			return []Value{integer(out)}, nil
		}
	}
	x, ux, ok1 := a.quantity()
	y, uy, ok2 := b.quantity()
	if !ok1 || !ok2 {
		return nil, ErrType
	}
	numbers := a.isNumber() && b.isNumber()
	out := new(apd.Decimal)
	var err error
	switch op {
	case "+", "-":
		if !numbers && ux != uy {
			return nil, nil
		}
		if op == "-" {
			_, err = arithmetic.Sub(out, x, y)
		} else {
			_, err = arithmetic.Add(out, x, y)
		}
	case "*":
		if ux != "1" && uy != "1" {
			return nil, nil
		}
		if ux == "1" {
			ux = uy
		}
		_, err = arithmetic.Mul(out, x, y)
	case "/":
		if y.IsZero() {
			return nil, nil
		}
		switch {
		case uy == "1":
		case ux == uy:
			ux = "1"
		default:
			return nil, nil
		}
		if _, err = arithmetic.Quo(out, x, y); err == nil {
			out, _ = new(apd.Decimal).Reduce(out)
		}
		if numbers {
			return result(decimal(out), err)
		}
	case "div", "mod":
		if !numbers {
			return nil, ErrType
		}
		if y.IsZero() {
			return nil, nil
		}
		if op == "mod" {
			_, err = arithmetic.Rem(out, x, y)
			break
		}
		if _, err = arithmetic.QuoInteger(out, x, y); err == nil {
			return whole(out)
		}
	}
	switch {
	case !numbers:
		return result(Value{kind: Quantity, text: formatDecimal(out), unit: ux, index: -1}, err)
	case a.kind == Integer && b.kind == Integer && err == nil:
		return whole(out)
	default:
		return result(decimal(out), err)
	}
}

// integers computes with small integers, which most are; ok is false for what needs more room.
func integers(op, a, b string) (out int64, ok bool) {
	const small = 1 << 31
	x, ok1 := parseInt(a)
	y, ok2 := parseInt(b)
	if !ok1 || !ok2 || x >= small || x <= -small || y >= small || y <= -small {
		return 0, false
	}
	switch op {
	case "+":
		return x + y, true
	case "-":
		return x - y, true
	case "*":
		return x * y, true
	case "div":
		if y != 0 {
			return x / y, true
		}
	case "mod":
		if y != 0 {
			return x % y, true
		}
	}
	return 0, false
}

// result leaves out what cannot be computed: an overflow has no value.
func result(v Value, err error) ([]Value, error) {
	if err != nil {
		return nil, nil //nolint:nilerr // FHIRPath N1, math: what is out of range is empty
	}
	return []Value{v}, nil
}

// whole is a decimal without a fraction as an Integer, or nothing where it is out of range.
func whole(d *apd.Decimal) ([]Value, error) {
	i, err := d.Int64()
	if err != nil {
		return nil, nil //nolint:nilerr // as in result
	}
	return []Value{integer(i)}, nil
}

// shift adds a duration to a moment.
func shift(a, b Value, back bool) ([]Value, error) {
	m, ok := a.moment()
	num, unit, isDuration := b.quantity()
	if !isDuration || b.isNumber() {
		return nil, ErrType
	}
	n := new(apd.Decimal)
	if _, err := arithmetic.RoundToIntegralValue(n, num); err != nil || !ok {
		return nil, nil //nolint:nilerr // out of range is empty
	}
	i, err := n.Int64()
	if err != nil {
		return nil, nil //nolint:nilerr // out of range is empty
	}
	if back {
		i = -i
	}
	if m, ok = m.add(i, unit); !ok {
		return nil, nil
	}
	return []Value{{kind: a.kind, text: m.text(a.kind), index: -1}}, nil
}
