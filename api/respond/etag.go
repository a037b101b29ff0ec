package respond

import (
	"net/http"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// ETag is the weak entity tag of a version (R4 http.html, "managing resource contention").
func ETag(v fhir.VersionID) string { return `W/"` + v.String() + `"` }

// ParseETag reads the version in an If-Match value; ok is false for anything
// but one tag of the form that this server writes. The strong form is accepted too.
func ParseETag(s string) (v fhir.VersionID, ok bool) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "W/")
	if len(s) < 3 || s[0] != '"' || s[len(s)-1] != '"' {
		return 0, false
	}
	return fhir.ParseVersionID(s[1 : len(s)-1])
}

// unchanged reports whether the client of a conditional read already holds
// this version. If-None-Match, where it is given, decides alone (RFC 9110 section 13.2.2).
func (c Conditions) unchanged(v fhir.VersionID, updated time.Time) bool {
	if c.IfNoneMatch != "" {
		for _, tag := range strings.Split(c.IfNoneMatch, ",") {
			if strings.TrimSpace(tag) == "*" {
				return true
			}
			if w, ok := ParseETag(tag); ok && w == v {
				return true
			}
		}
		return false
	}
	if c.IfModifiedSince == "" {
		return false
	}
	since, err := http.ParseTime(c.IfModifiedSince)
	return err == nil && !updated.Truncate(time.Second).After(since)
}
