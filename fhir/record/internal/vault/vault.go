// Package vault is the box that holds a stored resource closed. It lies under
// fhir/record/internal, so the compiler refuses it to every package outside fhir/record.
package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/search"
)

// Header is what may be known of a sealed resource without opening it, inside
// the house; respond shows of it only what belongs to a released one.
type Header struct {
	Ref     fhir.Ref
	Version fhir.VersionID
	Updated time.Time // meta.lastUpdated, whole milliseconds
	Deleted bool      // a tombstone: there is no body
	Created bool      // version 1
	Posted  bool      // history: it came to be by POST, not by PUT to an id of the client's
	Labels  label.Set
	Facts   authz.Fact // what held between the grant's caller and this resource when it was read
	Patient fhir.ID    // the one patient of the resource, or ""
	// Patients are those of a resource that has several.
	Patients []fhir.ID
	Row      int64 // of the view that this is, in the database
	// Consents are those on which the disclosure rests, by id: only where it does
	// rest on consent, not on the caller's program or on being the patient.
	Consents []fhir.ID
}

// Sealed is a stored resource that nobody has been allowed to see yet. The
// bytes are behind a closure: fmt, slog and test libraries print struct
// fields, unexported ones too, but never call a func that they find there.
type Sealed struct {
	h     Header
	grant authz.Grant
	open  func(context.Context) ([]byte, error)
}

// Seal closes the box. The facts in h hold for grant's caller alone, and only
// that grant can release it.
func Seal(h Header, grant authz.Grant, body []byte) Sealed {
	return Sealed{h, grant, func(context.Context) ([]byte, error) { return body, nil }}
}

// SealEncrypted is Seal for a body that is decrypted when the box is opened, and
// never if it is not.
func SealEncrypted(h Header, grant authz.Grant, decrypt func(context.Context) ([]byte, error)) Sealed {
	return Sealed{h, grant, decrypt}
}

// Open opens the box. Only a body that is encrypted can fail to open.
func Open(ctx context.Context, s Sealed) ([]byte, error) {
	if s.open == nil {
		return nil, nil
	}
	return s.open(ctx)
}

// Head gives the header of s to the trusted subtree.
func Head(s Sealed) Header { return s.h }

// ReadFor reports whether s was read under g.
func ReadFor(s Sealed, g authz.Grant) bool { return s.grant.Same(g) }

var errSealed = errors.New("vault: a sealed resource cannot be encoded")

// Format keeps the content out of every fmt verb.
func (Sealed) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[sealed]") }

// LogValue keeps the content out of logs.
func (Sealed) LogValue() slog.Value { return slog.StringValue("[sealed]") }

// MarshalJSON refuses.
func (Sealed) MarshalJSON() ([]byte, error) { return nil, errSealed }

// Withheld says of a sealed resource which of its lists have more items in a fuller
// view of it, and what the decision whether that may be told is made of.
type Withheld struct {
	At      int // which of the resources that were asked about
	Labels  label.Set
	Facts   authz.Fact
	Patient fhir.ID
	Lists   []string
}

// Cleared is a change that the gate let in: content, its own labels, and the
// restrictions that the store applies in the writing transaction.
type Cleared struct{ c *Clearance }

// Clearance is the inside of a Cleared, for the trusted subtree.
type Clearance struct {
	Grant       authz.Grant
	Interaction fhir.Interaction // create, update, patch or delete
	Ref         fhir.Ref
	Content     *codec.Resource // nil for delete
	IfMatch     fhir.VersionID
	Upsert      bool // an update may create
	Only        bool // an update must create
	Import      bool
	IfChanged   bool // content that the caller sees stored as it is makes no new version
	Marked      bool // the caller is shown marks of what is left out, and may send them back
	// Condition says which resource the change is about; nil: Ref does.
	Condition *Condition
	Chosen    fhir.ID // the id in the content, as the client sent it
	// Conditional are the conditional references of the content, by their text.
	Conditional map[string]Condition
	// Referrers restricts the look-up of what refers to a resource that is to be
	// deleted; the zero Reach: nothing is looked up.
	Referrers  authz.Reach
	Rules      *label.Classifier // by which Labels were found, and its parts are classified
	Labels     label.Set         // from the content alone; the store adds what flows in along references
	Stated     label.Set         // those of Labels that the sender stated, and that the content need not show
	Program    bool              // an Organization that is a Part 2 program (42 CFR 2.11)
	Originator fhir.Ref          // of an imported note: its author
	Signature  *Signature        // the one that the change adds to a Consent, or nil
	References []codec.Link      // local references of the content; each must resolve
	URLs       []codec.Link      // other local links of the content
	// Check is applied to the row as it was (update, delete) and as it becomes (create, update).
	Check authz.Restriction
	// Insert is applied to the new row of a change that turns out to create.
	Insert authz.Restriction
	// Visible is what the caller may read of the type: it tells a refusal from an absence.
	Visible authz.Restriction
	// Resolve restricts the look-up of references by their target type.
	Resolve map[fhir.ResourceType]authz.Restriction
}

// Signature is what is kept of a signature beside the Provenance that carries it.
type Signature struct {
	Role    string // patient, parent, guardian, executor or witness
	Who     fhir.Ref
	Subject string // of the signer's token
	At      time.Time
	First   bool // none that was made before covers what is signed
}

// Condition is a search that finds, among what the caller may find, the resource that is meant.
type Condition struct {
	Query search.Query
	Reach authz.Reach
}

// Clear wraps a clearance.
func Clear(c Clearance) Cleared { return Cleared{&c} }

// Clearing unwraps it.
func Clearing(c Cleared) Clearance {
	if c.c == nil {
		return Clearance{}
	}
	return *c.c
}
