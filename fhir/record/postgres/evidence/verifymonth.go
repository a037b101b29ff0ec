package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz/audit/trail"
)

func isEnd(err error) bool { return errors.Is(err, io.EOF) }

// rowStream reads the rows of one table in the order of their numbers.
type rowStream struct {
	conn    *pgxpool.Conn
	rows    pgx.Rows
	table   *table
	current row
	wrote   func(values [][]byte) bool
	genuine bool // of current: a server wrote it, as far as the keys tell
	ok      bool
}

func (s *rowStream) next() error {
	s.ok = s.rows.Next()
	if !s.ok {
		return s.rows.Err()
	}
	r, values, err := s.table.scan(s.rows)
	s.current, s.genuine = r, err == nil && s.wrote(values)
	return err
}

// rowsOf are the rows of all tables, merged by number.
type rowsOf []*rowStream

func (v *verifier) rows(ctx context.Context, from, to time.Time) (out rowsOf, err error) {
	for i := range v.tables {
		t := &v.tables[i]
		conn, err := v.pool.Acquire(ctx)
		if err != nil {
			return out, err
		}
		s := &rowStream{conn: conn, table: t, wrote: func(values [][]byte) bool { return !v.Keys.HoldsSecret() || v.Keys.Wrote(t.layout, values) }}
		out = append(out, s)
		where, args := "WHERE true", []any{}
		for _, bound := range []struct {
			at time.Time
			op string
		}{{from, ">="}, {to, "<"}} {
			if !bound.at.IsZero() {
				args = append(args, bound.at)
				where += fmt.Sprintf(" AND at %s $%d", bound.op, len(args))
			}
		}
		if s.rows, err = t.read(ctx, conn, where+" ORDER BY seq", args...); err != nil { //nolint:rowserrcheck // next asks for it
			return out, err
		}
		if err := s.next(); err != nil {
			return out, err
		}
	}
	return out, nil
}

// peek is the stream with the lowest number, nil at the end.
func (l rowsOf) peek() (least *rowStream) {
	for _, s := range l {
		if s.ok && (least == nil || s.current.seq < least.current.seq) {
			least = s
		}
	}
	return least
}

func (l rowsOf) close() {
	for _, s := range l {
		if s.rows != nil {
			s.rows.Close()
		}
		s.conn.Release()
	}
}

// linkStream reads the links of a month, checks the chain, and gives out entries.
type linkStream struct {
	v       *verifier
	month   trail.Month
	rows    pgx.Rows
	prev    trail.Digest
	n       int64
	through int64
	seq     int64 // of the last entry
	sum     int64 // rows so far
	open    []trail.Entry
}

func (s *linkStream) fault(n int64, detail string) {
	s.v.fault(Finding{Fault: BadLink, Month: s.month.String(), Seq: n, Detail: detail})
}

// peek is the next entry, nil at the end.
func (s *linkStream) peek() (*trail.Entry, error) {
	for len(s.open) == 0 {
		if !s.rows.Next() {
			return nil, s.rows.Err()
		}
		if err := s.link(); err != nil {
			return nil, err
		}
	}
	return &s.open[0], nil
}

func (s *linkStream) link() error {
	l := trail.Link{Month: s.month}
	var count int64
	var prev, hash, mac []byte
	var month time.Time
	if err := s.rows.Scan(&month, &l.N, &l.At, &l.Through, &count, &l.Entries, &prev, &hash, &mac); err != nil {
		return err
	}
	s.v.report.Links++
	copy(l.Prev[:], prev)
	sum := l.Hash()
	head, signed := s.v.state.heads[s.month.String()]
	switch {
	case !month.Equal(s.month.Time):
		s.fault(l.N, "it is of no month")
	case l.N != s.n+1:
		s.fault(l.N, fmt.Sprintf("the ones after %d and before it are missing", s.n))
	case len(prev) != len(l.Prev) || l.Prev != s.prev:
		s.fault(l.N, "it follows another link than the one before it")
	case !bytes.Equal(hash, sum[:]):
		s.fault(l.N, "it was altered")
	case int(count) != l.Rows():
		s.fault(l.N, "it does not count what it holds")
	case l.Through < s.through:
		s.fault(l.N, "it goes back behind the one before it")
	case s.v.Keys.HoldsSecret() && !s.v.Keys.Linked(sum, mac):
		s.fault(l.N, "no sealer made it, or the key that it was made with is not in the key set")
	}
	s.n, s.prev, s.through = l.N, sum, l.Through
	entries, err := trail.Entries(l.Entries)
	if err != nil {
		s.fault(l.N, "it was altered")
	}
	s.sum += int64(len(entries))
	if !signed || l.N > head.Links {
		s.v.report.Unsigned += int64(len(entries))
	} else if l.N == head.Links && s.sum != head.Rows {
		s.v.fault(Finding{Fault: BadPoint, Month: s.month.String(), Seq: s.v.state.number, Detail: "the links do not hold as many rows as it names"})
	}
	for _, e := range entries {
		if e.Seq <= s.seq || e.Seq > l.Through {
			s.fault(l.N, "its rows are not in order")
			break
		}
		s.seq = e.Seq
	}
	s.open = entries
	return nil
}

// month compares the rows of a month with its links.
func (v *verifier) month(ctx context.Context, m trail.Month) error {
	rows, err := v.rows(ctx, m.Time, m.Next().Time)
	defer func() { rows.close() }()
	if err != nil {
		return err
	}
	// What is sealed meanwhile is not looked at: its rows may not have been there when theirs were asked for.
	q, err := v.pool.Query(ctx, "SELECT month, n, at, through, rows, entries, prev, hash, mac FROM audit.link WHERE month >= $1 AND month < $2 AND through <= $3 ORDER BY n, month", m.Time, m.Next().Time, v.through) //nolint:rowserrcheck // peek asks for it
	if err != nil {
		return err
	}
	defer q.Close()
	links := &linkStream{v: v, month: m, rows: q, seq: math.MinInt64, through: math.MinInt64}
	for {
		e, err := links.peek()
		if err != nil {
			return err
		}
		r := rows.peek()
		switch {
		case e == nil && r == nil:
			if head, ok := v.state.heads[m.String()]; ok && links.n < head.Links {
				links.fault(links.n, fmt.Sprintf("the chain ends here, but checkpoint %d names link %d", v.state.number, head.Links))
			}
			return nil
		case e == nil || r != nil && r.current.seq < e.Seq:
			err = v.unlinked(ctx, r)
		case r == nil || e.Seq < r.current.seq:
			v.fault(Finding{Fault: Removed, Month: m.String(), Table: e.Kind.String(), ID: uuid(e.ID), Seq: e.Seq, Detail: "it was sealed and is not there any more"})
			links.open = links.open[1:]
		default:
			v.compare(m, *e, r)
			links.open = links.open[1:]
			err = r.next()
		}
		if err != nil {
			return err
		}
	}
}

func (v *verifier) compare(m trail.Month, e trail.Entry, r *rowStream) {
	v.counted()
	at := Finding{Month: m.String(), Table: r.table.kind.String(), ID: uuid(r.current.id), Seq: e.Seq}
	switch {
	case e.Kind != r.table.kind:
		at.Fault, at.Detail = Altered, "it was sealed as a row of audit."+e.Kind.String()
		v.fault(at)
	case e.Digest != r.current.digest:
		at.Fault, at.Detail = Altered, "it is not what it was when it was sealed"
		if e.ID != r.current.id {
			at.Detail += ", as " + uuid(e.ID)
		}
		v.fault(at)
	case e.Mark == trail.Found:
		v.report.Found++
	case e.Mark != trail.Written:
		at.Fault, at.Detail = Forged, "no server wrote it, or one without the key of the others did"
		v.fault(at)
	}
}

// unlinked passes by a row that no link seals: fresh, or put in.
func (v *verifier) unlinked(ctx context.Context, s *rowStream) (err error) {
	v.counted()
	r := s.current
	at := Finding{Month: trail.MonthOf(r.at).String(), Table: s.table.kind.String(), ID: uuid(r.id), Seq: r.seq}
	if r.seq > v.handed { // handed out since verifying began, or by nobody
		if v.handed, err = handed(ctx, v.pool); err != nil {
			return err
		}
	}
	switch {
	case r.seq > v.handed:
		at.Fault, at.Detail = Inserted, "its number was never handed out"
		v.fault(at)
	case r.seq <= v.through:
		at.Fault, at.Detail = Inserted, "it was not there when its number was sealed"
		v.fault(at)
	case !s.genuine && r.seq > 0:
		at.Fault, at.Detail = Forged, "no server wrote it, or one without the key of the others did"
		v.fault(at)
	default:
		v.report.Unsealed++
		if v.report.Oldest.IsZero() || r.at.Before(v.report.Oldest) {
			v.report.Oldest = r.at
		}
	}
	return s.next()
}

// between looks for rows of months that have no links.
func (v *verifier) between(ctx context.Context, from, to trail.Month) error {
	if !to.IsZero() && !from.Before(to.Time) {
		return nil
	}
	rows, err := v.rows(ctx, from.Time, to.Time)
	defer func() { rows.close() }()
	if err != nil {
		return err
	}
	for s := rows.peek(); s != nil; s = rows.peek() {
		if err := v.unlinked(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// progressEvery is how many rows pass between two reports of progress.
const progressEvery = 1000

func (v *verifier) counted() {
	v.report.Rows++
	if v.Progress != nil && v.report.Rows%progressEvery == 0 {
		v.Progress(v.report.Rows)
	}
}
