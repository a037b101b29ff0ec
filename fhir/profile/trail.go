package profile

import (
	"slices"
	"strconv"
	"strings"
)

// trail is the way to an element; its text is only put together for an issue.
type trail struct {
	up    *trail
	name  string
	index int // -1: not in a list
}

// String is the FHIRPath of the element: "Patient.name[0].family".
func (t *trail) String() string {
	var segs []string
	for ; t != nil; t = t.up {
		s := t.name
		if t.index >= 0 {
			s += "[" + strconv.Itoa(t.index) + "]"
		}
		segs = append(segs, s)
	}
	slices.Reverse(segs)
	return strings.Join(segs, ".")
}
