package respond

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// Links are the links of a page (R4 http.html, "paging"): absolute URLs, or "" where there is none.
type Links struct{ Self, First, Previous, Next string }

// Set is one page of a search.
type Set struct {
	Matches  []record.Released
	Included []record.Released // search.mode include
	Total    int               // below 0 it is left out
	Links    Links
	Warnings []outcome.Issue // an entry of their own, search.mode outcome
}

// Searchset answers a search (R4 search, 3.1.1.3).
func Searchset(s Set) Response {
	return listing[record.Released]{"searchset", s.Matches, s.Included, s.Total, s.Links, s.Warnings}
}

// History answers a history with one page of versions.
func History(versions []record.Released, l Links) Response {
	return listing[record.Released]{"history", versions, nil, -1, l, nil}
}

type listing[R released] struct {
	kind     string
	entries  []R
	included []R
	total    int
	links    Links
	warnings []outcome.Issue
}

func (x listing[R]) build(m *message, rq *Request) error {
	for _, list := range [][]R{x.entries, x.included} {
		if err := allHeld(rq, list); err != nil {
			return err
		}
	}
	m.status = http.StatusOK
	m.str(`{"resourceType":"Bundle","type":"`)
	m.str(x.kind)
	m.str(`"`)
	if x.total >= 0 {
		m.str(`,"total":`)
		m.body = strconv.AppendInt(m.body, int64(x.total), 10)
	}
	sep := `,"link":[`
	for _, l := range []struct{ relation, url string }{
		{"self", x.links.Self}, {"first", x.links.First}, {"previous", x.links.Previous}, {"next", x.links.Next},
	} {
		if l.url == "" {
			continue
		}
		m.str(sep)
		m.str(`{"relation":"`)
		m.str(l.relation)
		m.str(`","url":`)
		m.body = element.AppendQuoted(m.body, l.url)
		m.str(`}`)
		sep = `,`
	}
	if sep == `,` {
		m.str(`]`)
	}
	sep = `,"entry":[`
	for mode, list := range [][]R{x.entries, x.included} {
		for i := range list {
			m.str(sep)
			sep = `,`
			if err := m.entry(rq, x.kind, modes[mode], list[i]); err != nil {
				return err
			}
		}
	}
	var outcomes [][]byte
	if len(x.warnings) > 0 {
		outcomes = append(outcomes, outcome.Resource(x.warnings).AppendJSON(nil))
	}
	if x.kind == "searchset" { // an entry of a history has them itself
		for _, s := range m.scopes {
			outcomes = append(outcomes, explanation(rq.Base, s))
		}
	}
	m.explained = true
	for _, o := range outcomes {
		m.str(sep)
		sep = `,`
		m.str(`{"fullUrl":"urn:uuid:`)
		m.str(uuidOf(o))
		m.str(`","resource":`)
		_, _ = m.Write(o)
		m.str(`,"search":{"mode":"outcome"}}`)
	}
	if sep == `,` {
		m.str(`]`)
	}
	m.highWaterMark()
	m.str(`}`)
	return nil
}

// uuidOf names a resource that has no id, because each entry of a searchset has
// an identity: a UUID of version 8 (RFC 9562, 5.8) that depends on its content alone.
func uuidOf(content []byte) string {
	sum := sha256.Sum256(content)
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	x := hex.EncodeToString(sum[:16])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// modes are the codes of search.mode for what was searched and what came along.
var modes = [...]string{"match", "include"}

func (m *message) entry(rq *Request, kind, mode string, r released) error {
	m.str(`{"fullUrl":"`)
	m.url(rq.Base, r.Ref())
	m.str(`"`)
	known := len(m.scopes)
	m.obliged(rq, r)
	if !r.Deleted() {
		m.str(`,"resource":`)
		if err := r.Render(m, rq.form()); err != nil {
			return err
		}
	}
	if kind == "searchset" {
		m.str(`,"search":{"mode":"`)
		m.str(mode)
		m.str(`"}}`)
		return nil
	}
	method, status := "PUT", http.StatusOK
	switch {
	case r.Deleted():
		method, status = "DELETE", http.StatusNoContent
	case r.Posted():
		method, status = "POST", http.StatusCreated
	case r.Created():
		status = http.StatusCreated
	}
	m.str(`,"request":{"method":"`)
	m.str(method)
	m.str(`","url":"`)
	m.str(string(r.Ref().Type))
	if method != "POST" {
		m.str(`/`)
		m.str(string(r.Ref().ID))
	}
	m.str(`"},"response":{"status":"`)
	m.statusLine(status)
	m.str(`","etag":"W/\"`)
	m.body = strconv.AppendInt(m.body, int64(r.Version()), 10)
	m.str(`\"","lastModified":"`)
	m.instant(r.Updated())
	m.str(`"`)
	m.outcomes(rq.Base, m.scopes[known:])
	m.str(`}}`)
	return nil
}

// url appends base/Type/id. None of its parts can hold a character that JSON escapes.
func (m *message) url(base string, r fhir.Ref) {
	m.str(base)
	m.str(`/`)
	m.str(string(r.Type))
	m.str(`/`)
	m.str(string(r.ID))
}

func (m *message) statusLine(status int) {
	m.body = strconv.AppendInt(m.body, int64(status), 10)
	m.str(` `)
	m.str(http.StatusText(status))
}

// instant appends t in whole milliseconds, as meta.lastUpdated has it.
func (m *message) instant(t time.Time) {
	m.body = t.UTC().AppendFormat(m.body, "2006-01-02T15:04:05.000Z07:00")
}

// Entry is what became of one entry of a batch or transaction.
type Entry struct {
	Request  *Request // under a grant of the same HTTP request
	Response Response
	Err      error // why there is no Response
	NoBody   bool  // HEAD
}

// Bundle answers a batch or a transaction, entry by entry in the order of the
// request (R4 http.html, "batch/transaction response"). An entry that failed
// holds its own OperationOutcome.
func Bundle(i fhir.Interaction, entries []Entry) Response { return bundle{i, entries} }

type bundle struct {
	interaction fhir.Interaction
	entries     []Entry
}

func (x bundle) build(m *message, rq *Request) error {
	m.status = http.StatusOK
	kind := "batch-response"
	if x.interaction == fhir.Transaction {
		kind = "transaction-response"
	}
	m.str(`{"resourceType":"Bundle","type":"`)
	m.str(kind)
	m.str(`"`)
	named := map[version]bool{}
	part := blank()
	defer messages.Put(part)
	for i := range x.entries {
		e := &x.entries[i]
		part.reset()
		err := e.Err
		if err == nil {
			if e.Request == nil || !e.Request.Grant.Same(rq.Grant) {
				return errHeld
			}
			if err = compose(part, e.Request, e.Response); err != nil {
				part.reset()
			}
		}
		if err != nil {
			part.fail(err)
			if part.status >= http.StatusInternalServerError {
				m.inner = append(m.inner, err)
			}
		}
		if e.NoBody && !part.outcome {
			part.body = part.body[:0]
		}
		if i == 0 {
			m.str(`,"entry":[`)
		} else {
			m.str(`,`)
		}
		v := version{ref: part.ref}
		if part.full() {
			v.etag = part.etag
		}
		m.part(rq.Base, part, !named[v])
		named[v] = true
	}
	m.explained = true
	if len(x.entries) > 0 {
		m.str(`]`)
	}
	m.highWaterMark()
	m.str(`}`)
	return nil
}

// version is what fullUrl and meta.versionId of an entry say. No two entries of
// a Bundle may say the same (R4 bundle.html, bdl-7), so a second one has no
// fullUrl, which the response to a batch or a transaction need not have.
type version struct {
	ref  fhir.Ref
	etag string // "" without a resource
}

// full reports whether the part holds a resource.
func (m *message) full() bool { return len(m.body) > 0 && !m.outcome }

// part splices the answer to one entry.
func (m *message) part(base string, p *message, named bool) {
	m.str(`{`)
	if p.ref.Type != "" && named {
		m.str(`"fullUrl":"`)
		m.url(base, p.ref)
		m.str(`",`)
	}
	if p.full() {
		m.str(`"resource":`)
		_, _ = m.Write(p.body)
		m.str(`,`)
	}
	m.str(`"response":{"status":"`)
	m.statusLine(p.status)
	m.str(`"`)
	if p.location != "" {
		m.str(`,"location":`)
		m.body = element.AppendQuoted(m.body, p.location)
	}
	if p.etag != "" {
		m.str(`,"etag":`)
		m.body = element.AppendQuoted(m.body, p.etag)
	}
	if !p.modified.IsZero() {
		m.str(`,"lastModified":"`)
		m.instant(p.modified)
		m.str(`"`)
	}
	m.noticed = m.noticed || p.noticed
	m.confidentiality = max(m.confidentiality, p.confidentiality)
	switch {
	case len(p.body) > 0 && p.outcome:
		m.str(`,"outcome":`)
		_, _ = m.Write(p.body)
	case !p.explained:
		m.outcomes(base, p.scopes)
	}
	m.str(`}}`)
}
