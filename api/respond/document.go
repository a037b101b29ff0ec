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
	for i := range x.parts {
		if !x.parts[i].HeldBy(rq.Grant) {
			return errHeld
		}
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
	for i := range x.parts {
		if i == 0 {
			m.str(`,"entry":[`)
		} else {
			m.str(`,`)
		}
		m.str(`{"fullUrl":"`)
		m.url(rq.Base, x.parts[i].Ref())
		m.str(`","resource":`)
		if err := disclose(m, rq, x.parts[i]); err != nil {
			return err
		}
		m.str(`}`)
	}
	m.str(`]`)
	m.highWaterMark()
	m.str(`}`)
	return nil
}
