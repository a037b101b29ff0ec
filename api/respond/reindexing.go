package respond

import (
	"net/http"
	"strconv"

	"github.com/cloister-health/cloister/fhir/record"
)

// Reindexing answers $reindex: Parameters with its state, a code of
// http://hl7.org/fhir/task-status, and percent.
func Reindexing(r record.Reindexing) Response { return reindexing(r) }

type reindexing record.Reindexing

func (x reindexing) build(m *message, _ *Request) error {
	m.status = http.StatusOK
	m.str(`{"resourceType":"Parameters","parameter":[{"name":"state","valueCode":"` + x.State +
		`"},{"name":"percent","valueInteger":` + strconv.Itoa(x.Percent) + `}]}`)
	return nil
}
