package notify

import (
	"context"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Status is Subscription.status.
type Status string

// The states of a subscription.
const (
	Requested Status = "requested"
	Active    Status = "active"
	Failed    Status = "error"
	Off       Status = "off"
)

// Reason says why a subscription is in error or off; what exactly went wrong is for the log.
type Reason string

// The reasons.
const (
	Undelivered Reason = "not-delivered" // its endpoint did not take what was sent, again and again
	Gone        Reason = "gone"          // its endpoint said that it wants nothing more
	Denied      Reason = "denied"        // its client may not be told anything any more
	Unreadable  Reason = "unreadable"    // its topic or a filter is not known here any more
	Ended       Reason = "ended"         // its end has come
	Stale       Reason = "stale"         // it was in error for so long that what it missed is not kept
	Asked       Reason = "asked"         // its client switched it off
)

// Channel is Subscription.channel.type.
type Channel string

// The channels.
const (
	RestHook  Channel = "rest-hook"
	WebSocket Channel = "websocket"
)

// Subscription is a subscription as it is kept.
type Subscription struct {
	ID       string // UUID
	Tenant   int32
	Owner    [32]byte // digest of who subscribed
	Version  fhir.VersionID
	Updated  time.Time
	Sealed   []byte // resource, principal and secrets, under the subscription's key
	KEK      string // the URI of the key that wrapped it
	Wrapped  []byte
	Channel  Channel
	Types    []fhir.ResourceType
	Status   Status
	Reason   Reason
	Begun    bool  // it has a position
	Position int64 // up to which the changes have been looked at
	Events   int64 // how many there are
	Sent     int64 // how many of them have been delivered
	Failures int   // since the last delivery
	Beat     time.Duration
	Spoke    time.Time // when something was delivered last
	Turn     int64
	Expires  time.Time

	greet, greeted bool // a connection that was bound gets a handshake first; it got it
}

// Change is one version of one row that was committed.
type Change struct {
	Position int64
	Type     fhir.ResourceType
	ID       fhir.ID
	Row      int64 // of the view, see vault.Header
	Version  fhir.VersionID
	Deleted  bool
}

// Event is a change that a subscriber is told of.
type Event struct {
	Number  int64
	Type    fhir.ResourceType
	ID      fhir.ID
	Row     int64
	Version fhir.VersionID
	At      time.Time // of the change
}

// Subscriptions is where subscriptions, events and changes are kept. A subscription of another
// owner is not found, like one that never was. What goes by a turn that is over is [ErrOver].
type Subscriptions interface {
	// Add keeps a new subscription; an owner who has most of them already is refused.
	Add(ctx context.Context, s Subscription, most int) error
	// Replace keeps s in place of the version before it, with its status and reason, and ends
	// any turn. One that was off begins anew.
	Replace(ctx context.Context, s Subscription) error
	// Owned lists the subscriptions of an owner, or the one of that id, the oldest first.
	Owned(ctx context.Context, tenant int32, owner [32]byte, id string) ([]Subscription, error)
	Remove(ctx context.Context, tenant int32, owner [32]byte, id string) error

	// Sequence gives positions to what has been committed since.
	Sequence(context.Context) error
	// Take takes the subscription that has something to do and was delivered something the longest ago, until the lease ends.
	Take(ctx context.Context, c Channel, lease time.Duration) (s Subscription, ok bool, err error)
	// TakeOne takes that subscription, if it has something to do; greet says that it has.
	TakeOne(ctx context.Context, id string, greet bool, lease time.Duration) (s Subscription, ok bool, err error)
	// Bind keeps the digest of a token by which the subscriptions can be bound to a connection until then.
	Bind(ctx context.Context, digest [32]byte, ids []string, until time.Time) error
	// Bound gives what a token that is still good binds.
	Bound(ctx context.Context, digest [32]byte) (ids []string, until time.Time, err error)
	// Begin gives s the newest position; ready is false while a transaction is still under
	// way that ran when s was stored.
	Begin(ctx context.Context, s Subscription) (position int64, ready bool, err error)
	// Changes lists changes behind a position, at most so many.
	Changes(ctx context.Context, s Subscription, after int64, most int) ([]Change, error)
	// Told reports of which of these rows s has an event.
	Told(ctx context.Context, s Subscription, rows []int64) (map[int64]bool, error)
	// Number moves s on to a position, gives the next numbers to events, and holds the turn for as long again.
	Number(ctx context.Context, s Subscription, position int64, events []Event, lease time.Duration) error
	// List lists events by their numbers, from and to among them, at most so many.
	List(ctx context.Context, s Subscription, from, to int64, most int) ([]Event, error)
	// Delivered notes that the events up to that number have been delivered, and the status with it.
	Delivered(ctx context.Context, s Subscription, sent int64, status Status) error
	// Undelivered notes a try in vain; the next one begins then, or later.
	Undelivered(ctx context.Context, s Subscription, due time.Time) error
	// Turned ends what s has been: its status is another one now.
	Turned(ctx context.Context, s Subscription, status Status, why Reason) error
	// Yield ends a turn; the next one begins then, or later.
	Yield(ctx context.Context, s Subscription, due time.Time) error
	// Sweep forgets what nobody needs any more: changes that all have looked at, and delivered
	// events from before that moment; a subscription in error since then is off.
	Sweep(ctx context.Context, before time.Time) error
}
