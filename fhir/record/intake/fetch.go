package intake

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/envelope"
)

// inputError is what is wrong with one input for good; the others go on.
type inputError struct{ text string }

func (e *inputError) Error() string { return e.text }

var errChanged = errors.New("intake: an input is not what it was, or cannot be gone on with: it is fetched from its beginning")

// fetch fetches the next input of a job, unit by unit. Cut off, it goes on behind the last unit
// that is kept, where the server of the file lets it and the file is still the same.
func (s *Service) fetch(ctx context.Context, j *Job, key *envelope.StreamKey, c contents) error {
	at := Fetch{Input: j.Input + 1}
	finish := func(finding string) error {
		if finding == "" {
			return s.Jobs.Fetched(ctx, *j, at, "")
		}
		place := &Candidate{Place: "the whole of it"}
		return s.Jobs.Fetched(ctx, *j, at, string(AppendOutcome(nil, c.Request.name(at.Input), place, []outcome.Issue{{Category: outcome.Unprocessable, Text: finding}})))
	}
	err := s.fetchInput(ctx, j, key, c)
	var bad *inputError
	switch {
	case err == nil:
		return finish("")
	case errors.As(err, &bad):
		return finish(bad.text)
	case errors.Is(err, errChanged):
		if err := s.Jobs.Restart(ctx, *j); err != nil {
			return err
		}
	}
	if !errors.Is(err, ErrOver) && ctx.Err() == nil && j.Attempts >= attempts {
		s.Log.Warn("an input of an import cannot be fetched", "error", err)
		return finish("the file could not be fetched: see that its server answers, and import it again")
	}
	return err
}

func (s *Service) fetchInput(ctx context.Context, j *Job, key *envelope.StreamKey, c contents) error {
	in := c.Request.Inputs[j.Input]
	if s.Egress == nil {
		return &inputError{"this server fetches nothing any more"}
	}
	if _, err := s.Egress.Check(in.URL); err != nil {
		return &inputError{outcome.Of(err).Issues[0].Text}
	}
	if j.Fetched > 0 && j.Validator == "" {
		return errChanged
	}
	client := s.Egress.Client(0)
	defer client.CloseIdleConnections()
	src := &remote{ctx: ctx, client: client, url: in.URL, packed: c.Request.Gzip, offset: j.Fetched, validator: j.Validator, stall: s.Stall}
	beat := s.Now()
	src.alive = func() error {
		if now := s.Now(); now.Sub(beat) > lease/3 {
			beat = now
			return s.Jobs.Extend(ctx, *j, now.Add(lease))
		}
		return nil
	}
	defer src.close()
	if err := src.open(); err != nil {
		return err
	}
	var from io.Reader = src
	if src.packed {
		if j.Fetched > 0 {
			return errChanged
		}
		zip, err := gzip.NewReader(src)
		if err != nil {
			return src.broken(err, "the file is not gzip, as its name or its server says")
		}
		from = zip
	}
	lines := NewLines(from, MaxLine)
	lines.next = j.Before + 1
	start := j.Fetched
	for {
		u, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return src.broken(err, "the file is not whole: what came before is taken in")
		}
		if start+lines.Read() > s.Longest {
			return &inputError{"the file is longer than this server takes: split it; what came before is taken in"}
		}
		name, err := s.keep(ctx, j, key, u)
		if err != nil {
			return err
		}
		at := Fetch{Fetched: start + lines.Read(), Before: lines.next - 1, Validator: src.validator}
		if src.packed {
			at.Validator = ""
		}
		if err := s.Jobs.Append(ctx, *j, Chunk{Input: j.Input + 1, First: u.First, Lines: u.Lines, Name: name}, at, s.Now().Add(lease)); err != nil {
			return err
		}
	}
}

// broken tells a file that does not unpack from a connection that broke.
func (r *remote) broken(err error, text string) error {
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || r.end && errors.Is(err, io.ErrUnexpectedEOF) {
		return &inputError{text}
	}
	return err
}

// remote reads a file over as many connections as it takes.
type remote struct {
	ctx       context.Context
	client    *http.Client
	url       string
	packed    bool
	offset    int64 // of the next byte
	validator string
	stall     time.Duration
	alive     func() error // keeps the turn

	body   io.ReadCloser
	cancel context.CancelFunc
	watch  *time.Timer
	end    bool
}

func (r *remote) close() {
	if r.watch != nil {
		r.watch.Stop()
	}
	if r.body != nil {
		_ = r.body.Close() // it was read
		r.body = nil
	}
	if r.cancel != nil {
		r.cancel()
	}
}

// open asks for the rest of the file (RFC 9110, 13.1.5 and 14.2): for what is the same as before, or not at all.
func (r *remote) open() error {
	r.close()
	ctx, cancel := context.WithCancel(r.ctx)
	r.cancel = cancel
	r.watch = time.AfterFunc(r.stall, cancel)
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return &inputError{"the address of the file does not read"}
	}
	rq.Header.Set("Accept", "application/fhir+ndjson, application/x-ndjson, */*;q=0.5")
	rq.Header.Set("Accept-Encoding", map[bool]string{true: "gzip, identity", false: "identity"}[r.packed])
	if r.offset > 0 {
		rq.Header.Set("Range", fmt.Sprintf("bytes=%d-", r.offset))
		rq.Header.Set("If-Range", r.validator)
	}
	res, err := r.client.Do(rq) //nolint:bodyclose // close does
	if err != nil {
		return quiet(err)
	}
	r.body = res.Body
	switch {
	case res.StatusCode == http.StatusOK && r.offset > 0:
		return errChanged
	case res.StatusCode == http.StatusOK:
		if etag := res.Header.Get("ETag"); strings.HasPrefix(etag, `"`) { // a weak one says nothing of bytes
			r.validator = etag
		}
		encoded := strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip")
		r.packed = r.packed || encoded || strings.HasSuffix(rq.URL.Path, ".gz")
	case res.StatusCode == http.StatusPartialContent && r.offset > 0:
		if !strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", r.offset)) || r.validator != res.Header.Get("ETag") && res.Header.Get("ETag") != "" {
			return errChanged
		}
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && r.offset > 0:
		if res.Header.Get("Content-Range") != fmt.Sprintf("bytes */%d", r.offset) {
			return errChanged
		}
		r.end = true // all of it was there before
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusRequestTimeout || res.StatusCode >= 500:
		return fmt.Errorf("intake: the server of a file answers with %d", res.StatusCode)
	default:
		return &inputError{fmt.Sprintf("the server of the file answers with status %d, where 200 is needed; redirects are not followed", res.StatusCode)}
	}
	return nil
}

// quiet takes the address off an error: it can be a secret.
func quiet(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("intake: a file cannot be fetched: %w", u.Err)
	}
	return err
}

// reconnects is how often in a row a connection is made anew that has brought nothing.
const reconnects = 5

// Read implements [io.Reader].
func (r *remote) Read(p []byte) (int, error) {
	for tries := 0; ; tries++ {
		if r.end {
			return 0, io.EOF
		}
		if err := r.alive(); err != nil {
			return 0, err
		}
		n, err := r.body.Read(p)
		r.offset += int64(n)
		if n > 0 {
			r.watch.Reset(r.stall)
			return n, nil
		}
		switch {
		case errors.Is(err, io.EOF):
			r.end = true
			return 0, io.EOF
		case err == nil:
			continue
		case r.ctx.Err() != nil:
			return 0, r.ctx.Err()
		case r.validator == "" || tries >= reconnects:
			return 0, errors.Join(errChanged, err)
		}
		if err := r.open(); err != nil {
			return 0, err
		}
	}
}
