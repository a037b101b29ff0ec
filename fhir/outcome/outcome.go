// Package outcome is the OperationOutcome of a failed interaction: what the
// client may know of it, kept apart from what only the operator may know.
package outcome

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir/element"
)

// Category says what went wrong; it fixes issue.code and the HTTP status.
type Category uint8

// The categories, in the order of their statuses.
const (
	Internal      Category = iota // 500 exception
	Invalid                       // 400 invalid: the request or its syntax
	Structure                     // 400 structure: not the JSON of a resource
	Login                         // 401 login
	Forbidden                     // 403 forbidden
	NotFound                      // 404 not-found: hidden and absent alike
	NotSupported                  // 405 not-supported
	NotAcceptable                 // 406 not-supported
	Conflict                      // 409 conflict
	Deleted                       // 410 deleted
	Precondition                  // 412 conflict: If-Match, several matches
	TooLong                       // 413 too-long
	MediaType                     // 415 not-supported
	Unprocessable                 // 422 processing
	Required                      // 422 required: an element is missing
	Value                         // 422 value: a primitive or its cardinality
	CodeInvalid                   // 422 code-invalid
	BusinessRule                  // 422 business-rule
	Undefined                     // 422 not-found: a definition that the request needs is not installed
	TooCostly                     // 422 too-costly: more than one answer can hold
	Throttled                     // 429 throttled
	Unavailable                   // 503 transient
	Timeout                       // 504 timeout
	SignIn                        // 401 login: the token is valid, and its user has to prove anew who she is
)

var table = map[Category]struct {
	code   string
	status int
}{
	Internal:      {"exception", http.StatusInternalServerError},
	Invalid:       {"invalid", http.StatusBadRequest},
	Structure:     {"structure", http.StatusBadRequest},
	Login:         {"login", http.StatusUnauthorized},
	Forbidden:     {"forbidden", http.StatusForbidden},
	NotFound:      {"not-found", http.StatusNotFound},
	NotSupported:  {"not-supported", http.StatusMethodNotAllowed},
	NotAcceptable: {"not-supported", http.StatusNotAcceptable},
	Conflict:      {"conflict", http.StatusConflict},
	Deleted:       {"deleted", http.StatusGone},
	Precondition:  {"conflict", http.StatusPreconditionFailed},
	TooLong:       {"too-long", http.StatusRequestEntityTooLarge},
	MediaType:     {"not-supported", http.StatusUnsupportedMediaType},
	Unprocessable: {"processing", http.StatusUnprocessableEntity},
	Required:      {"required", http.StatusUnprocessableEntity},
	Value:         {"value", http.StatusUnprocessableEntity},
	CodeInvalid:   {"code-invalid", http.StatusUnprocessableEntity},
	BusinessRule:  {"business-rule", http.StatusUnprocessableEntity},
	Undefined:     {"not-found", http.StatusUnprocessableEntity},
	TooCostly:     {"too-costly", http.StatusUnprocessableEntity},
	Throttled:     {"throttled", http.StatusTooManyRequests},
	Unavailable:   {"transient", http.StatusServiceUnavailable},
	Timeout:       {"timeout", http.StatusGatewayTimeout},
	SignIn:        {"login", http.StatusUnauthorized},
}

// Code is the issue.code of c (http://hl7.org/fhir/issue-type).
func (c Category) Code() string { return table[c].code }

// Status is the HTTP status of c.
func (c Category) Status() int { return table[c].status }

// Issue is one fault, as the client is told of it. Text must never carry
// anything of a stored resource.
type Issue struct {
	Category Category
	Text     string // one sentence: what is wrong and, where it helps, what to do
	Path     string // FHIRPath of the fault in the request's resource, or ""
	Warning  bool   // severity warning instead of error
}

// Error is a failed interaction. Its Issues are public; the wrapped cause is
// for the log and never reaches a client.
type Error struct {
	Issues []Issue
	cause  error
	wait   time.Duration
}

// New makes an Error of one issue.
func New(c Category, text string) *Error { return &Error{Issues: []Issue{{Category: c, Text: text}}} }

// At makes an Error of one issue with the path of the fault.
func At(c Category, path, text string) *Error {
	return &Error{Issues: []Issue{{Category: c, Text: text, Path: path}}}
}

// Because returns e with a private cause for the log.
func (e *Error) Because(cause error) *Error { return &Error{e.Issues, cause, e.wait} }

// After returns e with how long the client has to wait before it tries again.
func (e *Error) After(wait time.Duration) *Error { return &Error{e.Issues, e.cause, wait} }

// Wait is how long the client has to wait before it tries again, or 0.
func (e *Error) Wait() time.Duration { return e.wait }

// Status is the HTTP status of the whole: that of its first issue that is an error.
func (e *Error) Status() int {
	for _, i := range e.Issues {
		if !i.Warning {
			return i.Category.Status()
		}
	}
	return http.StatusInternalServerError
}

// Error gives the public half only.
func (e *Error) Error() string {
	var b strings.Builder
	for i, x := range e.Issues {
		if i > 0 {
			b.WriteString("; ")
		}
		if x.Path != "" {
			b.WriteString(x.Path + ": ")
		}
		b.WriteString(x.Text)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.cause }

// Of finds the public Error in err. An error without one becomes a plain
// Internal: nothing of its text is public.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return New(Internal, "the server failed; its log says why").Because(err)
}

// Resource is the OperationOutcome of the issues.
func Resource(issues []Issue) *element.Node {
	items := make([]*element.Node, 0, len(issues))
	for _, i := range issues {
		severity := "error"
		if i.Warning {
			severity = "warning"
		}
		n := element.NewObject(
			element.Field{Name: "severity", Value: element.NewString(severity)},
			element.Field{Name: "code", Value: element.NewString(i.Category.Code())},
			element.Field{Name: "diagnostics", Value: element.NewString(i.Text)},
		)
		if i.Path != "" {
			n.Set("expression", &element.Node{Kind: element.Array, Items: []*element.Node{element.NewString(i.Path)}})
		}
		items = append(items, n)
	}
	return element.NewObject(
		element.Field{Name: "resourceType", Value: element.NewString("OperationOutcome")},
		element.Field{Name: "issue", Value: &element.Node{Kind: element.Array, Items: items}},
	)
}
