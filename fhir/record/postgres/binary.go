package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// copyRows builds what COPY reads in its binary format
// (https://www.postgresql.org/docs/15/sql-copy.html), whose fields carry their
// lengths, so that no value needs to be escaped.
type copyRows struct {
	b       []byte
	columns int16
}

const (
	oidInt4 = 23
	oidText = 25
)

// epoch is where the timestamps of PostgreSQL start.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func newCopyRows(columns int16, size int) *copyRows {
	c := &copyRows{make([]byte, 0, size), columns}
	c.b = append(c.b, "PGCOPY\n\xff\r\n\x00"...)
	c.b = append(c.b, make([]byte, 8)...) // no flags, no extension
	return c
}

func (c *copyRows) row() { c.b = binary.BigEndian.AppendUint16(c.b, uint16(c.columns)) }

func (c *copyRows) end() []byte { return append(c.b, 0xff, 0xff) }

func (c *copyRows) int(v int) { c.b = binary.BigEndian.AppendUint32(c.b, uint32(v)) }

func (c *copyRows) int4(v int32) { c.int(4); c.int(int(v)) }

func (c *copyRows) text(s string) { c.int(len(s)); c.b = append(c.b, s...) }

func (c *copyRows) timestamptz(t time.Time) {
	c.int(8)
	c.b = binary.BigEndian.AppendUint64(c.b, uint64(t.Sub(epoch).Microseconds()))
}

// null is a field without a value.
func (c *copyRows) null() { c.int(-1) }

func (c *copyRows) bytes(b []byte) { c.int(len(b)); c.b = append(c.b, b...) }

// values finds the fields that follow each other from at on, none of them NULL.
func (c *copyRows) values(at int, out [][]byte) {
	for i := range out {
		n := int(binary.BigEndian.Uint32(c.b[at:]))
		out[i] = c.b[at+4 : at+4+n]
		at += 4 + n
	}
}

// uuid takes the usual form with hyphens.
func (c *copyRows) uuid(s string) error {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return fmt.Errorf("postgres: an id of %d characters is no UUID", len(s))
	}
	c.int(16)
	for _, part := range []string{s[:8], s[9:13], s[14:18], s[19:23], s[24:]} {
		b, err := hex.DecodeString(part)
		if err != nil {
			return fmt.Errorf("postgres: an id that is no UUID: %w", err)
		}
		c.b = append(c.b, b...)
	}
	return nil
}

// array writes an array without NULLs; element writes the i-th, with its length.
func (c *copyRows) array(oid, n int, element func(i int)) {
	at := len(c.b)
	c.int(0) // the length, when it is known
	if n == 0 {
		c.int(0)
	} else {
		c.int(1) // dimension
	}
	c.int(0) // no NULL in it
	c.int(oid)
	if n > 0 {
		c.int(n)
		c.int(1) // lower bound
	}
	for i := range n {
		element(i)
	}
	binary.BigEndian.PutUint32(c.b[at:], uint32(len(c.b)-at-4))
}
