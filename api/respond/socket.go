package respond

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/coder/websocket"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

// longestFrame is the longest text that a client may send by websocket.
const longestFrame = 4 << 10

// Upgrade answers a request for a websocket, and lets talk have it until it returns. A page of
// another origin gets none. What the client is told at the end is the public half of the error.
func Upgrade(w http.ResponseWriter, r *http.Request, talk func(context.Context, notify.Socket) error) Sent {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return Sent{Status: http.StatusBadRequest, Err: errors.New("respond: no websocket came to be")} // the cause quotes the request
	}
	defer func() { _ = c.CloseNow() }() // it has been closed, or nobody is there
	c.SetReadLimit(longestFrame)
	err = converse(r.Context(), socket{c}, talk)
	code, text := websocket.StatusNormalClosure, ""
	var public *outcome.Error
	switch {
	case errors.As(err, &public) && public.Status() < http.StatusInternalServerError:
		code, text = websocket.StatusPolicyViolation, public.Issues[0].Text
	case err != nil:
		code = websocket.StatusInternalError
	}
	const most = 120 // bytes of a reason (RFC 6455, 5.5)
	_ = c.Close(code, text[:min(len(text), most)])
	return Sent{Status: http.StatusSwitchingProtocols, Err: err}
}

// converse is talk; a panic in it ends the connection and not the server. Its value may hold content.
func converse(ctx context.Context, s socket, talk func(context.Context, notify.Socket) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("respond: panic (%T) in a websocket", p)
		}
	}()
	return talk(ctx, s)
}

type socket struct{ c *websocket.Conn }

func (s socket) Read(ctx context.Context) (string, error) {
	kind, b, err := s.c.Read(ctx)
	if err == nil && kind != websocket.MessageText {
		err = errors.New("respond: a websocket message that is no text")
	}
	return string(b), err //nolint:wrapcheck // the client has gone
}

func (s socket) Write(ctx context.Context, b []byte) error {
	return s.c.Write(ctx, websocket.MessageText, b) //nolint:wrapcheck // the client has gone
}

func (s socket) Ping(ctx context.Context) error {
	return s.c.Ping(ctx) //nolint:wrapcheck // the client has gone
}
