package smart

import (
	"encoding/json"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Keep says for how long a grant can be refreshed.
type Keep string

// The lives of a grant.
const (
	Once    Keep = ""        // it ends with its access token
	Online  Keep = "online"  // online_access: until the user's session ends
	Offline Keep = "offline" // offline_access: until it is revoked, or has not been used for too long
)

// Grant is what one user, or one backend service, let one app do in one practice. Every token names its
// grant, and ends with it.
type Grant struct {
	ID       string // UUID: the claim sid of its tokens
	App      string
	Account  string // UUID
	Session  string // the sign-in in which it was made
	Tenant   int32
	Practice string
	User     fhir.Ref
	Scopes   []string
	Purpose  string
	Profile  string `json:",omitempty"` // the release profile of the app
	Keep     Keep

	// Launch context (SMART App Launch 2.2, Launch context arrives with your access_token).
	Patient   fhir.ID
	Encounter fhir.ID
	Context   json.RawMessage `json:",omitempty"` // fhirContext, or nil
	Banner    *bool           // need_patient_banner
	StyleURL  string          // smart_style_url
	Intent    string

	Nonce    string
	SignedIn time.Time
	Methods  []string // amr

	Created time.Time
	Until   time.Time // beyond which nothing refreshes it
	Ended   time.Time // zero while it lives
}

// GrantSummary is a grant as its user's list shows it.
type GrantSummary struct {
	ID       string
	App      string // client_id
	Name     string // of the app
	Practice string
	Scopes   []string
	Patient  fhir.ID
	Keep     Keep
	Created  time.Time
	LastUsed time.Time
	Until    time.Time
}

// Code is what an authorization code stands for.
type Code struct {
	Hash      [32]byte
	Grant     string
	App       string
	Redirect  string // redirect_uri of the request, to be repeated
	Challenge string // code_challenge, S256
	Until     time.Time
}

// RefreshToken is one link of a family; its hash alone is stored.
type RefreshToken struct {
	Hash  [32]byte
	Until time.Time
}
