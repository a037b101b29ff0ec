package respond

import (
	"net/http"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// Validated answers $validate: 200 with an OperationOutcome, whatever was found
// (http://hl7.org/fhir/R4/resource-operation-validate.html). of is the stored
// resource that the issues are about, if they are about one.
func Validated(issues []outcome.Issue, of ...record.Released) Response {
	return validated[record.Released]{issues, of}
}

type validated[R released] struct {
	issues []outcome.Issue
	of     []R
}

func (x validated[R]) build(m *message, rq *Request) error {
	for _, r := range x.of {
		if !r.HeldBy(rq.Grant) {
			return errHeld
		}
		m.obliged(rq, r)
	}
	m.status = http.StatusOK
	if len(x.issues) == 0 {
		m.done("no fault was found")
		return nil
	}
	m.outcome = true
	m.body = outcome.Resource(public(x.issues)).AppendJSON(m.body)
	return nil
}
