// Package smart reads SMART App Launch scopes (v1 and v2) and answers which
// interactions they leave open.
package smart

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	find "github.com/cloister-health/cloister/fhir/search"
)

// Scopes is the clinical part of an access token's scope. It implements
// [authz.Scopes]; the zero value leaves nothing open.
type Scopes struct {
	patient map[fhir.ResourceType]permission // patient/: narrowed to the launch patient
	wide    map[fhir.ResourceType]permission // user/ and system/: narrowed by the policy alone
	partial map[fhir.ResourceType][]clause   // those with search parameters
	all     []clause                         // in normal form
}

var _ authz.Backend = Scopes{}

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

// level is what a scope begins with.
type level string

const (
	ofPatient level = "patient"
	ofUser    level = "user"
	ofSystem  level = "system"
)

// clause is one scope.
type clause struct {
	level level
	typ   fhir.ResourceType
	may   permission
	constraint
}

// Parse reads the value of an OAuth scope parameter or claim: scopes joined by
// single spaces (RFC 6749, section 3.3). It never fails: a scope that is no
// clinical scope (openid, launch/patient), that is malformed, or whose search
// parameters this server does not hold resources against (see [search.Constrain])
// leaves nothing open.
func Parse(scope string) Scopes {
	var all []clause
	for token := range strings.SplitSeq(scope, " ") {
		if c, ok := parseClause(token); ok {
			all = append(all, c)
		}
	}
	return of(all)
}

// of makes Scopes of clauses.
func of(all []clause) Scopes {
	s := Scopes{patient: map[fhir.ResourceType]permission{}, wide: map[fhir.ResourceType]permission{}, all: normal(all)}
	for _, c := range s.all {
		switch {
		case c.where != nil:
			if s.partial == nil {
				s.partial = map[fhir.ResourceType][]clause{}
			}
			s.partial[c.typ] = append(s.partial[c.typ], c)
		case c.level == ofPatient:
			s.patient[c.typ] |= c.may
		default:
			s.wide[c.typ] |= c.may
		}
	}
	return s
}

// parseClause reads one scope (SMART App Launch 2.2, scopes for requesting FHIR resources).
func parseClause(token string) (c clause, ok bool) {
	before, query, constrained := strings.Cut(token, "?")
	first, rest, ok := strings.Cut(before, "/")
	if !ok {
		return c, false
	}
	name, grant, ok := strings.Cut(rest, ".")
	c = clause{level: level(first), typ: fhir.ResourceType(name), may: parsePermission(grant)}
	switch {
	case !ok, c.may == 0, c.level != ofPatient && c.level != ofUser && c.level != ofSystem, c.typ != wildcard && !c.typ.Valid():
		return c, false
	case !constrained:
		return c, true
	case c.typ == wildcard, versionOne(grant):
		return c, false // parameters are those of a type, and came with the second version
	}
	c.constraint, ok = parseConstraint(c.typ, query)
	return c, ok
}

// versionOne reports the words of the first version of SMART App Launch.
func versionOne(grant string) bool { return grant == "read" || grant == "write" || grant == "*" }

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

// What scopes without search parameters leave open.
var (
	everything = []authz.Opening{{}}
	ofLaunch   = []authz.Opening{{PatientOnly: true}}
)

// Allow implements [authz.Scopes]. A scope that another one contains is not in the answer.
func (s Scopes) Allow(t fhir.ResourceType, i fhir.Interaction) []authz.Opening {
	need, known := needs[i]
	if !known || !t.Valid() {
		return nil
	}
	if (s.wide[t]|s.wide[wildcard])&need != 0 {
		return everything
	}
	launch := (s.patient[t]|s.patient[wildcard])&need != 0
	if s.partial[t] == nil {
		if launch {
			return ofLaunch
		}
		return nil
	}
	var out []authz.Opening
	if launch {
		out = append(out, ofLaunch...)
	}
	for _, c := range s.partial[t] {
		if c.may&need != 0 && !(launch && c.level == ofPatient) {
			out = also(out, authz.Opening{PatientOnly: c.level == ofPatient, Where: c.where})
		}
	}
	return out
}

// System implements [authz.Backend].
func (s Scopes) System() bool {
	return len(s.all) > 0 && !slices.ContainsFunc(s.all, func(c clause) bool { return c.level != ofSystem })
}

// also adds an opening. Of those that ask for one token each the tokens are asked
// for at once: the usual scopes for a few categories are one condition.
func also(out []authz.Opening, o authz.Opening) []authz.Opening {
	if len(o.Where) == 1 {
		for i, x := range out {
			if len(x.Where) == 1 && x.PatientOnly == o.PatientOnly {
				hashes := slices.Concat(x.Where[0], o.Where[0])
				slices.Sort(hashes)
				out[i].Where = find.Constraint{slices.Compact(hashes)}
				return out
			}
		}
	}
	return append(out, o)
}
