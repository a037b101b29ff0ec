// Package api is the HTTP face of Cloister: the table of its routes, and the
// capability statement that follows from it.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloister-health/cloister/api/bulkdata"
	"github.com/cloister-health/cloister/api/operation"
	"github.com/cloister-health/cloister/api/rest"
	"github.com/cloister-health/cloister/api/subscription"
	"github.com/cloister-health/cloister/api/transport"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir/profile"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/intake"
	"github.com/cloister-health/cloister/fhir/record/notify"
	"github.com/cloister-health/cloister/fhir/search"
	"github.com/cloister-health/cloister/fhir/terminology"
)

// Config wires the server. All of it is required but Terminology, Exports, Imports, Notify, Validator, SMART, Origins, Apps, Upsert, Several, Dangling, KeyLife and Emergency.
type Config struct {
	// Base is the service base URL as clients write it, without a slash at its
	// end; its path is /fhir, perhaps behind the prefix of a proxy.
	Base   string
	Engine *authz.Engine
	Gate   *record.Gate
	Store  Store
	// Terminology answers for the installed packages; nil leaves its operations out.
	Terminology   *terminology.Service
	Authenticator transport.Authenticator
	// Ready reports whether the database answers.
	Ready func(context.Context) error
	// SMART is what the configured issuer says of itself, or nil.
	SMART    *SMART
	Version  string        // of the software
	Released time.Time     // when that version was built
	Deadline time.Duration // for one request
	MaxBody  int64         // bytes of one request body
	Origins  []string      // origins that CORS allows; none by default
	// Apps reports an origin of a registered app, which CORS allows, too; nil knows none.
	Apps     func(ctx context.Context, origin string) bool
	Upsert   bool          // whether an update may create
	Several  bool          // whether a conditional delete may take several resources
	Dangling bool          // whether a delete may leave references to what it deletes
	KeyLife  time.Duration // for how long an Idempotency-Key is remembered; 0 is a day
	Cursors  [32]byte      // secret key that seals paging links
	// Emergency bounds declared emergencies; the zero value means operation.DefaultLimits.
	Emergency operation.Limits
	// Exports carries out bulk exports; nil leaves them out.
	Exports *export.Service
	// Notify tells clients of changes; nil leaves Subscriptions out.
	Notify *notify.Service
	// Imports carries out bulk imports; nil leaves them out.
	Imports *intake.Service
	// Validator answers $validate; nil knows the rules of R4 alone. What writes are held to is the Gate's.
	Validator operation.Validator
	Log       *slog.Logger
	Now       func() time.Time // the one clock
}

// Store is where resources are kept.
type Store interface {
	rest.Store
	operation.CeremonyStore
}

// New builds the handler of the whole service. The error names the field of
// the configuration that is wrong.
func New(c Config) (http.Handler, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Validator == nil {
		c.Validator = profile.New(profile.Nothing{}, profile.Nothing{}, c.Now)
	}
	s := &server{Config: c, rest: rest.New(c.Engine, c.Gate, c.Store, c.options())}
	s.operations = operation.New(c.Engine, c.Gate, c.Store, s.rest, c.Emergency)
	s.validation = operation.NewValidation(s.operations, c.Validator)
	s.ceremony = operation.NewCeremony(s.operations, c.Store)
	s.terms = operation.NewTerminology(c.Gate, c.Terminology)
	if c.Exports != nil {
		s.bulk = bulkdata.New(c.Exports)
	}
	if c.Notify != nil {
		s.subscriptions = subscription.New(c.Notify)
	}
	if c.Imports != nil {
		s.imports = bulkdata.NewImports(c.Imports)
	}
	e := echo.New()
	table, err := s.routes()
	if err != nil {
		return nil, err
	}
	open, streams := map[string]bool{}, map[string]bool{}
	for _, r := range table {
		if r.stream || r.upload {
			streams[r.path] = true
		}
		if r.open {
			open[r.path] = true
		}
	}
	var talk func(context.Context, notify.Socket) error
	if c.Notify != nil {
		talk = c.Notify.Converse
	}
	transport.Use(e, transport.Config{
		Talk:          talk,
		Authenticator: c.Authenticator, Log: c.Log, Now: c.Now, Open: open, Streams: streams,
		Deadline: c.Deadline, MaxBody: c.MaxBody, Origins: c.Origins, Apps: c.Apps,
		Secure: strings.HasPrefix(c.Base, "https://"),
	})
	s.mount(e, table)
	return e, nil
}

// options are those of the interactions.
func (c *Config) options() rest.Options {
	o := rest.Options{Cursors: c.Cursors, Upsert: c.Upsert, Several: c.Several, Integrity: !c.Dangling, KeyLife: c.KeyLife, Lease: 2 * c.Deadline}
	if c.Terminology != nil {
		o.Terminology = Codes(c.Terminology)
	}
	if o.KeyLife == 0 {
		o.KeyLife = 24 * time.Hour
	}
	return o
}

// Codes is the terminology of searches, of a service that is not nil.
func Codes(s *terminology.Service) search.Terminology { return codes{s} }

// codes is the terminology of searches.
type codes struct{ *terminology.Service }

func (c codes) Codes(ctx context.Context, valueSet string) ([]search.Coding, error) {
	in, err := c.Service.Codes(ctx, valueSet)
	out := make([]search.Coding, len(in))
	for i, x := range in {
		out[i] = search.Coding{System: x.System, Code: x.Code}
	}
	return out, err
}

func (c *Config) check() error {
	u, err := url.Parse(c.Base)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.String() != c.Base:
		return errors.New("api: Base is no plain http(s) URL")
	case strings.ContainsAny(c.Base, "\"\\<>") || strings.HasSuffix(c.Base, "/"):
		return errors.New("api: Base has a character or an end that it cannot have")
	case c.Engine == nil:
		return errors.New("api: Engine is missing")
	case c.Gate == nil:
		return errors.New("api: Gate is missing")
	case c.Store == nil:
		return errors.New("api: Store is missing")
	case c.Authenticator == nil:
		return errors.New("api: Authenticator is missing")
	case c.Ready == nil:
		return errors.New("api: Ready is missing")
	case c.Log == nil || c.Now == nil:
		return errors.New("api: Log or Now is missing")
	case c.Deadline <= 0:
		return errors.New("api: Deadline must be positive")
	case c.KeyLife < 0:
		return errors.New("api: KeyLife must not be negative")
	case c.MaxBody <= 0:
		return errors.New("api: MaxBody must be positive")
	case c.Cursors == [32]byte{}:
		return errors.New("api: Cursors is no secret")
	}
	for _, o := range c.Origins {
		if u, err := url.Parse(o); o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o) {
			return fmt.Errorf("api: Origins: %q is no origin", o)
		}
	}
	return nil
}

type server struct {
	Config
	rest       *rest.Service
	operations *operation.Service
	terms      *operation.Terminology
	bulk       *bulkdata.Service // nil: there are no exports
	imports    *bulkdata.Imports // nil: there are no imports
	// subscriptions is nil where there are none.
	subscriptions *subscription.Service
	validation    *operation.Validation
	ceremony      *operation.Ceremony
}
