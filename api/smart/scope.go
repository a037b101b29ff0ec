package smart

import (
	"slices"
	"strings"
)

// Scopes that are about no kind of resource (SMART App Launch 2.2, Scopes and Launch Context; OpenID Connect Core 5.4, 11).
const (
	scopeOpenID    = "openid"
	scopeUser      = "fhirUser"
	scopeProfile   = "profile"
	scopeLaunch    = "launch"
	scopePatient   = "launch/patient"
	scopeEncounter = "launch/encounter"
	scopeOffline   = "offline_access"
	scopeOnline    = "online_access"
)

// covers reports whether what asked opens is open by have, too. A constraint behind "?" is not read
// here: it can only narrow, so that have covers asked with any constraint if it covers it
// without one, and a constrained have covers its own text alone.
func covers(have, asked string) bool {
	if have == asked {
		return true
	}
	if strings.Contains(have, "?") {
		return false
	}
	asked, _, _ = strings.Cut(asked, "?")
	h, ok := clinical(have)
	a, ok2 := clinical(asked)
	return ok && ok2 && h.level == a.level && (h.kind == "*" || h.kind == a.kind) &&
		!strings.ContainsFunc(a.letters, func(r rune) bool { return !strings.ContainsRune(h.letters, r) })
}

type clinicalScope struct{ level, kind, letters string }

// clinical takes a scope for resources apart; ok is false for all others.
func clinical(scope string) (s clinicalScope, ok bool) {
	level, rest, ok1 := strings.Cut(scope, "/")
	kind, letters, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || level != "patient" && level != "user" && level != "system" || kind == "" {
		return s, false
	}
	switch letters {
	case "read":
		letters = "rs"
	case "write":
		letters = "cud"
	case "*":
		letters = "cruds"
	}
	at := 0
	for i := range len(letters) { // in the one order that SMART App Launch 2.0 allows
		j := strings.IndexByte("cruds"[at:], letters[i])
		if j < 0 {
			return s, false
		}
		at += j + 1
	}
	return clinicalScope{level, kind, letters}, letters != ""
}

// within are those of asked that have covers. What was asked for more widely than have reaches is cut
// down to what have says.
func within(have, asked []string) []string {
	var out []string
	add := func(s string) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, a := range asked {
		if slices.ContainsFunc(have, func(h string) bool { return covers(h, a) }) {
			add(a)
			continue
		}
		for _, h := range have {
			if covers(a, h) {
				add(h)
			}
		}
	}
	return out
}

// subset reports whether have covers all of asked.
func subset(have, asked []string) bool {
	return !slices.ContainsFunc(asked, func(a string) bool {
		return !slices.ContainsFunc(have, func(h string) bool { return covers(h, a) })
	})
}

// split reads a scope parameter (RFC 6749, 3.3); ok is false where it has characters that a scope cannot have.
func split(text string) (scopes []string, ok bool) {
	if len(text) > maxScope {
		return nil, false
	}
	for _, s := range strings.Split(text, " ") {
		if s == "" || slices.Contains(scopes, s) {
			continue
		}
		for i := range len(s) {
			if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
				return nil, false
			}
		}
		scopes = append(scopes, s)
	}
	return scopes, true
}

// maxScope bounds a scope parameter, in bytes.
const maxScope = 8 << 10

// ofUser leaves out what only a backend service has.
func ofUser(scopes []string) []string {
	return slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return strings.HasPrefix(s, "system/") })
}

// needPatient reports whether scopes are about one patient.
func needPatient(scopes []string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool { return s == scopePatient || strings.HasPrefix(s, "patient/") })
}

func keepOf(scopes []string, refreshes bool) Keep {
	switch {
	case !refreshes:
		return Once
	case slices.Contains(scopes, scopeOffline):
		return Offline
	case slices.Contains(scopes, scopeOnline):
		return Online
	}
	return Once
}
