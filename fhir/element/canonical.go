package element

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// AppendCanonical appends the one JSON text that stands for n, whatever wrote it:
// what is signed or hashed. It is that of RFC 8785 (names in the order of their
// UTF-16 code units, no white space, the shortest escapes) but for numbers: a FHIR
// decimal means its precision too (R4 datatypes, decimal), so that a number is
// written with all its digits and without an exponent, not as a double.
func (n *Node) AppendCanonical(dst []byte) []byte {
	if n == nil {
		return append(dst, "null"...)
	}
	switch n.Kind {
	case Number:
		return append(dst, plainNumber(n.Text)...)
	case Object:
		fields := slices.Clone(n.Fields)
		slices.SortStableFunc(fields, func(a, b Field) int {
			return slices.Compare(utf16.Encode([]rune(a.Name)), utf16.Encode([]rune(b.Name)))
		})
		dst = append(dst, '{')
		for i := range fields {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendQuoted(dst, fields[i].Name)
			dst = append(dst, ':')
			dst = fields[i].Value.AppendCanonical(dst)
		}
		return append(dst, '}')
	case Array:
		dst = append(dst, '[')
		for i, x := range n.Items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = x.AppendCanonical(dst)
		}
		return append(dst, ']')
	default:
		return n.AppendJSON(dst)
	}
}

// maxExponent bounds how many digits an exponent is written out to. A number
// beyond it stays as it is.
const maxExponent = 1000

// plainNumber writes a JSON number without an exponent, the way that PostgreSQL
// writes a numeric: 1.50e1 is 15.0, 2E2 is 200, -0.0 is 0.0.
func plainNumber(literal string) string {
	s, negative := strings.CutPrefix(literal, "-")
	mantissa, exponent := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.Atoi(s[i+1:])
		if err != nil || e > maxExponent || e < -maxExponent {
			return literal
		}
		mantissa, exponent = s[:i], e
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	switch {
	case exponent > 0:
		if len(fraction) < exponent {
			fraction += strings.Repeat("0", exponent-len(fraction))
		}
		whole, fraction = whole+fraction[:exponent], fraction[exponent:]
	case exponent < 0:
		if len(whole) < -exponent+1 {
			whole = strings.Repeat("0", -exponent+1-len(whole)) + whole
		}
		at := len(whole) + exponent
		whole, fraction = whole[:at], whole[at:]+fraction
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	out := whole
	if fraction != "" {
		out += "." + fraction
	}
	if negative && strings.Trim(out, "0.") != "" {
		out = "-" + out
	}
	return out
}
