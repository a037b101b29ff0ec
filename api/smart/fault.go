package smart

import (
	"context"
	"errors"
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// A fault is told to the client by its code and one sentence of ours; what caused it is for the log.

func badRequest(text string) *oidc.Error {
	return &oidc.Error{ErrorType: oidc.InvalidRequest, Description: text}
}

func badScope(text string) *oidc.Error {
	return &oidc.Error{ErrorType: oidc.InvalidScope, Description: text}
}

// badGrant is the one answer to every code and refresh token that is not good.
func badGrant() *oidc.Error {
	return &oidc.Error{ErrorType: oidc.InvalidGrant, Description: "the code or token is not good, or not any more"}
}

// badClient is the one answer to whoever does not prove to be a registered app (RFC 6749, 5.2).
func badClient() error {
	return op.NewStatusError(&oidc.Error{ErrorType: oidc.InvalidClient, Description: "the app is not known, or did not prove who it is as it registered"}, http.StatusUnauthorized)
}

func notAllowed(text string) *oidc.Error {
	return &oidc.Error{ErrorType: oidc.UnauthorizedClient, Description: text}
}

func badToken() error {
	return op.NewStatusError(&oidc.Error{ErrorType: "invalid_token", Description: "a valid access token is required"}, http.StatusUnauthorized)
}

func tooMany() error {
	return op.NewStatusError(&oidc.Error{ErrorType: "temporarily_unavailable", Description: "too many requests: wait a minute"}, http.StatusTooManyRequests)
}

// failed is what a client learns of a fault of ours.
func failed(text string) error {
	return op.NewStatusError(&oidc.Error{ErrorType: "temporarily_unavailable", Description: text}, http.StatusServiceUnavailable)
}

// fault gives err its public form: an OAuth error as it is, anything else as one sentence. What is not the client's fault is logged.
func (s *Server) fault(ctx context.Context, err error) error {
	var status op.StatusError
	var oauth *oidc.Error
	if err == nil || errors.As(err, &status) || errors.As(err, &oauth) {
		return err
	}
	var public *outcome.Error
	cause := err
	if errors.As(err, &public) && errors.Unwrap(public) != nil {
		cause = errors.Unwrap(public)
	}
	if !errors.Is(err, context.Canceled) {
		s.Log.ErrorContext(ctx, "the authorization server failed", "error", cause.Error())
	}
	return failed("the server cannot do this now: try again")
}

// reasonOf is why a request was refused, for the audit trail.
func reasonOf(err error) audit.Reason {
	var oauth *oidc.Error
	if !errors.As(err, &oauth) {
		return audit.ReasonNotPermitted
	}
	switch oauth.ErrorType {
	case oidc.InvalidClient:
		return audit.ReasonClient
	case oidc.InvalidScope:
		return audit.ReasonScope
	case oidc.InvalidGrant:
		return audit.ReasonGrant
	}
	return audit.ReasonNotPermitted
}
