package transport

import (
	"errors"
	"net/http"
	"strings"

	"github.com/cloister-health/cloister/fhir/outcome"
)

var errLogin = outcome.New(outcome.Login, "")

// authenticate reads the one Authorization header (RFC 6750 section 2.1). A
// token in the query or in a form body is no token.
func (t *transport) authenticate(x *Exchange, r *http.Request) error {
	fields := r.Header["Authorization"]
	if len(fields) == 0 {
		return errLogin
	}
	x.Head.Challenge = `Bearer error="invalid_token"`
	if len(fields) > 1 {
		return errLogin
	}
	token, ok := bearer(fields[0])
	if !ok {
		return errLogin
	}
	p, err := t.Authenticator.Authenticate(x.ctx, token)
	if err != nil {
		var public *outcome.Error
		if errors.As(err, &public) && public.Status() == http.StatusServiceUnavailable {
			return err
		}
		return errLogin.Because(err)
	}
	p.RequestID = x.Head.RequestID
	x.Principal = p
	return nil
}

// maxToken bounds what is handed to a verifier, in bytes.
const maxToken = 16 << 10

func bearer(field string) (string, bool) {
	scheme, token, ok := strings.Cut(field, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken {
		return "", false
	}
	for i := 0; i < len(token); i++ {
		if !tokenBytes[token[i]] {
			return "", false
		}
	}
	return token, true
}

// tokenBytes are those of a b64token (RFC 6750 section 2.1).
var tokenBytes = func() (in [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=" {
		in[c] = true
	}
	return in
}()
