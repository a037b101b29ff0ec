package notify

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/turn"
)

// Socket is a connection of a client that is told by websocket.
type Socket interface {
	// Read gives the next text that the client sends.
	Read(context.Context) (string, error)
	Write(context.Context, []byte) error
	Ping(context.Context) error
}

const (
	bindingLife  = time.Hour        // of a token, and of what it binds
	bindingLimit = 10 * time.Second // from a connection to its first binding, and of one write
	bindingMost  = 50               // subscriptions of a connection
	socketPath   = "/_ws"           // below the base
	greeting     = "bind-with-token "
)

// errClosed is the end of a connection: what was to be written to it waits for the next one.
var errClosed = errors.New("notify: the connection has ended")

// BindingToken gives a token that binds subscriptions of the caller's own to a connection: the one of
// that id, or those of these ids; without any, all that are told by websocket.
func (s *Service) BindingToken(ctx context.Context, g authz.Grant, id fhir.ID, ids []string) (Answer, error) {
	who, err := mine(g, fhir.Read)
	if err != nil {
		return Answer{}, err
	}
	if err := s.standing(ctx, who); err != nil {
		return Answer{}, err
	}
	c := g.Caller()
	list, err := s.Subscriptions.Owned(ctx, c.Tenant, ownerOf(c), string(id))
	if err != nil {
		return Answer{}, err
	}
	if id != "" && len(list) == 0 {
		return Answer{}, notFound()
	}
	list = slices.DeleteFunc(list, func(x Subscription) bool {
		return x.Channel != WebSocket || x.Status == Off || x.Status == Failed || id == "" && ids != nil && !slices.Contains(ids, x.ID)
	})
	if len(list) == 0 || len(list) > bindingMost {
		return Answer{}, outcome.New(outcome.BusinessRule, "a token binds 1 to 50 Subscriptions that are told by websocket and are not off or in error")
	}
	token := base64.RawURLEncoding.EncodeToString(newToken())
	until := s.Now().UTC().Truncate(time.Second).Add(bindingLife)
	out := array(value("token", "String", token), value("expiration", "DateTime", until.Format(time.RFC3339)))
	bound := make([]string, len(list))
	for i, x := range list {
		bound[i] = x.ID
		out.Items = append(out.Items, value("subscription", "String", x.ID))
	}
	url := "ws" + strings.TrimPrefix(s.Base, "http") + socketPath
	out.Items = append(out.Items, value("websocket-url", "Url", url))
	if err := s.record(ctx, g); err != nil {
		return Answer{}, err
	}
	if err := s.Subscriptions.Bind(ctx, sha256.Sum256([]byte(token)), bound, until); err != nil {
		return Answer{}, err
	}
	return held(g, object("resourceType", "Parameters", "parameter", out).AppendJSON(nil)), nil
}

func newToken() []byte {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}

func value(name, kind, text string) *element.Node {
	return object("name", name, "value"+kind, text)
}

// binding is a subscription that is bound to a connection.
type binding struct {
	until   time.Time
	greeted bool
}

// Converse tells the client at the other end of a connection, as long as it is bound to
// anything. A subscription that is bound to two connections is told to either.
func (s *Service) Converse(ctx context.Context, c Socket) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return outcome.New(outcome.Throttled, "too many connections")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	heard, ended := make(chan string), make(chan struct{})
	go func() {
		for {
			text, err := c.Read(ctx)
			if err != nil {
				close(ended) // the client has gone, or says what nobody should
				return
			}
			select {
			case heard <- text:
			case <-ctx.Done():
				return
			}
		}
	}()
	bound := map[string]*binding{}
	begun, pinged := time.Now(), time.Now() // of the connection, which is not a matter of the record
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return nil
		case text := <-heard:
			if err := s.bind(ctx, text, bound); err != nil {
				return err
			}
		case <-tick.C:
		}
		if err := s.tell(ctx, c, bound); err != nil {
			return err
		}
		if len(bound) == 0 && time.Since(begun) > bindingLimit {
			return outcome.New(outcome.Login, "nothing is bound to this connection: send bind-with-token and a token of $get-ws-binding-token")
		}
		if time.Since(pinged) > 30*time.Second {
			if err := c.Ping(ctx); err != nil {
				return errClosed
			}
			pinged = time.Now()
		}
	}
}

func (s *Service) bind(ctx context.Context, text string, bound map[string]*binding) error {
	token, ok := strings.CutPrefix(strings.TrimSpace(text), greeting)
	if !ok {
		return outcome.New(outcome.Invalid, "a client sends bind-with-token and a token, and nothing else")
	}
	ids, until, err := s.Subscriptions.Bound(ctx, sha256.Sum256([]byte(strings.TrimSpace(token))))
	if err != nil {
		return err
	}
	for _, id := range ids {
		bound[id] = &binding{until: until}
	}
	if len(bound) > bindingMost {
		return outcome.New(outcome.TooCostly, "too many Subscriptions on one connection")
	}
	return nil
}

// tell takes the turns of what is bound: a handshake first, then what there is.
func (s *Service) tell(ctx context.Context, c Socket, bound map[string]*binding) error {
	lost := false
	to := func(ctx context.Context, m Message) error {
		ctx, cancel := context.WithTimeout(ctx, bindingLimit)
		defer cancel()
		if err := c.Write(ctx, m.Body); err != nil {
			lost = true
			return errClosed
		}
		return nil
	}
	for id, b := range bound {
		if !s.Now().Before(b.until) {
			delete(bound, id)
			continue
		}
		for range MaxCount {
			x, ok, err := s.Subscriptions.TakeOne(ctx, id, !b.greeted, lease)
			if err != nil || !ok {
				if err != nil {
					return err
				}
				break
			}
			if !b.greeted {
				x.greet = true
			}
			if err := s.took(ctx, &x, to); err != nil {
				s.Log.Error("notifications", "error", turn.Private(err))
				break
			}
			if lost {
				return errClosed
			}
			b.greeted = b.greeted || x.greeted
			if !b.greeted {
				break // it cannot begin yet
			}
		}
	}
	return nil
}
