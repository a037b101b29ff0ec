// Package issuer is the local OpenID issuer of `cloister dev`: it gives a token
// to whoever asks, so it listens on the loopback interface only.
//
// No other command wires it, and serve accepts issuers over https alone, which
// this one does not speak.
package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/authz"
)

// Claims is what a token says of its holder; empty claims are left out. The
// names are those that package authz/oidc reads.
type Claims struct {
	Subject       string   `json:"sub"`
	Scope         string   `json:"scope,omitempty"`
	Practice      string   `json:"practice,omitempty"`
	Roles         []string `json:"roles,omitempty"`
	Organizations []string `json:"organizations,omitempty"`
	Purpose       string   `json:"purpose_of_use,omitempty"`
	User          string   `json:"fhirUser,omitempty"`
	Patient       string   `json:"patient,omitempty"`
	Client        string   `json:"client_id,omitempty"`
}

// Persona is somebody whom the page of personas offers a token for.
type Persona struct {
	Name  string // one word, such as "therapist": the parameter of the token endpoint
	About string // one sentence
	Try   []Request
	Claims
}

// Request is one request that shows what a persona can do, and what not.
type Request struct {
	Command string // to paste into a shell that has the token in TOKEN
	Expect  string // what to look for in the answer
}

// Config says who the issuer is.
type Config struct {
	URL      string // the issuer, such as http://127.0.0.1:8081: what tokens carry as iss
	Audience string // the base URL of the server whose tokens it makes
	KeyFile  string // where the signing key is kept, so that tokens survive a restart
	Personas []Persona
	Lifetime time.Duration // of tokens from the page and the token endpoint
	Now      func() time.Time

	// SignIn is how a persona signs in with the embedded authorization server at this moment; ok is false for one
	// without an account. nil: nobody has one.
	SignIn   func(persona string) (c Credentials, ok bool)
	Demo     string // origin of the demo app, which may ask for tokens, or ""
	Patients []Patient
}

// Credentials are what a persona types on the pages of sign-in.
type Credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Code     string `json:"code,omitempty"` // of the second step; it is good for half a minute
}

// Patient is one for whom the demo app can be launched as from an EHR.
type Patient struct{ ID, Name string }

// Issuer makes tokens and serves what is needed to check them.
type Issuer struct {
	cfg    Config
	signer jose.Signer
	keys   jose.JSONWebKeySet
	launch func(ctx context.Context, persona, patient string) (string, error)
}

// LaunchWith says how the demo app is launched for a patient, as an EHR does it. It gives the address for the browser.
func (i *Issuer) LaunchWith(launch func(ctx context.Context, persona, patient string) (string, error)) {
	i.launch = launch
}

// New reads the signing key, or makes one.
func New(cfg Config) (*Issuer, error) {
	if cfg.URL == "" || cfg.Audience == "" || cfg.Lifetime <= 0 || cfg.Now == nil {
		return nil, errors.New("issuer: URL, Audience, Lifetime and Now are required")
	}
	key, err := openKey(cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return &Issuer{cfg: cfg, signer: signer, keys: jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}}, nil
}

// Mint signs an access token (RFC 9068) that is valid for ttl from now.
func (i *Issuer) Mint(c Claims, ttl time.Duration) (string, error) {
	if c.Subject == "" || ttl <= 0 {
		return "", errors.New("issuer: a token needs a subject and a lifetime")
	}
	if slices.Contains(c.Roles, authz.Operator) {
		return "", errors.New("issuer: operator is the role of the command line and never in a token")
	}
	now := i.cfg.Now()
	payload, err := json.Marshal(struct {
		Issuer   string `json:"iss"`
		Audience string `json:"aud"`
		IssuedAt int64  `json:"iat"`
		Expiry   int64  `json:"exp"`
		SignedIn int64  `json:"auth_time"` // whoever asks for a token signs in by that
		Claims
	}{i.cfg.URL, i.cfg.Audience, now.Unix(), now.Add(ttl).Unix(), now.Unix(), c})
	if err != nil {
		return "", fmt.Errorf("issuer: %w", err)
	}
	signed, err := i.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("issuer: %w", err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("issuer: %w", err)
	}
	return text, nil
}

// Listen opens a TCP address on the loopback interface, and refuses any other.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("issuer: %s is not on the loopback interface: whoever reaches this issuer gets any token", address)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() { // a hosts file can send localhost anywhere
		_ = l.Close()
		return nil, fmt.Errorf("issuer: %s is not on the loopback interface", address)
	}
	return l, nil
}

// openKey reads the key file (a JWK, mode 0600) or makes it.
func openKey(path string) (jose.JSONWebKey, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the caller's own data directory
	if errors.Is(err, os.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("issuer: %w", err)
	}
	var key jose.JSONWebKey
	err = key.UnmarshalJSON(text)
	if private, ok := key.Key.(*ecdsa.PrivateKey); err != nil || !ok || private.Curve != elliptic.P256() || key.KeyID == "" {
		return jose.JSONWebKey{}, fmt.Errorf("issuer: %s holds no ES256 key: remove it, and a new one is made", path)
	}
	return key, nil
}

func makeKey(path string) (jose.JSONWebKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("issuer: %w", err)
	}
	key := jose.JSONWebKey{Key: private, Algorithm: string(jose.ES256), Use: "sig"}
	thumb, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("issuer: %w", err)
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(thumb[:sha256.Size/2])
	text, err := key.MarshalJSON()
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("issuer: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("issuer: %w", err)
	}
	// Written beside its place and moved, so that an interrupted start leaves no half key.
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("issuer: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("issuer: %w", err)
	}
	return key, nil
}

// Handler serves the discovery document, the key set, the token endpoint and the page of personas.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, i.keys) })
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("GET /personas", i.personas)
	mux.HandleFunc("GET /sign-in/{persona}", i.signIn)
	mux.HandleFunc("POST /launch", i.launchDemo)
	mux.Handle("GET /{$}", http.RedirectHandler("/personas", http.StatusFound))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A web page whose name was made to resolve to 127.0.0.1 comes with that name as Host.
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "this issuer answers to its own machine only", http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// discovery is the document of OpenID Connect Discovery 1.0, section 3.
func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"issuer":                                i.cfg.URL,
		"jwks_uri":                              i.cfg.URL + "/keys",
		"token_endpoint":                        i.cfg.URL + "/token",
		"response_types_supported":              []string{"token"},
		"grant_types_supported":                 []string{"client_credentials"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
		"token_endpoint_auth_methods_supported": []string{"none"},
	})
}

// token is the token endpoint (RFC 6749, section 4.4), with the persona's name as client_id.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	if i.cfg.Demo != "" && r.Header.Get("Origin") == i.cfg.Demo {
		w.Header().Set("Access-Control-Allow-Origin", i.cfg.Demo)
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	if r.PostFormValue("grant_type") != "client_credentials" {
		answer(w, http.StatusBadRequest, map[string]string{"error": "unsupported_grant_type"})
		return
	}
	name := r.PostFormValue("client_id")
	for _, p := range i.cfg.Personas {
		if p.Name != name {
			continue
		}
		text, err := i.Mint(p.Claims, i.cfg.Lifetime)
		if err != nil {
			answer(w, http.StatusInternalServerError, map[string]string{"error": "server_error"})
			return
		}
		answer(w, http.StatusOK, map[string]any{
			"access_token": text, "token_type": "Bearer", "expires_in": int(i.cfg.Lifetime.Seconds()), "scope": p.Scope,
		})
		return
	}
	answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
}

// signIn gives what a persona types, to programs that test the pages.
func (i *Issuer) signIn(w http.ResponseWriter, r *http.Request) {
	if i.cfg.SignIn != nil {
		if c, ok := i.cfg.SignIn(r.PathValue("persona")); ok {
			answer(w, http.StatusOK, c)
			return
		}
	}
	answer(w, http.StatusNotFound, map[string]string{"error": "no account"})
}

// launchDemo plays the EHR: a form of the page of personas names a patient, and the browser goes to the app.
func (i *Issuer) launchDemo(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	if i.launch == nil || r.Header.Get("Origin") != i.cfg.URL {
		http.Error(w, "the app is launched from the page of personas", http.StatusForbidden)
		return
	}
	to, err := i.launch(r.Context(), r.PostFormValue("persona"), r.PostFormValue("patient"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func answer(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(doc); err != nil {
		return // the client went away
	}
}
