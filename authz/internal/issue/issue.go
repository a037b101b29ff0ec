// Package issue makes the two tokens of permission, Grant and Restriction.
// Only authz/** can import it, so nobody else can forge one.
package issue

import (
	"time"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// Fact is a set of circumstances that hold between a caller and a stored
// resource. The store computes them in SQL; a policy line may ask for them.
type Fact uint16

// The facts. A line of policy names them in lower case.
const (
	Self         Fact = 1 << iota // every patient of the resource is the caller
	Proxy                         // the caller is a RelatedPerson of every patient of the resource
	Treating                      // the caller is in a current CareTeam of every patient of the resource
	Program                       // the caller works for every Part 2 program that the resource comes from
	Originator                    // the caller wrote the resource
	Consent                       // the written consent that the law asks for covers caller, purpose, moment and resource
	Unrestricted                  // no restriction that the patient asked for and the practice agreed to covers the disclosure
	Supervising                   // every patient of the resource is treated by somebody whom the caller supervises
	Emergency                     // the caller has declared an emergency for every patient of the resource, and it is in force
	Exception                     // a documented exception of the law is in force for caller, purpose and resource
	Agreement                     // the caller's organization serves every program of the resource under a written agreement
	Managing                      // an organization of the caller manages the resource, which is a Group
)

// Facts lists all facts in bit order with the names that policies use.
var Facts = []struct {
	Bit  Fact
	Name string
}{{Self, "self"}, {Proxy, "proxy"}, {Treating, "treating"}, {Program, "program"}, {Originator, "originator"}, {Consent, "consent"},
	{Unrestricted, "unrestricted"}, {Supervising, "supervising"}, {Emergency, "emergency"}, {Exception, "exception"}, {Agreement, "agreement"}, {Managing, "managing"}}

// Has reports whether all facts of need hold.
func (f Fact) Has(need Fact) bool { return f&need == need }

// Caller is what a decision needs to know of a principal, frozen for one request.
type Caller struct {
	Tenant        int32  // the practice
	Subject       string // issuer and subject of the token, for audit
	Client        string // OAuth client, for audit
	Roles         []string
	Purpose       string   // v3-ActReason code
	User          fhir.Ref // fhirUser
	Organizations []string // ids of the Organizations whose workforce the caller is
	PolicyVersion string
	Now           time.Time // the moment of the decision
	SignedIn      time.Time // when the user last proved who she is; zero if unknown
	RequestID     string
}

// Scopes is what the token's SMART scopes leave open; it can only narrow.
type Scopes interface {
	// Allow lists what the scopes leave open of a type for an interaction: what is
	// in any of them is. nil leaves nothing open. The caller must not change it.
	Allow(t fhir.ResourceType, i fhir.Interaction) []Opening
}

// Opening is one scope, as far as it covers an interaction on a type. The zero
// Opening leaves everything open.
type Opening struct {
	PatientOnly bool              // what is of the launch patient alone
	Where       search.Constraint // what meets it; nil is all
}

type session struct {
	caller Caller
	scopes Scopes
	launch fhir.ID
	// profile is the release profile that the client is registered with: it gets what
	// is released under it and nothing else. "" for everybody else.
	profile string
	// releasing is the profile under which all that is read goes into a de-identified release.
	releasing string
}

// Grant says that a caller may try one interaction. The zero Grant is worth nothing.
type Grant struct {
	s           *session
	interaction fhir.Interaction
}

// NewGrant issues a Grant for one request.
func NewGrant(c Caller, s Scopes, launch fhir.ID, i fhir.Interaction) Grant {
	return Grant{&session{caller: c, scopes: s, launch: launch}, i}
}

// Confine is g for a client that is registered with a release profile.
func Confine(g Grant, profile string) Grant {
	s := *g.s
	s.profile = profile
	return Grant{&s, g.interaction}
}

// Release is a grant of the same caller under which a de-identified release is made.
func Release(g Grant, profile string) Grant {
	s := *g.s
	s.releasing = profile
	return Grant{&s, g.interaction}
}

// Profile is the release profile that the client is registered with, or "".
func (g Grant) Profile() string {
	if g.s == nil {
		return ""
	}
	return g.s.profile
}

// Releasing is the profile of the de-identified release that is made under g, or "".
// What is read under such a grant is for that release alone: no gate opens it.
func (g Grant) Releasing() string {
	if g.s == nil {
		return ""
	}
	return g.s.releasing
}

// Closed reports that under g nothing is planned, extended or decided: its client gets
// de-identified releases alone, and g is not for making one.
func Closed(g Grant) bool { return g.Profile() != "" && g.Releasing() == "" }

// Valid reports whether g was issued by the engine.
func (g Grant) Valid() bool { return g.s != nil }

// Same reports whether both were issued to one request.
func (g Grant) Same(h Grant) bool { return g.s != nil && g.s == h.s }

// Interaction is what the grant is for.
func (g Grant) Interaction() fhir.Interaction { return g.interaction }

// Caller gives a copy of the frozen caller.
func (g Grant) Caller() Caller {
	if g.s == nil {
		return Caller{}
	}
	c := g.s.caller
	c.Roles = append([]string(nil), c.Roles...)
	c.Organizations = append([]string(nil), c.Organizations...)
	return c
}

// Extend is the same request's grant for a further interaction. Only the
// engine calls it, after it has checked the interaction.
func Extend(g Grant, i fhir.Interaction) Grant { return Grant{g.s, i} }

// Extent is one way in which the scopes of a token cover a resource: all of it
// must hold. The zero Extent covers every resource.
type Extent struct {
	Launch fhir.ID           // it is of this patient alone, or of no patient where its type may be; "" is any
	Where  search.Constraint // its content meets this; nil is any
}

func (x Extent) whole() bool { return x.Launch == "" && x.Where == nil }

// everything is the extent of scopes that do not narrow.
var everything = []Extent{{}}

// Scoped asks the scopes of g's token: a resource is open that some extent
// covers, and nothing where there is none. A scope for the launch patient covers
// nothing without one. The caller must not change what it gets.
func Scoped(g Grant, t fhir.ResourceType, i fhir.Interaction) []Extent {
	if g.s == nil || g.s.scopes == nil {
		return nil
	}
	openings := g.s.scopes.Allow(t, i)
	if len(openings) == 0 {
		return nil
	}
	out := make([]Extent, 0, len(openings))
	for _, o := range openings {
		x := Extent{Where: o.Where}
		if o.PatientOnly {
			if g.s.launch == "" {
				continue
			}
			x.Launch = g.s.launch
		}
		if x.whole() {
			return everything
		}
		out = append(out, x)
	}
	return out
}

// ScopesOf are the scopes of g's token, nil without any.
func ScopesOf(g Grant) Scopes {
	if g.s == nil {
		return nil
	}
	return g.s.scopes
}

// Whole reports whether scopes of these extents do not narrow.
func Whole(extents []Extent) bool { return len(extents) == 1 && extents[0].whole() }

// Arm is one way to be permitted: the label classes, and the facts that must hold for them.
type Arm struct {
	Classes []int16
	Needs   Fact
}

// Restriction is what one caller may reach of one resource type with one
// interaction. The zero value matches nothing.
type Restriction struct {
	grant   Grant
	typ     fhir.ResourceType
	arms    []Arm
	notes   label.Set
	extents []Extent
	permit  func(label.Set) ([]Fact, error)
	known   int
}

// Planned notes how many label classes were known when r was planned.
func Planned(r Restriction, known int) Restriction {
	r.known = known
	return r
}

// Known is how many label classes were known when r was planned. The catalogue
// only grows: where it is larger now, r says nothing of what came since.
func (r Restriction) Known() int { return r.known }

// NewRestriction issues a Restriction. permit is the policy itself for label
// sets that are new to the catalogue. notes are the labels of [label.Notes]
// that some arm covers; where there are none, the notes schema is not read.
// extents are what the scopes of the token cover, see [Scoped]: they narrow every arm.
func NewRestriction(g Grant, t fhir.ResourceType, arms []Arm, notes label.Set, extents []Extent, permit func(label.Set) ([]Fact, error)) Restriction {
	return Restriction{grant: g, typ: t, arms: arms, notes: notes, extents: extents, permit: permit}
}

// Without is r without what has one of these labels, and without the classes that the catalogue does not know.
func Without(r Restriction, l label.Set, classes map[int16]label.Set) Restriction {
	arms := make([]Arm, 0, len(r.arms))
	for _, a := range r.arms {
		left := Arm{Needs: a.Needs}
		for _, id := range a.Classes {
			if labels, known := classes[id]; known && !labels.Any(l) {
				left.Classes = append(left.Classes, id)
			}
		}
		if len(left.Classes) > 0 {
			arms = append(arms, left)
		}
	}
	r.arms = arms
	r.notes &^= l
	if permit := r.permit; permit != nil {
		r.permit = func(labels label.Set) ([]Fact, error) {
			if labels.Any(l) {
				return nil, nil
			}
			return permit(labels)
		}
	}
	return r
}

// Empty reports whether r matches no stored resource at all.
func (r Restriction) Empty() bool { return !r.grant.Valid() || len(r.arms) == 0 || len(r.extents) == 0 }

// Grant is the grant under which r was planned.
func (r Restriction) Grant() Grant { return r.grant }

// Type is the resource type that r is about.
func (r Restriction) Type() fhir.ResourceType { return r.typ }

// Extents are what the scopes of the token cover; a row that none of them covers
// does not exist for the caller. The caller must not change them.
func (r Restriction) Extents() []Extent {
	if !r.grant.Valid() {
		return nil
	}
	return r.extents
}

// Narrowed reports whether the scopes of the token narrow what the policy permits.
func (r Restriction) Narrowed() bool { return !Whole(r.Extents()) }

// Arms are the alternatives; a row that fits none of them does not exist for the caller.
func (r Restriction) Arms() []Arm {
	if !r.grant.Valid() {
		return nil
	}
	out := make([]Arm, len(r.arms))
	for i, a := range r.arms {
		out[i] = Arm{append([]int16(nil), a.Classes...), a.Needs}
	}
	return out
}

// Admits asks the policy about one resource with these labels and facts, for
// the row that a write is about to leave behind.
func (r Restriction) Admits(labels label.Set, facts Fact) (bool, error) {
	if !r.grant.Valid() || r.permit == nil {
		return false, nil
	}
	sets, err := r.permit(labels)
	if err != nil {
		return false, err
	}
	for _, needs := range sets {
		if facts.Has(needs) {
			return true, nil
		}
	}
	return false, nil
}

// Notes tells which kinds of separately kept notes r can reach.
func (r Restriction) Notes() label.Set {
	if r.Empty() {
		return 0
	}
	return r.notes
}
