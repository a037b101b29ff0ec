package trail

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"slices"
	"strings"
)

// Kind is the table that a row is in.
type Kind byte

// The kinds.
const (
	Event     Kind = 'e'
	Security  Kind = 's'
	Downgrade Kind = 'd'
)

// Kinds are all of them.
var Kinds = []Kind{Event, Security, Downgrade}

// String is the name of the table.
func (k Kind) String() string {
	switch k {
	case Event:
		return "event"
	case Security:
		return "security"
	case Downgrade:
		return "downgrade"
	}
	return "?"
}

// Digest is SHA-256 over a row.
type Digest [sha256.Size]byte

// Columns of the trail that are not what a server says: the mac does not cover them, the digest does.
const (
	ColumnSeq = "seq"
	ColumnMac = "mac"
)

// Layout says which columns a row has, and in which order they go into a digest.
type Layout struct {
	kind  Kind
	names []string
	order []int // by name
}

// NewLayout takes the names of the columns in the order in which values will come.
func NewLayout(kind Kind, names []string) *Layout {
	l := &Layout{kind: kind, names: slices.Clone(names), order: make([]int, len(names))}
	for i := range l.order {
		l.order[i] = i
	}
	slices.SortFunc(l.order, func(a, b int) int { return strings.Compare(names[a], names[b]) })
	return l
}

// feed writes the values, which are in PostgreSQL's binary form, each with its name and length. NULL is nil, and left out.
func (l *Layout) feed(w io.Writer, values [][]byte, all bool) {
	b := make([]byte, 0, 1024)
	b = append(append(b, "cloister audit row 1"...), byte(l.kind))
	for _, i := range l.order {
		if values[i] == nil || !all && (l.names[i] == ColumnSeq || l.names[i] == ColumnMac) {
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(l.names[i])))
		b = append(b, l.names[i]...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(values[i])))
		b = append(b, values[i]...)
	}
	_, _ = w.Write(b) // a hash takes everything
}

// Mac marks a row as a server's own.
func (k *Keys) Mac(l *Layout, values [][]byte) []byte {
	return k.mac(func(w io.Writer) { l.feed(w, values, false) })
}

// Wrote reports whether a server wrote the row.
func (k *Keys) Wrote(l *Layout, values [][]byte) bool {
	mac := values[slices.Index(l.names, ColumnMac)]
	return k.checkMac(mac, func(w io.Writer) { l.feed(w, values, false) })
}

// Digest is over all columns of a row.
func (l *Layout) Digest(values [][]byte) Digest {
	return sum(func(w io.Writer) { l.feed(w, values, true) })
}
