// Package audit says what an access record holds and renders it as a FHIR R4 AuditEvent.
package audit

import (
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// Outcome is AuditEvent.outcome (http://hl7.org/fhir/audit-event-outcome).
type Outcome string

// The outcomes that are recorded.
const (
	Success Outcome = "0"
	Refused Outcome = "4" // minor failure: refused, or not found
)

// Event is one access by one caller: what was done to which records, under which policy.
type Event struct {
	ID          string // UUID, also the id of the AuditEvent
	At          time.Time
	Caller      authz.Caller
	Interaction fhir.Interaction
	Type        fhir.ResourceType // the type that was asked for, or ""
	Outcome     Outcome
	Entities    []Entity
	// Acts are the exceptions of the law that the event itself documents or ends, or
	// the declared emergencies that it ends, by id. It has no entities then.
	Acts []string
}

// Entity is one record that was disclosed or changed.
type Entity struct {
	Ref     fhir.Ref
	Version fhir.VersionID
	Labels  label.Set
	Patient fhir.ID
	Facts   authz.Fact // what held between the caller and it, of what was asked
	// Consents are those on which the disclosure rests, by id; none where it rests on something else.
	Consents []fhir.ID
	// Session is the declared emergency under which it was disclosed, or that the
	// record tells of (42 CFR 2.51); "" for none.
	Session string
}
