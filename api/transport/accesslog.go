package transport

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloister-health/cloister/api/respond"
)

// methods are the only method names that are logged: a client can invent others.
var methods = map[string]string{
	http.MethodGet: "GET", http.MethodHead: "HEAD", http.MethodPost: "POST", http.MethodPut: "PUT",
	http.MethodDelete: "DELETE", http.MethodPatch: "PATCH", http.MethodOptions: "OPTIONS",
}

// log writes one line per exchange: the pattern of the route and never the
// path or the query, which name patients.
func (t *transport) log(x *Exchange, s respond.Sent, start time.Time) {
	level := slog.LevelInfo
	if s.Status >= http.StatusInternalServerError || (s.Err != nil && s.Status < http.StatusBadRequest) {
		level = slog.LevelError
	}
	if errors.Is(s.Err, context.Canceled) {
		level = slog.LevelInfo // the client went away
	}
	if !t.Log.Enabled(x.ctx, level) {
		return
	}
	method := methods[x.Request().Method]
	if method == "" {
		method = "other"
	}
	route := x.Path()
	if route == "" || s.Status == http.StatusUnauthorized {
		route = "-"
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs,
		slog.String("request", x.Head.RequestID),
		slog.String("method", method),
		slog.String("route", route),
		slog.Int("status", s.Status),
		slog.Int("bytes", s.Bytes),
		slog.Duration("took", t.Now().Sub(start)),
	)
	if p := x.Principal; p.Tenant != 0 {
		attrs = append(attrs, slog.Int("practice", int(p.Tenant)))
	}
	if r := x.Asked; r != nil && r.Type != "" {
		attrs = append(attrs, slog.String("type", string(r.Type)))
	}
	if s.Err != nil && level == slog.LevelError {
		attrs = append(attrs, slog.String("error", reason(s.Err)))
		var p *Panic
		if errors.As(s.Err, &p) {
			attrs = append(attrs, slog.String("stack", string(p.Stack)))
		}
	}
	t.Log.LogAttrs(x.ctx, level, "exchange", attrs...)
}

// reason follows the private causes of err.
func reason(err error) string {
	text := err.Error()
	for cause := errors.Unwrap(err); cause != nil; cause = errors.Unwrap(cause) {
		text += ": " + cause.Error()
	}
	return text
}
