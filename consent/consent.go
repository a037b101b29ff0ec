// Package consent turns a FHIR Consent into the disclosures that it permits or
// forbids, as pure functions.
package consent

import (
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Directive is what a FHIR R4 Consent says, as fhir/codec reads it through its typed view.
type Directive struct {
	Status        string // active, inactive ...
	Scope         []Code
	Category      []Code
	Patient       fhir.Ref
	DateTime      time.Time  // when it was signed; zero if absent
	Performers    []fhir.Ref // who agreed to it
	Organizations []fhir.Ref // custodian: who may disclose
	Source        bool       // sourceAttachment or sourceReference is there
	Verified      bool       // some verification.verified is true
	PolicyRule    []Code
	Root          Provision
	Malformed     []string // FHIRPaths of what could not be understood; a malformed Consent grants nothing
}

// Code is one coding.
type Code struct{ System, Code string }

// Provision is Consent.provision or one nested in it.
type Provision struct {
	Type           string // permit, deny or ""
	Period         Period
	Actors         []Actor
	Actions        []Code
	SecurityLabels []Code
	Purposes       []Code
	Classes        []Code
	Codes          []Code
	DataPeriod     Period
	Data           int // number of data elements
	Nested         []Provision
}

// Period is [Start, End): FHIR's inclusive end, widened by its precision. Zero bounds are open.
type Period struct{ Start, End time.Time }

// Actor is one provision.actor.
type Actor struct {
	Role       []Code
	Reference  fhir.Ref // literal reference, or zero
	Identifier Code     // logical reference: system and value, or zero
}

// Effect says whether a Grant permits or forbids.
type Effect string

// The effects. A deny that covers a disclosure overrides every permit.
const (
	Permit Effect = "permit"
	Deny   Effect = "deny"
)

// Grant is one disclosure that a Consent permits or forbids: the row against
// which the Restriction's consent fact is evaluated.
type Grant struct {
	Kind      string // part2-tpo, part2-specific
	Effect    Effect
	Patient   fhir.ID
	Program   fhir.ID // the Organization whose records may be disclosed
	Recipient string  // "Organization/x", "Practitioner/x" or "class:treating-providers" (see [Recipients])
	Purposes  []string
	Start     time.Time // valid from, inclusive
	End       time.Time // valid until, exclusive; zero: until revoked
}
