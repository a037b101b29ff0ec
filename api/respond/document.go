package respond

import (
	"errors"
	"net/http"
	"time"

	"github.com/cloister-health/cloister/fhir/record"
)

// Assembled answers $document: a Bundle of type document that begins with its
// Composition (http://hl7.org/fhir/R4/documents.html).
func Assembled(parts []record.Released, at time.Time) Response {
	return assembled[record.Released]{parts, at}
}

type assembled[R released] struct {
	parts []R
	at    time.Time
}

func (x assembled[R]) build(m *message, rq *Request) error {
	if err := allHeld(rq, x.parts); err != nil {
		return err
	}
	if len(x.parts) == 0 || x.parts[0].Ref().Type != "Composition" {
		return errors.New("respond: a document begins with its composition")
	}
	m.status = http.StatusOK
	m.str(`{"resourceType":"Bundle","identifier":{"system":"urn:ietf:rfc:3986","value":"urn:uuid:`)
	m.str(record.NewID())
	m.str(`"},"type":"document","timestamp":"`)
	m.instant(x.at)
	m.str(`"`)
	return collect(m, rq, x.parts, "")
}

// allHeld is an error unless all of the list was released to this request.
func allHeld[R released](rq *Request, list []R) error {
	for i := range list {
		if !list[i].HeldBy(rq.Grant) {
			return errHeld
		}
	}
	return nil
}

// collect ends a Bundle of type document or collection with its entries, of which each has
// a fullUrl and a resource and no more (http://hl7.org/fhir/R4/bundle.html); said is a further
// entry of our own making, or "".
func collect[R released](m *message, rq *Request, list []R, said string) error {
	for i := range list {
		if i == 0 {
			m.str(`,"entry":[`)
		} else {
			m.str(`,`)
		}
		m.str(`{"fullUrl":"`)
		m.url(rq.Base, list[i].Ref())
		m.str(`","resource":`)
		if err := disclose(m, rq, list[i]); err != nil {
			return err
		}
		m.str(`}`)
	}
	if said != "" {
		m.str(`,` + said)
	}
	m.str(`]`)
	m.highWaterMark()
	m.str(`}`)
	return nil
}
