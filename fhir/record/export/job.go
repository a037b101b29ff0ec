package export

import (
	"context"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
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
	Changed  Reason = "changed" // records changed again and again while a release was made of them
	Small    Reason = "small"   // a release of so few patients would tell who they are
)

// Job is an export as it is kept.
type Job struct {
	ID          string // UUID
	Tenant      int32
	Owner       [32]byte // digest of who sent it
	Sealed      []byte   // principal and request, under the job's key
	KEK         string   // the URI of the key that wrapped it
	Wrapped     []byte   // the job's key, wrapped
	Policy      string   // version of the policy at the start
	Transaction time.Time
	State       State
	Reason      Reason
	Position
	Lines     int64
	Explained []fhir.ID // the consents that a line of the job explains
	Attempts  int       // turns since the last that came to something
	Turn      int64     // of whoever holds the job
	Lease     time.Time // until when nobody else takes it
	Created   time.Time
	Expires   time.Time
	Parts     int       // how many there are
	Pages     []int     // the last file of each manifest that was shown
	Polled    time.Time // when its client last asked how far it is, or zero
	Haste     int       // how often that was too early
}

// Position is how far a job is: the pages before it are written.
type Position struct {
	Step  int            // of the plan that its request makes
	After *search.Cursor // within the step, or within the block; nil is its beginning
	// Of is the patient whose block is being written, in an export that is organized by patient, or "". In counts the types of it that are
	// done, Begun says that something of it is written, and Then is where the next block begins, nil if this is the last one.
	Of    fhir.ID
	In    int
	Begun bool
	Then  *search.Cursor
}

// Kind says in which list of the manifest a file is.
type Kind string

// The lists of a manifest (Bulk Data Access 2.0, "Response - Complete Status").
const (
	Output  Kind = "output"
	Deleted Kind = "deleted"
	Error   Kind = "error"
)

// Part is one object of the sink: lines of a file, in which parts follow each other.
type Part struct {
	Number  int // within the job, from 1
	File    int // within the job, from 1
	Kind    Kind
	Type    fhir.ResourceType // of what is in the lines, or of what was deleted
	Name    string            // UUID, in the sink
	Lines   int
	Bytes   int64 // before compression
	SHA256  [32]byte
	Noticed bool // some of it is disclosed with a consent under part 2
	// Of each line: which resource, in which version, and which view of it; and how many
	// bytes it has. Find leaves them out.
	IDs      []fhir.ID
	Versions []fhir.VersionID
	Rows     []int64
	Lengths  []int32
	// And in an export that is organized by patient: of which type it is, and of whose block.
	Types  []fhir.ResourceType
	Blocks []fhir.ID
	// View is that whose rows are in it, "" where it is lines of resources. Then it is in a file of its own, in a format; Lines counts
	// rows, and IDs are the resources that these are of.
	View   string
	Format string
}

// Joins reports a part that goes on with a block, in the same file.
func (p *Part) Joins() bool { return len(p.Types) > 0 && p.Types[0] != header }

// Jobs is where jobs are kept. A job of another owner is not found, like one that never was.
//
// Whoever takes a job gets a turn; the turn of a job that somebody else has taken since,
// or that was cancelled, is over, and what goes by it is [ErrOver].
type Jobs interface {
	// Enqueue keeps a new job; an owner who has most of them under way already is throttled.
	Enqueue(ctx context.Context, j Job, most int) error
	// Find finds a job with its parts, in their order.
	Find(ctx context.Context, tenant int32, owner [32]byte, id string) (Job, []Part, error)
	// Lines fills in what is known of each line of a part.
	Lines(ctx context.Context, job string, p *Part) error
	// Take takes a job that nobody holds, of the owner who has waited for a turn the
	// longest, until the lease ends; ok is false where there is none.
	Take(ctx context.Context, lease time.Duration) (j Job, ok bool, err error)
	// Reserve notes that the holder of a turn is about to write an object, until then.
	Reserve(ctx context.Context, j Job, name string, until time.Time) error
	// Publish moves the job on to a position, and makes the parts part of it, in one
	// transaction, and ends the turn. longest is how many lines a file has at most.
	Publish(ctx context.Context, j Job, next Position, parts []Part, explained []fhir.ID, longest int) error
	// Restart takes away what a job has written, moves it to a position, and ends the turn.
	Restart(ctx context.Context, j Job, next Position) error
	// Finish ends the job, which is kept until then.
	Finish(ctx context.Context, j Job, state State, reason Reason, expires time.Time) error
	// Yield ends a turn that came to nothing; the next one begins then, or later.
	Yield(ctx context.Context, j Job, at time.Time) error
	// Wait ends a turn that was none yet: it does not count as one that came to nothing.
	Wait(ctx context.Context, j Job, at time.Time) error
	// Polled notes that the client asked how far the job is.
	Polled(ctx context.Context, j Job, at time.Time, haste int) error
	// Cut closes the files up to that one: nothing is added to them any more. It closes
	// none, and is no error, where the job has changed since.
	Cut(ctx context.Context, j Job, file int) error
	// Settled reports that no transaction is under way that began at that moment or
	// before: whatever changed until then is there.
	Settled(ctx context.Context, at time.Time) (bool, error)
	// Drop forgets a job; its objects are to be removed.
	Drop(ctx context.Context, tenant int32, owner [32]byte, id string) error
	// Orphans forgets jobs that have expired, and gives at most so many objects that are
	// to be removed; until Forget they are given again.
	Orphans(ctx context.Context, most int) ([]string, error)
	Forget(ctx context.Context, name string) error
	// Failed gives those of these jobs that have failed.
	Failed(ctx context.Context, ids []string) ([]string, error)
}

// Records is where resources are read, as in package rest.
type Records interface {
	Search(context.Context, authz.Reach, search.Query) (record.Page, error)
	Read(context.Context, authz.Restriction, fhir.ID) (record.Sealed, error)
	VRead(context.Context, authz.Restriction, fhir.ID, fhir.VersionID) (record.Sealed, error)
	// Tombstones gives, by their ids, at most so many resources that were deleted between
	// these moments, behind that place.
	Tombstones(ctx context.Context, r authz.Restriction, from, to time.Time, after *search.Cursor, most int) ([]record.Sealed, error)
	Parameters(context.Context, authz.Restriction) (*search.Registry, error)
	// Current gives of these resources those that are visible, also as deleted. Two resources can bear one id.
	Current(context.Context, authz.Restriction, []fhir.ID) (map[fhir.ID][]record.Sealed, error)
}
