package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir/outcome"
)

type authenticate func(context.Context, string) (authz.Principal, error)

func (f authenticate) Authenticate(ctx context.Context, token string) (authz.Principal, error) {
	return f(ctx, token)
}

// serve runs h at POST /x behind the transport.
func serve(t *testing.T, a authenticate, r *http.Request, h func(*Exchange) error) *httptest.ResponseRecorder {
	t.Helper()
	e := echo.New()
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	Use(e, Config{Authenticator: a, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
		Deadline: time.Hour, MaxBody: 10})
	e.POST("/x", func(c echo.Context) error {
		x, err := Of(c)
		if err != nil {
			return err
		}
		if err := h(x); err != nil {
			return err
		}
		x.Answer = respond.Document(http.StatusOK, []byte("ok"), "text/plain", "")
		return nil
	})
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

func anybody(context.Context, string) (authz.Principal, error) {
	return authz.Principal{Tenant: 1}, nil
}

func post(body io.Reader) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/x", body)
	r.Header.Set("Authorization", "bearer abc")
	return r
}

func TestBody(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("abc"), readerFunc(func([]byte) (int, error) { return 0, errors.New("canary") }))
	for name, c := range map[string]struct {
		body   io.Reader
		length int64 // -1: not announced
		status int
		want   string
	}{
		"fits":                  {strings.NewReader("0123456789"), 10, 200, "0123456789"},
		"empty":                 {strings.NewReader(""), 0, 200, ""},
		"unannounced":           {strings.NewReader("0123456789"), -1, 200, "0123456789"},
		"too long":              {strings.NewReader("0123456789a"), 11, 413, ""},
		"too long, unannounced": {strings.NewReader(strings.Repeat("x", 100000)), -1, 413, ""},
		"broken":                {broken, -1, 400, ""},
	} {
		r := post(c.body)
		r.ContentLength = c.length
		var got string
		w := serve(t, anybody, r, func(x *Exchange) error {
			b, err := x.Body()
			got = string(b)
			return err
		})
		if w.Code != c.status || got != c.want || strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%s: %d %q %s", name, w.Code, got, w.Body)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAuthenticatorErrors(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"plain":       {errors.New("canary"), 401},
		"forbidden":   {authz.ErrDenied, 401},
		"login":       {outcome.New(outcome.Login, "canary"), 401},
		"unavailable": {outcome.New(outcome.Unavailable, "the issuer does not answer").Because(errors.New("canary")), 503},
	} {
		w := serve(t, func(context.Context, string) (authz.Principal, error) { return authz.Principal{}, c.err }, post(nil), func(*Exchange) error {
			t.Error(name + ": the handler was called")
			return nil
		})
		if w.Code != c.status || strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestPrincipalReachesTheHandler(t *testing.T) {
	w := serve(t, func(_ context.Context, token string) (authz.Principal, error) {
		return authz.Principal{Tenant: 3, Subject: token}, nil
	}, post(nil), func(x *Exchange) error {
		if x.Principal.Tenant != 3 || x.Principal.Subject != "abc" || x.Principal.RequestID == "" || x.Principal.RequestID != x.Head.RequestID {
			t.Errorf("%+v", x.Principal)
		}
		if _, ok := x.Deadline().Deadline(); !ok {
			t.Error("no deadline")
		}
		return nil
	})
	if w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestClientCannotNameTheRequest(t *testing.T) {
	r := post(nil)
	r.Header.Set("X-Request-Id", "canary")
	w := serve(t, anybody, r, func(*Exchange) error { return nil })
	if got := w.Header()["X-Request-Id"]; len(got) != 1 || got[0] == "canary" {
		t.Errorf("X-Request-Id: %q", got)
	}
}

func TestClassify(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"route":                {echo.ErrNotFound, 404},
		"method":               {echo.ErrMethodNotAllowed, 405},
		"wrapped":              {fmt.Errorf("x: %w", echo.ErrNotFound), 404},
		"deadline":             {fmt.Errorf("x: %w", context.DeadlineExceeded), 504},
		"cancelled":            {context.Canceled, 504},
		"deadline in a store":  {outcome.New(outcome.Internal, "").Because(context.DeadlineExceeded), 504},
		"said already":         {outcome.New(outcome.Unavailable, "x").Because(context.DeadlineExceeded), 503},
		"unknown":              {errors.New("x"), 500},
		"other errors of echo": {echo.ErrTeapot, 500},
	} {
		if got := outcome.Of(classify(c.err)).Status(); got != c.status {
			t.Errorf("%s: %d, want %d", name, got, c.status)
		}
	}
	if classify(nil) != nil {
		t.Error("nil became an error")
	}
}

func TestPanicHoldsNoValue(t *testing.T) {
	tr := &transport{}
	x := &Exchange{Context: echo.New().NewContext(httptest.NewRequest(http.MethodGet, "/", nil), nil)}
	tr.Open = map[string]bool{"/": true}
	err := tr.run(x, func(echo.Context) error { panic("canary") })
	var p *PanicError
	if !errors.As(err, &p) || strings.Contains(reason(err)+string(p.Stack), "canary") || !strings.Contains(string(p.Stack), "TestPanicHoldsNoValue") {
		t.Errorf("%v %s", err, p.Stack)
	}
}

// What passes for plain is written in the one way that every reader of URLs agrees on.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"/fhir/Patient/1", "/fhir/%24export", "//", "/a/../b", "/a/./b", "/a;b", "/a%2fb", "/a/", "/.well-known/x", "/a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.ParseRequestURI(s)
		if err != nil || !plain(u) {
			return
		}
		if u.EscapedPath() != u.Path || path.Clean(u.Path) != u.Path || strings.ToValidUTF8(u.Path, "") != u.Path || strings.ContainsAny(u.Path, "%;\\ ?#") {
			t.Errorf("%q is taken for plain", s)
		}
	})
}
