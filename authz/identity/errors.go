package identity

import "github.com/cloister-health/cloister/fhir/outcome"

// The refusals. None of them tells whether there is an account.
var (
	// ErrWrong is the same for an unknown account, a wrong password and a disabled account.
	ErrWrong = outcome.New(outcome.Login, "these do not match: check them and try again")
	// ErrLocked asks for patience, for an account that exists and for one that does not.
	ErrLocked = outcome.New(outcome.Throttled, "too many attempts: wait a few minutes, sign in with a passkey, or ask for a link by e-mail")
	// ErrSession says that there is no session, or none any more.
	ErrSession = outcome.New(outcome.Login, "sign in first")
	// ErrChallenge says that the first step is too long ago, or that too many second steps failed.
	ErrChallenge = outcome.New(outcome.Login, "this sign-in has expired: start again")
	// ErrStale asks for a new sign-in before factors change.
	ErrStale = outcome.New(outcome.SignIn, "sign in again before you change how you sign in")
	// ErrLink says that a link was used, has expired, or never was.
	ErrLink = outcome.New(outcome.Login, "this link was used already or has expired: ask for a new one")
	// ErrFactor refuses a staff sign-in by a provider that did not see a second factor.
	ErrFactor = outcome.New(outcome.Forbidden, "your identity provider did not ask for a second factor, which this server requires: sign in there with one")
	// ErrUnlinked says that an external identity belongs to no account.
	ErrUnlinked = outcome.New(outcome.Forbidden, "nobody here is known by this identity: ask the practice for an invitation")
	// ErrLast refuses to remove the only factor of somebody who needs one.
	ErrLast = outcome.New(outcome.BusinessRule, "this is the only second factor, and one is required: add another first")
	// ErrPasskey says that a passkey did not prove what it had to.
	ErrPasskey = outcome.New(outcome.Login, "this passkey could not be verified: try again")
	// ErrNoPasskeys says that there can be none here.
	ErrNoPasskeys = outcome.New(outcome.NotSupported, "this server has no domain of its own, so that there can be no passkeys: use a code")
)
