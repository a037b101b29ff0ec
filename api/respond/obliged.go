package respond

import (
	"net/http"

	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record"
)

// noticeHeader carries the notice of 42 CFR 2.32(a)(2) with every answer that has
// a record which is disclosed with the patient's consent, and with no other.
const noticeHeader = "Redisclosure-Notice"

// consentRelation is the relation of a Link to the consent under which a record is disclosed.
const consentRelation = fhir.Canonical + "/link-relation/disclosed-under"

var notice = []string{obligation.ShortNotice}

// form is how released resources are written for rq.
func (rq *Request) form() record.Form { return record.Form{Base: rq.Base, Labels: rq.Prefer.Labels} }

// disclose writes a released resource as rq wants it, and notes what is due with it.
func disclose[R released](m *message, rq *Request, r R) error {
	m.obliged(rq, r)
	return r.Render(m, rq.form())
}

// obliged notes what the answer owes because r is in it.
func (m *message) obliged(rq *Request, r released) {
	m.base = rq.Base
	if !r.Deleted() {
		m.confidentiality = max(m.confidentiality, r.Confidentiality(rq.form()))
	}
next:
	for _, s := range r.Scopes() {
		m.noticed = true
		for i := range m.scopes {
			if m.scopes[i].Consent == s.Consent {
				continue next
			}
		}
		m.scopes = append(m.scopes, s)
	}
}

// explanation is the OperationOutcome that explains one consent (42 CFR 2.32(b)).
func explanation(base string, s obligation.Scope) []byte {
	out := []byte(`{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","details":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NORDSCLCD"}],"text":"` +
		obligation.ShortNotice + `"},"diagnostics":`)
	out = element.AppendQuoted(out, base+"/Consent/"+string(s.Consent)+" - "+s.Explain())
	return append(out, `}]}`...)
}

// outcomes adds, to the response of an entry, what explains consents.
func (m *message) outcomes(base string, scopes []obligation.Scope) {
	for i, s := range scopes {
		x := explanation(base, s)
		if i == 0 {
			m.str(`,"outcome":`)
			_, _ = m.Write(x)
			continue
		}
		// One OperationOutcome, an issue for each consent.
		const issues = `{"resourceType":"OperationOutcome","issue":[`
		m.body = append(m.body[:len(m.body)-len(`]}`)], ',')
		_, _ = m.Write(x[len(issues):])
	}
}

// highWaterMark adds Bundle.meta: the highest confidentiality of what is in it
// (HL7 DS4P). Handling tags are no part of it: they would tell what became of something else.
func (m *message) highWaterMark() {
	if m.confidentiality == 0 {
		return
	}
	m.str(`,"meta":{"security":[` + obligation.Confidentiality(m.confidentiality) + `]}`)
}

// notice sets the header fields of the notice, and of the consents where the body cannot explain them.
func (m *message) notice(h http.Header) {
	if !m.noticed {
		return
	}
	h[noticeHeader] = notice
	if m.explained {
		return
	}
	for _, s := range m.scopes {
		h["Link"] = append(h["Link"], `<`+m.base+`/Consent/`+string(s.Consent)+`>; rel="`+consentRelation+`"; title="`+s.Explain()+`"`)
	}
}
