// Package smart is the authorization server of SMART App Launch 2.2: it lets registered apps act
// for the users who agreed, and backend services for themselves.
//
// The protocol core is zitadel/oidc's op.Server. What is ours is who may ask for what, launch
// context, the life of grants, and the claims of tokens.
package smart

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Policy says whether apps may register themselves (RFC 7591).
type Policy string

// The policies.
const (
	RegistrationOff     Policy = "off"
	RegistrationPending Policy = "pending" // a practice has to approve each
	RegistrationOpen    Policy = "open"    // those for patients alone are good at once, all others wait
)

// Valid reports one of the three.
func (p Policy) Valid() bool {
	return p == RegistrationOff || p == RegistrationPending || p == RegistrationOpen
}

// Life is how long things last.
const (
	accessLife      = 5 * time.Minute
	idLife          = 5 * time.Minute
	codeLife        = time.Minute
	launchLife      = time.Minute
	pushedLife      = time.Minute
	interactionLife = 30 * time.Minute
	// offlineIdle is how long a refresh token of offline_access may lie unused, offlineLife how long its grant can be refreshed.
	offlineIdle = 90 * 24 * time.Hour
	offlineLife = 365 * 24 * time.Hour
	onlineLife  = 24 * time.Hour
	// assertionLife is how far in the future an assertion may expire (SMART App Launch 2.2, Client Authentication: Asymmetric).
	assertionLife = 5 * time.Minute
	// skew is by how much clocks may differ.
	skew = 30 * time.Second
)

// Authenticator turns an access token into whom it proves; package authz/oidc does.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string) (authz.Principal, error)
}

// Ended is told which grants ended, and knows; package authz/oidc has it.
type Ended interface {
	Add(keys ...string)
	Any(keys ...string) (bool, error)
}

// Practices knows the practices of this server.
type Practices interface {
	// Tenant gives the id of the practice with that slug.
	Tenant(slug string) (int32, bool)
}

// Config wires the server. All of it is required but Address, KeyHosts, Limits and Registration.
type Config struct {
	Issuer   string // URL, without a slash at its end
	FHIRBase string // what apps send as aud, and tokens carry
	SignIn   string // URL of the pages: an interaction's id is put behind it
	SignOut  string // where a user without an app to return to goes after she signed out

	Store         Store
	Keys          *Ring
	People        People
	Practices     Practices
	Ended         Ended
	Authenticator Authenticator // of the FHIR API: POST /launch stands on it
	Audit         Auditor

	Registration Policy // "" is off
	// Address is where a request comes from; nil takes that of the connection.
	Address func(*http.Request) netip.Addr
	// KeyHosts are hosts of jwks_uri that may have an address of a private network.
	KeyHosts []string
	// Client fetches key sets; nil is one that reaches public addresses and KeyHosts over https alone.
	Client *http.Client
	Limits Limits // the zero value means DefaultLimits
	Log    *slog.Logger
	Now    func() time.Time // the one clock
}

// quiet is where op logs to: what it logs quotes requests.
var quiet = slog.New(slog.DiscardHandler)

func (c *Config) check() error {
	for name, text := range map[string]string{"Issuer": c.Issuer, "FHIRBase": c.FHIRBase, "SignIn": c.SignIn, "SignOut": c.SignOut} {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(text, "/") {
			return errors.New("smart: " + name + " is no plain http(s) URL without a slash at its end")
		}
	}
	switch {
	case c.Store == nil:
		return errors.New("smart: Store is missing")
	case c.Keys == nil:
		return errors.New("smart: Keys is missing")
	case c.People == nil:
		return errors.New("smart: People is missing")
	case c.Practices == nil:
		return errors.New("smart: Practices is missing")
	case c.Ended == nil:
		return errors.New("smart: Ended is missing")
	case c.Authenticator == nil:
		return errors.New("smart: Authenticator is missing")
	case c.Audit == nil:
		return errors.New("smart: Audit is missing")
	case c.Log == nil || c.Now == nil:
		return errors.New("smart: Log or Now is missing")
	case c.Registration != "" && !c.Registration.Valid():
		return errors.New("smart: Registration is none of off, pending and open")
	}
	return nil
}

// Server is the authorization server. It is safe for concurrent use.
type Server struct {
	Config
	secure  bool
	keySets *keySets
	limits  *limiter
	origins *origins
	handler http.Handler
}

// New wires the server.
func New(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Registration == "" {
		c.Registration = RegistrationOff
	}
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits
	}
	if c.Address == nil {
		c.Address = Address(nil)
	}
	if c.Client == nil {
		c.Client = keyClient(c.KeyHosts)
	}
	s := &Server{Config: c, secure: strings.HasPrefix(c.Issuer, "https://")}
	s.keySets = newKeySets(c.Client, c.Now)
	s.limits = newLimiter(c.Limits, c.Now)
	s.origins = &origins{store: c.Store, now: c.Now}
	core := op.RegisterServer(&provider{s: s}, op.Endpoints{
		Authorization: op.NewEndpoint(pathAuthorize), Token: op.NewEndpoint(pathToken), Introspection: op.NewEndpoint(pathIntrospect),
		Userinfo: op.NewEndpoint(pathUserinfo), Revocation: op.NewEndpoint(pathRevoke), EndSession: op.NewEndpoint(pathEndSession), JwksURI: op.NewEndpoint(pathKeys),
	}, op.WithServerCORSOptions(nil), op.WithFallbackLogger(quiet))
	s.handler = s.transport(core)
	return s, nil
}

// Handler answers below the issuer; the caller strips the issuer's path.
func (s *Server) Handler() http.Handler { return s.handler }

// The paths below the issuer.
const (
	pathDiscovery  = "/.well-known/openid-configuration"
	pathKeys       = "/keys"
	pathAuthorize  = "/authorize"
	pathToken      = "/token"
	pathIntrospect = "/introspect"
	pathRevoke     = "/revoke"
	pathRegister   = "/register"
	pathPushed     = "/par"
	pathUserinfo   = "/userinfo"
	pathEndSession = "/end-session"
	pathLaunch     = "/launch"
)

// Paths lists the paths that [Server.Handler] answers, below the issuer.
func Paths() []string {
	return []string{pathDiscovery, pathKeys, pathAuthorize, pathToken, pathIntrospect, pathRevoke, pathRegister, pathPushed, pathUserinfo, pathEndSession, pathLaunch, pathStyle}
}

// end ends grants, here at once.
func (s *Server) end(ctx context.Context, e End) error {
	keys, err := s.Store.EndGrants(context.WithoutCancel(ctx), e, s.Now())
	if err != nil {
		return unavailable(err)
	}
	s.Ended.Add(keys...)
	return nil
}

// EndAccount ends all grants of an account: it was disabled.
func (s *Server) EndAccount(ctx context.Context, account string) error {
	return s.revoke(ctx, End{Account: account}, audit.Security{Account: account})
}

// EndSession ends the grants that live as long as a session.
func (s *Server) EndSession(ctx context.Context, account, session string) error {
	return s.revoke(ctx, End{Session: session}, audit.Security{Account: account, Session: session})
}

func (s *Server) revoke(ctx context.Context, e End, event audit.Security) error {
	if err := s.end(ctx, e); err != nil {
		return err
	}
	event.Kind = audit.GrantRevoked
	return s.record(ctx, event)
}

func unavailable(err error) error {
	return outcome.New(outcome.Unavailable, "the server cannot do this now: try again").Because(err)
}

// record keeps an event; what cannot be recorded does not happen. One with a reason is a refusal.
func (s *Server) record(ctx context.Context, e audit.Security) error {
	e.ID, e.At, e.Outcome = newID(), s.Now().UTC(), audit.Success
	if e.Reason != "" {
		e.Outcome = audit.Refused
	}
	e.Address, _ = ctx.Value(addressKey{}).(netip.Addr)
	if err := s.Audit.RecordSecurity(context.WithoutCancel(ctx), e); err != nil {
		return unavailable(err)
	}
	return nil
}
