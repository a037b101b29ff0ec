package respond

import (
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// Manifest answers with what an export has written (Bulk Data Access, "Response - Output
// Manifest"): 200 once it is done, 202 with a part of it before. place is the URL of the export.
func Manifest(s export.Status, place string) Response { return manifest{s, place} }

type manifest struct {
	s     export.Status
	place string
}

func (x manifest) build(m *message, _ *Request) error {
	m.status, m.contentType = http.StatusOK, "application/json"
	if x.s.State == export.Done {
		m.expires = x.s.Expires
	} else {
		m.status, m.progress, m.wait = http.StatusAccepted, x.s.Progress(), x.s.Wait
	}
	m.str(`{"transactionTime":"`)
	m.instant(x.s.Transaction)
	m.str(`","request":`)
	m.body = element.AppendQuoted(m.body, x.s.URL)
	m.str(`,"requiresAccessToken":true`)
	if x.s.Organized {
		m.str(`,"outputOrganizedBy":"Patient"`)
	}
	for _, kind := range []export.Kind{export.Output, export.Deleted, export.Error} {
		m.str(`,"` + string(kind) + `":[`)
		first := true
		for _, f := range x.s.Files {
			if x.list(f.Kind) != kind {
				continue
			}
			if !first {
				m.str(`,`)
			}
			first = false
			m.str(`{`)
			if !x.s.Organized || f.Kind != export.Output { // a file of blocks is of no one type
				m.str(`"type":"` + string(f.Type) + `",`)
			}
			m.str(`"url":`)
			m.body = element.AppendQuoted(m.body, x.place+"/"+f.Name)
			m.str(`,"count":`)
			m.body = strconv.AppendInt(m.body, int64(f.Lines), 10)
			m.table(f.Table)
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
		m.held(r.Held)
		m.str(`}}`)
	}
	if x.s.Next > 0 {
		m.str(`,"link":[{"relation":"next","url":`)
		m.body = element.AppendQuoted(m.body, x.place+"?page="+strconv.Itoa(x.s.Next))
		m.str(`}]`)
	}
	m.str(`}`)
	return nil
}

// table says what a file of rows is: the type of its entry is that of the resources of the view, and its count is of rows.
func (m *message) table(t *export.Table) {
	if t == nil {
		return
	}
	m.str(`,"extension":{"table":{"view":`)
	m.body = element.AppendQuoted(m.body, t.View)
	m.str(`,"canonical":`)
	m.body = element.AppendQuoted(m.body, t.Canonical)
	m.str(`,"format":`)
	m.body = element.AppendQuoted(m.body, t.Format)
	m.str(`}}`)
}

// held says what a determination held back.
func (m *message) held(h *export.Held) {
	if h == nil {
		return
	}
	m.str(`,"suppressed":{"groups":` + strconv.Itoa(h.Groups) + `,"smallestGroup":` + strconv.Itoa(h.Smallest) + `,"patientsGeneralised":"` + h.Generalised + `","patientsLeftOut":"` + h.Suppressed + `","codesLeftOut":{`)
	for i, name := range slices.Sorted(maps.Keys(h.Codes)) {
		if i > 0 {
			m.str(`,`)
		}
		m.str(`"` + name + `":` + strconv.Itoa(h.Codes[name]))
	}
	m.str(`}}`)
}

// list is where a file is listed. Manifests that link to each other have the same error
// list, so messages that come up while they are shown are part of their output.
func (x manifest) list(kind export.Kind) export.Kind {
	if x.s.Partial && kind == export.Error {
		return export.Output
	}
	return kind
}
