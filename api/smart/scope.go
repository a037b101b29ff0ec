package smart

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/authz/smart"
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

// covers reports whether what asked opens is open by have, too: what is in both is all of asked.
func covers(have, asked string) bool {
	if have == asked {
		return true
	}
	all := smart.Parse(asked).String()
	return all != "" && smart.Narrow(have, asked) == all
}

// within are those of asked that have covers, in the words of asked. What was asked for more widely than have reaches
// is cut down to what is in both.
func within(have, asked []string) []string {
	var out []string
	add := func(scopes ...string) {
		for _, s := range scopes {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	for _, a := range asked {
		if slices.ContainsFunc(have, func(h string) bool { return covers(h, a) }) {
			add(a)
			continue
		}
		for _, h := range have {
			if smart.Parse(a).String() != "" {
				add(strings.Fields(smart.Narrow(h, a))...)
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
