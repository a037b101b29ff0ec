package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir/record"
)

// Point reads that wait at the same moment share a statement: on a machine with
// few cores most of what a read costs is the way to the database and back.
//
// What they share is the text alone. Each read brings its own text, with its
// own Restriction compiled into it, and its own values; reads whose texts are
// equal, character by character, become the rows of one table of values, and
// the text runs once for every row of it. So a row is found by exactly the
// predicate of the caller who asked for it, whoever else is in the batch.
const (
	sharedReads   = 64 // reads in one statement
	sharedBatches = 1  // statements of one text at the same moment: one is under way while the next fills
)

var errClosed = errors.New("postgres: the store is closed")

// reader coalesces the point reads of one pool.
type reader struct {
	s    *Store
	pool *pgxpool.Pool

	mu      sync.Mutex
	queues  map[string]*queue // by the text of the statement
	closed  bool
	running sync.WaitGroup
}

// queue holds the reads of one text that wait for a statement.
type queue struct {
	waiting []*waiter
	running int
}

// waiter is one read: the answer comes once, into a channel that nobody need empty.
type waiter struct {
	ctx    context.Context //nolint:containedctx // the read outlives the call that queued it, and ends with the request
	r      authz.Restriction
	args   []any
	answer chan answer
}

type answer struct {
	sealed record.Sealed
	err    error
}

func newReader(s *Store) *reader { return &reader{s: s, queues: map[string]*queue{}} }

// read runs a statement that was built in columns, and gives the first row that it finds.
func (x *reader) read(ctx context.Context, r authz.Restriction, q *statement) (record.Sealed, error) {
	sql, err := q.shared()
	if err != nil {
		return record.Sealed{}, failed(err)
	}
	w := &waiter{ctx, r, q.args, make(chan answer, 1)}
	if err := x.enqueue(sql, w); err != nil {
		return record.Sealed{}, failed(err)
	}
	select {
	case a := <-w.answer:
		return a.sealed, a.err
	case <-ctx.Done():
		return record.Sealed{}, failed(ctx.Err())
	}
}

func (x *reader) enqueue(sql string, w *waiter) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return errClosed
	}
	q := x.queues[sql]
	if q == nil {
		q = &queue{}
		x.queues[sql] = q
	}
	q.waiting = append(q.waiting, w)
	if q.running < sharedBatches {
		q.running++
		x.running.Add(1)
		go x.run(sql, q)
	}
	return nil
}

// run answers what waits for one text until nothing does. It never waits for more to come.
func (x *reader) run(sql string, q *queue) {
	defer x.running.Done()
	for {
		runtime.Gosched() // those who are about to ask come along
		x.mu.Lock()
		n := min(len(q.waiting), sharedReads)
		if n == 0 {
			if q.running--; q.running == 0 {
				delete(x.queues, sql)
			}
			x.mu.Unlock()
			return
		}
		batch := slices.Clone(q.waiting[:n])
		q.waiting = slices.Delete(q.waiting, 0, n)
		x.mu.Unlock()
		x.answer(sql, batch)
	}
}

// answer runs the statement for a batch. It ends when the last of its requests
// must end; a request that goes away earlier takes nothing from the others.
func (x *reader) answer(sql string, batch []*waiter) {
	live := batch[:0]
	for _, w := range batch {
		if w.ctx.Err() == nil {
			live = append(live, w)
		}
	}
	if len(live) == 0 {
		return
	}
	ctx, cancel := until(live)
	defer cancel()
	answers := make([]answer, len(live))
	for i := range answers {
		answers[i].err = errNotFound
	}
	var n int64
	row := &scanned{}
	err := forEach(ctx, x.pool, sql, columnsOf(live), append([]any{&n}, row.scan()...), func() error {
		if n < 1 || n > int64(len(live)) {
			return fmt.Errorf("postgres: a row for read %d of %d", n, len(live))
		}
		if a := &answers[n-1]; a.err == errNotFound { //nolint:errorlint // this very value: nothing has been found yet
			a.sealed, a.err = x.s.seal(ctx, live[n-1].r, row)
		}
		return nil
	})
	for i, w := range live {
		if err != nil {
			answers[i] = answer{err: failed(err)}
		}
		w.answer <- answers[i]
	}
}

// until is a context for all of them: it ends at the latest deadline.
func until(batch []*waiter) (context.Context, context.CancelFunc) {
	var last time.Time
	for _, w := range batch {
		d, ok := w.ctx.Deadline()
		if !ok {
			return context.Background(), func() {}
		}
		if d.After(last) {
			last = d
		}
	}
	return context.WithDeadline(context.Background(), last)
}

// close answers what waits and refuses what comes.
func (x *reader) close() {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.running.Wait()
}

// shared wraps the text of a statement that was built in columns, so that it
// runs for each row of a table of values; n is the number of the row.
func (q *statement) shared() (string, error) {
	var b strings.Builder
	b.Grow(q.Len() + 64 + 32*len(q.args))
	b.WriteString("SELECT w.n, x.* FROM unnest(")
	for i, v := range q.args {
		t, err := columnType(v)
		if err != nil {
			return "", err
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1) + "::" + t)
	}
	b.WriteString(") WITH ORDINALITY AS w(")
	for i := range q.args {
		b.WriteString("a" + strconv.Itoa(i+1) + ", ")
	}
	b.WriteString("n), LATERAL (")
	b.WriteString(q.String())
	b.WriteString(") AS x")
	return b.String(), nil
}

// columnType is the type of the array that carries one argument of every read.
// Lists travel as array literals, because unnest flattens arrays of arrays; the
// text casts them wherever it names them.
func columnType(v any) (string, error) {
	switch v.(type) {
	case int16:
		return "smallint[]", nil
	case int32:
		return "integer[]", nil
	case int64, int:
		return "bigint[]", nil
	case bool:
		return "boolean[]", nil
	case time.Time:
		return "timestamptz[]", nil
	case string, []string, []int16, []int64:
		return "text[]", nil
	}
	return "", fmt.Errorf("postgres: a %T cannot be an argument of a shared statement", v)
}

// columnsOf turns the arguments of the reads, which are alike in number and
// types, into one array per argument.
func columnsOf(batch []*waiter) []any {
	out := make([]any, len(batch[0].args))
	for i, v := range batch[0].args {
		switch v.(type) {
		case int16:
			out[i] = gathered[int16](batch, i)
		case int32:
			out[i] = gathered[int32](batch, i)
		case int64:
			out[i] = gathered[int64](batch, i)
		case int:
			out[i] = gathered[int](batch, i)
		case bool:
			out[i] = gathered[bool](batch, i)
		case time.Time:
			out[i] = gathered[time.Time](batch, i)
		case string:
			out[i] = gathered[string](batch, i)
		default:
			out[i] = literals(batch, i)
		}
	}
	return out
}

func gathered[T any](batch []*waiter, i int) []T {
	out := make([]T, len(batch))
	for j, w := range batch {
		out[j], _ = w.args[i].(T) // equal texts name equal types, see shared
	}
	return out
}

func literals(batch []*waiter, i int) []string {
	out := make([]string, len(batch))
	for j, w := range batch {
		switch v := w.args[i].(type) {
		case []string:
			out[j] = textArray(v)
		case []int16:
			out[j] = intArray(v)
		case []int64:
			out[j] = intArray(v)
		}
	}
	return out
}
