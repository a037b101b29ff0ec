package api

import (
	"context"
	"net/http"

	"github.com/cloister-health/cloister/api/respond"
)

// keys answers GET [base]/.well-known/consent-jwks.json: the keys by which anybody can
// check the signature of a Consent of which she has a copy.
func (s *server) keys() (respond.Handler, error) {
	set, err := s.Gate.JWKS()
	if err != nil {
		return nil, err
	}
	resp := respond.Document(http.StatusOK, set, "application/jwk-set+json", "")
	return func(context.Context, *respond.Request) (respond.Response, error) { return resp, nil }, nil
}
