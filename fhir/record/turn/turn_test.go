package turn

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Busy work goes on at once; idle and failed work goes on, too, but after a pause; and none of it after the end.
func TestEvery(t *testing.T) {
	for _, c := range []struct {
		pause time.Duration
		turns []bool // busy?
		err   error
	}{
		{time.Hour, []bool{true, true, true, false}, nil},
		{time.Millisecond, []bool{false, true, false, false}, nil},
		{time.Millisecond, []bool{true, true}, outcome.New(outcome.Unavailable, "the public half").Because(errors.New("the private half"))},
	} {
		ctx, stop := context.WithCancel(t.Context())
		var log bytes.Buffer
		n := 0
		Every(ctx, slog.New(slog.NewTextHandler(&log, nil)), "work", c.pause, func(context.Context) (bool, error) {
			n++
			if n == len(c.turns) {
				stop()
			}
			return c.turns[n-1], c.err
		})
		stop()
		if n != len(c.turns) {
			t.Errorf("%v: %d turns", c.turns, n)
		}
		want := 0
		if c.err != nil {
			want = len(c.turns) - 1 // at the end nobody asks any more
		}
		if text := log.String(); strings.Count(text, "the private half") != want || strings.Count(text, "msg=work") != want {
			t.Errorf("log: %s", text)
		}
	}
}

// What has failed is not tried again before the pause, however busy it says that it is.
func TestEveryPausesAfterAFault(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	n := 0
	Every(ctx, slog.New(slog.DiscardHandler), "work", time.Hour, func(context.Context) (bool, error) {
		n++
		time.AfterFunc(10*time.Millisecond, stop)
		return true, errors.New("x")
	})
	if n != 1 {
		t.Errorf("%d turns", n)
	}
}

func TestDenied(t *testing.T) {
	for err, want := range map[error]bool{
		authz.ErrDenied: true, outcome.New(outcome.Login, ""): true, outcome.New(outcome.NotFound, ""): false, errors.New("x"): false,
	} {
		if Denied(err) != want {
			t.Errorf("%v", err)
		}
	}
}

func TestSafely(t *testing.T) {
	err := Safely(func() error { panic("a secret") })
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	if err := Safely(func() error { return context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
