package consent

import "slices"

// Widest leaves of a list of purposes those that a permit for another one of
// them does not cover anyway, sorted: what a person would write down.
func Widest(purposes []string) []string {
	out := slices.DeleteFunc(slices.Clone(purposes), func(p string) bool {
		return slices.ContainsFunc(purposes, func(wide string) bool { return wide != p && permitted(wide, p) })
	})
	slices.Sort(out)
	return slices.Compact(out)
}

// Category is the widest purpose that one lies below in v3-ActReason: TREAT of ETREAT.
// It is the purpose itself where nobody knows it.
func Category(purpose string) string {
	for p := purpose; p != ""; p = below[p] {
		purpose = p
	}
	return purpose
}
