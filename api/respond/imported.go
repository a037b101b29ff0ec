package respond

import (
	"net/http"
	"strconv"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

// Imported answers with what became of an import that is done (Bulk Data Import Proposal,
// "Response - Complete Status"). place is the URL of the import.
func Imported(s intake.Status, place string) Response { return imported{s, place} }

type imported struct {
	s     intake.Status
	place string
}

// file writes one item of output or error.
func (x imported) file(m *message, in intake.InputStatus, count int64, name string) {
	m.str(`{"type":"OperationOutcome"`)
	if in.URL != "" {
		m.str(`,"inputUrl":`)
		m.body = element.AppendQuoted(m.body, in.URL)
	}
	m.str(`,"count":`)
	m.body = strconv.AppendInt(m.body, count, 10)
	if name != "" {
		m.str(`,"url":`)
		m.body = element.AppendQuoted(m.body, x.place+"/"+name)
	}
	m.str(`}`)
}

func (x imported) build(m *message, _ *Request) error {
	m.status, m.contentType, m.expires = http.StatusOK, "application/json", x.s.Expires
	m.str(`{"transactionTime":"`)
	m.instant(x.s.Begun)
	m.str(`","request":`)
	m.body = element.AppendQuoted(m.body, x.s.URL)
	m.str(`,"requiresAccessToken":true,"output":[`)
	for i, in := range x.s.Inputs {
		if i > 0 {
			m.str(`,`)
		}
		x.file(m, in, in.Tally.Of(intake.New, intake.Changed, intake.Same), "")
	}
	m.str(`],"error":[`)
	first := true
	for i, in := range x.s.Inputs {
		if in.Findings == 0 {
			continue
		}
		if !first {
			m.str(`,`)
		}
		first = false
		x.file(m, in, int64(in.Findings), strconv.Itoa(i+1)+".ndjson")
	}
	m.str(`],"extension":{"mode":"` + map[bool]string{true: "dry-run", false: "store"}[x.s.Dry] + `","report":`)
	m.body = element.AppendQuoted(m.body, x.place+"/report.ndjson")
	for _, f := range []intake.Fate{intake.New, intake.Changed, intake.Same, intake.Refused, intake.Unresolved} {
		var n int64
		for _, in := range x.s.Inputs {
			n += in.Tally.Of(f)
		}
		m.str(`,"` + string(f) + `":`)
		m.body = strconv.AppendInt(m.body, n, 10)
	}
	m.str(`}}`)
	return nil
}
