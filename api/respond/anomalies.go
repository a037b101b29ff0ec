package respond

import (
	"net/http"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record"
)

// Anomalies answers $access-anomalies: Parameters with one parameter for each finding.
func Anomalies(a record.Anomalies) Response { return anomalies{a} }

type anomalies struct{ a record.Anomalies }

func (x anomalies) build(m *message, rq *Request) error {
	if !x.a.HeldBy(rq.Grant) {
		return errHeld
	}
	m.status = http.StatusOK
	m.str(`{"resourceType":"Parameters"`)
	sep := `,"parameter":[`
	for _, f := range x.a.Findings() {
		m.str(sep + `{"name":"finding","part":[{"name":"kind","valueCode":"` + string(f.Kind) + `"}`)
		if f.User != "" {
			m.str(`,{"name":"user","valueReference":{"reference":`)
			m.body = element.AppendQuoted(m.body, f.User)
			m.str(`}}`)
		}
		if f.Patient != "" {
			m.str(`,{"name":"patient","valueReference":{"reference":`)
			m.body = element.AppendQuoted(m.body, "Patient/"+f.Patient)
			m.str(`}}`)
		}
		m.str(`,{"name":"day","valueDate":"` + f.Day + `"},{"name":"why","valueString":`)
		m.body = element.AppendQuoted(m.body, f.Why)
		m.str(`}`)
		if f.Session != "" {
			m.str(`,{"name":"session","valueUuid":"urn:uuid:` + f.Session + `"}`)
		}
		for _, id := range f.Events {
			m.str(`,{"name":"event","valueReference":{"reference":"AuditEvent/` + id + `"}}`)
		}
		m.str(`]}`)
		sep = `,`
	}
	if sep == `,` {
		m.str(`]`)
	}
	m.str(`}`)
	return nil
}
