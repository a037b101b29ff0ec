// Package httpd serves HTTP until its context ends, and lets what is under way finish.
package httpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Serve answers on l until ctx ends; then it takes no new request and gives
// those under way the time of grace. What is cut off after that is an error.
func Serve(ctx context.Context, l net.Listener, h http.Handler, grace time.Duration, log *slog.Logger) error {
	// Requests outlive ctx, or the shutdown would cut them off at once.
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       5 * time.Minute, // a large Bundle on a slow line
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext:       func(net.Listener) context.Context { return requests },
		// What net/http reports itself quotes what clients sent; panics are the API's own to catch and report.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("httpd: %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	log.Info("stopping: requests under way may finish", "address", l.Addr().String(), "grace", grace)
	limit, cancel := context.WithTimeout(requests, grace)
	defer cancel()
	if err := s.Shutdown(limit); err != nil {
		cut()
		return errors.Join(fmt.Errorf("httpd: %s: requests were cut off after %s: %w", l.Addr(), grace, err), s.Close())
	}
	return nil
}
