package notify

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/search"
)

// Engine is the decision point, as notifications use it.
type Engine interface {
	Authorize(context.Context, authz.Principal, fhir.Interaction, fhir.ResourceType) (authz.Grant, error)
	Extend(authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Grant, error)
	Plan(context.Context, authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Restriction, error)
	Outbound(context.Context, authz.Grant, fhir.Interaction, ...fhir.ResourceType) (authz.Reach, error)
}

// Gate is the one way out of the store.
type Gate interface {
	Release(context.Context, authz.Grant, fhir.ResourceType, ...record.Sealed) ([]record.Released, error)
}

// Records is where resources are read, as in package rest.
type Records interface {
	Search(context.Context, authz.Reach, search.Query) (record.Page, error)
	VRead(context.Context, authz.Restriction, fhir.ID, fhir.VersionID) (record.Sealed, error)
	Parameters(context.Context, authz.Restriction) (*search.Registry, error)
}

// Clients knows whether a client may still act, see [authz.Frozen].
type Clients interface {
	Standing(context.Context, authz.Frozen) error
}

// Sender delivers a message; an error says that it may not have arrived.
type Sender interface {
	// Check refuses an endpoint or header fields to which nothing could be sent.
	Check(endpoint string, header []Header) error
	Send(context.Context, Message) error
}

// ErrGone is the answer of an endpoint that wants nothing more (410).
var ErrGone = errors.New("notify: the endpoint is gone")

// Config wires the notifications. All of it is required but Clients, Terminology, and what has a default.
type Config struct {
	Base          string // of the service, see api.Config
	Engine        Engine
	Gate          Gate
	Records       Records
	Subscriptions Subscriptions
	Hooks         Sender
	Keys          *envelope.Keys // wrap the key of each subscription
	Clients       Clients        // nil: the token that subscribed is all that is known of a client
	Terminology   search.Terminology
	Log           *slog.Logger
	Now           func() time.Time // the one clock of the server

	Most    int            // subscriptions of one client; 0 is 100
	Tries   int            // to deliver one message, after which its subscription is in error; 0 is 12
	Sockets int            // connections at a time; 0 is 256
	Keep    time.Duration  // of events that were delivered, and of changes for a subscription in error; 0 is 7 days
	Jitter  func() float64 // at least 0 and below 1; nil is random
}

// Bounds on one subscription.
const (
	MaxCount   = 100 // events of a notification
	MaxTimeout = 60  // seconds
	MinBeat    = 10  // seconds between heartbeats, at least
	MaxBeat    = 7 * 24 * 3600
	MaxHeaders = 10
	MaxFilters = 16
)

const (
	lease       = 3 * time.Minute // longer than one delivery may take
	patience    = 5 * time.Second // before a turn after one that came to nothing
	firstPause  = 5 * time.Second // between two tries; it doubles
	longest     = time.Hour       // pause
	otherwise   = 10              // max-count where the client does not say
	allowed     = 20              // timeout in seconds where the client does not say
	overlap     = 24 * time.Hour  // for which an old secret signs, too
	forever     = 366 * 24 * time.Hour
	page        = 200 // changes that are read at once
	secretBytes = 32
)

// ErrOver is the end of a turn: somebody else has taken the subscription since, or it was changed or deleted.
var ErrOver = errors.New("notify: the turn is over")

// Service tells of changes.
type Service struct {
	Config
	held  envelope.Held[*envelope.DataKey]
	slots chan struct{} // connections
}

// New wires the notifications.
func New(c Config) (*Service, error) {
	for name, missing := range map[string]bool{
		"Base": c.Base == "", "Engine": c.Engine == nil, "Gate": c.Gate == nil, "Records": c.Records == nil, "Subscriptions": c.Subscriptions == nil,
		"Hooks": c.Hooks == nil, "Keys": c.Keys == nil, "Log": c.Log == nil, "Now": c.Now == nil,
	} {
		if missing {
			return nil, errors.New("notify: " + name + " is missing")
		}
	}
	if c.Most == 0 {
		c.Most = 100
	}
	if c.Tries == 0 {
		c.Tries = 12
	}
	if c.Keep == 0 {
		c.Keep = 7 * 24 * time.Hour
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Sockets == 0 {
		c.Sockets = 256
	}
	return &Service{Config: c, slots: make(chan struct{}, c.Sockets)}, nil
}

// ownerOf is the digest of who subscribed: one client as one subject in one practice.
func ownerOf(c authz.Caller) [32]byte {
	var b []byte
	for _, p := range []string{"subscription", c.Subject, c.Client} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}
