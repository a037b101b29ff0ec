package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/cloister-health/cloister/api/respond"
)

var (
	up   = respond.Document(http.StatusOK, []byte(`{"status":"up"}`), "application/json", "")
	down = respond.Document(http.StatusServiceUnavailable, []byte(`{"status":"down"}`), "application/json", "")
)

// live answers as long as the process does.
func live(context.Context, *respond.Request) (respond.Response, error) { return up, nil }

// readiness is how long one look at the database is good for: nobody without a
// token can make the server ask more often.
const readiness = time.Second

// ready answers 200 while the database does, else 503; never why.
func (s *server) ready() respond.Handler {
	var mu sync.Mutex
	var last respond.Response
	var asked time.Time
	return func(ctx context.Context, _ *respond.Request) (respond.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		if now := s.Now(); last == nil || now.Sub(asked) >= readiness {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			last = up
			if err := s.Ready(ctx); err != nil {
				s.Log.ErrorContext(ctx, "the database does not answer", "error", err)
				last = down
			}
			asked = now
		}
		return last, nil
	}
}
