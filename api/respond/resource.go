package respond

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// released is the part of [record.Released] that a response reads. The
// exported constructors take nothing but a record.Released.
type released interface {
	Ref() fhir.Ref
	Version() fhir.VersionID
	Updated() time.Time
	Deleted() bool
	Created() bool
	Posted() bool
	HeldBy(authz.Grant) bool
	Render(io.Writer, record.Form) error
	Confidentiality(record.Form) label.Confidentiality
	Scopes() []obligation.Scope
}

var _ released = record.Released{}

// Resource answers a read or vread: 200 with the resource, 304 where a
// conditional read finds the version that the client holds already, 410 for a
// tombstone. All three need a released resource: a hidden one never gets here.
func Resource(r record.Released) Response { return resource[record.Released]{r} }

type resource[R released] struct{ r R }

func (x resource[R]) build(m *message, rq *Request) error {
	if !x.r.HeldBy(rq.Grant) {
		return errHeld
	}
	if x.r.Deleted() {
		return outcome.New(outcome.Deleted, uniform[outcome.Deleted])
	}
	m.ref = x.r.Ref()
	m.version(x.r.Version(), x.r.Updated())
	if rq.unchanged(x.r.Version(), x.r.Updated()) {
		m.status = http.StatusNotModified
		return nil
	}
	m.status = http.StatusOK
	return disclose(m, rq, x.r)
}

// Written answers a create, update or patch: 201 or 200, with the location of the
// new version, or of the one that a conditional create met. The representation, where there is one, is that very version as
// the caller may read it.
func Written(rc record.Receipt, representation ...record.Released) Response {
	return written[record.Released]{rc, representation}
}

type written[R released] struct {
	rc  record.Receipt
	rep []R
}

func (x written[R]) build(m *message, rq *Request) error {
	m.status = http.StatusOK
	if x.rc.Created {
		m.status = http.StatusCreated
	}
	m.ref = x.rc.Ref
	m.location = rq.Base + "/" + x.rc.Ref.String() + "/_history/" + x.rc.Version.String()
	m.version(x.rc.Version, x.rc.Updated)
	for _, r := range x.rep {
		if !r.HeldBy(rq.Grant) {
			return errHeld
		}
		if r.Ref() != x.rc.Ref || r.Version() != x.rc.Version {
			return errors.New("respond: the representation is not the version that was written")
		}
	}
	switch {
	case rq.Prefer.Represent() && len(x.rep) == 1:
		return disclose(m, rq, x.rep[0])
	case rq.Prefer.Return == OperationOutcome:
		m.done("the resource is stored", rq.Advice...)
	}
	return nil
}

// Deleted answers a delete: 204, or 200 with an OperationOutcome if the client prefers one.
func Deleted(rc record.Receipt) Response { return deleted{rc} }

type deleted struct{ rc record.Receipt }

func (x deleted) build(m *message, rq *Request) error {
	m.status = http.StatusNoContent
	if !x.rc.Counted {
		m.version(x.rc.Version, x.rc.Updated)
	}
	if rq.Prefer.Return == OperationOutcome {
		m.status = http.StatusOK
		switch {
		case !x.rc.Counted:
			m.done("the resource is deleted")
		case x.rc.Several == 0:
			m.done("there was nothing to delete")
		default:
			m.done("the resources are deleted: " + strconv.Itoa(x.rc.Several))
		}
	}
	return nil
}

// Accepted answers a request that is carried out later: 202 with the place of its
// result, or with none where it was given up.
func Accepted(place string) Response { return later{place: place} }

// Pending answers who asks for a result that is not there yet, and how long to wait before asking again: 202.
func Pending(progress string, wait time.Duration) Response {
	return later{progress: progress, wait: wait}
}

type later struct {
	place, progress string
	wait            time.Duration
}

func (x later) build(m *message, _ *Request) error {
	m.status, m.place, m.progress, m.wait = http.StatusAccepted, x.place, x.progress, x.wait
	return nil
}

// done writes the OperationOutcome of a success.
func (m *message) done(text string, advice ...outcome.Issue) {
	m.outcome = true
	m.str(`{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","diagnostics":`)
	m.body = element.AppendQuoted(m.body, text)
	m.str(`}`)
	if len(advice) > 0 {
		for _, x := range outcome.Resource(public(advice)).Get("issue").List() {
			m.str(`,`)
			m.body = x.AppendJSON(m.body)
		}
	}
	m.str(`]}`)
}

// Document answers with content of the server itself: a capability statement,
// a SMART configuration, its health. It never holds anything of a stored
// resource. contentType "" means the negotiated FHIR type, cacheControl "" no-store.
func Document(status int, body []byte, contentType, cacheControl string) Response {
	return document{status, body, contentType, cacheControl}
}

type document struct {
	status                    int
	body                      []byte
	contentType, cacheControl string
}

func (x document) build(m *message, _ *Request) error {
	m.status, m.contentType, m.cacheControl = x.status, x.contentType, x.cacheControl
	_, err := m.Write(x.body)
	return err
}

// Preflight answers a CORS preflight request of an allowed origin.
func Preflight() Response { return preflight{} }

type preflight struct{}

func (preflight) build(m *message, _ *Request) error {
	m.status, m.preflight = http.StatusNoContent, true
	return nil
}
