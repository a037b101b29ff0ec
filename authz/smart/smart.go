// Package smart reads SMART App Launch scopes (v1 and v2) and answers which
// interactions they leave open.
package smart

import (
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
)

// Scopes is the clinical part of an access token's scope. It implements
// [authz.Scopes]; the zero value leaves nothing open.
type Scopes struct {
	patient map[fhir.ResourceType]permission // patient/: narrowed to the launch patient
	wide    map[fhir.ResourceType]permission // user/ and system/: narrowed by the policy alone
}

var _ authz.Scopes = Scopes{}

// permission is a set of the letters of a SMART v2 scope.
type permission uint8

const (
	create permission = 1 << iota
	read
	update
	del
	search
)

// letters is in the one order that SMART App Launch 2.0 allows.
const letters = "cruds"

// wildcard stands for every resource type.
const wildcard fhir.ResourceType = "*"

// Parse reads the value of an OAuth scope parameter or claim: scopes joined by
// single spaces (RFC 6749, section 3.3). It never fails: a scope that is no
// clinical scope (openid, launch/patient), is malformed, or narrows by search
// parameters ("?category=..."; they are not understood yet, and to
// grant the scope without them would widen it) leaves nothing open.
func Parse(scope string) Scopes {
	s := Scopes{map[fhir.ResourceType]permission{}, map[fhir.ResourceType]permission{}}
	for _, token := range strings.Split(scope, " ") {
		level, rest, ok := strings.Cut(token, "/")
		if !ok {
			continue
		}
		name, grant, ok := strings.Cut(rest, ".")
		t := fhir.ResourceType(name)
		if !ok || t != wildcard && !t.Valid() {
			continue
		}
		switch level {
		case "patient":
			s.patient[t] |= parsePermission(grant)
		case "user", "system":
			s.wide[t] |= parsePermission(grant)
		}
	}
	return s
}

// parsePermission reads what follows the dot; 0 for what neither version knows.
func parsePermission(grant string) permission {
	switch grant {
	case "read": // v1; SMART App Launch 2.0 equates it with rs
		return read | search
	case "write": // v1; cud
		return create | update | del
	case "*": // v1
		return create | read | update | del | search
	}
	var p permission
	at := 0
	for i := range len(grant) {
		j := strings.IndexByte(letters[at:], grant[i])
		if j < 0 {
			return 0 // an unknown letter, a repeated one, or out of order
		}
		at += j + 1
		p |= 1 << (at - 1)
	}
	return p
}

// needs is the permission that an interaction asks for. An interaction without
// an entry (a batch, say) is decided entry by entry.
var needs = map[fhir.Interaction]permission{
	fhir.Read:            read,
	fhir.VRead:           read,
	fhir.HistoryInstance: read,
	fhir.SearchType:      search,
	fhir.SearchSystem:    search,
	fhir.HistoryType:     search, // SMART App Launch 2.0, scopes: s covers the history of a type
	fhir.HistorySystem:   search,
	fhir.Patch:           update,
	fhir.Create:          create,
	fhir.Update:          update,
	fhir.Delete:          del,
	// Nothing in SMART App Launch names operations: each needs what it does to its Consent.
	fhir.PrepareConsent: create,
	fhir.SignConsent:    update,
	fhir.RevokeConsent:  update,
	fhir.Mask:           read,
	fhir.WitnessConsent: update,
}

// Allow reports whether some scope covers interaction i on type t, and whether
// only patient-level scopes do, so that the launch patient narrows the answer.
func (s Scopes) Allow(t fhir.ResourceType, i fhir.Interaction) (ok, patientOnly bool) {
	need, known := needs[i]
	if !known || !t.Valid() {
		return false, false
	}
	if (s.wide[t]|s.wide[wildcard])&need != 0 {
		return true, false
	}
	ok = (s.patient[t]|s.patient[wildcard])&need != 0
	return ok, ok
}
