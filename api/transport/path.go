package transport

import (
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"
)

// nowhere is a path that no route can have.
const nowhere = "/."

// The base of the service. Clients that put a slash between it and the rest of
// a URL write it with a slash where there is no rest.
const (
	base        = "/fhir"
	baseSlashed = "/fhir/"
)

// normalise sends every path that is not written in the one way in which this
// server writes paths to nowhere, before it is routed: echo routes on the raw
// path, so that /%24export or a double slash would reach another handler
// than the rule that guards the plain form. All of them are the one 404, but for
// the base with a slash behind it, which is the base.
func normalise(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if r := c.Request(); !plain(r.URL) {
			u := *r.URL
			path := nowhere
			if u.Path == baseSlashed && u.RawPath == "" && u.Opaque == "" {
				path = base
			}
			u.Path, u.RawPath, u.Opaque = path, "", ""
			r.URL = &u // in place: echo routes by the request that it was given
		}
		return next(c)
	}
}

func plain(u *url.URL) bool {
	p := u.Path
	// RawPath is set to a path that has a plain star, too.
	if u.RawPath != "" && u.RawPath != p || u.Opaque != "" || len(p) < 2 || p[0] != '/' || p[len(p)-1] == '/' {
		return false
	}
	start := 1
	for i := 1; i <= len(p); i++ {
		if i == len(p) || p[i] == '/' {
			if s := p[start:i]; s == "" || s == "." || s == ".." {
				return false
			}
			start = i + 1
			continue
		}
		switch c := p[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '$', c == '*':
		default:
			return false
		}
	}
	return true
}

// origin is what Access-Control-Allow-Origin says to this request, or "".
func (t *transport) origin(r *http.Request) string {
	o := r.Header.Get("Origin")
	switch {
	case o == "":
		return ""
	case t.origins["*"]:
		return "*"
	case t.origins[o], t.Apps != nil && t.Apps(r.Context(), o):
		return o
	}
	return ""
}

// preflight reports a CORS preflight request, which browsers send without a token.
func preflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}
