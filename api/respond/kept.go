package respond

import (
	"net/http"

	"github.com/cloister-health/cloister/fhir/record/notify"
)

// Kept answers with what is kept beside the record for the caller: a Subscription, what was
// told under it, and how it stands.
func Kept(a notify.Answer) Response { return keptAnswer{a} }

type keptAnswer struct{ a notify.Answer }

func (x keptAnswer) build(m *message, rq *Request) error {
	if !x.a.HeldBy(rq.Grant) {
		return errHeld
	}
	m.status = http.StatusOK
	if x.a.Ref.Type != "" {
		m.version(x.a.Version, x.a.Updated)
		if x.a.Created {
			m.status, m.location = http.StatusCreated, rq.Base+"/"+x.a.Ref.String()
		}
	}
	m.noticed, m.explained = x.a.Noticed(), true // in the Bundle
	return x.a.Copy(m)
}

// Gone answers a delete of what is kept beside the record: nothing of it is left.
func Gone() Response { return gone{} }

type gone struct{}

func (gone) build(m *message, _ *Request) error {
	m.status = http.StatusNoContent
	return nil
}
