package definition

import (
	"cmp"
	"strings"
)

// Newer compares two business versions: positive where a is newer than b,
// negative where it is older, 0 where they are the same text. It is a total
// order: numbers with dots ("4.0.1", by semver.org) are newer than dates
// ("2018-08-12"), from which HL7's terminology moved to them; dates are newer
// than other text; no version is the oldest.
func Newer(a, b string) int {
	if c := cmp.Compare(kindOf(a), kindOf(b)); c != 0 {
		return c
	}
	ca, sa := core(a)
	cb, sb := core(b)
	if c := parts(ca, cb); c != 0 {
		return c
	}
	if sa == "" || sb == "" { // a pre-release is older than its release
		if c := cmp.Compare(len(sb), len(sa)); c != 0 {
			return c
		}
	}
	if c := parts(sa, sb); c != 0 {
		return c
	}
	return cmp.Compare(a, b)
}

const (
	unversioned = iota
	otherText
	date
	numbers
)

func kindOf(v string) int {
	switch {
	case v == "":
		return unversioned
	case v[0] < '0' || v[0] > '9':
		return otherText
	}
	digits := len(v) - len(strings.TrimLeft(v, "0123456789"))
	if digits >= 4 {
		return date
	}
	return numbers
}

// core parts a version from its pre-release; only versions of numbers have one.
func core(v string) (string, string) {
	if kindOf(v) != numbers {
		return v, ""
	}
	v, _, _ = strings.Cut(v, "+")
	c, pre, _ := strings.Cut(v, "-")
	return c, pre
}

// parts compares piece by piece: numbers as numbers, below all words.
func parts(a, b string) int {
	cut := func(r rune) bool { return r == '.' || r == '-' }
	x, y := strings.FieldsFunc(a, cut), strings.FieldsFunc(b, cut)
	for i := range min(len(x), len(y)) {
		if c := piece(x[i], y[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

func piece(a, b string) int {
	numeric := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	switch na, nb := numeric(a), numeric(b); {
	case na && nb:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	case na != nb:
		if na {
			return -1
		}
		return 1
	default:
		return cmp.Compare(a, b)
	}
}
