package respond

import (
	"net/http"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

var _ released = record.Trailed{}

// AuditEvent answers the read of one AuditEvent.
func AuditEvent(t record.Trailed) Response { return resource[record.Trailed]{t} }

// AuditEvents answers a search of the audit trail.
func AuditEvents(list []record.Trailed, l Links, warnings []outcome.Issue) Response {
	return listing[record.Trailed]{"searchset", list, nil, -1, l, warnings}
}

// notTold stands in every report of accesses, whatever it leaves out: what differs between
// reports would tell.
const notTold = `{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","diagnostics":"This report does not tell of what may not be told to whoever asks for it, such as psychotherapy notes and other notes that are a clinician's own."}]}`

// AccessReport answers $access-report: a Bundle of type searchset, which can have a next page, with an
// AuditEvent for each access, newest first, each with its narrative.
func AccessReport(p record.TrailPage, l Links) Response { return accessReport{p, l} }

type accessReport struct {
	page  record.TrailPage
	links Links
}

func (x accessReport) build(m *message, rq *Request) error {
	if err := allHeld(rq, x.page.Entries); err != nil {
		return err
	}
	m.status = http.StatusOK
	m.str(`{"resourceType":"Bundle","type":"searchset","link":[{"relation":"self","url":`)
	m.body = element.AppendQuoted(m.body, x.links.Self)
	if x.links.Next != "" {
		m.str(`},{"relation":"next","url":`)
		m.body = element.AppendQuoted(m.body, x.links.Next)
	}
	m.str(`}],"entry":[{"fullUrl":"urn:uuid:` + uuidOf([]byte(notTold)) + `","resource":` + notTold + `,"search":{"mode":"outcome"}}`)
	for _, e := range x.page.Entries {
		m.str(`,{"fullUrl":"`)
		m.url(rq.Base, e.Ref())
		m.str(`","resource":`)
		if err := e.Render(m, record.Form{}); err != nil {
			return err
		}
		m.str(`,"search":{"mode":"match"}}`)
	}
	m.str(`]}`)
	return nil
}
