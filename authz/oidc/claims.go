package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
)

// The claims that are read. scope, client_id: RFC 9068; fhirUser, patient: SMART App
// Launch; the others are Cloister's own.
const (
	claimSubject       = "sub"
	claimScope         = "scope"
	claimClient        = "client_id"
	claimUser          = "fhirUser"
	claimPatient       = "patient"
	claimPractice      = "practice"
	claimRoles         = "roles"
	claimOrganizations = "organizations"
	claimPurpose       = "purpose_of_use"
	claimProfile       = "release_profile" // the client gets de-identified releases under it, and nothing else
	claimSignedIn      = "auth_time"       // OpenID Connect Core 2, RFC 9068 2.2.1
	claimGrant         = "sid"             // of the local issuer: the grant that the token ends with
)

var known = []string{
	"iss", "aud", "exp", "nbf", "iat", claimSubject, claimScope, claimClient, claimUser, claimPatient,
	claimPractice, claimRoles, claimOrganizations, claimPurpose, claimProfile, claimSignedIn, claimGrant,
}

// operator is the role of the command line; a token that claims it is forged
// or its issuer misconfigured.
const operator = authz.Operator

// maxList bounds the claims that are lists: they end up in every query.
const maxList = 64

func principal(raw map[string]json.RawMessage, issuer Issuer, tenants Tenants) (authz.Principal, error) {
	// encoding/json matches struct fields without regard to case, inside go-oidc too: a
	// second spelling of a claim could stand in for the first.
	for name := range raw {
		for _, k := range known {
			if name != k && strings.EqualFold(name, k) {
				return authz.Principal{}, fmt.Errorf("oidc: claim %s in another spelling", k)
			}
		}
	}
	var c reader = raw
	subject := c.text(claimSubject, true)
	practice := c.text(claimPractice, true)
	_, confined := raw[claimProfile]
	p := authz.Principal{
		Subject: issuer.URL + "|" + subject,
		Client:  c.text(claimClient, false),
		Roles:   c.list(claimRoles),
		Purpose: c.text(claimPurpose, true),
		Scopes:  smart.Parse(c.text(claimScope, false)),
		Patient: fhir.ID(c.text(claimPatient, false)),
		Profile: c.text(claimProfile, confined),

		SignedIn: c.moment(claimSignedIn),
	}
	for _, o := range c.list(claimOrganizations) {
		p.Organizations = append(p.Organizations, fhir.ID(o))
	}
	user := c.text(claimUser, false)
	if err := c.err(); err != nil {
		return authz.Principal{}, err
	}
	if err := check(p, user, issuer); err != nil {
		return authz.Principal{}, err
	}
	p.User, _ = userRef(user, issuer)
	var ok bool
	if p.Tenant, ok = tenants.Tenant(practice); !ok || p.Tenant <= 0 {
		return authz.Principal{}, errors.New("oidc: the practice of the token is not one of this server's")
	}
	return p, nil
}

// ending is what a token of the local issuer ends with: its grant, its app, its app in its practice, and the key that signed it.
func ending(raw map[string]json.RawMessage, kid string) ([]string, error) {
	var c reader = raw
	client := c.text(claimClient, true)
	keys := []string{c.text(claimGrant, true), EndedApp(client, ""), EndedApp(client, c.text(claimPractice, true)), EndedKey(kid)}
	return keys, c.err()
}

func check(p authz.Principal, user string, issuer Issuer) error {
	if len(p.Roles) == 0 {
		return errors.New("oidc: the token has no roles")
	}
	for _, r := range p.Roles {
		if r == operator {
			return errors.New("oidc: the token claims the role of the command line")
		}
		if !word(r, 'a', 'z') {
			return errors.New("oidc: a role is malformed")
		}
	}
	if !word(p.Purpose, 'A', 'Z') {
		return errors.New("oidc: purpose_of_use is not a code of v3-ActReason")
	}
	if p.Profile != "" && !word(p.Profile, 'a', 'z') {
		return errors.New("oidc: release_profile is not the name of a profile")
	}
	for _, o := range p.Organizations {
		if !o.Valid() {
			return errors.New("oidc: organizations holds something else than a logical id")
		}
	}
	if p.Patient != "" && !p.Patient.Valid() {
		return errors.New("oidc: patient is not a logical id")
	}
	if _, ok := userRef(user, issuer); user != "" && !ok {
		return errors.New("oidc: fhirUser is no Practitioner, Patient or RelatedPerson of this server")
	}
	return nil
}

// word reports whether s is one code: letters of one case, and hyphens.
func word(s string, first, last byte) bool {
	if s == "" || len(s) > maxList {
		return false
	}
	for i := range len(s) {
		if s[i] != '-' && (s[i] < first || s[i] > last) {
			return false
		}
	}
	return true
}

// userRef reads fhirUser, relative or below the audience, which is this server's base URL.
func userRef(user string, issuer Issuer) (fhir.Ref, bool) {
	text := strings.TrimPrefix(user, strings.TrimSuffix(issuer.Audience, "/")+"/")
	ref, ok := fhir.ParseRef(text)
	if !ok || ref.String() != text {
		return fhir.Ref{}, false
	}
	return ref, ref.Type == "Practitioner" || ref.Type == "Patient" || ref.Type == "RelatedPerson"
}

// reader reads claims by their exact names; a fault stays under the name "".
type reader map[string]json.RawMessage

func (r reader) fail(name string) {
	if _, failed := r[""]; !failed {
		r[""] = json.RawMessage(name)
	}
}

func (r reader) err() error {
	if name, failed := r[""]; failed {
		return fmt.Errorf("oidc: claim %s is missing or malformed", name)
	}
	return nil
}

func (r reader) text(name string, required bool) string {
	var s *string
	if v, ok := r[name]; ok && json.Unmarshal(v, &s) != nil {
		r.fail(name)
	}
	if s == nil {
		s = new(string)
	}
	if required && *s == "" {
		r.fail(name)
	}
	return *s
}

// moment reads a NumericDate (RFC 7519, 2); zero if it is absent.
func (r reader) moment(name string) time.Time {
	v, ok := r[name]
	if !ok {
		return time.Time{}
	}
	var seconds float64
	// Up to the year 9999; beyond what a float64 holds exactly there is no date.
	if json.Unmarshal(v, &seconds) != nil || string(v) == "null" || seconds <= 0 || seconds > 253402300799 {
		r.fail(name)
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}

func (r reader) list(name string) []string {
	var list []*string
	if v, ok := r[name]; ok && json.Unmarshal(v, &list) != nil || len(list) > maxList {
		r.fail(name)
		return nil
	}
	out := make([]string, 0, len(list))
	for _, s := range list {
		if s == nil {
			r.fail(name)
			return nil
		}
		out = append(out, *s)
	}
	return out
}
