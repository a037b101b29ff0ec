package config

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/cloister-health/cloister/api/smart"
)

// Embedded is the value of CLOISTER_AUTHORIZATION_SERVER under which this server gives tokens itself.
const Embedded = "embedded"

// Authorization is the configuration of the embedded authorization server.
type Authorization struct {
	Identity     `embed:""`
	Directories  `embed:""`
	Providers    `embed:""`
	Server       string   `name:"authorization-server" env:"CLOISTER_AUTHORIZATION_SERVER" default:"none" help:"Who lets apps in: embedded (this server, below /smart) or none (only the providers of CLOISTER_ISSUERS)."`
	Registration string   `name:"app-registration" env:"CLOISTER_APP_REGISTRATION" default:"off" help:"Whether apps may register themselves (RFC 7591): off, pending (a practice has to approve each) or open (those for patients alone are good at once)."`
	KeyHosts     []string `name:"app-key-hosts" env:"CLOISTER_APP_KEY_HOSTS" placeholder:"HOST,..." help:"Hosts of the key sets of apps (jwks_uri) that may have an address of a private network. All others must have a public one."`
	Branding     string   `name:"branding" env:"CLOISTER_BRANDING" placeholder:"DIR" help:"Directory with the looks of practices on the pages of sign-in: NAME.json (name, color, dark) and NAME.png or NAME.svg, where NAME is the practice, or default."`
	CertHeader   string   `name:"client-certificate-header" env:"CLOISTER_CLIENT_CERTIFICATE_HEADER" placeholder:"NAME" help:"Header in which a trusted proxy tells the client certificate of a connection (RFC 9440: Client-Cert; or PEM in percent-encoding). The proxy has to remove it from what clients send. Without it no request has a certificate."`
	Proxies      []string `name:"trusted-proxies" env:"CLOISTER_TRUSTED_PROXIES" default:"127.0.0.0/8,::1/128" placeholder:"PREFIX,..." help:"Networks of the proxies before this server, whose X-Forwarded-For, and header with a client certificate, is believed. Sign-in and tokens are limited by address."`
}

// On reports whether this server gives tokens itself.
func (a Authorization) On() bool { return a.Server == Embedded }

// Check reports what is wrong.
func (a Authorization) Check() error {
	var errs []error
	switch a.Server {
	case "", "none":
	case Embedded:
		if err := a.Identity.Check(); err != nil {
			errs = append(errs, err)
		}
	default:
		errs = append(errs, fault("CLOISTER_AUTHORIZATION_SERVER", "is %q: set it to embedded or none", a.Server))
	}
	errs = append(errs, a.Directories.Check())
	if a.Registration != "" && !smart.Policy(a.Registration).Valid() {
		errs = append(errs, fault("CLOISTER_APP_REGISTRATION", "is %q: set it to off, pending or open", a.Registration))
	}
	for _, h := range a.KeyHosts {
		if h == "" || strings.ContainsAny(h, "/:@ ") {
			errs = append(errs, fault("CLOISTER_APP_KEY_HOSTS", "holds %q: write names of hosts alone, separated by commas", h))
		}
	}
	if err := a.checkProviders(); err != nil {
		errs = append(errs, err)
	}
	if _, err := a.TrustedProxies(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// TrustedProxies are the networks of the proxies.
func (a Authorization) TrustedProxies() ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(a.Proxies))
	for _, text := range a.Proxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fault("CLOISTER_TRUSTED_PROXIES", "holds %q: write networks as 10.0.0.0/8, separated by commas", text)
		}
		out = append(out, p)
	}
	return out, nil
}
