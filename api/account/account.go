// Package account serves the pages on which people sign in, prove a second factor, choose a patient, and decide
// what an app may do with their access.
//
// They are made on the server and work without script; passkeys alone need one of ours. The pages hold no
// record: the names in the patient picker come from the FHIR API, asked in this process with a token of the user's
// own, so that they are what any app of hers would get.
package account

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/identity"
)

// Identity is who people are and how they prove it.
type Identity interface {
	Password(ctx context.Context, email, password string, from identity.From) (identity.Step, error)
	// Passkeys reports whether there can be any.
	Passkeys() bool
	TOTP(ctx context.Context, challenge, code string, from identity.From) (identity.Step, error)
	BeginPasskey(ctx context.Context, challenge string) (options []byte, err error)
	FinishPasskey(ctx context.Context, challenge string, response []byte, from identity.From) (identity.Step, error)
	EnrolTOTP(ctx context.Context, challengeOrSession string) (secret, uri string, err error)
	ConfirmTOTP(ctx context.Context, challengeOrSession, code string, from identity.From) (identity.Step, error)
	EnrolPasskey(ctx context.Context, challengeOrSession string) ([]byte, error)
	ConfirmPasskey(ctx context.Context, challengeOrSession string, response []byte, name string, from identity.From) (identity.Step, error)
	Current(ctx context.Context, token string) (identity.Session, identity.Account, error)
	Sessions(ctx context.Context, account string) ([]identity.Session, error)
	EndSession(ctx context.Context, account, id string) error
	SignOut(ctx context.Context, token string) error
	AcceptInvitation(ctx context.Context, token, name, password string, from identity.From) (identity.Step, error)
	Recover(ctx context.Context, email string, from identity.From) error
	Reset(ctx context.Context, token, password string, from identity.From) (identity.Step, error)
	RecoveryCode(ctx context.Context, challenge, code string, from identity.From) (identity.Step, error)
	RecoveryCodes(ctx context.Context, token string, from identity.From) ([]string, error)
	Factors(ctx context.Context, account string) ([]identity.Enrolled, error)
	RemoveFactor(ctx context.Context, token string, f identity.Factor, id string, from identity.From) error
	ChangePassword(ctx context.Context, token, old, password string, from identity.From) error
}

// Authorization is the authorization server, whose interactions the pages lead through.
type Authorization interface {
	// Browser puts into the context which browser a request comes from; without it no interaction is found.
	Browser(r *http.Request) context.Context
	Interaction(ctx context.Context, id string) (smart.Interaction, error)
	Approve(ctx context.Context, id string, a smart.Approval) (redirect string, err error)
	Refuse(ctx context.Context, id, oauthError, description string) (redirect string, err error)
	UserToken(ctx context.Context, a smart.Approval) (string, error)
	Grants(ctx context.Context, account string) ([]smart.GrantSummary, error)
	RevokeGrant(ctx context.Context, account, id string) error
}

// Config wires the pages. All of it is required but Brands and Address.
type Config struct {
	Base     string // origin and prefix of the server as browsers see it, without a slash at its end
	Identity Identity
	Server   Authorization
	FHIR     http.Handler // the API, which answers below /fhir
	Brands   *Brands
	// Address is where a request comes from; nil takes that of the connection.
	Address func(*http.Request) netip.Addr
	Key     [32]byte // secret key of the tokens in forms; the same in all processes of one server
	Log     *slog.Logger
	Now     func() time.Time // the one clock
}

// Pages are the pages. They are safe for concurrent use.
type Pages struct {
	Config
	origin string
	prefix string // path of Base
	secure bool   // served over https
	mux    *http.ServeMux
}

// New makes the pages. The error names the field of the configuration that is wrong.
func New(c Config) (*Pages, error) {
	u, err := url.Parse(c.Base)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(c.Base, "/"):
		return nil, errors.New("account: Base is no plain http(s) URL")
	case c.Identity == nil || c.Server == nil || c.FHIR == nil:
		return nil, errors.New("account: Identity, Server or FHIR is missing")
	case c.Key == [32]byte{}:
		return nil, errors.New("account: Key is no secret")
	case c.Log == nil || c.Now == nil:
		return nil, errors.New("account: Log or Now is missing")
	}
	if c.Brands == nil {
		c.Brands = &Brands{}
	}
	if c.Address == nil {
		c.Address = smart.Address(nil)
	}
	p := &Pages{Config: c, origin: u.Scheme + "://" + u.Host, prefix: u.Path, secure: u.Scheme == "https", mux: http.NewServeMux()}
	for pattern, h := range p.routes() {
		p.mux.HandleFunc(pattern, h)
	}
	return p, nil
}

// routes are all that is served here. Whatever is not GET goes through [Pages.ServeHTTP]'s checks of forms first.
func (p *Pages) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /smart/sign-in":          p.signIn,
		"POST /smart/sign-in":         p.password,
		"POST /smart/sign-in/passkey": p.passkeyAlone,
		"POST /smart/sign-out":        p.signOut,
		"GET /smart/signed-out":       p.signedOut,

		"GET /smart/second-factor":          p.secondFactor,
		"POST /smart/second-factor":         p.code,
		"POST /smart/second-factor/printed": p.recoveryCode,
		"POST /smart/second-factor/passkey": p.passkeySecond,
		"POST /smart/passkey":               p.passkeyAnswer,

		"GET /smart/enrol":                  p.enrol,
		"POST /smart/enrol/app":             p.enrolApp,
		"POST /smart/enrol/app/confirm":     p.confirmApp,
		"POST /smart/enrol/passkey":         p.enrolPasskey,
		"POST /smart/enrol/passkey/confirm": p.confirmPasskey,

		"GET /smart/invitation":     p.invitation,
		"POST /smart/invitation":    p.accept,
		"GET /smart/recovery":       p.recovery,
		"POST /smart/recovery":      p.askRecovery,
		"GET /smart/recovery/sent":  p.recoverySent,
		"GET /smart/recovery/new":   p.newPassword,
		"POST /smart/recovery/new":  p.reset,
		"GET /smart/account":        p.overview,
		"POST /smart/account/apps":  p.revokeApp,
		"POST /smart/account/place": p.endSession,

		"POST /smart/account/factor":   p.removeFactor,
		"POST /smart/account/codes":    p.recoveryCodes,
		"GET /smart/account/password":  p.passwordPage,
		"POST /smart/account/password": p.changePassword,

		"GET /smart/interaction/{id}":           p.interaction,
		"POST /smart/interaction/{id}/role":     p.chooseRole,
		"POST /smart/interaction/{id}/patients": p.findPatients,
		"POST /smart/interaction/{id}/patient":  p.choosePatient,
		"POST /smart/interaction/{id}/other":    p.startOver,
		"POST /smart/interaction/{id}":          p.decide,

		"GET /smart/style/{file}":       p.style,
		"GET /smart/style/brand/{file}": p.brandFile,
	}
}

// maxForm bounds a posted form, in bytes. The answer of a passkey is the longest.
const maxForm = 64 << 10

// ServeHTTP answers with a page, after what holds for all of them.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.guard(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if !p.ours(w, r) {
			return
		}
	}
	p.mux.ServeHTTP(w, r)
}

// Handler is p; it answers below /smart for the pages that routes names.
func (p *Pages) Handler() http.Handler { return p }

// link is the path of one of the pages in a browser.
func (p *Pages) link(path string) string { return p.prefix + "/smart/" + path }

// from is where a request comes from.
func (p *Pages) from(r *http.Request) identity.From {
	agent := r.UserAgent()
	if len(agent) > maxAgent {
		agent = agent[:maxAgent]
	}
	return identity.From{Address: p.Address(r), Agent: agent, Device: p.cookie(r, deviceCookie)}
}

const maxAgent = 256

// see sends the browser to another page of ours.
func (p *Pages) see(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, p.link(path), http.StatusSeeOther) //nolint:gosec // a path of ours: what is of the request in it is the id of an interaction, letter by letter
}
