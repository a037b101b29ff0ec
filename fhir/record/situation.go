package record

import (
	"time"

	"github.com/cloister-health/cloister/consent/exception"
	"github.com/cloister-health/cloister/fhir"
)

// Emergency is a declared emergency, with what 42 CFR 2.51(c) has documented.
type Emergency struct {
	ID      string   // UUID: the session
	Member  fhir.Ref // who declared it
	Patient fhir.ID  // "" where whoever asks may not know
	// Identifier names the patient in place of an id when one is declared: system|value.
	Identifier string
	Purpose    string // of the caller's token: ETREAT or BTG
	Reason     string // code of v3-ActReason
	Nature     string // of the emergency
	Recipient  string // name of the medical personnel
	Facility   string // with which they are affiliated
	Discloser  string // who makes the disclosure
	Starts     time.Time
	Ends       time.Time
}

// Exception is a documented exception of the law.
type Exception struct {
	ID string // UUID
	exception.Statement
	Recorded time.Time
}
