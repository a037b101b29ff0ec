package backchannel

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// world knows one good token, and what it ended.
type world struct {
	fails error // what ending gives
	ended []string
}

func (w *world) Handler(log *strings.Builder) http.Handler {
	return Handler(checks{}, w, slog.New(slog.NewTextHandler(log, nil)))
}

type checks struct{}

func (checks) LoggedOut(_ context.Context, token string) (oidc.Logout, error) {
	switch token {
	case "good":
		return oidc.Logout{Issuer: "iss", Subject: "sub", SID: "sid", ID: "jti"}, nil
	case "later":
		return oidc.Logout{}, outcome.New(outcome.Unavailable, "later").Because(errors.New("the keys cannot be had"))
	}
	return oidc.Logout{}, outcome.New(outcome.Forbidden, "no").Because(errors.New("a reason for the log"))
}

func (w *world) LoggedOut(_ context.Context, issuer, subject, sid, jti string) error {
	if w.fails != nil {
		return w.fails
	}
	w.ended = append(w.ended, strings.Join([]string{issuer, subject, sid, jti}, " "))
	return nil
}

func TestAnswersToAProvider(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	down := outcome.New(outcome.Unavailable, "down").Because(errors.New("the database is down"))
	for name, c := range map[string]struct {
		method, kind, body string
		fails              error
		status             int
		says               string
	}{
		"good":                {"POST", form, "logout_token=good", nil, 200, ""},
		"good, with charset":  {"POST", form + "; charset=utf-8", "logout_token=good&more=x", nil, 200, ""},
		"not good":            {"POST", form, "logout_token=bad", nil, 400, `"invalid_request"`},
		"keys out of reach":   {"POST", form, "logout_token=later", nil, 400, `"temporarily_unavailable"`},
		"database down":       {"POST", form, "logout_token=good", down, 400, `"temporarily_unavailable"`},
		"used before":         {"POST", form, "logout_token=good", outcome.New(outcome.Value, "used"), 400, `"invalid_request"`},
		"something else":      {"POST", form, "logout_token=good", errors.New("a fault"), 400, `"temporarily_unavailable"`},
		"none":                {"POST", form, "", nil, 400, `"invalid_request"`},
		"two":                 {"POST", form, "logout_token=good&logout_token=good", nil, 400, `"invalid_request"`},
		"in the address":      {"POST", form, "", nil, 400, `"invalid_request"`},
		"JSON":                {"POST", "application/json", `{"logout_token":"good"}`, nil, 400, `"invalid_request"`},
		"no type":             {"POST", "", "logout_token=good", nil, 400, `"invalid_request"`},
		"too long":            {"POST", form, "logout_token=good&x=" + strings.Repeat("x", maxBody), nil, 400, `"invalid_request"`},
		"GET":                 {"GET", "", "", nil, 405, ""},
		"by another method":   {"PUT", form, "logout_token=good", nil, 405, ""},
		"no form, percent":    {"POST", form, "logout_token=%zz", nil, 400, `"invalid_request"`},
		"good, but by HEAD":   {"HEAD", form, "logout_token=good", nil, 405, ""},
		"good, but no POST":   {"DELETE", form, "logout_token=good", nil, 405, ""},
		"good, in a fragment": {"POST", form, "#logout_token=good", nil, 400, `"invalid_request"`},
	} {
		w, log := &world{fails: c.fails}, &strings.Builder{}
		r := httptest.NewRequest(c.method, "/smart/backchannel-logout?logout_token=good", strings.NewReader(c.body))
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		got := httptest.NewRecorder()
		w.Handler(log).ServeHTTP(got, r)
		if got.Code != c.status || !strings.Contains(got.Body.String(), c.says) || got.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
		if (len(w.ended) == 1) != (c.status == http.StatusOK) || len(w.ended) == 1 && w.ended[0] != "iss sub sid jti" {
			t.Errorf("%s: ended %q", name, w.ended)
		}
		if strings.Contains(got.Body.String(), "reason") || strings.Contains(got.Body.String(), "database") {
			t.Errorf("%s: the answer tells why: %s", name, got.Body)
		}
		if name == "not good" && !strings.Contains(log.String(), "a reason for the log") {
			t.Errorf("the log does not: %s", log)
		}
	}
}
