package trail

import (
	"encoding/binary"
	"errors"
	"io"
	"time"
)

// Mark says what the sealer found a row to be.
type Mark byte

// The marks.
const (
	Written Mark = 'w' // by a server
	Found   Mark = 'f' // it was there before rows were marked
	Strange Mark = 's' // no server wrote it
)

// Entry is one row in a link.
type Entry struct {
	Kind   Kind
	Mark   Mark
	Seq    int64
	ID     [16]byte // of the row, or of the event that a downgrade belongs to
	Digest Digest
}

// EntrySize is that of an entry in a link.
const EntrySize = 1 + 1 + 8 + 16 + 32

// Append writes the entry behind others.
func (e Entry) Append(b []byte) []byte {
	b = append(b, byte(e.Kind), byte(e.Mark))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Seq))
	b = append(b, e.ID[:]...)
	return append(b, e.Digest[:]...)
}

// Entries reads what Append wrote.
func Entries(b []byte) ([]Entry, error) {
	if len(b)%EntrySize != 0 {
		return nil, errors.New("trail: a link holds no whole number of entries")
	}
	out := make([]Entry, len(b)/EntrySize)
	for i := range out {
		x := b[i*EntrySize:]
		out[i] = Entry{Kind: Kind(x[0]), Mark: Mark(x[1]), Seq: int64(binary.BigEndian.Uint64(x[2:])), ID: [16]byte(x[10:26]), Digest: Digest(x[26:58])}
	}
	return out, nil
}

// Month is a month in UTC.
type Month struct{ time.Time }

// MonthOf is the month of a moment.
func MonthOf(t time.Time) Month {
	t = t.UTC()
	return Month{time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)}
}

const monthLayout = "2006-01"

// ParseMonth reads 2026-11.
func ParseMonth(s string) (Month, error) {
	t, err := time.Parse(monthLayout, s)
	if err != nil {
		return Month{}, errors.New("trail: write a month as 2026-11")
	}
	return Month{t}, nil
}

// String writes 2026-11.
func (m Month) String() string { return m.Format(monthLayout) }

// Next is the month after it.
func (m Month) Next() Month { return Month{m.AddDate(0, 1, 0)} }

// Link seals rows of one month.
type Link struct {
	Month   Month
	N       int64 // from 1
	At      time.Time
	Through int64 // all rows of the trail up to this number are sealed with it
	Entries []byte
	Prev    Digest // hash of the link before it in the month; zero in the first
}

// Rows is how many it seals.
func (l Link) Rows() int { return len(l.Entries) / EntrySize }

// Hash is what the next link and checkpoints name it by.
func (l Link) Hash() Digest {
	return sum(func(w io.Writer) {
		b := append([]byte("cloister audit link 1"), l.Prev[:]...)
		b = append(b, l.Month.String()...)
		b = binary.BigEndian.AppendUint64(b, uint64(l.N))
		b = binary.BigEndian.AppendUint64(b, uint64(l.At.UnixMicro()))
		b = binary.BigEndian.AppendUint64(b, uint64(l.Through))
		b = binary.BigEndian.AppendUint64(b, uint64(len(l.Entries)))
		_, _ = w.Write(b) // a hash takes everything
		_, _ = w.Write(l.Entries)
	})
}

func feedLink(hash Digest) func(io.Writer) {
	return func(w io.Writer) { _, _ = w.Write(append([]byte("cloister audit link mac 1"), hash[:]...)) }
}

// MacLink marks a link, by its hash, as a sealer's.
func (k *Keys) MacLink(hash Digest) []byte { return k.mac(feedLink(hash)) }

// Linked reports whether a sealer made the link with that hash.
func (k *Keys) Linked(hash Digest, mac []byte) bool { return k.checkMac(mac, feedLink(hash)) }

// HoldsSecret reports whether macs can be checked: a public key set cannot.
func (k *Keys) HoldsSecret() bool { return k.private() }
