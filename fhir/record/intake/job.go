package intake

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// State is what is happening to a job. A job that was cancelled, or that has expired, is gone.
type State string

// The states of a job.
const (
	Accepted State = "accepted"
	Running  State = "running"
	Done     State = "done"
	Failed   State = "failed"
)

// Reason says why a job failed.
type Reason string

// The reasons. What exactly went wrong is for the log.
const (
	Denied   Reason = "denied" // its client may not go on
	Internal Reason = "internal"
)

// Phase says what a round over what waits makes of it.
type Phase int

// The phases. A round that brought something is followed by another one; one that did not, by
// one of the next phase.
const (
	Apart    Phase = iota // chunk by chunk
	Together              // what waits in several chunks, in one transaction: it may wait for each other
	Final                 // what does not resolve now never will
)

// Job is an import as it is kept.
type Job struct {
	ID      string // UUID
	Tenant  int32
	Owner   [32]byte // digest of who sent it
	Sealed  []byte   // principal and request, under the job's key
	KEK     string   // the URI of the key that wrapped it
	Wrapped []byte   // the job's key, wrapped
	State   State
	Reason  Reason
	Fetch
	Round    int
	Phase    Phase
	Chunk    int  // chunks of the round that are done
	Progress bool // the round has brought something
	Lines    int64
	Settled  int64
	Attempts int   // turns since the last that came to something
	Turn     int64 // of whoever holds the job
	Lease    time.Time
	Created  time.Time
	Loading  time.Time // zero: it does not load yet
	Finished time.Time
	Expires  time.Time
}

// Fetch is how far the inputs are fetched.
type Fetch struct {
	Input     int    // inputs that are fetched
	Fetched   int64  // bytes of the next one that are in chunks
	Before    int    // lines of it that are
	Validator string // of the next one, for If-Range; "" where it cannot be gone on with
}

// Chunk is a piece of an input, in the sink.
type Chunk struct {
	Number  int // within the job, from 1
	Input   int // from 1
	First   int // number of its first line
	Lines   int
	Name    string // UUID
	Waiting []int  // its lines that wait; nil: none was tried
}

// Outcome is what became of a batch.
type Outcome struct {
	Tally    map[int]Tally  // by input, of what is known without the store: refusals
	Receipts []int          // the inputs of the changes, in their order
	Labels   [][]string     // and the labels of their contents
	Findings map[int]string // by input: lines of the report
	Waiting  map[int][]int  // by number of the chunk: its lines that wait now
	Settled  int            // lines
	Brought  [][16]byte     // by a dry run, or by what waits for other lines
	Next     int            // chunks of the round that are done then
}

// Jobs is where jobs are kept. A job of another owner is not found, like one that never was.
//
// Whoever takes a job gets a turn; the turn of a job that somebody else has taken since,
// or that was cancelled, is over, and what goes by it is [ErrOver].
type Jobs interface {
	// Enqueue keeps a new job with what was uploaded for it; an owner who has most of them
	// under way already is throttled.
	Enqueue(ctx context.Context, j Job, uploaded []Chunk, most int) error
	Find(ctx context.Context, tenant int32, owner [32]byte, id string) (Job, error)
	// Counts gives what was counted, by input; how many findings there are of each, too.
	Counts(ctx context.Context, j Job) (map[int]Tally, map[int]int, error)
	// Findings gives the lines of the report of one input, piece by piece: those behind a place,
	// and the place where they end, 0 at the end.
	Findings(ctx context.Context, j Job, input int, after int64) (text string, next int64, err error)
	// Take takes a job that nobody holds, of the owner who has waited for a turn the
	// longest, until the lease ends; ok is false where there is none.
	Take(ctx context.Context, lease time.Duration) (j Job, ok bool, err error)
	// Extend lets a turn last until then.
	Extend(ctx context.Context, j Job, until time.Time) error
	// Reserve notes that somebody is about to write an object, until then.
	Reserve(ctx context.Context, name string, until time.Time) error
	// Append makes an object a chunk of the job; its number is given. It extends the turn.
	Append(ctx context.Context, j Job, c Chunk, at Fetch, until time.Time) error
	// Fetched ends the fetching of an input, and the turn; a finding says what is wrong with it.
	Fetched(ctx context.Context, j Job, at Fetch, finding string) error
	// Restart forgets the chunks of the input that is being fetched.
	Restart(ctx context.Context, j Job) error
	// Chunks gives at most so many chunks behind that number; of those that were tried, only
	// those in which lines wait.
	Chunks(ctx context.Context, j Job, after, most int) ([]Chunk, error)
	// Expected says which of these a dry run would have stored.
	Expected(ctx context.Context, j Job, digests [][16]byte) (map[[16]byte]bool, error)
	// Advance stores a batch (or rehearses that), and moves the job on, in one transaction; the
	// turn is over then.
	Advance(ctx context.Context, j Job, cleared []record.Cleared, dry bool, expected map[fhir.Ref]bool, o Outcome) ([]record.Receipt, error)
	// NextRound begins one, in that phase; the turn is over then.
	NextRound(ctx context.Context, j Job, phase Phase) error
	// Finish ends the job, whose report is kept until then; its inputs are to be removed.
	Finish(ctx context.Context, j Job, state State, reason Reason, expires time.Time) error
	// Yield ends a turn that came to nothing; the next one begins then, or later.
	Yield(ctx context.Context, j Job, at time.Time) error
	// Drop forgets a job; its objects are to be removed.
	Drop(ctx context.Context, tenant int32, owner [32]byte, id string) error
	// Orphans forgets jobs that have expired, and gives at most so many objects that are
	// to be removed; until Forget they are given again.
	Orphans(ctx context.Context, most int) ([]string, error)
	Forget(ctx context.Context, name string) error
}

// Sink keeps inputs until they are taken in. Names are UUIDs, each of which is created once.
type Sink interface {
	// Create begins an object, which is durable when Close has returned without an error.
	Create(ctx context.Context, name string) (io.WriteCloser, error)
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Remove removes an object; one that is not there is no error.
	Remove(ctx context.Context, name string) error
}

// ErrOver is the end of a turn: somebody else has taken the job since, or it was cancelled.
var ErrOver = errors.New("intake: the turn is over")

// Counted is the tally of a batch, by input, with what its receipts say.
func (o Outcome) Counted(receipts []record.Receipt) map[int]Tally {
	out := map[int]Tally{}
	of := func(input int) Tally {
		if out[input] == nil {
			out[input] = Tally{}
		}
		return out[input]
	}
	for input, t := range o.Tally {
		for k, n := range t {
			of(input)[k] += n
		}
	}
	for i, r := range receipts {
		c := Candidate{Ref: r.Ref, Labels: o.Labels[i]}
		c.settle(r)
		of(o.Receipts[i]).Add(&c)
	}
	return out
}
