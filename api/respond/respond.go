// Package respond is the only code that touches an http.ResponseWriter.
//
// Handlers hand back one of a closed set of responses. A response is built in
// full, and checked against the grant of the request that it answers, before
// its first byte is written.
package respond

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/patch"
	"github.com/cloister-health/cloister/fhir/record"
)

// Response is one answer. The unexported method closes the set: what is not
// made by a constructor of this package cannot be sent.
type Response interface {
	build(*message, *Request) error
}

// Handler answers one request. It sees neither the writer nor the framework.
type Handler func(context.Context, *Request) (Response, error)

// Request is what a handler may know of the exchange.
type Request struct {
	Base        string // service base URL, without a slash at its end
	Interaction fhir.Interaction
	Grant       authz.Grant       // zero on open routes
	Type        fhir.ResourceType // "" if the path names no R4 type
	Compartment fhir.Ref          // of a search within a compartment
	ID          fhir.ID           // "" if the path names no valid id
	Version     fhir.VersionID    // 0 if the path names no version of ours
	File        string            // the last part of the path of a file, as it stands there
	Query       string            // raw query
	Form        string            // body of a POST search
	Hook        *element.Node     // body of a call of a CDS Hooks service
	Content     *codec.Resource   // the checked body of a write
	Manifest    *element.Node     // the body of an import that names its inputs
	Upload      *Upload           // the body of an import that is its input, or nil
	Patch       patch.Patch       // the body of a patch
	// Faults are the entries of a Bundle in Content that did not pass the check, by their index.
	Faults map[int]*outcome.Error
	// Unfit is what is wrong with a body that is no valid resource, where that is what the interaction is about.
	Unfit *outcome.Error
	// Advice is what the check of a write found and let pass; it is for an OperationOutcome that the client asked for.
	Advice []outcome.Issue
	Conditions
	Prefer Prefer
	Key    *Key // of a request that its client may repeat, or nil
	// Once and Done say how far such a request is: this attempt holds the key, or
	// an earlier one has ended with these receipts.
	Once *record.Once
	Done []record.Receipt
}

// Upload is a body of NDJSON, which is read as it comes.
type Upload struct {
	Lines io.Reader
	Gzip  bool // they are packed
}

// Key is the Idempotency-Key of a request.
type Key struct {
	Value   string
	Request [32]byte // digest of what is asked
	Entry   int      // the entry of a batch, counted from 1; 0 is the whole request
}

// Conditions are the precondition headers (RFC 9110 section 13; R4 http.html,
// "conditional read" and "conditional create"), as received.
type Conditions struct {
	IfMatch         string
	IfNoneMatch     string
	IfModifiedSince string
	IfNoneExist     string
	// Of the request for a file (RFC 9110, sections 13.1.5 and 14.2).
	Range   string
	IfRange string
}

// Head is what the answer to one exchange carries, whatever it is.
type Head struct {
	RequestID string
	Origin    string // the allowed origin of a cross-origin request, or ""
	MediaType MediaType
	Challenge string // WWW-Authenticate of a 401
	NoBody    bool   // HEAD
	Pretty    bool   // indented JSON
	Secure    bool   // the service is reached over https only
	Plain     bool   // errors are no OperationOutcome: the service is not FHIR's
	Gzip      bool   // the client reads gzip: a stream is compressed
}

// Sent says what was written, for the access log.
type Sent struct {
	Status int
	Bytes  int
	Err    error // why the answer is not the one that the handler asked for; for the log only
	Broken bool  // a stream ended before its end: the connection must not look as if it had been whole
}

var errHeld = errors.New("respond: a resource was released to another request")

// message is an answer under construction.
type message struct {
	status       int
	contentType  string // "": the negotiated FHIR type
	cacheControl string // "": no-store
	location     string
	place        string        // Content-Location
	progress     string        // X-Progress
	wait         time.Duration // Retry-After
	etag         string
	modified     time.Time
	challenge    string // WWW-Authenticate of a 401, in place of that of the exchange
	preflight    bool
	outcome      bool               // body is an OperationOutcome
	ref          fhir.Ref           // the one resource that the answer is about, or zero
	scopes       []obligation.Scope // the consents to be explained, in the order in which they came up
	explained    bool               // they are, in the body
	base         string             // of the consents' URLs
	noticed      bool               // the notice of 42 CFR 2.32 is due
	// confidentiality is the highest of what is labelled in the answer, or zero.
	confidentiality label.Confidentiality
	inner           []error // faults of the server within a batch that succeeded as a whole
	body            []byte
	expires         time.Time
	stream          func(io.Writer) error // the body, in place of body
	size            int64                 // of the stream
	contentRange    string                // Content-Range: the stream is a part of what was asked for
}

func (m *message) Write(p []byte) (int, error) {
	m.body = append(m.body, p...)
	return len(p), nil
}

func (m *message) str(s string) { m.body = append(m.body, s...) }

func (m *message) version(v fhir.VersionID, updated time.Time) {
	m.etag, m.modified = ETag(v), updated
}

func (m *message) reset() { *m = message{body: m.body[:0]} }

// largest is the size above which a buffer is not kept for the next answer.
const largest = 1 << 20

var messages = sync.Pool{New: func() any { return &message{body: make([]byte, 0, 4096)} }}

// blank is an empty message, to be put back into messages.
func blank() *message {
	m, ok := messages.Get().(*message)
	if !ok {
		m = &message{}
	}
	m.reset()
	return m
}

// Send builds the answer to rq and writes it. Where err is not nil, or resp
// cannot be built, the answer is the OperationOutcome of that error. rq may be
// nil where the exchange failed before there was a request.
func Send(w http.ResponseWriter, head *Head, rq *Request, resp Response, err error) Sent {
	m := blank()
	defer func() {
		if cap(m.body) <= largest {
			messages.Put(m)
		}
	}()
	if err == nil {
		if err = compose(m, rq, resp); err != nil {
			m.reset()
		}
	}
	if err != nil {
		m.fail(err)
		if head.Plain {
			m.plain(err)
		}
	}
	if m.stream != nil {
		return m.pour(w, head)
	}
	m.flush(w, head)
	if err == nil {
		err = errors.Join(m.inner...)
	}
	return Sent{Status: m.status, Bytes: len(m.body), Err: err}
}

// compose turns a panic while building into an error: nothing has been written yet.
func compose(m *message, rq *Request, resp Response) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("respond: panic (%T) while building a response", p) // the value may hold content
		}
	}()
	if resp == nil {
		return errors.New("respond: no response")
	}
	if rq == nil {
		rq = &Request{}
	}
	return resp.build(m, rq)
}

// fail replaces the answer by the OperationOutcome of err.
func (m *message) fail(err error) {
	e := outcome.Of(err)
	m.status, m.outcome, m.wait = e.Status(), true, e.Wait()
	if len(e.Issues) > 0 && e.Issues[0].Category == outcome.SignIn {
		m.challenge = `Bearer error="insufficient_user_authentication"` // RFC 9470, 3
	}
	m.body = outcome.Resource(public(e.Issues)).AppendJSON(m.body)
}

// plain replaces the OperationOutcome of err by JSON with its code and its first text.
func (m *message) plain(err error) {
	x := public(outcome.Of(err).Issues)[0]
	m.outcome, m.contentType = false, "application/json"
	m.body = element.NewObject(
		element.Field{Name: "error", Value: element.NewString(x.Category.Code())},
		element.Field{Name: "errorMessage", Value: element.NewString(x.Text)},
	).AppendJSON(m.body[:0])
}

// uniform holds the one text of every category whose answers must not differ
// from one another: a hidden resource and an absent one are the same 404, byte for byte.
var uniform = map[outcome.Category]string{
	outcome.Internal:  "the server failed; its log says why",
	outcome.Login:     "a valid access token is required",
	outcome.Forbidden: "this request is not permitted",
	outcome.NotFound:  "there is no such resource, or this caller may not see it",
	outcome.Deleted:   "the resource was deleted",
}

func public(in []outcome.Issue) []outcome.Issue {
	if len(in) == 0 {
		in = []outcome.Issue{{Category: outcome.Internal}}
	}
	out := make([]outcome.Issue, len(in))
	for i, x := range in {
		if text, ok := uniform[x.Category]; ok {
			x.Text = text
		}
		out[i] = x
	}
	return out
}

// Header values that never change are shared: net/http only reads them.
var (
	noStore       = []string{"no-store"}
	nosniff       = []string{"nosniff"}
	deny          = []string{"DENY"}
	noReferrer    = []string{"no-referrer"}
	noContent     = []string{"default-src 'none'; frame-ancestors 'none'"}
	secureOnly    = []string{"max-age=31536000; includeSubDomains"}
	vary          = []string{"Accept, Authorization, Origin"}
	exposed       = []string{"Accept-Ranges, Content-Location, Content-Range, ETag, Last-Modified, Link, Location, Redisclosure-Notice, Retry-After, X-Progress, X-Request-Id"}
	allowMethods  = []string{"GET, HEAD, POST, PUT, PATCH, DELETE"}
	allowHeaders  = []string{"Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-Modified-Since, If-None-Exist, If-None-Match, If-Range, Prefer, Range"}
	preflightLife = []string{"600"}
)

func (m *message) flush(w http.ResponseWriter, head *Head) {
	h := w.Header()
	m.head(h, head)
	if head.Pretty && len(m.body) > 0 {
		var b bytes.Buffer
		if json.Indent(&b, m.body, "", "  ") == nil {
			m.body = b.Bytes()
		}
	}
	if len(m.body) > 0 {
		switch {
		case m.contentType != "":
			h["Content-Type"] = []string{m.contentType}
		default:
			h["Content-Type"] = head.MediaType.header()
		}
	}
	if m.status != http.StatusNoContent && m.status != http.StatusNotModified {
		h["Content-Length"] = []string{strconv.Itoa(len(m.body))}
	}
	w.WriteHeader(m.status)
	if !head.NoBody && len(m.body) > 0 {
		_, _ = w.Write(m.body) // the client has gone: nobody is left to tell
	}
}

// head sets the header fields that do not follow from the body.
func (m *message) head(h http.Header, head *Head) {
	h["X-Content-Type-Options"] = nosniff
	h["X-Frame-Options"] = deny
	h["Referrer-Policy"] = noReferrer
	h["Content-Security-Policy"] = noContent
	h["Vary"] = vary
	if head.Secure {
		h["Strict-Transport-Security"] = secureOnly
	}
	if m.cacheControl == "" {
		h["Cache-Control"] = noStore
	} else {
		h["Cache-Control"] = []string{m.cacheControl}
	}
	if head.RequestID != "" {
		h["X-Request-Id"] = []string{head.RequestID}
	}
	if head.Origin != "" {
		h["Access-Control-Allow-Origin"] = []string{head.Origin}
		if m.preflight {
			h["Access-Control-Allow-Methods"] = allowMethods
			h["Access-Control-Allow-Headers"] = allowHeaders
			h["Access-Control-Max-Age"] = preflightLife
		} else {
			h["Access-Control-Expose-Headers"] = exposed
		}
	}
	if m.status == http.StatusUnauthorized {
		challenge := head.Challenge
		if challenge == "" {
			challenge = "Bearer"
		}
		if m.challenge != "" {
			challenge = m.challenge
		}
		h["Www-Authenticate"] = []string{challenge}
	}
	if m.location != "" {
		h["Location"] = []string{m.location}
	}
	if m.place != "" {
		h["Content-Location"] = []string{m.place}
	}
	if m.progress != "" {
		h["X-Progress"] = []string{m.progress}
	}
	if m.wait > 0 {
		h["Retry-After"] = []string{strconv.Itoa(int((m.wait + time.Second - 1) / time.Second))}
	}
	m.notice(h)
	if m.etag != "" {
		h["Etag"] = []string{m.etag}
	}
	if !m.modified.IsZero() {
		h["Last-Modified"] = []string{m.modified.UTC().Format(http.TimeFormat)}
	}
	if m.contentRange != "" {
		h["Content-Range"] = []string{m.contentRange}
	}
	if !m.expires.IsZero() {
		h["Expires"] = []string{m.expires.UTC().Format(http.TimeFormat)}
	}
}
