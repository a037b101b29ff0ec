package respond

import (
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
