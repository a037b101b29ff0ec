package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// claims is what the one token of a run says of its holder, see package oidc.
type claims struct {
	Subject       string   `json:"sub"`
	Scope         string   `json:"scope"`
	Practice      string   `json:"practice"`
	Roles         []string `json:"roles"`
	Organizations []string `json:"organizations,omitempty"`
	Purpose       string   `json:"purpose_of_use"`
	User          string   `json:"fhirUser,omitempty"`
	Client        string   `json:"client_id"`
}

// lifetime is longer than any measurement.
const lifetime = 24 * time.Hour

// identity signs one token with a key that lives in memory and is never used
// again, and publishes what is needed to check it until stop is called. It
// gives nobody another token.
func identity(ctx context.Context, audience string, c claims) (iss, token string, stop func(), err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", nil, fmt.Errorf("bench: %w", err)
	}
	private := jose.JSONWebKey{Key: key, KeyID: "bench", Algorithm: string(jose.ES256), Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return "", "", nil, fmt.Errorf("bench: %w", err)
	}
	address, stop, err := serve(ctx, func(address string) (http.Handler, error) {
		iss = "http://" + address
		mux := http.NewServeMux()
		for path, doc := range map[string]any{
			"GET /.well-known/openid-configuration": map[string]any{
				"issuer": iss, "jwks_uri": iss + "/keys", "id_token_signing_alg_values_supported": []string{string(jose.ES256)},
			},
			"GET /keys": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{private.Public()}},
		} {
			text, err := json.Marshal(doc)
			if err != nil {
				return nil, fmt.Errorf("bench: %w", err)
			}
			mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(text)
			})
		}
		return mux, nil
	})
	if err != nil {
		return "", "", nil, err
	}
	now := time.Now()
	payload, err := json.Marshal(struct {
		Issuer   string `json:"iss"`
		Audience string `json:"aud"`
		IssuedAt int64  `json:"iat"`
		Expiry   int64  `json:"exp"`
		claims
	}{"http://" + address, audience, now.Unix(), now.Add(lifetime).Unix(), c})
	if err == nil {
		var signed *jose.JSONWebSignature
		if signed, err = signer.Sign(payload); err == nil {
			token, err = signed.CompactSerialize()
		}
	}
	if err != nil {
		stop()
		return "", "", nil, fmt.Errorf("bench: %w", err)
	}
	return iss, token, stop, nil
}
