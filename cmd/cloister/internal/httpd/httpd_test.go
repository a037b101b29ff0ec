package httpd

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// world is a server whose one handler waits until the test lets it go on.
type world struct {
	url           string
	entered, goOn chan struct{}
	stop          context.CancelFunc
	ended         chan error
}

func run(t *testing.T, grace time.Duration) *world {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &world{"http://" + l.Addr().String(), make(chan struct{}), make(chan struct{}), stop, make(chan error, 1)}
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		close(w.entered)
		select {
		case <-w.goOn:
			_, _ = io.WriteString(rw, "done")
		case <-r.Context().Done():
		}
	})
	go func() { w.ended <- Serve(ctx, l, h, grace, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(stop)
	return w
}

func (w *world) get(answer chan<- string) {
	res, err := http.Get(w.url)
	if err != nil {
		answer <- "error"
		return
	}
	defer func() { _ = res.Body.Close() }()
	b, _ := io.ReadAll(res.Body)
	answer <- string(b)
}

func TestRequestUnderWayFinishes(t *testing.T) {
	w := run(t, time.Hour)
	answer := make(chan string, 1)
	go w.get(answer)
	<-w.entered
	w.stop()
	// New connections are refused, eventually, while the old request still runs.
	for {
		c, err := net.Dial("tcp", w.url[len("http://"):])
		if err != nil {
			break
		}
		_ = c.Close()
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-w.ended:
		t.Fatalf("ended before its request: %v", err)
	default:
	}
	close(w.goOn)
	if got := <-answer; got != "done" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-w.ended; err != nil {
		t.Error(err)
	}
}

func TestGraceEnds(t *testing.T) {
	w := run(t, time.Millisecond)
	answer := make(chan string, 1)
	go w.get(answer)
	<-w.entered
	w.stop()
	if err := <-w.ended; err == nil {
		t.Error("a request was cut off without an error")
	}
	if got := <-answer; got == "done" {
		t.Error("the request was not cut off")
	}
}

func TestBrokenListenerIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := Serve(context.Background(), l, http.NotFoundHandler(), time.Second, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no error")
	}
}
