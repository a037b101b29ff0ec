// Package backchannel takes the word of identity providers that a session of theirs has ended (OpenID Connect Back-Channel Logout 1.0).
package backchannel

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net/http"

	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Party checks logout tokens.
type Party interface {
	LoggedOut(ctx context.Context, token string) (oidc.Logout, error)
}

// Sessions are those that can be ended, with what was granted in them.
type Sessions interface {
	// LoggedOut is an error for a jti that was used before.
	LoggedOut(ctx context.Context, issuer, subject, sid, jti string) error
}

// maxBody bounds a request, in bytes: a logout token and its name.
const maxBody = 32 << 10

// Handler answers POST with a logout token (section 2.5): 200 when what it is about has ended, and 400 when not, whatever the
// reason, as section 2.8 wants it. The body of a refusal is the JSON of an OAuth error.
func Handler(p Party, s Sessions, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" || r.ParseForm() != nil {
			refuse(w, `{"error":"invalid_request","error_description":"this is no form"}`)
			return
		}
		if len(r.PostForm["logout_token"]) != 1 {
			refuse(w, `{"error":"invalid_request","error_description":"there is not one logout_token"}`)
			return
		}
		if err := end(r.Context(), p, s, r.PostForm.Get("logout_token")); err != nil {
			cause := errors.Unwrap(err)
			if cause == nil {
				cause = err
			}
			log.WarnContext(r.Context(), "a logout of an identity provider was not taken", "error", cause)
			var known *outcome.Error
			if errors.As(err, &known) && known.Status() < http.StatusInternalServerError {
				refuse(w, `{"error":"invalid_request","error_description":"the logout token is not good"}`)
				return
			}
			refuse(w, `{"error":"temporarily_unavailable","error_description":"the logout did not succeed: send it again"}`)
			return
		}
		w.WriteHeader(http.StatusOK)
	})
}

func end(ctx context.Context, p Party, s Sessions, token string) error {
	out, err := p.LoggedOut(ctx, token)
	if err != nil {
		return err //nolint:wrapcheck // an outcome
	}
	return s.LoggedOut(ctx, out.Issuer, out.Subject, out.SID, out.ID) //nolint:wrapcheck // as above
}

func refuse(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write([]byte(body)) // a client that went away is not our fault
}
