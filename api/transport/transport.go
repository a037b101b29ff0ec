// Package transport carries one HTTP exchange: it names it, bounds it in time
// and size, authenticates it, and logs it by its route pattern alone.
package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

// Authenticator turns the bearer token of a request into the Principal whom it
// proves. Every error refuses the request; one that is an outcome of category
// Unavailable answers 503, all others the one 401.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (authz.Principal, error)
}

// Config is what the transport needs to know. All of it is required but Origins, Apps, Streams and Talk.
type Config struct {
	Authenticator Authenticator
	Log           *slog.Logger
	Now           func() time.Time // the one clock of the server
	// Open holds the exact paths that answer GET and HEAD without a token.
	Open     map[string]bool
	Deadline time.Duration // for one exchange
	// Streams holds the patterns of routes whose exchanges have no deadline: what they answer
	// takes as long as it takes the client to read it.
	Streams map[string]bool
	MaxBody int64    // bytes of a request body
	Origins []string // origins allowed by CORS, exactly as browsers send them; "*" allows all
	// Apps reports an origin of a registered app, which CORS allows, too; nil knows none.
	Apps   func(ctx context.Context, origin string) bool
	Secure bool // the service is reached over https only
	// Talk has the websockets of SocketPath; nil: there are none. Who is at the other end it has to find out.
	Talk func(context.Context, notify.Socket) error
}

// SocketPath is the one path at which a connection becomes a websocket.
const SocketPath = "/fhir/_ws"

// Exchange is one HTTP exchange. It stands in for the echo.Context that it
// wraps, so that handlers below it find it without a look-up.
type Exchange struct {
	echo.Context
	Principal authz.Principal // zero on open routes
	Head      respond.Head
	Asked     *respond.Request
	Answer    respond.Response
	Digest    [32]byte // SHA-256 of the body, once it is read
	ctx       context.Context
	maxBody   int64
}

// Deadline is the context of the exchange, which ends at its deadline.
func (x *Exchange) Deadline() context.Context { return x.ctx }

// Of is the exchange that handler c belongs to.
func Of(c echo.Context) (*Exchange, error) {
	x, ok := c.(*Exchange)
	if !ok {
		return nil, errors.New("transport: a route outside the exchange")
	}
	return x, nil
}

// Use puts the transport around every route of e, unknown ones included.
func Use(e *echo.Echo, cfg Config) {
	origins := make(map[string]bool, len(cfg.Origins))
	for _, o := range cfg.Origins {
		origins[o] = true
	}
	t := &transport{cfg, origins}
	e.Pre(normalise)
	e.Use(t.exchange)
	// Nothing reaches echo's own error handler but a fault in the wiring above.
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		respond.Send(c.Response().Writer, &respond.Head{}, nil, nil, outcome.New(outcome.Internal, "").Because(err))
	}
}

// hooks begins the paths of CDS Hooks services, which know nothing of OperationOutcomes.
const hooks = "/cds-services"

type transport struct {
	Config
	origins map[string]bool
}

func (t *transport) exchange(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := t.Now()
		r := c.Request()
		x := &Exchange{Context: c, maxBody: t.MaxBody}
		x.Head = respond.Head{RequestID: record.NewID(), NoBody: r.Method == http.MethodHead, Secure: t.Secure, Origin: t.origin(r), Plain: strings.HasPrefix(r.URL.Path, hooks)}
		ctx, cancel := t.bounded(c)
		defer cancel()
		x.ctx = ctx
		if t.Talk != nil && r.Method == http.MethodGet && r.URL.Path == SocketPath {
			t.log(x, respond.Upgrade(c.Response().Writer, r, t.Talk), start)
			return nil
		}
		err := classify(t.run(x, next))
		sent := respond.Send(c.Response().Writer, &x.Head, x.Asked, x.Answer, err)
		t.log(x, sent, start)
		if sent.Broken {
			panic(http.ErrAbortHandler) // net/http cuts the connection off, so that the client sees that something is missing
		}
		return nil
	}
}

// bounded is the context of an exchange.
func (t *transport) bounded(c echo.Context) (context.Context, context.CancelFunc) {
	if t.Streams[c.Path()] {
		return context.WithCancel(c.Request().Context())
	}
	return context.WithTimeout(c.Request().Context(), t.Deadline)
}

// run answers the exchange up to its Response. A panic becomes an error; its
// value is not kept, because it may quote the data that it choked on.
func (t *transport) run(x *Exchange, next echo.HandlerFunc) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Kind: fmt.Sprintf("%T", p), Stack: debug.Stack()}
		}
	}()
	r := x.Request()
	if preflight(r) && x.Head.Origin != "" {
		x.Answer = respond.Preflight()
		return nil
	}
	if !t.open(r) {
		if err := t.authenticate(x, r); err != nil {
			return err
		}
	}
	// echo would answer OPTIONS by itself.
	if r.Method == http.MethodOptions {
		return outcome.New(outcome.NotSupported, methodText)
	}
	return next(x)
}

func (t *transport) open(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && t.Open[r.URL.Path]
}

const methodText = "this path does not support that method"

// classify gives the errors of the framework and of contexts their category.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var public *outcome.Error
	if errors.As(err, &public) && public.Status() != http.StatusInternalServerError {
		return err
	}
	var he *echo.HTTPError
	switch {
	case errors.As(err, &he) && he.Code == http.StatusNotFound:
		return outcome.New(outcome.NotFound, "")
	case errors.As(err, &he) && he.Code == http.StatusMethodNotAllowed:
		return outcome.New(outcome.NotSupported, methodText)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return outcome.New(outcome.Timeout, "the request took too long: ask for less, or repeat it").Because(err)
	}
	return err
}

// PanicError is a panic that was caught. It holds the type of the panic's value and never the value.
type PanicError struct {
	Kind  string
	Stack []byte // function names and code positions
}

func (p *PanicError) Error() string { return "panic of type " + p.Kind }
