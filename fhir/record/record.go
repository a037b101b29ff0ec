// Package record is where resources are kept and where they cross.
//
// A resource leaves the store as Sealed and leaves the house as Released; Gate
// is the only way across, and this subtree is the only code that can open a Sealed.
package record

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
	"github.com/cloister-health/cloister/fhir/signature"
)

type (
	// Sealed is a stored resource that nobody has been allowed to see yet.
	Sealed = vault.Sealed
	// Cleared is a change that the gate let in.
	Cleared = vault.Cleared
	// Stream is released content that is too long to be held in memory.
	Stream = vault.Stream
)

// Decider is the decision point, as the gate uses it.
type Decider interface {
	Extend(authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Grant, error)
	Plan(context.Context, authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Restriction, error)
	Decide(context.Context, authz.Grant, fhir.Interaction, authz.Resource) (authz.Decision, error)
	// Trail is the permission to read the audit trail.
	Trail(authz.Grant, fhir.Interaction) (authz.Grant, error)
}

// Recorder makes audit events durable: when Record returns nil, the event survives a crash.
type Recorder interface {
	Record(context.Context, audit.Event) error
}

// Gate is the enforcement point.
type Gate struct {
	decider     Decider
	recorder    Recorder
	now         func() time.Time
	conformance Conformance
	consents    Consents
	ledger      Ledger
	labelled    Labelled
	masks       Masks
	labels      *label.Classifier
	keys        *signature.Keys // nil: nothing can be signed
}

// Conformance checks content that is about to be stored against more than the
// codec knows. It sees that content and nothing that is stored. wanted says that
// the client will be told of the advice.
type Conformance interface {
	Check(ctx context.Context, r *codec.Resource, wanted bool) (advice []outcome.Issue, err error)
}

// Holding is g with a check of what is written; an import is held to it where it asks for advice.
func (g *Gate) Holding(c Conformance) *Gate {
	h := *g
	h.conformance = c
	return &h
}

// Labelling is g with other content rules than the built-in ones.
func (g *Gate) Labelling(c *label.Classifier) *Gate {
	h := *g
	h.labels = c
	return &h
}

// Signing is g with the keys by which it signs consents, and checks their signatures.
func (g *Gate) Signing(k *signature.Keys) *Gate {
	h := *g
	h.keys = k
	return &h
}

// Signs reports whether g can sign.
func (g *Gate) Signs() bool { return g.keys != nil }

// JWKS is the public keys by which its signatures can be checked, a JSON Web Key Set.
func (g *Gate) JWKS() ([]byte, error) { return g.keys.JWKS() }

// NewGate wires the gate. now is the one clock of the server.
func NewGate(d Decider, r Recorder, now func() time.Time) *Gate {
	return &Gate{decider: d, recorder: r, now: now, labels: label.Default()}
}

// Released is a resource that the gate let out to the holder of one grant.
type Released struct {
	h      vault.Header
	holder authz.Grant
	body   func() ([]byte, error)
	due    []obligation.Name
	scopes []obligation.Scope
	labels obligation.Labelling // without being asked for
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

// Posted reports that a version of a history came to be by POST.
func (r Released) Posted() bool { return r.h.Posted }

// HeldBy reports whether r was released to the request of g.
func (r Released) HeldBy(g authz.Grant) bool { return r.holder.Same(g) }

// WriteTo writes the JSON of the resource without labels, for what the house itself
// makes of it. What goes to its holder is [Released.Render]ed.
func (r Released) WriteTo(w io.Writer) (int64, error) {
	if r.body == nil {
		return 0, authz.ErrDenied
	}
	body, err := r.body()
	if err != nil {
		return 0, err
	}
	n, err := w.Write(body)
	return int64(n), err
}

// Render writes the JSON of the resource, with the security labels that go to its holder.
func (r Released) Render(w io.Writer, f Form) error {
	if r.body == nil {
		return authz.ErrDenied
	}
	body, err := r.body()
	if err == nil {
		body, err = r.secured(body, f)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

// View says which elements of a resource a client asks for; the zero View is all of them.
type View = codec.View

// View is the part of r that v leaves, marked as SUBSETTED (R4 search, 3.1.1.5.8
// and 3.1.1.5.9). Nothing but a released resource has one.
func (r Released) View(v View) Released {
	if v.Whole() || r.body == nil {
		return r
	}
	whole := r.body
	r.body = sync.OnceValues(func() ([]byte, error) {
		body, err := whole()
		if err != nil {
			return nil, err
		}
		return codec.Project(body, v)
	})
	return r
}

// Release decides on each resource, makes the audit record of the disclosure
// durable, and opens. A resource that was not read under g, or that the
// decision point does not permit, fails the whole call: nothing is released. So
// does one that cannot be decrypted; its access stays recorded.
func (g *Gate) Release(ctx context.Context, gr authz.Grant, t fhir.ResourceType, in ...Sealed) ([]Released, error) {
	return g.release(ctx, gr, gr.Interaction(), t, in)
}

// Collect is Release for what stays in the house until somebody fetches it: it is recorded as
// part of an operation, and is a disclosure when [Gate.Disclose] says so.
func (g *Gate) Collect(ctx context.Context, gr authz.Grant, t fhir.ResourceType, in ...Sealed) ([]Released, error) {
	return g.release(ctx, gr, fhir.Operation, t, in)
}

// Disclose decides on each resource and makes the audit record durable, as Release does, of
// what was collected before and goes out now.
func (g *Gate) Disclose(ctx context.Context, gr authz.Grant, t fhir.ResourceType, in ...Sealed) error {
	if gr.Releasing() != "" {
		return authz.ErrDenied
	}
	return g.disclose(ctx, gr, t, in...)
}

func (g *Gate) release(ctx context.Context, gr authz.Grant, as fhir.Interaction, t fhir.ResourceType, in []Sealed) ([]Released, error) {
	if gr.Releasing() != "" {
		return nil, authz.ErrDenied
	}
	scopes, err := g.explain(ctx, gr, in)
	if err != nil {
		return nil, err
	}
	marks, err := g.marks(ctx, gr, in)
	if err != nil {
		return nil, err
	}
	if err := g.disclosed(ctx, gr, as, t, in); err != nil {
		return nil, err
	}
	out := make([]Released, len(in))
	labels := g.unasked(gr)
	for i, s := range in {
		body, err := vault.Open(ctx, s)
		if err != nil {
			return nil, err
		}
		h := vault.Head(s)
		if body, err = marked(h, body, marks[i]); err != nil {
			return nil, err
		}
		r := Released{h: h, holder: gr, body: func() ([]byte, error) { return body, nil }, due: g.due(gr, h), labels: labels}
		for _, id := range h.Consents {
			if s, explained := scopes[id]; explained && slices.Contains(r.due, part2.CopyOfConsent) {
				r.scopes = append(r.scopes, s)
			}
		}
		out[i] = r
	}
	return out, nil
}

// Record decides on each resource as [Gate.Release] does and makes the audit record durable, but opens
// nothing: what was read for a de-identified release goes on sealed, to package deident.
func (g *Gate) Record(ctx context.Context, gr authz.Grant, t fhir.ResourceType, in ...Sealed) error {
	if gr.Releasing() == "" {
		return authz.ErrDenied
	}
	return g.disclosed(ctx, gr, fhir.Operation, t, in)
}

// disclose decides on each resource and makes the audit record durable.
func (g *Gate) disclose(ctx context.Context, gr authz.Grant, t fhir.ResourceType, in ...Sealed) error {
	return g.disclosed(ctx, gr, gr.Interaction(), t, in)
}

func (g *Gate) disclosed(ctx context.Context, gr authz.Grant, as fhir.Interaction, t fhir.ResourceType, in []Sealed) error {
	if !gr.Valid() {
		return authz.ErrDenied
	}
	ev := g.event(gr, t, audit.Success)
	ev.Interaction = as
	for _, s := range in {
		if err := g.permitted(ctx, gr, s); err != nil {
			return err
		}
		ev.Entities = append(ev.Entities, entities(vault.Head(s))...)
	}
	return g.record(ctx, ev)
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
	Only        bool             // an update must create (If-None-Match: *)
	// Condition says which resource is meant, in place of Ref.ID (R4 http.html,
	// conditional create, update and delete). It is met among what the caller may
	// find, in the transaction that writes. Query.Count is how many matches can be
	// told apart: with 1 more than a delete of several may take.
	Condition *search.Query
	// Conditional are the searches behind conditional references of Content, by
	// their text. Each must find exactly one resource.
	Conditional map[string]search.Query
	// Integrity refuses a delete of what resources that the caller may see refer to.
	Integrity bool
	// Import keeps ids, lets references point at nothing yet, and takes a note's
	// author for its originator; only the command line sets it.
	Import bool
	// IfChanged lets an update pass that would change nothing of what the caller sees: it
	// makes no new version.
	IfChanged bool
	// Oversight labels the resource as the privacy officer's own work
	// ([label.Oversight]). No request of a client sets it.
	Oversight bool
	// Advice, if it is set, receives what the client may be told of content that
	// was let in although it could conform better.
	Advice *[]outcome.Issue
	// under is the interaction whose permission the change needs, where that is not
	// Interaction: what the gate itself makes of a Consent (see Sign).
	under fhir.Interaction
	// signature is the one that the change adds to a Consent (see Sign).
	signature *vault.Signature
}

// NewVersion stands for a version in a reference to a resource that the same
// transaction writes, "Patient/1/_history/new": the version that it is about to
// get (R4 http.html, "version-specific references").
const NewVersion = "new"

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
	var out [36]byte
	hex.Encode(out[:8], b[:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:], b[10:])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// Receipt says what a committed change did.
type Receipt struct {
	Ref     fhir.Ref
	Version fhir.VersionID
	Updated time.Time
	Created bool // a new resource came to be
	Same    bool // nothing was to be changed (Change.IfChanged)
	// Missing are the references of an import that lead to nothing yet; only a rehearsal tells of them.
	Missing []Missing
	// Several is how many resources a conditional delete took, where it was not one:
	// Ref then has no id.
	Several int
	Counted bool
}

// Once names one attempt at a request that its client may repeat
// (draft-ietf-httpapi-idempotency-key-header). Nothing in it can be read back:
// all are digests.
type Once struct {
	Tenant  int32
	Caller  [32]byte // who asks
	Key     [32]byte // the client's key
	Entry   int      // the entry of a batch, counted from 1; 0 is the whole request
	Request [32]byte // what is asked
	Attempt string   // UUID of this attempt
	Lease   time.Time
	Expires time.Time
}

// Job is a request whose answer is fetched later.
type Job struct {
	ID      string // UUID
	Tenant  int32
	Caller  [32]byte // digest of who sent it
	Request []byte   // what was asked, sealed by whoever put it off
	Ready   bool     // there is nothing more to do
	Failed  bool     // it did not come to its end
	Lease   time.Time
	Worker  string // who asks for the lease: one name per running server
	Created time.Time
	Expires time.Time
}

// Done is what became of a request that its client may repeat.
type Done struct {
	Receipts []Receipt      // of its changes, in their order
	Refusal  *outcome.Error // why nothing was stored, or nil
}

// History is a question for versions (R4 http.html, history).
type History struct {
	Types    []fhir.ResourceType
	ID       fhir.ID        // of one resource of the one type; "" is all
	Since    time.Time      // versions made then or later; zero: all
	From, To time.Time      // versions that were current at some moment of [From, To); zero: all
	Count    int            // versions on a page
	Oldest   bool           // the oldest first, else the newest
	After    *search.Cursor // where the page starts; nil is the first page
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

// ErrReplan says that nothing was stored because labels came up that were not
// known when the change was admitted: admit it again.
var ErrReplan = errors.New("record: the change was planned before the newest labels")

// ChangeError says which of several changes failed.
type ChangeError struct {
	Index int // position in the changes that were given to Commit
	Err   error
}

func (e *ChangeError) Error() string { return e.Err.Error() }

// Missing is a reference that leads to nothing.
type Missing struct {
	Path string // FHIRPath
	To   string // Type/id, or a conditional reference
}

// ErrUnresolved is behind the refusal of a change whose reference leads to nothing that its caller sees.
var ErrUnresolved = errors.New("record: a reference does not resolve")

// RefusedError says which of the changes of an import are refused: several at once, so that
// whoever tries again without them tries once. Nothing was stored.
type RefusedError struct{ Changes []*ChangeError }

func (e *RefusedError) Error() string { return e.Changes[0].Error() }

func (e *RefusedError) Unwrap() error { return e.Changes[0] }

func (e *ChangeError) Unwrap() error { return e.Err }
