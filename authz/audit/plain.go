package audit

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Plain tells t in one sentence. you is whose sentence it is: the patient is told of herself.
func (t Told) Plain(you bool) string {
	whose, of := "the patient's ", "the patient's "
	if you {
		whose, of = "your ", "your "
	}
	out := t.who(you) + " " + t.did(whose) + " on " + t.Event.At.UTC().Format("2 January 2006 at 15:04") + " UTC, " + purposeInWords(t.Event.Caller.Purpose, of)
	if len(t.Consents) > 0 {
		out += ", with " + of + "consent"
	}
	if slices.ContainsFunc(t.Event.Entities, func(x Entity) bool { return x.Session != "" }) {
		out += ", in a declared emergency"
	}
	return out + "."
}

// Narrated is the AuditEvent of t with that sentence as its narrative.
func (t Told) Narrated(you bool) *element.Node {
	n := t.Render()
	text := element.NewObject(str("status", "generated"),
		str("div", `<div xmlns="http://www.w3.org/1999/xhtml"><p>`+markup.Replace(t.Plain(you))+`</p></div>`))
	at := 2 // behind resourceType and id
	if n.Get("meta") != nil {
		at++
	}
	n.Fields = slices.Insert(n.Fields, at, field("text", text))
	return n
}

var markup = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// who is who acted: by name and role as far as they may be known.
func (t Told) who(you bool) string {
	c := t.Event.Caller
	if t.Withheld {
		return "Somebody whose name may not be told"
	}
	if c.User.Type == "Patient" && c.User.ID == t.Patient {
		if you {
			return "You"
		}
		return "The patient"
	}
	name := t.Name
	if name == "" && len(t.Of) > 0 {
		name = t.Of[0].Name
	}
	if name == "" {
		name = c.User.String()
	}
	if name == "" {
		name = c.Client
	}
	if name == "" {
		name = "Somebody"
	}
	roles := make([]string, len(c.Roles))
	for i, r := range c.Roles {
		roles[i] = roleInWords(r)
	}
	if len(roles) == 0 {
		return name
	}
	return name + ", " + strings.Join(roles, " and ") + ","
}

func roleInWords(role string) string {
	switch role {
	case "hie":
		return "health information exchange"
	case "proxy":
		return "personal representative"
	case "practice-admin":
		return "administrator of the practice"
	case "sud-counselor":
		return "substance use counselor"
	}
	return strings.ReplaceAll(role, "-", " ")
}

var verbs = map[fhir.Interaction]string{
	fhir.Read: "read", fhir.VRead: "read one version of", fhir.HistoryInstance: "read the history of", fhir.HistoryType: "read the history of", fhir.HistorySystem: "read the history of",
	fhir.SearchType: "read", fhir.SearchSystem: "read", fhir.Create: "added to", fhir.Update: "changed", fhir.Patch: "changed", fhir.Delete: "deleted",
	fhir.Transaction: "changed", fhir.Batch: "changed", fhir.PrepareConsent: "prepared", fhir.SignConsent: "signed", fhir.RevokeConsent: "revoked", fhir.WitnessConsent: "witnessed",
}

// did is what was done to which records.
func (t Told) did(whose string) string {
	if t.Event.Type == "AuditEvent" {
		return "looked up who had accessed " + whose + "records"
	}
	verb, ok := verbs[t.Event.Interaction]
	if !ok {
		verb = "worked with"
	}
	count := map[fhir.ResourceType]int{}
	for _, x := range t.Event.Entities {
		count[x.Ref.Type]++
	}
	var kinds []string
	for typ, n := range count {
		words := inWords(typ)
		if n > 1 {
			words += " (" + strconv.Itoa(n) + ")"
		}
		kinds = append(kinds, words)
	}
	slices.Sort(kinds)
	if len(kinds) == 0 {
		return verb + " " + whose + "records"
	}
	what := kinds[0]
	if n := len(kinds); n > 1 {
		what = strings.Join(kinds[:n-1], ", ") + " and " + kinds[n-1]
	}
	return verb + " " + whose + what
}

// named are types whose names are not what people call them.
var named = map[fhir.ResourceType]string{
	"Patient": "personal details", "CarePlan": "treatment plan", "Condition": "diagnosis", "Encounter": "visit", "MedicationRequest": "prescription", "DocumentReference": "document",
	"Composition": "document", "QuestionnaireResponse": "answers to a questionnaire", "Coverage": "insurance", "RelatedPerson": "contact person", "Observation": "measurement or finding", "EpisodeOfCare": "episode of care",
}

// inWords is a type as people would say it: CareTeam is care team.
func inWords(t fhir.ResourceType) string {
	if w, ok := named[t]; ok {
		return w
	}
	var b strings.Builder
	for i, c := range string(t) {
		if c >= 'A' && c <= 'Z' {
			if i > 0 {
				b.WriteByte(' ')
			}
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

var purposes = map[string]string{
	"TREAT": "for treatment", "HPAYMT": "for payment", "HOPERAT": "for the operations of the practice", "ETREAT": "for treatment in an emergency",
	"BTG": "for treatment in an emergency", "HRESCH": "for research", "PUBHLTH": "for public health", "HLEGAL": "for a legal proceeding", "LEGAL": "for a legal proceeding", "HCOMPL": "as the law requires",
	"COC": "for the coordination of care", "HSYSADMIN": "to run the system", "TRAIN": "for training",
}

func purposeInWords(code, of string) string {
	if code == "PATRQT" {
		return "at " + of + "own request"
	}
	if w, ok := purposes[code]; ok {
		return w
	}
	return "for the purpose " + code
}
