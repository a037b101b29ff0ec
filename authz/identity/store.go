package identity

import (
	"context"
	"errors"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// ErrTaken is what a [Store] says where an e-mail address or an external identity belongs to another account.
var ErrTaken = errors.New("identity: another account has it")

// Record is an account with what proves that somebody is its owner.
type Record struct {
	Account
	Password string // hash in PHC string format, or ""
	TOTP     []byte // secret, sealed; nil for none
	Passkeys []Key
	Codes    int  // recovery codes that are left
	Linked   bool // to an external identity
}

// Factors lists what a second step can be done with; recovery codes alone are none.
func (r Record) Factors() []Factor {
	var out []Factor
	if len(r.Passkeys) > 0 {
		out = append(out, Passkey)
	}
	if r.TOTP != nil {
		out = append(out, TOTP)
	}
	if len(out) > 0 && r.Codes > 0 {
		out = append(out, Recovery)
	}
	return out
}

// Key is a passkey.
type Key struct {
	ID            []byte // credential id
	Name          string
	Count         uint32 // signature counter
	Data          []byte // credential record, sealed
	Created, Used time.Time
}

// Purpose says what a [Pending] is for.
type Purpose string

// The purposes.
const (
	pendingChallenge  Purpose = "challenge"
	pendingPasskey    Purpose = "passkey"
	pendingEnrolment  Purpose = "enrolment"
	pendingInvitation Purpose = "invitation"
	pendingRecovery   Purpose = "recovery"
)

// Pending is a step that was begun: whoever shows the secret of which Hash is the SHA-256 may go on, until it expires.
type Pending struct {
	Hash    []byte
	Purpose Purpose
	Account string // or ""
	Email   string // of an invitation
	Tenant  int32  // of an invitation
	Data    []byte // what the next step must know; sealed where it holds secrets
	Expires time.Time
}

// Limit says how often something may be tried.
type Limit struct {
	Free   int           // so often without delay
	Window time.Duration // from the first attempt on; then the count begins anew
	// Base is the delay after Free attempts, doubled with each further one, up to Max. Without
	// it there is none beyond Free until the window has passed.
	Base, Max time.Duration
}

// Store keeps what this package must remember. Each method is one atomic step: of callers who
// race, exactly one is told true where that is what the method promises. now is the moment that decides whether something has expired.
type Store interface {
	// Account finds an account by id; AccountByEmail by its address in lower case; AccountByExternal by an
	// external identity. Without one the bool is false.
	Account(ctx context.Context, id string) (Record, bool, error)
	AccountByEmail(ctx context.Context, email string) (Record, bool, error)
	AccountByExternal(ctx context.Context, issuer, subject string) (Record, bool, error)
	// Accounts lists the members of a practice by name; 0 lists all accounts.
	Accounts(ctx context.Context, tenant int32) ([]Account, error)
	// CreateAccount stores an account with its memberships; ErrTaken if its address is.
	CreateAccount(ctx context.Context, a Account, password string, now time.Time) error
	SetPassword(ctx context.Context, account, hash string, now time.Time) error
	// SetDisabled also ends all sessions of an account that is disabled, in one transaction.
	SetDisabled(ctx context.Context, account string, disabled bool) error
	// PutMembership adds a membership, or changes the one of the same practice and user.
	PutMembership(ctx context.Context, account string, m Membership) error
	RemoveMemberships(ctx context.Context, account string, tenant int32) error
	RemoveMembership(ctx context.Context, account string, tenant int32, user fhir.Ref) error
	SetName(ctx context.Context, account, name string) error
	// Link gives an account an external identity; ErrTaken if another account has it.
	Link(ctx context.Context, issuer, subject, account string, now time.Time) error

	// SetTOTP replaces the secret. With first it is false, and nothing happens, if the account has a factor already.
	SetTOTP(ctx context.Context, account string, sealed []byte, step int64, first bool) (bool, error)
	RemoveTOTP(ctx context.Context, account string) error
	// UseTOTP is true once per step, and never for a step before one that was used.
	UseTOTP(ctx context.Context, account string, step int64) (bool, error)
	// AddPasskey is false as SetTOTP is, or if the credential is known already.
	AddPasskey(ctx context.Context, account string, k Key, first bool) (bool, error)
	RemovePasskey(ctx context.Context, account string, id []byte) error
	// UsePasskey is true if the counter went up, or if the authenticator has none (both zero).
	UsePasskey(ctx context.Context, account string, id []byte, count uint32, data []byte, now time.Time) (bool, error)
	SetCodes(ctx context.Context, account string, hashes [][]byte) error
	// UseCode is true once per code.
	UseCode(ctx context.Context, account string, hash []byte) (bool, error)

	PutPending(ctx context.Context, p Pending) error
	// TryPending finds one, and counts: after most tries there is none any more.
	TryPending(ctx context.Context, hash []byte, purpose Purpose, most int, now time.Time) (Pending, bool, error)
	// TakePending removes one; of several that take it one is told true.
	TakePending(ctx context.Context, hash []byte, purpose Purpose, now time.Time) (Pending, bool, error)
	// OpenInvitations lists those to an address.
	OpenInvitations(ctx context.Context, email string, now time.Time) ([]Pending, error)
	// DropPending removes all of a purpose for an account.
	DropPending(ctx context.Context, account string, purpose Purpose) error

	// OpenSession is false if the account is disabled.
	OpenSession(ctx context.Context, s Session, hash []byte, subject, external string) (bool, error)
	// SessionByToken finds a session that has not ended, and moves its idle limit to idle (at most to its absolute one).
	SessionByToken(ctx context.Context, hash []byte, now, idle time.Time) (Session, bool, error)
	Sessions(ctx context.Context, account string, now time.Time) ([]Session, error)
	// EndSession is true for whoever ended it.
	EndSession(ctx context.Context, account, id string) (bool, error)
	// EndSessions ends all of an account but one, which may be "", and lists them.
	EndSessions(ctx context.Context, account, but string) ([]string, error)
	// EndProvided ends those that an identity provider opened: of a subject, of one of its sessions (sid), or of both.
	EndProvided(ctx context.Context, issuer, subject, sid string) ([]Ended, error)

	// Attempt counts an attempt, if the limit allows one now.
	Attempt(ctx context.Context, key []byte, l Limit, now time.Time) (bool, error)
	// Forgive takes one attempt back; Forget takes all.
	Forgive(ctx context.Context, key []byte) error
	Forget(ctx context.Context, key []byte) error

	// Know remembers a device of an account; Known asks for one.
	Know(ctx context.Context, account string, device []byte, until time.Time) error
	Known(ctx context.Context, account string, device []byte, now time.Time) (bool, error)

	// Sweep removes what has expired, and lists the sessions among it.
	Sweep(ctx context.Context, now time.Time) ([]Ended, error)
}
