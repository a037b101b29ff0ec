// Package record is where resources are kept and where they cross.
//
// A resource leaves the store as Sealed and leaves the house as Released; Gate
// is the only way across, and this subtree is the only code that can open a Sealed.
package record

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

type (
	// Sealed is a stored resource that nobody has been allowed to see yet.
	Sealed = vault.Sealed
	// Cleared is a change that the gate let in.
	Cleared = vault.Cleared
)

// Decider is the decision point, as the gate uses it.
type Decider interface {
	Extend(authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Grant, error)
	Plan(context.Context, authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Restriction, error)
	Decide(context.Context, authz.Grant, fhir.Interaction, authz.Resource) (authz.Decision, error)
}

// Recorder makes audit events durable: when Record returns nil, the event survives a crash.
type Recorder interface {
	Record(context.Context, audit.Event) error
}

// Gate is the enforcement point.
type Gate struct {
	decider  Decider
	recorder Recorder
	now      func() time.Time
}

// NewGate wires the gate. now is the one clock of the server.
func NewGate(d Decider, r Recorder, now func() time.Time) *Gate { return &Gate{d, r, now} }

// Released is a resource that the gate let out to the holder of one grant.
type Released struct {
	h      vault.Header
	holder authz.Grant
	body   func() []byte
}

// Ref names the resource.
func (r Released) Ref() fhir.Ref { return r.h.Ref }

// Version is meta.versionId.
func (r Released) Version() fhir.VersionID { return r.h.Version }

// Updated is meta.lastUpdated.
func (r Released) Updated() time.Time { return r.h.Updated }

// Deleted reports a tombstone, which has no body.
func (r Released) Deleted() bool { return r.h.Deleted }

// Created reports version 1.
func (r Released) Created() bool { return r.h.Created }

// HeldBy reports whether r was released to the request of g.
func (r Released) HeldBy(g authz.Grant) bool { return r.holder.Same(g) }

// WriteTo writes the JSON of the resource.
func (r Released) WriteTo(w io.Writer) (int64, error) {
	if r.body == nil {
		return 0, authz.ErrDenied
	}
	n, err := w.Write(r.body())
	return int64(n), err
}

// Release decides on each resource, makes the audit record of the disclosure
// durable, and opens. A resource that was not read under g, or that the
// decision point does not permit, fails the whole call: nothing is released.
func (g *Gate) Release(ctx context.Context, gr authz.Grant, t fhir.ResourceType, in ...Sealed) ([]Released, error) {
	if !gr.Valid() {
		return nil, authz.ErrDenied
	}
	ev := g.event(gr, t, audit.Success)
	for _, s := range in {
		h := vault.Head(s)
		if !vault.ReadFor(s, gr) {
			return nil, authz.ErrDenied.Because(fmt.Errorf("record: %s was read for another request", h.Ref.Type))
		}
		d, err := g.decider.Decide(ctx, gr, gr.Interaction(), authz.Resource{Type: h.Ref.Type, Labels: h.Labels, Facts: h.Facts, Patient: h.Patient})
		if err != nil {
			return nil, err
		}
		if !d.Permit {
			return nil, outcome.New(outcome.Internal, "the server failed; its log says why").Because(
				fmt.Errorf("record: the query let a %s through that the policy does not permit (labels %s, facts %b)", h.Ref.Type, h.Labels, h.Facts))
		}
		ev.Entities = append(ev.Entities, audit.Entity{Ref: h.Ref, Version: h.Version, Labels: h.Labels, Patient: h.Patient})
	}
	if err := g.recorder.Record(ctx, ev); err != nil {
		return nil, outcome.New(outcome.Unavailable, "the access could not be recorded, so nothing was disclosed: try again").Because(err)
	}
	out := make([]Released, len(in))
	for i, s := range in {
		body := vault.Open(s)
		out[i] = Released{vault.Head(s), gr, func() []byte { return body }}
	}
	return out, nil
}

// Refuse records that a request came to nothing (not found, or denied). It
// holds no reference: hidden and absent look the same in it.
func (g *Gate) Refuse(ctx context.Context, gr authz.Grant, t fhir.ResourceType) error {
	if !gr.Valid() {
		return authz.ErrDenied
	}
	return g.recorder.Record(ctx, g.event(gr, t, audit.Refused))
}

func (g *Gate) event(gr authz.Grant, t fhir.ResourceType, o audit.Outcome) audit.Event {
	return audit.Event{ID: NewID(), At: g.now().UTC(), Caller: gr.Caller(), Interaction: gr.Interaction(), Type: t, Outcome: o}
}

// Change is one write that a client asks for.
type Change struct {
	Interaction fhir.Interaction // create, update or delete
	Ref         fhir.Ref         // a create without an id gets one
	Content     *codec.Resource  // nil for delete
	IfMatch     fhir.VersionID   // 0: no precondition
	Upsert      bool             // an update may create
	// Import keeps ids, lets references point at nothing yet, and takes a note's
	// author for its originator; only the command line sets it.
	Import bool
}

// Admit checks that the caller may try the change, classifies its content and
// plans the restrictions that the store applies to the old row, the new row and
// every reference, in the transaction that writes.
func (g *Gate) Admit(ctx context.Context, gr authz.Grant, c Change) (Cleared, error) {
	return g.admit(ctx, gr, c)
}

// NewID makes a random (version 4) UUID: ids carry no order and no count.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Receipt says what a committed change did.
type Receipt struct {
	Ref     fhir.Ref
	Version fhir.VersionID
	Updated time.Time
	Created bool // a new resource came to be
}

// Page is one page of a search or a history.
type Page struct {
	Entries []Sealed
	// Included are the resources that the query's includes add, each once, by type and id.
	Included []Sealed
	// Cut reports that there are more of them than a page holds.
	Cut   bool
	More  bool // there are further visible entries
	Less  bool // there are visible entries before these
	Total int  // the visible matches, when the query asked for it; else -1
	// First and Last are the places of the first and the last entry, if there is one.
	First, Last search.Cursor
}

// ChangeError says which of several changes failed.
type ChangeError struct {
	Index int // position in the changes that were given to Commit
	Err   error
}

func (e *ChangeError) Error() string { return e.Err.Error() }

func (e *ChangeError) Unwrap() error { return e.Err }
