package transport

import (
	"errors"
	"io"
	"net/http"

	"github.com/cloister-health/cloister/fhir/outcome"
)

// Body reads the request body, up to the configured size.
func (x *Exchange) Body() ([]byte, error) {
	r := x.Request()
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, outcome.New(outcome.MediaType, "send the body without a content encoding")
	}
	tooLong := outcome.New(outcome.TooLong, "the body is larger than this server takes: split it")
	if r.ContentLength > x.maxBody {
		return nil, tooLong
	}
	size := r.ContentLength + 1 // one more, so that the end is seen without growing
	if size < 512 {
		size = 512
	}
	b := make([]byte, 0, size)
	for {
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > x.maxBody:
			return nil, tooLong
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			return nil, unread(err)
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

func unread(err error) error {
	var tooMany *http.MaxBytesError
	if errors.As(err, &tooMany) {
		return outcome.New(outcome.TooLong, "the body is larger than this server takes: split it").Because(err)
	}
	return outcome.New(outcome.Invalid, "the body could not be read to its end").Because(err)
}
