// Package turn does what workers of the background have in common: work is done again and again until its
// context ends, and what comes of a turn is told apart.
package turn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloister-health/cloister/fhir/outcome"
)

// Every does something again and again: at once while it is busy, else after a pause. What goes
// wrong is logged under that name.
func Every(ctx context.Context, log *slog.Logger, name string, pause time.Duration, do func(context.Context) (busy bool, err error)) {
	t := time.NewTicker(pause)
	defer t.Stop()
	for ctx.Err() == nil {
		busy, err := do(ctx)
		if err != nil && ctx.Err() == nil {
			log.Error(name, "error", Private(err))
		}
		if busy && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
}

// Private is an error with what is behind its public half; none of it quotes content.
func Private(err error) error {
	if cause := errors.Unwrap(err); cause != nil {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// Denied reports that whoever the work is for may not go on.
func Denied(err error) bool {
	status := outcome.Of(err).Status()
	return status == http.StatusForbidden || status == http.StatusUnauthorized
}

// Safely does the work of a turn. A panic ends the turn and not the server; its value may hold content.
func Safely(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("turn: panic (%T)", p)
		}
	}()
	return do()
}
