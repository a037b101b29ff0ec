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

// claims is what a token says of its holder, see package oidc.
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

// issuer signs tokens with a key that lives in memory and is never used again,
// and publishes what is needed to check them until stop is called.
type issuer struct {
	url    string
	signer jose.Signer
	stop   func()
}

func newIssuer(ctx context.Context) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	private := jose.JSONWebKey{Key: key, KeyID: "bench", Algorithm: string(jose.ES256), Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	i := &issuer{signer: signer}
	_, i.stop, err = serve(ctx, func(address string) (http.Handler, error) {
		i.url = "http://" + address
		mux := http.NewServeMux()
		for path, doc := range map[string]any{
			"GET /.well-known/openid-configuration": map[string]any{
				"issuer": i.url, "jwks_uri": i.url + "/keys", "id_token_signing_alg_values_supported": []string{string(jose.ES256)},
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
		return nil, err
	}
	return i, nil
}

// token says c of its holder, to a server of that audience.
func (i *issuer) token(audience string, c claims) (string, error) {
	now := time.Now()
	payload, err := json.Marshal(struct {
		Issuer   string `json:"iss"`
		Audience string `json:"aud"`
		IssuedAt int64  `json:"iat"`
		Expiry   int64  `json:"exp"`
		claims
	}{i.url, audience, now.Unix(), now.Add(lifetime).Unix(), c})
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	signed, err := i.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	return text, nil
}
