package respond

import (
	"net/http"
	"strconv"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// Manifest answers with what an export that is done has written (Bulk Data Access 2.0,
// "Response - Complete Status"). place is the URL of the export.
func Manifest(s export.Status, place string) Response { return manifest{s, place} }

type manifest struct {
	s     export.Status
	place string
}

func (x manifest) build(m *message, _ *Request) error {
	m.status, m.contentType, m.expires = http.StatusOK, "application/json", x.s.Expires
	m.str(`{"transactionTime":"`)
	m.instant(x.s.Transaction)
	m.str(`","request":`)
	m.body = element.AppendQuoted(m.body, x.s.URL)
	m.str(`,"requiresAccessToken":true`)
	for _, kind := range []export.Kind{export.Output, export.Deleted, export.Error} {
		m.str(`,"` + string(kind) + `":[`)
		first := true
		for _, f := range x.s.Files {
			if f.Kind != kind {
				continue
			}
			if !first {
				m.str(`,`)
			}
			first = false
			m.str(`{"type":"` + string(f.Type) + `","url":`)
			m.body = element.AppendQuoted(m.body, x.place+"/"+f.Name)
			m.str(`,"count":`)
			m.body = strconv.AppendInt(m.body, int64(f.Lines), 10)
			m.str(`}`)
		}
		m.str(`]`)
	}
	if r := x.s.Release; r != nil {
		m.str(`,"extension":{"release":{"profile":`)
		m.body = element.AppendQuoted(m.body, r.Profile)
		m.str(`,"canonical":`)
		m.body = element.AppendQuoted(m.body, r.Canonical)
		m.str(`,"citation":`)
		m.body = element.AppendQuoted(m.body, r.Citation)
		if r.Reference.ID != "" {
			m.str(`,"basis":`)
			m.body = element.AppendQuoted(m.body, r.Reference.String())
		}
		m.str(`}}`)
	}
	m.str(`}`)
	return nil
}
