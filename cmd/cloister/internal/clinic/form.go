package clinic

import "github.com/cloister-health/cloister/fhir"

// consentForm is a form that a patient signs, in our own words. The law says
// what such a form has to say; its text is no legal advice.
type consentForm struct {
	kind, title string
	part2       bool // of a practice with a Part 2 program
	items       []formItem
}

// formItem is one question or statement. fill is the element of the Consent that
// the answer fills, states what the text states (fhir.ConsentStatement).
type formItem struct {
	id, text, kind, fill, states string
	required, repeats            bool
	fixed                        []code   // answers that the form gives itself
	options                      []string // codes of purposes
}

const formDefinition = "http://hl7.org/fhir/StructureDefinition/Consent#Consent."

// formURL names the form of a kind in every practice; it is no address on this server.
func formURL(kind string) string { return fhir.Canonical + "/Questionnaire/consent-" + kind }

const formVersion = "1"

var (
	treat    = code{actReason, "TREAT", "Treatment"}
	payment  = code{actReason, "HPAYMT", "Payment"}
	operate  = code{actReason, "HOPERAT", "Health care operations"}
	ofPart2  = code{actCode, "42CFRPart2", "Records of a Part 2 program"}
	psyNotes = code{actCode, "PSYTHPN", "Psychotherapy notes"}
)

var (
	askDiscloser = formItem{id: "discloser", text: "Who may disclose my records", kind: "reference", fill: "organization", required: true, repeats: true}
	askRecipient = formItem{id: "recipient", text: "Who may receive them, by name", kind: "reference", fill: "provision.actor", required: true, repeats: true}
	askPurposes  = formItem{id: "purpose", text: "What for", kind: "choice", fill: "provision.purpose", required: true, repeats: true,
		options: []string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT", "COC"}}
	askFrom      = formItem{id: "from", text: "From this day on, if not from the day on which I sign", kind: "date", fill: "provision.period.start"}
	askUntil     = formItem{id: "until", text: "Until this day", kind: "date", fill: "provision.period.end", required: true}
	sayRevoke    = formItem{id: "revoke", states: "revocation", text: "I can revoke this at any time, in writing to the practice or with the app that I sign it with. What was disclosed in reliance on it before that cannot be called back."}
	sayPassOn    = formItem{id: "pass-on", states: "redisclosure", text: "Whoever receives my records under this form might pass them on, and the rules that protect them here might then no longer protect them."}
	sayDepends   = formItem{id: "depends", states: "conditioning", text: "The practice treats me whether I sign or not. Without my signature some services cannot be billed to my health plan, and other providers do not get my records."}
	sayAlone     = formItem{id: "alone", states: "stands-alone", text: "This form is about the notes of my sessions that are kept apart, and about nothing else. Other records need a form of their own."}
	sayMayRefuse = formItem{id: "may-refuse", states: "may-not-be-agreed", text: "The practice need not agree to every restriction, but must where I have paid for a service in full and it concerns my health plan. Emergencies are excepted."}
)

// consentForms are the forms of 42 CFR 2.31 and 45 CFR 164.508 and 164.522. The
// elements are named in docs/consent-ceremony.md.
var consentForms = []consentForm{
	{"part2-tpo", "Consent to treatment, payment and operations", true, []formItem{
		askDiscloser,
		{id: "records", text: "What: all my records of the program", kind: "choice", fill: "provision.securityLabel", fixed: []code{ofPart2}},
		{id: "recipients", text: "To whom: my treating providers, my health plans and third-party payers, and people who help to operate the program", kind: "choice", fill: "provision.actor", repeats: true, fixed: []code{
			{fhir.RecipientClass, "treating-providers", "My treating providers"}, {fhir.RecipientClass, "payers", "My health plans and third-party payers"}, {fhir.RecipientClass, "operations", "People who help to operate this program"}}},
		{id: "others", text: "And to these, by name", kind: "reference", fill: "provision.actor", repeats: true},
		{id: "purpose", text: "What for: for treatment, payment and health care operations, now and in the future", kind: "choice", fill: "provision.purpose", repeats: true, fixed: []code{treat, payment, operate}},
		askFrom, {id: "until", text: "Until this day; without one, until I revoke it", kind: "date", fill: "provision.period.end"},
		sayRevoke, sayPassOn, sayDepends,
	}},
	{"part2-specific", "Consent to a disclosure", true, []formItem{
		askDiscloser,
		{id: "records", text: "What: all my records of the program", kind: "choice", fill: "provision.securityLabel", fixed: []code{ofPart2}},
		askRecipient, askPurposes, askFrom, askUntil, sayRevoke,
	}},
	{"part2-sudcn", "Consent about counseling notes", true, []formItem{askDiscloser, askRecipient, askPurposes, askFrom, askUntil, sayRevoke, sayAlone}},
	{"hipaa-authorization", "Authorization to use or disclose health information", false, []formItem{
		askDiscloser,
		{id: "class", text: "Which kinds of records; without an answer, all that this form can cover", kind: "open-choice", fill: "provision.class", repeats: true},
		askRecipient, askPurposes, askFrom, askUntil, sayRevoke, sayDepends, sayPassOn,
	}},
	{"hipaa-psychotherapy", "Authorization about psychotherapy notes", false, []formItem{
		askDiscloser,
		{id: "records", text: "What: the psychotherapy notes of my sessions", kind: "choice", fill: "provision.securityLabel", fixed: []code{psyNotes}},
		askRecipient, askPurposes, askFrom, askUntil, sayRevoke, sayDepends, sayPassOn, sayAlone,
	}},
	{"restriction", "Request to restrict a disclosure", false, []formItem{
		{id: "recipient", text: "To whom nothing may be disclosed", kind: "reference", fill: "provision.actor", required: true, repeats: true},
		{id: "purpose", text: "Not for these purposes; without an answer, for none", kind: "choice", fill: "provision.purpose", repeats: true, options: []string{"TREAT", "HPAYMT", "HOPERAT"}},
		askFrom, {id: "until", text: "Until this day; without one, until I end it", kind: "date", fill: "provision.period.end"}, sayMayRefuse,
	}},
}

func (b *shelf) consentForms() {
	for _, f := range consentForms {
		if f.part2 && !b.SUD {
			continue
		}
		var items []node
		for _, i := range f.items {
			items = append(items, i.item())
		}
		b.put(b.ref("Questionnaire", "consent/"+f.kind),
			str("url", formURL(f.kind)), str("version", formVersion), str("title", f.title), str("status", "active"),
			strs("subjectType", "Patient"), list("code", code{system: fhir.ConsentKind, code: f.kind}.coding()),
			list("item", items...))
	}
}

func (i formItem) item() node {
	fields := []field{str("linkId", i.id)}
	if i.fill != "" {
		fields = append(fields, str("definition", formDefinition+i.fill))
	}
	if i.states != "" {
		fields = append(fields, list("code", code{system: fhir.ConsentStatement, code: i.states}.coding()),
			str("text", i.text), str("type", "boolean"), yes("required"), yes("readOnly"), list("initial", object(yes("valueBoolean"))))
		return object(fields...)
	}
	fields = append(fields, str("text", i.text), str("type", i.kind))
	if i.required {
		fields = append(fields, yes("required"))
	}
	if i.repeats {
		fields = append(fields, yes("repeats"))
	}
	if len(i.fixed) > 0 {
		fields = append(fields, yes("readOnly"))
	}
	var options, initial []node
	for _, c := range i.options {
		options = append(options, object(nest("valueCoding", str("system", actReason), str("code", c))))
	}
	for _, c := range i.fixed {
		initial = append(initial, object(field{Name: "valueCoding", Value: c.coding()}))
	}
	return object(append(fields, list("answerOption", options...), list("initial", initial...))...)
}
