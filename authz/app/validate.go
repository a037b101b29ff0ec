package app

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
)

const (
	maxList = 64
	maxName = 200
	maxKeys = 16 << 10
)

var (
	identifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	scopeToken = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]{1,512}$`) // RFC 6749, 3.3
	purpose    = regexp.MustCompile(`^[A-Z][A-Z-]{0,63}$`)
	profile    = regexp.MustCompile(`^[a-z][a-z-]{0,63}$`)
	role       = regexp.MustCompile(`^[a-z][a-z-]{0,63}$`)
	scheme     = regexp.MustCompile(`^[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+$`) // reverse domain name (RFC 8252, 7.1)
)

// Validate says everything that is wrong with the registration, or nil. A fault names the member of the
// client metadata (RFC 7591, section 2) and never quotes a secret or a key.
func (a App) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !identifier.MatchString(a.ID) || a.ID == Self {
		fault("client_id: use letters, digits, '.', '_' and '-', 128 at most")
	}
	for name, text := range map[string]string{"client_name": a.Name, "publisher": a.Publisher} {
		if len(text) > maxName || strings.ContainsFunc(text, hidden) {
			fault("%s: at most %d bytes of printable text", name, maxName)
		}
	}
	if strings.TrimSpace(a.Name) == "" {
		fault("client_name: people must be shown a name")
	}
	for name, list := range map[string]int{
		"redirect_uris": len(a.Redirects), "post_logout_redirect_uris": len(a.LogoutRedirects), "origins": len(a.Origins), "grant_types": len(a.Grants),
		"scope": len(a.Scopes), "purposes_of_use": len(a.Purposes), "roles": len(a.Roles), "organizations": len(a.Organizations),
	} {
		if list > maxList {
			fault("%s: at most %d", name, maxList)
		}
	}
	for name, uri := range map[string]string{"client_uri": a.Homepage, "initiate_login_uri": a.LaunchURI} {
		if uri != "" && !web(uri) {
			fault("%s: an https URL without a fragment", name)
		}
	}
	errs = append(errs, a.validateAuth(), a.validateGrants(), a.validateURIs(), a.validateReach())
	return errors.Join(errs...)
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }

func (a App) validateAuth() error {
	keys := len(a.JWKS) > 0 || a.JWKSURI != ""
	switch a.Auth {
	case None:
		if keys || len(a.Secret) > 0 {
			return errors.New("token_endpoint_auth_method: none has neither keys nor a secret")
		}
		if a.Introspects {
			return errors.New("token_endpoint_auth_method: a resource server has to prove who it is")
		}
	case SecretBasic, SecretPost:
		if keys || len(a.Secret) != 32 {
			return errors.New("token_endpoint_auth_method: one with a secret needs a secret, and no keys")
		}
	case PrivateKeyJWT:
		switch {
		case len(a.Secret) > 0:
			return errors.New("token_endpoint_auth_method: private_key_jwt has no secret")
		case !keys || len(a.JWKS) > 0 && a.JWKSURI != "":
			return errors.New("jwks, jwks_uri: private_key_jwt needs exactly one of them")
		case a.JWKSURI != "" && !secure(a.JWKSURI):
			return errors.New("jwks_uri: an https URL without credentials or fragment")
		case len(a.JWKS) > 0:
			if _, err := Keys(a.JWKS); err != nil {
				return fmt.Errorf("jwks: %w", err)
			}
		}
	default:
		return errors.New("token_endpoint_auth_method: one of none, client_secret_basic, client_secret_post, private_key_jwt")
	}
	return nil
}

// Keys reads a JSON Web Key Set of public keys that can check assertions. Each has a kid of its own.
func Keys(text []byte) (jose.JSONWebKeySet, error) {
	var set jose.JSONWebKeySet
	if len(text) > maxKeys {
		return set, errors.New("the key set is too large")
	}
	if json.Unmarshal(text, &set) != nil || len(set.Keys) == 0 || len(set.Keys) > maxList {
		return jose.JSONWebKeySet{}, errors.New("it is no JSON Web Key Set with keys")
	}
	var seen []string
	for _, k := range set.Keys {
		switch {
		case !k.Valid() || !k.IsPublic():
			return jose.JSONWebKeySet{}, errors.New("it holds something else than valid public keys: never send a private key")
		case unfit(k.Key):
			return jose.JSONWebKeySet{}, errors.New("an RSA key has 2048 to 8192 bits (NIST SP 800-131A)")
		case k.KeyID == "" || slices.Contains(seen, k.KeyID):
			return jose.JSONWebKeySet{}, errors.New("each key needs a kid of its own")
		}
		seen = append(seen, k.KeyID)
	}
	return set, nil
}

// The sizes of a modulus that are taken, in bits: below, a signature can be forged; beyond, checking one costs a server too much.
const (
	leastRSA = 2048
	mostRSA  = 8192
)

func unfit(key any) bool {
	k, ok := key.(*rsa.PublicKey)
	return ok && (k.N.BitLen() < leastRSA || k.N.BitLen() > mostRSA)
}

func (a App) validateGrants() error {
	if a.Host && (a.Dynamic || !a.May(Code)) {
		return errors.New("host: it is for an app with users, which somebody here registered")
	}
	if len(a.Grants) == 0 && !a.Introspects {
		return errors.New("grant_types: at least one")
	}
	for _, g := range a.Grants {
		if g != Code && g != Refresh && g != ClientCredentials {
			return fmt.Errorf("grant_types: only %s, %s and %s are possible", Code, Refresh, ClientCredentials)
		}
	}
	switch {
	case a.Backend() && (len(a.Grants) > 1 || len(a.Redirects) > 0):
		return fmt.Errorf("grant_types: an app with %s has no other and no redirect_uris: register two apps", ClientCredentials)
	case a.Backend() && a.Everywhere:
		return errors.New("grant_types: a practice has to approve a backend service")
	case a.Backend() && a.Auth != PrivateKeyJWT:
		return fmt.Errorf("token_endpoint_auth_method: %s needs %s (SMART App Launch 2.2, Backend Services)", ClientCredentials, PrivateKeyJWT)
	case a.May(Refresh) && !a.May(Code):
		return fmt.Errorf("grant_types: %s needs %s", Refresh, Code)
	case a.May(Code) && len(a.Redirects) == 0:
		return errors.New("redirect_uris: at least one")
	}
	return nil
}

func (a App) validateURIs() error {
	var errs []error
	for _, r := range a.Redirects {
		if !a.redirect(r) {
			errs = append(errs, errors.New("redirect_uris: each is an https URL, one to a loopback address, or (for an app with none as its authentication) one with a scheme in reverse domain notation; all without fragment"))
			break
		}
	}
	for _, r := range a.LogoutRedirects {
		if !a.redirect(r) {
			errs = append(errs, errors.New("post_logout_redirect_uris: as redirect_uris"))
			break
		}
	}
	for _, o := range a.Origins {
		if u, err := url.Parse(o); err != nil || OriginOf(o) != o || u.Scheme != "https" && !local(u) {
			errs = append(errs, errors.New("origins: each as a browser sends it, such as https://app.example.org"))
			break
		}
	}
	return errors.Join(errs...)
}

func (a App) redirect(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || len(uri) > maxURI || u.Fragment != "" || strings.Contains(uri, "#") || u.User != nil || strings.ContainsFunc(uri, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '"' || r == '<' || r == '>' || r == '\\' || r == '*'
	}) {
		return false
	}
	switch u.Scheme {
	case "https":
		return u.Hostname() != "" && u.Opaque == ""
	case "http":
		return local(u) && u.Opaque == ""
	default:
		return a.Auth == None && scheme.MatchString(u.Scheme)
	}
}

// local reports a host that is this machine whatever the network says.
func local(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

func secure(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && len(uri) <= maxURI && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

func web(uri string) bool {
	u, err := url.Parse(uri)
	return secure(uri) || err == nil && len(uri) <= maxURI && u.Scheme == "http" && local(u) && u.User == nil && u.Fragment == ""
}

// validateReach checks what the app may ask for.
func (a App) validateReach() error {
	var errs []error
	for _, s := range a.Scopes {
		if !scopeToken.MatchString(s) {
			errs = append(errs, errors.New("scope: a scope has characters that RFC 6749 3.3 does not allow"))
			break
		}
		level, _, clinical := strings.Cut(s, "/")
		if clinical && level != "launch" && smart.Parse(s).String() == "" {
			errs = append(errs, errors.New("scope: a scope for resources is malformed (SMART App Launch 2.2, Scopes for requesting FHIR Resources)"))
			break
		}
		if clinical && a.Backend() != (level == "system") && level != "launch" {
			errs = append(errs, errors.New("scope: system/ scopes are for backend services, and they have no others"))
			break
		}
	}
	for _, p := range a.Purposes {
		if !purpose.MatchString(p) {
			errs = append(errs, errors.New("purposes_of_use: codes of v3-ActReason"))
			break
		}
	}
	if len(a.Grants) > 0 && (len(a.Purposes) == 0 || len(a.Scopes) == 0) {
		errs = append(errs, errors.New("scope, purposes_of_use: at least one of each"))
	}
	if a.Backend() != (len(a.Roles) > 0) || !a.Backend() && len(a.Organizations) > 0 {
		errs = append(errs, errors.New("roles, organizations: a backend service has its own; the users of other apps bring theirs"))
	}
	if a.Profile != "" && (!a.Backend() || !profile.MatchString(a.Profile)) {
		errs = append(errs, errors.New("release_profile: the name of a profile, of a backend service alone"))
	}
	for _, r := range a.Roles {
		if !role.MatchString(r) || r == authz.Operator {
			errs = append(errs, errors.New("roles: one that an app can have"))
			break
		}
	}
	for _, o := range a.Organizations {
		if !o.Valid() {
			errs = append(errs, errors.New("organizations: logical ids of Organizations"))
			break
		}
	}
	return errors.Join(errs...)
}
