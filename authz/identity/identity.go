// Package identity says who people are and how they prove it: accounts, their memberships of
// practices, their passwords, one-time codes and passkeys, and the sessions that they open.
//
// Its rules are pure over a [Store]. What it refuses, it refuses in the same words whether or
// not there is an account: who has one with a practice of behavioral health is itself a secret.
package identity

import (
	"net/netip"
	"slices"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Account is one person who can sign in. She may belong to several practices.
type Account struct {
	ID          string // UUID: the claim sub of her tokens
	Name        string
	Email       string // in lower case
	Disabled    bool
	Memberships []Membership
}

// Membership is what an account is in one practice; the claims of tokens are taken from it.
type Membership struct {
	Tenant        int32
	Practice      string // slug
	User          fhir.Ref
	Roles         []string
	Organizations []fhir.ID
}

// The roles that need no second factor: those of people whose records are kept, not of people who keep them.
const (
	rolePatient = "patient"
	roleProxy   = "proxy"
)

// Staff says that m is anything but that of a patient or of somebody who acts for one: a second
// factor is mandatory then. A membership that does not say what it is counts as staff.
func (m Membership) Staff() bool {
	return m.User.Type != "Patient" && m.User.Type != "RelatedPerson" || len(m.Roles) == 0 ||
		slices.ContainsFunc(m.Roles, func(r string) bool { return r != rolePatient && r != roleProxy })
}

// Staff says that some membership of a is; so does an account without any.
func (a Account) Staff() bool {
	return len(a.Memberships) == 0 || slices.ContainsFunc(a.Memberships, Membership.Staff)
}

// Session is one sign-in that lasts.
type Session struct {
	ID       string // UUID; names it in lists and grants, and opens nothing
	Account  string
	SignedIn time.Time
	Methods  []string // as in the claim amr (RFC 8176)
	Provider string   // issuer of the external identity, or ""
	// Practices are those that the provider speaks for, by slug; nil without a provider. The
	// memberships of others are closed to this session.
	Practices []string
	Idle      time.Time // when it ends unless it is used
	Absolute  time.Time // when it ends
	Client    string    // the browser, as a list of sessions names it
}

// Factor is what a second step can be done with.
type Factor string

// The factors.
const (
	TOTP     Factor = "totp"          // one-time codes by time (RFC 6238)
	Passkey  Factor = "passkey"       // WebAuthn
	Recovery Factor = "recovery-code" // one of a list that was printed
)

// Challenge is what is still lacking after a first step.
type Challenge struct {
	ID    string   // secret of the browser that did the first step; it lasts [ChallengeLife]
	Needs []Factor // any one of these
	Enrol bool     // there is none yet: one of Needs must be enrolled now
}

// ChallengeLife is how long a second step may take.
const ChallengeLife = 5 * time.Minute

// Step is the result of a step: exactly one of a session, with its token, and a challenge.
type Step struct {
	Token     string // of the session: the value of its cookie
	Session   Session
	Challenge *Challenge
	// Device is a token for a cookie of its own, which outlives the session: with it the
	// browser is not slowed down by what strangers try with this account. "" leaves the cookie as it is.
	Device string
}

// From says where a request comes from.
type From struct {
	Address netip.Addr
	Agent   string // User-Agent
	Device  string // the cookie of [Step].Device, or ""
}

// External is who somebody is according to an identity provider, from a token that was verified.
type External struct {
	Issuer, Subject string
	Email           string
	EmailVerified   bool
	Name            string
	ACR             string
	AMR             []string
	SignedIn        time.Time // auth_time; zero if the provider does not say
	SessionID       string    // sid, for back-channel logout
	Roles           []string  // mapped to ours; nil where the provider maps none
	Practices       []string  // that the provider speaks for, by slug
}

// Invitation asks somebody to become a member. An account that she has already stays as it is.
type Invitation struct {
	Email      string
	Name       string
	Membership Membership
}

// Ended says which sessions ended: one, or all of an account where Session is "".
type Ended struct {
	Account, Session string
}

// Enrolled is a factor that an account has.
type Enrolled struct {
	Factor  Factor
	ID      string // of a passkey, in base64url
	Name    string // of a passkey, as its owner calls it
	Created time.Time
	Used    time.Time // zero: never
}
