// Package fhir is the FHIR R4 vocabulary that the rest of the house speaks.
//
// It imports the standard library only.
package fhir

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// ResourceType is the name of an R4 resource type, such as "Observation".
type ResourceType string

// Valid reports whether t is one of the concrete R4 (4.0.1) resource types.
func (t ResourceType) Valid() bool { _, ok := typeCodes[t]; return ok }

// Code is the stable small number under which the store keeps t; it is 0 for
// a name that is no resource type.
func (t ResourceType) Code() int16 { return typeCodes[t] }

// TypeOf is the inverse of [ResourceType.Code]; it returns "" for an unknown code.
func TypeOf(code int16) ResourceType {
	if code < 1 || int(code) > len(resourceTypes) {
		return ""
	}
	return resourceTypes[code-1]
}

// ResourceTypes lists all R4 resource types in alphabetical order. The caller
// owns the slice.
func ResourceTypes() []ResourceType { return append([]ResourceType(nil), resourceTypes...) }

var typeCodes = func() map[ResourceType]int16 {
	if !sort.SliceIsSorted(resourceTypes, func(i, j int) bool { return resourceTypes[i] < resourceTypes[j] }) {
		panic("fhir: resource types out of order: stored codes would change")
	}
	m := make(map[ResourceType]int16, len(resourceTypes))
	for i, t := range resourceTypes {
		m[t] = int16(i + 1)
	}
	return m
}()

// ID is a logical id: 1 to 64 characters of A-Z a-z 0-9 - . (R4 datatypes, id).
type ID string

// Valid reports whether id has the form that R4 asks of a logical id.
func (id ID) Valid() bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// VersionID counts the versions of one resource from 1.
type VersionID int32

// ParseVersionID reads the form that this server writes; anything else is no
// version of ours.
func ParseVersionID(s string) (VersionID, bool) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != s {
		return 0, false
	}
	return VersionID(n), true
}

func (v VersionID) String() string { return strconv.Itoa(int(v)) }

// Ref names one resource of this server: Type/id.
type Ref struct {
	Type ResourceType
	ID   ID
}

// String gives the relative literal form, "Observation/42", or "" for the zero Ref.
func (r Ref) String() string {
	if r.Type == "" {
		return ""
	}
	return string(r.Type) + "/" + string(r.ID)
}

// ParseRef reads a relative literal reference, with or without a version
// ("Observation/42", "Observation/42/_history/3"). Absolute URLs, urn: and
// fragment references are not local and give false.
func ParseRef(s string) (Ref, bool) {
	t, rest, ok := strings.Cut(s, "/")
	if !ok {
		return Ref{}, false
	}
	id, tail, versioned := strings.Cut(rest, "/")
	if versioned {
		v, ok := strings.CutPrefix(tail, "_history/")
		if !ok || v == "" || strings.Contains(v, "/") {
			return Ref{}, false
		}
	}
	r := Ref{ResourceType(t), ID(id)}
	return r, r.Type.Valid() && r.ID.Valid()
}

// ReferenceType gives the type that a literal reference names, "" where it does
// not show, and false where the text is no reference at all.
func ReferenceType(text string) (ResourceType, bool) {
	if r, ok := ParseRef(text); ok {
		return r.Type, true
	}
	if t, _, ok := strings.Cut(text, "?"); ok && ResourceType(t).Valid() {
		return ResourceType(t), true
	}
	scheme, rest, ok := strings.Cut(text, ":")
	if !ok || !isScheme(scheme) {
		return "", false
	}
	if scheme != "http" && scheme != "https" {
		return "", true
	}
	// The last two segments, or the two before _history, name the resource.
	parts := strings.Split(rest, "/")
	if n := len(parts); n > 2 && parts[n-2] == "_history" {
		parts = parts[:n-2]
	}
	if n := len(parts); n > 4 && ID(parts[n-1]).Valid() && ResourceType(parts[n-2]).Valid() {
		return ResourceType(parts[n-2]), true
	}
	return "", true
}

// isScheme reports whether s is the scheme of a URI (RFC 3986, 3.1).
func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (i == 0 || (s[i] < '0' || s[i] > '9') && s[i] != '+' && s[i] != '-' && s[i] != '.') {
			return false
		}
	}
	return s != ""
}

// Interaction is a RESTful interaction by its R4 code (restful-interaction).
type Interaction string

// The interactions that Cloister serves.
const (
	Read            Interaction = "read"
	VRead           Interaction = "vread"
	Update          Interaction = "update"
	Delete          Interaction = "delete"
	HistoryInstance Interaction = "history-instance"
	Create          Interaction = "create"
	SearchType      Interaction = "search-type"
	Capabilities    Interaction = "capabilities"
	Transaction     Interaction = "transaction"
	Batch           Interaction = "batch"
	Patch           Interaction = "patch"
	HistoryType     Interaction = "history-type"
	HistorySystem   Interaction = "history-system"
	SearchSystem    Interaction = "search-system"
	// Operation is the invocation of a named operation. By itself it touches no
	// resource: it is made of other interactions.
	Operation Interaction = "operation"

	// The operations on a Consent that are permissions of their own: whoever may
	// update a Consent may not therefore sign it.
	PrepareConsent Interaction = "$prepare"
	SignConsent    Interaction = "$sign"
	RevokeConsent  Interaction = "$revoke"
	// WitnessConsent is to sign as one who saw others sign.
	WitnessConsent Interaction = "$witness"

	// Mask is to be told that something is left out of what one sees (HL7
	// v3-ActCode, MASK). No request is for it: it goes along with reading.
	Mask Interaction = "mask"
)

// Canonicals of the code systems that Cloister defines for itself. Content
// rules read them; no caller can set a label with them.
const (
	Canonical = "https://cloister.health/fhir"

	// OrganizationKind: code part2-program marks an Organization that is a
	// program under 42 CFR 2.11 (in Organization.type).
	OrganizationKind = Canonical + "/CodeSystem/organization-kind"
	// NoteKind: codes psychotherapy-note (45 CFR 164.501) and
	// sud-counseling-note (42 CFR 2.11), in DocumentReference.type or Composition.type.
	NoteKind = Canonical + "/CodeSystem/note-kind"
	// EncounterKind: code minor-consented marks care to which a minor consented
	// alone (in Encounter.type).
	EncounterKind = Canonical + "/CodeSystem/encounter-kind"
	// CareTeamKind: code supervision marks a CareTeam of the staff, in
	// CareTeam.category; its participants have the role supervisor or supervisee.
	CareTeamKind = Canonical + "/CodeSystem/care-team-kind"
	// AffiliationKind: code qsoa marks an OrganizationAffiliation (in its code) by
	// which participatingOrganization serves organization, a Part 2 program, under
	// a qualified service organization agreement (42 CFR 2.11).
	AffiliationKind = Canonical + "/CodeSystem/affiliation-kind"
	// ConsentKind: the kinds of consent that are evaluated (in Consent.category):
	// part2-tpo, part2-specific, part2-intermediary, part2-sudcn, part2-legal,
	// part2-research, hipaa-authorization, hipaa-psychotherapy, restriction,
	// deidentified-optout, ai-documentation, minor-disclosure.
	ConsentKind = Canonical + "/CodeSystem/consent-kind"
	// SecurityLabel: codes SUDCN, MINORCONSENT, 42CFRPart2-RECEIVED, OVERSIGHT and UNCLASSIFIED, the labels that
	// v3-ActCode has no code for (in meta.security, or securityLabel of a Consent provision).
	SecurityLabel = Canonical + "/CodeSystem/security-label"
	// ConsentStatement: what a signed form states (in Consent.policyRule, or in
	// policy.uri as "system#code"): revocation, conditioning, redisclosure, remuneration,
	// paid-in-full, expires-end-of-treatment, expires-none, expires-end-of-study,
	// authority-parent, authority-guardian, authority-executor; needs-parent, needs-witness (who signs besides the
	// patient), witnessed. The items of a consent
	// form say by their code what they state (in Questionnaire.item.code); of the form alone are
	// stands-alone and may-not-be-agreed.
	ConsentStatement = Canonical + "/CodeSystem/consent-statement"
	// ConsentActorRole: code intermediary (42 CFR 2.11) in the role of a Consent actor.
	ConsentActorRole = Canonical + "/CodeSystem/consent-actor-role"
	// RecipientClass: classes of recipients that a single TPO consent may name
	// (42 CFR 2.31(a)(4)(i)); used as identifier.system of a Consent actor.
	// Codes: treating-providers, payers, operations.
	RecipientClass = Canonical + "/CodeSystem/recipient-class"
)

// GoString keeps %#v short in test output.
func (r Ref) GoString() string { return fmt.Sprintf("fhir.Ref(%q)", r.String()) }
