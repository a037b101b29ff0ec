// Package consent turns a FHIR Consent into the disclosures that it permits or
// forbids, as pure functions.
//
// [Compile] flattens the tree of provisions into grants and names what keeps a
// Consent from being one in law; [Evaluate] answers for one record and one caller, with
// reasons. The store computes the same answer in SQL from the same grants.
package consent

import (
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Directive is what a FHIR R4 Consent says, as fhir/codec reads it through its typed view.
type Directive struct {
	Ref           fhir.Ref
	Status        string // active, inactive ...
	Scope         []Code
	Category      []Code
	Patient       fhir.Ref
	DateTime      time.Time  // when it was signed; zero if absent
	Performers    []fhir.Ref // who agreed to it
	Organizations []fhir.Ref // custodian: who may disclose
	Source        bool       // sourceAttachment or sourceReference is there
	Verified      []fhir.Ref // verifiedWith of every verification that is verified
	PolicyRule    []Code
	Policies      []string // policy.uri
	Root          Provision
	Malformed     []string // FHIRPaths of what could not be understood
	Attested      Attested // what became of the signatures that this server made; no element says it
}

// Attested says whether the signatures that this server made of a Consent cover what it says now.
type Attested uint8

// Unattested is a Consent that nobody signed here: what it says of its signatures is what whoever
// stored it says. Covered is one of which nothing has changed since the last signature, but its
// narrative and meta. Lapsed is one that was changed, or ceased to wait or to be active, after somebody signed it.
const (
	Unattested Attested = iota
	Covered
	Lapsed
)

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
	Data           []Datum
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

// Datum is one provision.data.
type Datum struct {
	Meaning   string // instance, related, dependents or authoredby (consent-data-meaning)
	Reference fhir.Ref
}

// Effect says whether a Grant permits or forbids.
type Effect string

// The effects. A deny that covers a disclosure overrides every permit.
const (
	Permit Effect = "permit"
	Deny   Effect = "deny"
)

// Grant is one provision of a Consent in force, with its own criteria: a row
// against which the store evaluates the facts consent and unrestricted. A grant
// matches a question where its criteria and those of all its ancestors do.
type Grant struct {
	Kind      Kind
	Effect    Effect
	Node      int16   // number within the Consent; the root is 0
	Ancestors []int16 // from the root to the parent
	Path      string  // FHIRPath within the Consent
	// Sure says that all criteria, those of the ancestors too, were understood and
	// the Consent is one in law: only then does a permit permit.
	Sure bool
	// About are the kinds of which this deny forbids disclosures, or this permit permits them.
	About Kinds

	Patient    fhir.ID
	Programs   []fhir.ID // whose records; empty: any
	Recipients []string  // to whom, see [Caller.Recipients]; empty: anyone
	Purposes   []string  // v3-ActReason, expanded; empty: any
	Period     Period    // when the provision holds
	Types      []fhir.ResourceType
	Documents  []Code // types of documents; Types and Documents both empty: any
	Labels     Mask
	Codes      []Code // any of them in the record; empty: any
	DataPeriod Period // the record's clinical date
	Data       []Datum
}

// Mask compares the labels of a record, as bits: it matches where the record
// has a label of Any (or Any is 0). What has labels outside Within besides is only
// partly meant, which is not enough for a permit.
type Mask struct{ Any, Within uint32 }

// AllLabels is the Mask that every record matches.
var AllLabels = Mask{Within: 1<<31 - 1}

// Labels translates the codes of securityLabel; the house that knows what its
// labels mean implements it. ok is false where a code is not understood.
type Labels interface {
	// Covers gives what a provision with that effect and these codes reaches. A
	// permit reaches a code and what is below it; a deny, its whole group. A permit of a
	// confidentiality reaches it and less, a deny it and more.
	Covers(e Effect, codes []Code) (m Mask, ok bool)
}
