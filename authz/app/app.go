// Package app says what a registered app (an OAuth 2.0 client, RFC 6749 section 2) is, and which
// registrations are sound.
package app

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Auth is how an app proves who it is at the token endpoint (OpenID Connect Core 9; SMART App Launch 2.2, Client Authentication).
type Auth string

// The methods. An app has exactly one: what it did not register is refused.
const (
	None          Auth = "none" // a public app
	SecretBasic   Auth = "client_secret_basic"
	SecretPost    Auth = "client_secret_post"
	PrivateKeyJWT Auth = "private_key_jwt"
)

// The grant types that an app may register.
const (
	Code              = "authorization_code"
	Refresh           = "refresh_token"
	ClientCredentials = "client_credentials"
)

// Self is the client_id of tokens that the pages of this server use themselves. No app can register it.
const Self = "cloister"

// App is a registered app with what it may ask for.
type App struct {
	ID        string // client_id
	Name      string // as people are shown it
	Publisher string // who is responsible for it
	Homepage  string // https, or ""
	LaunchURI string // initiate_login_uri: where an EHR launches it, or ""

	Auth    Auth
	Secret  []byte // SHA-256 of the secret; nil for apps without one
	JWKS    []byte // public keys as a JSON Web Key Set, or nil
	JWKSURI string // https, or ""; never beside JWKS

	Redirects       []string // compared byte by byte (OAuth 2.1, 2.3.1)
	LogoutRedirects []string
	Origins         []string // of the pages that may read answers of the token endpoint (CORS)
	// Loopback lets a redirect to 127.0.0.1 or [::1] name any port (RFC 8252, 7.3): a native app cannot know its port.
	Loopback bool

	Grants []string
	Scopes []string // what it may ask for at most
	// Purposes of use (v3-ActReason) in the order of preference; a caller cannot choose one that is not here.
	Purposes []string
	// Roles and Organizations are those of a backend service; people bring their own.
	Roles         []string
	Organizations []fhir.ID
	// Profile is the release profile of a backend service that gets de-identified releases under
	// it and nothing else, or "".
	Profile string
	// Introspects marks a resource server: it may introspect tokens of other apps (RFC 7662, 2.1).
	Introspects bool
	// Host marks an EHR, or a portal, that people use with accounts of this server: it may launch other apps for its users.
	Host bool

	Registered time.Time
	Dynamic    bool // it registered itself (RFC 7591)
	Approvals  []Approval
	Everywhere bool      // no practice has to approve it: an app for patients alone, under an open registration
	Withdrawn  time.Time // zero while it may be used
}

// Approval is the word of one practice that the app may be used there.
type Approval struct {
	Tenant   int32
	Practice string
	By       string // subject of who approved
	At       time.Time
}

// Active reports whether somebody approved the app and nobody withdrew it.
func (a App) Active() bool { return a.Withdrawn.IsZero() && (a.Everywhere || len(a.Approvals) > 0) }

// ApprovedBy gives the approval of the practice with that slug.
func (a App) ApprovedBy(practice string) (Approval, bool) {
	if !a.Withdrawn.IsZero() || practice == "" {
		return Approval{}, false
	}
	for _, p := range a.Approvals {
		if p.Practice == practice {
			return p, true
		}
	}
	return Approval{Practice: practice}, a.Everywhere
}

// Public reports an app that cannot keep a secret.
func (a App) Public() bool { return a.Auth == None }

// Backend reports an app that acts for itself, without a user.
func (a App) Backend() bool { return slices.Contains(a.Grants, ClientCredentials) }

// May reports whether the app registered that grant type.
func (a App) May(grant string) bool { return slices.Contains(a.Grants, grant) }

// HashSecret is how a secret is kept. Secrets are 256 random bits made by this server, so that a plain hash keeps them.
func HashSecret(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// SecretIs compares a secret in constant time; an app without one has no good secret.
func (a App) SecretIs(secret string) bool {
	return len(a.Secret) == sha256.Size && subtle.ConstantTimeCompare(a.Secret, HashSecret(secret)) == 1
}
