package smart

import (
	"context"
	"errors"
	"time"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/authz/oidc"
)

var (
	// ErrNotFound says that there is no such thing, or none any more.
	ErrNotFound = errors.New("smart: not found")
	// ErrReused says that a code or refresh token was used before. Its grant has been ended.
	ErrReused = errors.New("smart: used before")
	// ErrTaken says that an app has this client_id already.
	ErrTaken = errors.New("smart: client_id is taken")
)

// Kind is what a ticket is for.
type Kind string

// The kinds of tickets.
const (
	KindInteraction Kind = "interaction"
	KindLaunch      Kind = "launch"
	KindPushed      Kind = "pushed"
)

// Ticket is something opaque that is handed out and comes back once; its hash alone is stored.
type Ticket struct {
	Kind  Kind
	Hash  [32]byte
	Body  []byte // JSON
	Until time.Time
}

// End says which grants end: of Grant, Account, Session and App exactly one is set.
type End struct {
	Grant    string
	Account  string // all of an account
	Session  string // all but the offline ones that were made in a session
	App      string // all of an app, those of a backend service included; it is withdrawn by that
	Practice string // with App: those in one practice alone, whose approval is withdrawn by that
}

// AppKey is the key under which all tokens of an app end, or those in one practice; those of a grant end under its id.
func AppKey(client, practice string) string { return oidc.EndedApp(client, practice) }

// Store keeps apps, grants and what leads to them. Each method is one transaction.
type Store interface {
	// App gives a registered app, or ErrNotFound.
	App(ctx context.Context, id string) (app.App, error)
	// Register adds an app, or says ErrTaken.
	Register(ctx context.Context, a app.App) error
	// Origins lists the origins of all active apps.
	Origins(ctx context.Context) ([]string, error)

	// PutTicket stores a ticket.
	PutTicket(ctx context.Context, t Ticket) error
	// LookTicket gives the body of a ticket that has not expired, or ErrNotFound.
	LookTicket(ctx context.Context, k Kind, hash [32]byte, now time.Time) ([]byte, error)
	// TakeTicket gives it to one caller alone; to all others it is ErrNotFound.
	TakeTicket(ctx context.Context, k Kind, hash [32]byte, now time.Time) ([]byte, error)

	// BeginGrant stores a grant with the code that leads to it, and takes the interaction that it ends; ErrNotFound if somebody else took it.
	BeginGrant(ctx context.Context, interaction [32]byte, g Grant, c Code) error
	// RedeemCode uses up a code. One that was used before ends its grant and is ErrReused.
	RedeemCode(ctx context.Context, hash [32]byte, now time.Time) (Code, Grant, error)
	// StartRefresh gives a grant its first refresh token; ErrNotFound if it has ended meanwhile.
	StartRefresh(ctx context.Context, grant string, r RefreshToken, now time.Time) error
	// Refreshing finds the grant of a refresh token, used ones included, and changes nothing.
	Refreshing(ctx context.Context, hash [32]byte) (Grant, error)
	// Refreshable finds the grant of a refresh token that could be used now, and until when, or says ErrNotFound.
	Refreshable(ctx context.Context, hash [32]byte, now time.Time) (Grant, time.Time, error)
	// RotateRefresh puts next in the place of a refresh token. One that was used before ends its grant and is
	// ErrReused; one that has expired, or whose grant has ended, is ErrNotFound.
	RotateRefresh(ctx context.Context, hash [32]byte, next RefreshToken, now time.Time) (Grant, error)
	// Grant gives a grant, ended ones included, or ErrNotFound.
	Grant(ctx context.Context, id string) (Grant, error)
	// Grants lists what of an account is alive and was redeemed, newest first.
	Grants(ctx context.Context, account string, now time.Time) ([]GrantSummary, error)
	// EndGrants ends grants, and makes all processes refuse their tokens.
	EndGrants(ctx context.Context, e End, now time.Time) (keys []string, err error)
	// Ended lists the keys that ended since then, see [AppKey].
	Ended(ctx context.Context, since time.Time) ([]string, error)

	// Assertion remembers the jti of an app until it expires; fresh is false if it was seen before, by any process.
	Assertion(ctx context.Context, client string, jti [32]byte, until time.Time) (fresh bool, err error)
	// SweepGrants forgets what has expired.
	SweepGrants(ctx context.Context, now time.Time) error
}

// People is what the authorization server asks about people. Package identity knows.
type People interface {
	// Account gives an account, disabled ones included.
	Account(ctx context.Context, id string) (identity.Account, error)
	// Sessions lists the sessions of an account that are alive.
	Sessions(ctx context.Context, account string) ([]identity.Session, error)
	// EndSession ends one of them.
	EndSession(ctx context.Context, account, id string) error
}

// Auditor keeps events of security in the audit trail. What cannot be recorded does not happen.
type Auditor interface {
	RecordSecurity(ctx context.Context, e audit.Security) error
}
