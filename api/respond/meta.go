package respond

import (
	"bytes"
	"net/http"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// Meta answers $meta: Parameters with the meta of a released resource
// (http://hl7.org/fhir/R4/resource-operation-meta.html).
func Meta(r record.Released) Response { return meta[record.Released]{r} }

type meta[R released] struct{ r R }

func (x meta[R]) build(m *message, rq *Request) error {
	if !x.r.HeldBy(rq.Grant) {
		return errHeld
	}
	if x.r.Deleted() {
		return outcome.New(outcome.Deleted, uniform[outcome.Deleted])
	}
	var body bytes.Buffer
	if err := x.r.Render(&body, rq.form()); err != nil {
		return err
	}
	m.obliged(rq, x.r)
	content, err := codec.Parse(body.Bytes())
	if err != nil {
		return outcome.New(outcome.Internal, "").Because(err)
	}
	m.status = http.StatusOK
	m.str(`{"resourceType":"Parameters","parameter":[{"name":"return","valueMeta":`)
	m.body = content.Root.Get("meta").AppendJSON(m.body)
	m.str(`}]}`)
	return nil
}
