package respond

import (
	"net/http"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record"
)

// Accounting answers $accounting: a Bundle of type searchset, which
// can have a next page, with an AuditEvent for each disclosure, newest first.
func Accounting(a record.Accounted, l Links) Response { return accounting{a, l} }

type accounting struct {
	a     record.Accounted
	links Links
}

func (x accounting) build(m *message, rq *Request) error {
	if !x.a.HeldBy(rq.Grant) {
		return errHeld
	}
	m.status = http.StatusOK
	m.str(`{"resourceType":"Bundle","type":"searchset","link":[{"relation":"self","url":`)
	m.body = element.AppendQuoted(m.body, x.links.Self)
	if x.links.Next != "" {
		m.str(`},{"relation":"next","url":`)
		m.body = element.AppendQuoted(m.body, x.links.Next)
	}
	m.str(`}]`)
	for i := range x.a.Len() {
		if i == 0 {
			m.str(`,"entry":[`)
		} else {
			m.str(`,`)
		}
		m.str(`{"fullUrl":"urn:uuid:` + x.a.ID(i) + `","resource":`)
		if err := x.a.Render(m, i); err != nil {
			return err
		}
		m.str(`,"search":{"mode":"match"}}`)
	}
	if x.a.Len() > 0 {
		m.str(`]`)
	}
	m.str(`}`)
	return nil
}
