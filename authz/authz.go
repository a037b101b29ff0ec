// Package authz decides. It sees who asks, why, and the labels of what is
// asked for; it never sees a resource.
package authz

import (
	"context"
	"slices"
	"sort"
	"time"

	"github.com/cloister-health/cloister/authz/internal/issue"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/compartment"
	"github.com/cloister-health/cloister/fhir/outcome"
)

type (
	// Grant says that a caller may try one interaction; only the Engine issues one.
	Grant = issue.Grant
	// Restriction is what a query may see; only the Engine issues one, and the zero value matches nothing.
	Restriction = issue.Restriction
	// Arm is one alternative of a Restriction.
	Arm = issue.Arm
	// Caller is the principal as frozen into a Grant.
	Caller = issue.Caller
	// Fact is a circumstance between caller and resource.
	Fact = issue.Fact
	// Scopes is what the token's SMART scopes leave open; it can only narrow.
	Scopes = issue.Scopes
	// Opening is one scope, as far as it covers an interaction on a type.
	Opening = issue.Opening
	// Extent is one way in which the scopes of a token cover a resource.
	Extent = issue.Extent
)

// The facts, see package issue.
const (
	Self       = issue.Self
	Proxy      = issue.Proxy
	Treating   = issue.Treating
	Program    = issue.Program
	Originator = issue.Originator
	Consent    = issue.Consent

	Unrestricted = issue.Unrestricted
	Supervising  = issue.Supervising
	Emergency    = issue.Emergency
	Exception    = issue.Exception
	Agreement    = issue.Agreement
	Managing     = issue.Managing
)

// Facts lists all facts in bit order with the names that policies use.
func Facts() []struct {
	Bit  Fact
	Name string
} {
	return append(issue.Facts[:0:0], issue.Facts...)
}

// FactNamed gives the fact that policies call name.
func FactNamed(name string) (f Fact, ok bool) {
	for _, x := range issue.Facts {
		if x.Name == name {
			return x.Bit, true
		}
	}
	return 0, false
}

// Principal is an authenticated caller, as read from a verified token.
type Principal struct {
	Tenant        int32
	Subject       string // issuer|subject
	Client        string
	Roles         []string
	Purpose       string // v3-ActReason code; empty is denied
	User          fhir.Ref
	Organizations []fhir.ID
	Patient       fhir.ID // launch context
	Scopes        Scopes  // nil denies everything
	// Profile is the release profile that the client is registered with: it gets
	// de-identified releases under it, see [Engine.Releasing], and nothing else.
	Profile string
	// Certificate is the thumbprint of the client certificate to which the token is bound (RFC 8705), or "".
	Certificate string
	Expiry      time.Time
	SignedIn    time.Time // when the user last proved who she is (OpenID Connect, auth_time); zero if unknown
	RequestID   string
}

// Action is what is done to a resource, in the words of policy lines.
type Action string

// The actions. Every read path, history and search included, is the one action read.
const (
	ActionRead   Action = "read"
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionDelete Action = "delete"

	// What is done to a Consent, and to the records of it that are made along the way.
	ActionPrepare Action = "prepare" // fill in a form that is to be signed
	ActionSign    Action = "sign"
	ActionRevoke  Action = "revoke"
	ActionWitness Action = "witness" // sign as one who saw others sign

	// ActionMask is to be told that something is left out of a resource that one
	// sees: the question is about the labels of the resource with what is left out.
	ActionMask Action = "mask"
)

// ActionOf maps an interaction to its action; ok is false for interactions
// that touch no resource themselves (batch, transaction, capabilities, operation).
func ActionOf(i fhir.Interaction) (a Action, ok bool) {
	switch i {
	case fhir.Read, fhir.VRead, fhir.HistoryInstance, fhir.HistoryType, fhir.HistorySystem, fhir.SearchType, fhir.SearchSystem:
		return ActionRead, true
	case fhir.Create:
		return ActionCreate, true
	case fhir.Update, fhir.Patch:
		return ActionUpdate, true
	case fhir.Delete:
		return ActionDelete, true
	case fhir.PrepareConsent:
		return ActionPrepare, true
	case fhir.SignConsent:
		return ActionSign, true
	case fhir.RevokeConsent:
		return ActionRevoke, true
	case fhir.Mask:
		return ActionMask, true
	case fhir.WitnessConsent:
		return ActionWitness, true
	}
	return "", false
}

// OnSystem reports an interaction with the resources of any type. What a caller
// may not reach of a type is empty for her, so it is never refused for a type.
func OnSystem(i fhir.Interaction) bool { return i == fhir.SearchSystem || i == fhir.HistorySystem }

// Question is one cell of the policy: a class of callers asks to act on a class of resources.
type Question struct {
	Roles   []string
	Purpose string
	Action  Action
	Type    fhir.ResourceType
	Labels  label.Set
}

// PolicyDecisionPoint answers questions; package pdp implements it with Casbin.
type PolicyDecisionPoint interface {
	// Version names the policy; it changes whenever an answer can change.
	Version() string
	// Permit lists the minimal sets of facts under which the answer is permit:
	// nil means deny, one zero Fact means permit without condition. An error means deny.
	// The caller owns the slice.
	Permit(q Question) ([]Fact, error)
	// Asked lists the sets of labels that some lines ask for: who is denied the
	// unlabelled and each of these is denied everything of a type.
	Asked() []label.Set
}

// Classes is the catalogue of label classes that the store has met.
type Classes interface {
	LabelClasses() map[int16]label.Set
}

// Engine is the decision point of the house.
type Engine struct {
	policies Policies
	classes  Classes
	now      func() time.Time
	plans    plans
}

// NewEngine wires the engine to one policy for all practices. now is the one clock of the server.
func NewEngine(p PolicyDecisionPoint, c Classes, now func() time.Time) *Engine {
	return NewEngineOf(everywhere{Practice{Policy: p}}, c, now)
}

// NewEngineOf wires the engine to a policy for each practice.
func NewEngineOf(p Policies, c Classes, now func() time.Time) *Engine {
	return &Engine{policies: p, classes: c, now: now}
}

// ErrDenied is every refusal that concerns the caller rather than one
// resource; it says nothing of why. A resource that the caller may not see is
// not denied: it is not found.
var ErrDenied = outcome.New(outcome.Forbidden, "this request is not permitted")

// Authorize issues a Grant for one interaction on one type, or refuses. Type
// "" asks for an interaction on no type (batch, transaction), whose entries
// are authorized one by one with [Engine.Extend].
//
// Purpose and practice come from the token alone; without them nothing is permitted.
func (e *Engine) Authorize(_ context.Context, p Principal, i fhir.Interaction, t fhir.ResourceType) (Grant, error) {
	if p.Tenant <= 0 || p.Subject == "" || p.Purpose == "" || len(p.Roles) == 0 || p.Scopes == nil {
		return Grant{}, ErrDenied
	}
	now := e.now()
	if !p.Expiry.IsZero() && !now.Before(p.Expiry) {
		return Grant{}, outcome.New(outcome.Login, "the access token has expired: ask for a new one")
	}
	c := Caller{
		Tenant: p.Tenant, Subject: p.Subject, Client: p.Client,
		Roles: append([]string(nil), p.Roles...), Purpose: p.Purpose, User: p.User,
		PolicyVersion: e.policies.Of(p.Tenant).Policy.Version(), Now: now.UTC(), SignedIn: p.SignedIn, RequestID: p.RequestID,
	}
	sort.Strings(c.Roles)
	for _, o := range p.Organizations {
		c.Organizations = append(c.Organizations, string(o))
	}
	g := issue.NewGrant(c, p.Scopes, p.Patient, i)
	if p.Profile != "" {
		g = issue.Confine(g, p.Profile)
	}
	if _, onType := ActionOf(i); t == "" && (!onType || OnSystem(i)) {
		return g, nil
	}
	return e.Extend(g, i, t)
}

// Extend derives from g the grant of the same request for a further
// interaction. It refuses what no record of the type could be open to, which
// depends on the caller's roles, purpose and scopes alone, never on what is
// stored. A line of policy that covers some labels covers the fewest that it
// asks for; most ask for none.
func (e *Engine) Extend(g Grant, i fhir.Interaction, t fhir.ResourceType) (Grant, error) {
	action, ok := ActionOf(i)
	if !g.Valid() || !ok || !t.Valid() || issue.Closed(g) {
		return Grant{}, ErrDenied
	}
	if t == trail {
		return e.Trail(g, i)
	}
	if len(issue.Scoped(g, t, i)) == 0 {
		return Grant{}, ErrDenied
	}
	c := g.Caller()
	practice := e.policies.Of(c.Tenant)
	for _, labels := range append([]label.Set{0}, practice.Policy.Asked()...) {
		sets, err := practice.permit(Question{c.Roles, c.Purpose, action, t, labels})
		if err != nil {
			return Grant{}, ErrDenied.Because(err)
		}
		if len(sets) > 0 {
			return issue.Extend(g, i), nil
		}
	}
	return Grant{}, ErrDenied
}

// Plan compiles what g's caller may reach of type t with interaction i into a
// Restriction. A Restriction that matches nothing is no error: the type is
// then simply empty for this caller.
func (e *Engine) Plan(_ context.Context, g Grant, i fhir.Interaction, t fhir.ResourceType) (Restriction, error) {
	if !g.Valid() {
		return Restriction{}, ErrDenied
	}
	return e.plan(issue.Extend(g, i), i, t)
}

func (e *Engine) plan(g Grant, i fhir.Interaction, t fhir.ResourceType) (Restriction, error) {
	action, ok := ActionOf(i)
	if !ok || !t.Valid() || issue.Closed(g) {
		return Restriction{}, ErrDenied
	}
	extents := issue.Scoped(g, t, i)
	classes := e.classes.LabelClasses()
	if len(extents) == 0 {
		return issue.Planned(issue.NewRestriction(g, t, nil, 0, nil, nil), len(classes)), nil
	}
	c := g.Caller()
	practice := e.policies.Of(c.Tenant)
	if c.PolicyVersion != practice.Policy.Version() {
		return Restriction{}, outcome.New(outcome.Unavailable, "the policy changed during this request: repeat it")
	}
	permit := func(labels label.Set) ([]Fact, error) {
		return practice.permit(Question{c.Roles, c.Purpose, action, t, labels})
	}
	cell := planned{joined(c.Roles), c.Purpose, action, t, c.PolicyVersion}
	p, ok := e.plans.get(classes, cell)
	if !ok {
		var err error
		if p, err = compile(classes, permit); err != nil {
			return Restriction{}, ErrDenied.Because(err)
		}
		if practice.Policy.Version() == c.PolicyVersion { // else parts of it may be the next policy's
			e.plans.put(classes, cell, p)
		}
	}
	return issue.Planned(issue.NewRestriction(g, t, p.arms, p.notes, extents, permit), len(classes)), nil
}

// Decision is the answer for one stored resource.
type Decision struct {
	Permit        bool
	PolicyVersion string
}

// Resource is what a decision may know of one stored resource.
type Resource struct {
	Type    fhir.ResourceType
	Labels  label.Set
	Facts   Fact
	Patient fhir.ID // the one patient in whose compartment it is, or ""
	// Tokens are what its content says as search tokens, sorted as in
	// [search.Index]. They count only where the scopes constrain, see [Constrained].
	Tokens []int64
	// Deleted says that it is a tombstone: it has no content to hold against a constraint.
	Deleted bool
}

// Constrained reports whether a decision about a resource of type t takes its
// [Resource.Tokens], because a scope of g's token covers some of the type by what it says.
func Constrained(g Grant, i fhir.Interaction, t fhir.ResourceType) bool {
	return slices.ContainsFunc(issue.Scoped(g, t, i), func(x Extent) bool { return x.Where != nil })
}

// within reports whether x covers r.
func (r Resource) within(x Extent) bool {
	if x.Launch != "" && r.Patient != x.Launch && (r.Patient != "" || compartment.InPatientCompartment(r.Type)) {
		return false
	}
	return r.Deleted || x.Where.Holds(r.Tokens)
}

// Decide answers for one resource. It asks the same policy, law and scopes as
// [Engine.Plan]; the gate calls it for every resource that the SQL let
// through, so that a fault in either one alone does not leak.
func (e *Engine) Decide(_ context.Context, g Grant, i fhir.Interaction, r Resource) (Decision, error) {
	action, ok := ActionOf(i)
	if !g.Valid() || !ok || issue.Closed(g) {
		return Decision{}, ErrDenied
	}
	c := g.Caller()
	practice := e.policies.Of(c.Tenant)
	d := Decision{PolicyVersion: practice.Policy.Version()}
	if !slices.ContainsFunc(issue.Scoped(g, r.Type, i), r.within) {
		return d, nil
	}
	if c.PolicyVersion != d.PolicyVersion {
		return d, outcome.New(outcome.Unavailable, "the policy changed during this request: repeat it")
	}
	sets, err := practice.permit(Question{c.Roles, c.Purpose, action, r.Type, r.Labels})
	if err != nil {
		return d, ErrDenied.Because(err)
	}
	for _, needs := range sets {
		if r.Facts.Has(needs) {
			d.Permit = true
			return d, nil
		}
	}
	return d, nil
}
