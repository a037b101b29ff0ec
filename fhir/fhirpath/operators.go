package fhirpath

import (
	"slices"
	"strings"
	"unicode"

	"github.com/cockroachdb/apd/v3"

	"github.com/cloister-health/cloister/fhir/element"
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

// equal is = on collections: known is false where it has no answer.
func (ev *evaluator) equal(a, b []Value) (equal, known bool, err error) {
	if len(a) == 0 || len(b) == 0 {
		return false, false, nil
	}
	if len(a) != len(b) {
		return false, true, nil
	}
	for i := range a {
		same, known, err := ev.same(a[i], b[i])
		if err != nil || !known || !same {
			return false, known, err
		}
	}
	return true, true, nil
}

// same is = on items.
func (ev *evaluator) same(a, b Value) (same, known bool, err error) {
	if err := ev.step(1); err != nil {
		return false, false, err
	}
	switch {
	case a.temporal() && b.temporal():
		if (a.kind == Time) != (b.kind == Time) {
			return false, true, nil
		}
		c, known, err := compare(a, b)
		return c == 0, known, err
	case a.kind == Quantity || b.kind == Quantity, a.isNumber() && b.isNumber():
		c, known, err := compare(a, b)
		if err != nil {
			return false, true, nil //nolint:nilerr // values of different kinds are different
		}
		return c == 0, known, nil
	case a.kind != b.kind:
		return false, true, nil
	case a.kind != Complex && (a.node == nil) == (b.node == nil):
		if a.usable() && b.usable() {
			return a.text == b.text, true, nil
		}
	}
	if a.kind != Complex && a.usable() && b.usable() {
		return a.text == b.text, true, nil
	}
	x, err := ev.key(a)
	if err != nil {
		return false, false, err
	}
	y, err := ev.key(b)
	return x == y, true, err
}

// key is one text for all values that are equal.
func (ev *evaluator) key(v Value) (string, error) {
	var b []byte
	switch {
	case v.isNumber() && v.usable():
		b = append(append(b, '#'), reduced(v.text)...)
	case v.temporal() && v.usable():
		m, ok := v.moment()
		if !ok {
			b = append(append(b, '@'), v.text...)
			break
		}
		m.offset, m.digits = 0, 9
		m.zoned = false
		b = append(append(b, '@'), m.text(v.kind)...)
	case v.kind == Quantity:
		num, unit, ok := v.quantity()
		if !ok {
			break
		}
		num, unit = canonicalQuantity(num, unit)
		b = append(append(append(b, '#'), reduced(num.String())...), unit...)
	case v.kind != Complex && v.usable():
		b = append(append(b, '$', byte(v.kind)), v.text...)
	case v.kind != Complex:
		b = append(b, '_')
		b = canonical(b, v.ext)
	default:
		b = append(b, '{')
		b = canonical(b, v.node)
	}
	return string(b), ev.step(1 + len(b)>>4)
}

// canonical appends n as JSON with the names of objects in one order.
func canonical(dst []byte, n *element.Node) []byte {
	if n == nil {
		return dst
	}
	switch n.Kind {
	case element.Object:
		order := make([]int, len(n.Fields))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(i, j int) int { return strings.Compare(n.Fields[i].Name, n.Fields[j].Name) })
		dst = append(dst, '{')
		for _, i := range order {
			dst = append(element.AppendQuoted(dst, n.Fields[i].Name), ':')
			dst = append(canonical(dst, n.Fields[i].Value), ',')
		}
		return append(dst, '}')
	case element.Array:
		dst = append(dst, '[')
		for _, x := range n.Items {
			dst = append(canonical(dst, x), ',')
		}
		return append(dst, ']')
	case element.Number:
		return append(dst, reduced(n.Text)...)
	default:
		return n.AppendJSON(dst)
	}
}

// equivalent is ~ on collections: the order does not matter, and nothing is like nothing.
func (ev *evaluator) equivalent(a, b []Value) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	left := slices.Clone(b)
outer:
	for _, x := range a {
		for i, y := range left {
			like, err := ev.alike(x, y)
			if err != nil {
				return false, err
			}
			if like {
				left = slices.Delete(left, i, i+1)
				continue outer
			}
		}
		return false, nil
	}
	return true, nil
}

// alike is ~ on items.
func (ev *evaluator) alike(a, b Value) (bool, error) {
	if err := ev.step(1); err != nil {
		return false, err
	}
	switch {
	case a.kind == String && b.kind == String:
		return folded(a.text) == folded(b.text), ev.step((len(a.text) + len(b.text)) >> 6)
	case a.isNumber() && b.isNumber():
		x, ok1 := number(a.text)
		y, ok2 := number(b.text)
		if !ok1 || !ok2 {
			return false, nil
		}
		return rounded(x, y), nil
	case a.temporal() && b.temporal():
		x, ok1 := a.moment()
		y, ok2 := b.moment()
		c, known := x.compare(y)
		return ok1 && ok2 && x.to == y.to && known && c == 0, nil
	case a.kind == Complex && b.kind == Complex && a.Is("Coding") && b.Is("Coding"):
		return a.node.Get("system").String() == b.node.Get("system").String() && a.node.Get("code").String() == b.node.Get("code").String(), nil
	}
	same, known, err := ev.same(a, b)
	return same && known, err
}

func folded(s string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(s), unicode.IsSpace), " ")
}

// rounded says that two decimals agree at the precision of the one that states less.
func rounded(x, y *apd.Decimal) bool {
	e := max(x.Exponent, y.Exponent, -100)
	e = min(e, 0)
	a, b := new(apd.Decimal), new(apd.Decimal)
	if _, err := arithmetic.Quantize(a, x, e); err != nil {
		return x.Cmp(y) == 0
	}
	if _, err := arithmetic.Quantize(b, y, e); err != nil {
		return x.Cmp(y) == 0
	}
	return a.Cmp(b) == 0
}

func (ev *evaluator) contains(c []Value, v Value) (bool, error) {
	for i := range c {
		same, known, err := ev.same(c[i], v)
		if err != nil || same && known {
			return err == nil, err
		}
	}
	return false, nil
}

// union is | : both without repetition.
func (ev *evaluator) union(a, b []Value) ([]Value, error) {
	if len(a) == 0 && len(b) == 0 {
		return nil, nil
	}
	if len(a)+len(b) > ev.opts.Limits.Items {
		return nil, ErrItems
	}
	return ev.distinct(append(slices.Clone(a), b...))
}

func (ev *evaluator) distinct(c []Value) ([]Value, error) {
	if len(c) < 2 {
		return c, nil
	}
	seen := make(map[string]bool, len(c))
	out := make([]Value, 0, len(c))
	for _, v := range c {
		k, err := ev.key(v)
		if err != nil {
			return nil, err
		}
		if !seen[k] {
			seen[k] = true
			out = append(out, v)
		}
	}
	return out, nil
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
