package smart

import (
	"time"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir"
)

// Interaction is an authorization request that waits for its user: she has to sign in, choose, and agree.
type Interaction struct {
	ID        string // opaque, single use
	App       app.App
	Scopes    []string // asked for, and registered by the app: she may leave some out
	Practice  string   // slug, fixed by an EHR launch, or ""
	Patient   fhir.ID  // fixed by an EHR launch, or ""
	Encounter fhir.ID
	// NeedPatient asks for a choice of patient: the scopes are about one, and no launch named her.
	NeedPatient bool
	Prompt      []string // OpenID Connect Core 3.1.2.1: none, login, consent, select_account
	MaxAge      *time.Duration
	LoginHint   string
	StyleURL    string // smart_style_url of the launch, or ""
	Created     time.Time
	Expires     time.Time
}

// Approval is the answer of a user who agreed.
type Approval struct {
	Account    identity.Account
	Session    identity.Session
	Membership identity.Membership // one of the account's
	Patient    fhir.ID             // "" where none is needed
	Scopes     []string            // of the interaction's
}
