package fhirpath

import (
	"slices"
	"strings"
	"unicode"

	"github.com/cockroachdb/apd/v3"

	"github.com/cloister-health/cloister/fhir/element"
)

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
