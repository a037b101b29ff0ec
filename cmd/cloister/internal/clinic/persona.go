package clinic

import (
	"net/http"
	"net/url"

	"github.com/cloister-health/cloister/fhir"
)

// Persona is one caller of the clinic, with what a token of theirs says and
// what they can try.
type Persona struct {
	Name        string // short and unique: "therapist", "harbor-hie"
	Description string // one sentence
	Practice    string // slug
	Claims      Claims
	Requests    []Request
	Exports     fhir.Ref // a Group whose members' records they may take in bulk, if there is one
}

// Claims are the claims of a persona's access token beside iss, aud and exp.
type Claims struct {
	Subject       string   `json:"sub"`
	Client        string   `json:"client_id"`
	Practice      string   `json:"practice"`
	Roles         []string `json:"roles"`
	Organizations []string `json:"organizations,omitempty"`
	Purpose       string   `json:"purpose_of_use"` // v3-ActReason
	FHIRUser      string   `json:"fhirUser,omitempty"`
	Patient       string   `json:"patient,omitempty"` // launch context: a Patient id
	Scope         string   `json:"scope"`             // SMART scopes, separated by spaces
}

// Request is one call that shows something.
type Request struct {
	Method string
	// Path is below the base URL, escaped. Where it begins with [Made], that stands for the path of what
	// the last request before it made that is said to make something.
	Path   string
	Body   string // of a POST: FHIR JSON without a single quote, or ""
	Makes  bool   // the answer's Location names a resource that requests after it are about
	Expect string // what a person should look for in the answer
	Status int    // HTTP status of the answer under the embedded policy
}

// Made begins the path of a request about what one before it made.
const Made = "{made}"

// Personas lists the callers of the clinic. Everything that their claims and
// requests name exists in it, except for the one id that is said never to have existed.
func Personas(c Config) []Persona {
	c = c.normal()
	harbor, lakeside := newSite(c, Practices()[0]), newSite(c, Practices()[1])
	return append(harbor.clinicians(), append(harbor.others(), lakeside.neighbours(harbor)...)...)
}

const (
	scopeUser = "openid fhirUser user/*.cruds"
	scopeRead = "openid fhirUser user/*.rs"
	// Patients sign: to prepare a Consent creates it, and a signature changes it and is recorded in a Provenance.
	scopePatient = "openid fhirUser launch/patient patient/*.rs patient/Consent.cu patient/Provenance.u"
	scopeSystem  = "system/*.rs system/Subscription.cruds"
)

// worker makes the persona of a member of the staff.
func (s *site) worker(name, key, description, purpose, scope string, requests ...Request) Persona {
	m := s.member(key)
	p := s.caller(name, description, purpose, scope, m.Role, m.ref(), requests)
	for _, o := range m.Organizations {
		p.Claims.Organizations = append(p.Claims.Organizations, string(o))
	}
	return p
}

func (s *site) caller(name, description, purpose, scope, role string, user fhir.Ref, requests []Request) Persona {
	return Persona{Name: name, Description: description, Practice: s.Slug, Requests: requests, Claims: Claims{
		Subject: s.Slug + "/" + name, Client: "cloister-dev", Practice: s.Slug, Roles: []string{role},
		Purpose: purpose, FHIRUser: user.String(), Scope: scope,
	}}
}

// person makes the persona of a patient, or of someone who speaks for one.
func (s *site) person(name, description, role string, user fhir.Ref, patient int, requests ...Request) Persona {
	p := s.caller(name, description, "PATRQT", scopePatient, role, user, requests)
	p.Claims.Patient = string(s.patientRef(patient, "Patient", "").ID)
	return p
}

// also is p with further requests.
func (p Persona) also(more []Request) Persona {
	p.Requests = append(p.Requests, more...)
	return p
}

// ask is a search of one patient's resources of a type.
func (s *site) ask(patient int, t fhir.ResourceType, expect string, status int, more ...string) Request {
	q := "patient=" + string(s.patientRef(patient, "Patient", "").ID)
	for i := 0; i+1 < len(more); i += 2 {
		q += "&" + more[i] + "=" + url.QueryEscape(more[i+1])
	}
	return Request{Method: http.MethodGet, Path: "/" + string(t) + "?" + q, Expect: expect, Status: status}
}

func get(path, expect string, status int) Request {
	return Request{Method: http.MethodGet, Path: path, Expect: expect, Status: status}
}

// sign are the requests by which somebody consents to a disclosure, and thinks better of it. authority is why she signs
// for the patient, or "".
func (s *site) sign(patient int, kind string, discloser fhir.Ref, purpose, authority string) []Request {
	reference := func(to fhir.Ref) string { return `"valueReference":{"reference":"` + to.String() + `"}` }
	answer := func(item, value string) string { return `{"linkId":"` + item + `","answer":[{` + value + `}]}` }
	body := `{"resourceType":"Parameters","parameter":[{"name":"questionnaire","valueCanonical":"` + formURL(kind) + `"},{"name":"patient",` + reference(s.patientRef(patient, "Patient", "")) +
		`},{"name":"answers","resource":{"resourceType":"QuestionnaireResponse","status":"completed","item":[` + answer("discloser", reference(discloser)) + "," + answer("recipient", reference(s.hie)) + "," +
		answer("purpose", `"valueCoding":{"system":"`+actReason+`","code":"`+purpose+`"}`) + "," + answer("until", `"valueDate":"`+date(days(s.Now, 300))+`"`) + `]}}]}`
	says := ""
	if authority != "" {
		says = `{"resourceType":"Parameters","parameter":[{"name":"authority","valueCode":"` + authority + `"}]}`
	}
	return []Request{
		{Method: http.MethodPost, Path: "/Consent/$prepare", Body: body, Makes: true, Expect: "a form, filled in: a Consent that is proposed, and permits nothing", Status: http.StatusCreated},
		{Method: http.MethodPost, Path: Made + "/$sign", Body: says, Expect: "the copy for whoever signs: the Consent is active, and the signature is in a Provenance", Status: http.StatusOK},
		get(Made+"/$verify-signature", "signed, by whom and when", http.StatusOK),
		{Method: http.MethodPost, Path: Made + "/$revoke", Body: says, Expect: "the Consent is inactive: it permits nothing from here on", Status: http.StatusOK},
	}
}

func read(r fhir.Ref, expect string, status int) Request {
	return get("/"+r.String(), expect, status)
}

const (
	scorePHQ9 = loinc + "|44261-6"
	screenUDS = loinc + "|3879-4"
)

// note names a note that is kept apart, the first of that patient.
func (s *site) note(patient int, key string) fhir.Ref {
	return s.patientRef(patient, "DocumentReference", key+"/0")
}

// Absent is an id that no resource of the clinic has.
func (c Config) Absent() fhir.ID { return identify(c.Seed, "", "", "absent") }

func (s *site) clinicians() []Persona {
	apart := s.note(featuredNotes, "general/psychotherapy-note")
	counseling := s.note(featuredTPO, "sud/sud-counseling-note")
	absent := fhir.Ref{Type: "DocumentReference", ID: s.Absent()}
	return []Persona{
		s.worker("therapist", "therapist/0", "Elena Marsh, therapist in the general program", "TREAT", scopeUser,
			s.ask(featuredNotes, "Observation", "the PHQ-9 totals of her patient, improving", http.StatusOK, "code", scorePHQ9),
			read(apart, "her own psychotherapy note", http.StatusOK),
			s.ask(featuredTPO, "Observation", "drug screens of the SUD program: the patient's TPO consent covers his treating providers", http.StatusOK, "code", screenUDS),
			s.ask(featuredSilent, "Condition", "an empty Bundle: not her patient, and a Part 2 record without consent", http.StatusOK)),
		s.worker("colleague", "therapist/1", "Tomas Okafor, therapist in the same program, without Nora Bergstrom among his patients", "TREAT", scopeUser,
			read(apart, "the 404 of an id that never existed", http.StatusNotFound),
			read(absent, "the same 404, byte for byte", http.StatusNotFound),
			s.ask(featuredMinor, "Condition", "his own patient's problems, those of her own minor-consented care too", http.StatusOK),
			s.ask(featuredTrainee, "Condition", "an empty Bundle: he handed this patient over", http.StatusOK)),
		s.worker("third-therapist", "therapist/2", "Ruth Lindqvist, therapist of a patient who attends both programs and signed no consent", "TREAT", scopeUser,
			s.ask(featuredBoth, "Encounter", "the sessions in the general program only", http.StatusOK),
			s.ask(featuredBoth, "Observation", "an empty Bundle: no drug screens without consent", http.StatusOK, "code", screenUDS)),
		s.worker("psychiatrist", "psychiatrist/0", "Samir Haddad, psychiatrist in the general program", "TREAT", scopeUser,
			s.ask(featuredNotes, "MedicationRequest", "what he prescribed", http.StatusOK),
			read(apart, "404: the note belongs to its author alone", http.StatusNotFound)),
		s.worker("trainee", "trainee/0", "June Whitlock, therapist in training", "TREAT", scopeUser,
			s.ask(featuredTrainee, "QuestionnaireResponse", "her patient's PHQ-9 and GAD-7", http.StatusOK),
			s.ask(featuredNotes, "QuestionnaireResponse", "an empty Bundle: not her patient", http.StatusOK)),
		s.worker("supervisor", "supervisor/0", "Irene Castellan, who supervises the trainee", "TREAT", scopeUser,
			s.ask(featuredTrainee, "DocumentReference", "the trainee's progress notes, not her psychotherapy notes", http.StatusOK),
			read(s.note(featuredTrainee, "general/psychotherapy-note"), "404: for treatment the note is its author's alone", http.StatusNotFound)),
		s.worker("sud-counselor", "sud-counselor/0", "Otis Brandt, counselor in the SUD program", "TREAT", scopeUser,
			s.ask(featuredRevoked, "Condition", "his patient's problems: inside the program no consent is needed", http.StatusOK),
			read(counseling, "his own SUD counseling note", http.StatusOK),
			s.ask(featuredNotes, "Condition", "an empty Bundle: a patient of the general program only", http.StatusOK)),
		s.worker("sud-psychiatrist", "sud-psychiatrist/0", "Mei Nakagawa, who prescribes in the SUD program", "TREAT", scopeUser,
			s.ask(featuredSpecific, "MedicationRequest", "buprenorphine, as she prescribed it", http.StatusOK),
			read(counseling, "404: the counseling note is its author's alone", http.StatusNotFound)),
		s.worker("emergency", "psychiatrist/0", "Samir Haddad, who may declare an emergency with Patient/$break-glass", "ETREAT", scopeUser,
			s.ask(featuredSilent, "Condition", "an empty Bundle: he has declared no emergency", http.StatusOK),
			read(apart, "404: no emergency opens a psychotherapy note", http.StatusNotFound)),
	}
}

func (s *site) others() []Persona {
	apart := s.note(featuredNotes, "general/psychotherapy-note")
	self := func(i int) fhir.Ref { return s.patientRef(i, "Patient", "") }
	alone := s.patientRef(featuredMinor, "Encounter", "alone/session/0")
	ordinary := s.patientRef(featuredMinor, "Encounter", "general/session/0")
	hie := s.caller("hie", "Tri-County Health Exchange, a system client", "TREAT", scopeSystem, roleHIE, fhir.Ref{}, []Request{
		s.ask(featuredSpecific, "Condition", "a Part 2 record: the patient's consent names the exchange", http.StatusOK),
		s.ask(featuredRevoked, "Condition", "an empty Bundle: the consent was revoked", http.StatusOK),
		s.ask(featuredExpired, "Condition", "an empty Bundle: the consent has expired", http.StatusOK),
		s.ask(featuredSilent, "Condition", "an empty Bundle: there never was a consent", http.StatusOK),
		s.ask(featuredNotes, "Condition", "what the general program shares for treatment", http.StatusOK),
		read(s.panel(), "the panel that the practice keeps for the exchange", http.StatusOK),
	})
	hie.Exports = s.panel()
	hie.Claims.Client = "tri-county-exchange"
	hie.Claims.Organizations = []string{string(s.hie.ID)}
	return []Persona{
		s.worker("front-desk", "front-desk/0", "Dana Pruitt, front desk of the general program", "HOPERAT", scopeUser,
			s.ask(featuredNotes, "Appointment", "appointments, past and to come", http.StatusOK),
			s.ask(featuredNotes, "DocumentReference", "403: no notes at the front desk or in the office", http.StatusForbidden),
			s.ask(featuredSilent, "Appointment", "an empty Bundle: a patient of the SUD program", http.StatusOK)),
		s.worker("sud-front-desk", "sud-front-desk/0", "Leroy Vance, front desk of the SUD program", "HOPERAT", scopeUser,
			s.ask(featuredSilent, "Appointment", "appointments in his program", http.StatusOK),
			s.ask(featuredSilent, "DocumentReference", "403: no notes at the front desk or in the office", http.StatusForbidden)),
		s.worker("biller", "biller/0", "Greta Sorensen, biller of the general program", "HPAYMT", scopeUser,
			s.ask(featuredNotes, "Claim", "the claims of a patient", http.StatusOK),
			s.ask(featuredNotes, "DocumentReference", "403: no notes at the front desk or in the office", http.StatusForbidden)),
		s.worker("privacy-officer", "privacy-officer/0", "Ngozi Abara, privacy officer of the practice", "HOPERAT", scopeUser,
			s.ask(featuredTPO, "Consent", "the TPO consent", http.StatusOK),
			s.ask(featuredRevoked, "Consent", "the consent that was revoked", http.StatusOK),
			read(apart, "403: no notes for the office", http.StatusForbidden)),
		s.worker("practice-admin", "practice-admin/0", "Victor Feld, who runs the practice", "HOPERAT", scopeUser,
			get("/PractitionerRole?_count=20", "the staff outside the SUD program", http.StatusOK),
			get("/Schedule?_count=20", "the schedules outside the SUD program", http.StatusOK)),
		hie,
		s.worker("research-analyst", "research-analyst/0", "Quyen Tran, research analyst", "HRESCH", scopeRead,
			get("/Patient?_count=5", "an empty Bundle: no identified patient without a documented basis", http.StatusOK),
			get("/Observation?code="+url.QueryEscape(scorePHQ9)+"&_count=5", "an empty Bundle: no identified record", http.StatusOK)),
		s.person("patient", "Nora Bergstrom, patient of the general program", rolePatient, self(featuredNotes), featuredNotes,
			s.ask(featuredNotes, "Observation", "her own PHQ-9 totals", http.StatusOK, "code", scorePHQ9),
			s.ask(featuredNotes, "Appointment", "her own appointments", http.StatusOK),
			read(apart, "404: there is no right of access to psychotherapy notes (45 CFR 164.524(a)(1)(i))", http.StatusNotFound)).
			also(s.sign(featuredNotes, "hipaa-authorization", s.general.org, "PATRQT", "")),
		s.person("sud-patient", "Colin Whitaker, patient of the SUD program", rolePatient, self(featuredSpecific), featuredSpecific,
			s.ask(featuredSpecific, "MedicationRequest", "his own prescriptions (42 CFR 2.23(a))", http.StatusOK),
			s.ask(featuredSpecific, "Consent", "the consent that he signed", http.StatusOK),
			read(s.sud.org, "the program that treats him", http.StatusOK),
			read(self(featuredNotes), "404: another patient", http.StatusNotFound)).
			also(s.sign(featuredSpecific, "part2-specific", s.sud.org, "TREAT", "")),
		s.person("minor-patient", "Alba Castro, sixteen years old", rolePatient, self(featuredMinor), featuredMinor,
			read(alone, "a session to which she consented alone", http.StatusOK),
			s.ask(featuredMinor, "Encounter", "all her sessions", http.StatusOK)),
		s.person("proxy", "Renata Castro, Alba's mother", roleProxy, s.patientRef(featuredMinor, "RelatedPerson", "parent"), featuredMinor,
			read(ordinary, "an ordinary session of her daughter's", http.StatusOK),
			read(alone, "404: her daughter consented to this care alone", http.StatusNotFound)).
			also(s.sign(featuredMinor, "hipaa-authorization", s.general.org, "PATRQT", "parent")),
	}
}

// neighbours are callers of the second practice, who see nothing of the first.
func (s *site) neighbours(first *site) []Persona {
	abroad := first.patientRef(featuredNotes, "Patient", "")
	return []Persona{
		s.worker("lakeside-therapist", "therapist/0", "Lucia Ibarra, therapist in the other practice", "TREAT", scopeUser,
			get("/Patient?name=Bergstrom", "the Nora Bergstrom of this practice, and no other", http.StatusOK),
			read(s.patientRef(0, "Patient", ""), "her patient", http.StatusOK),
			read(abroad, "404: a patient of the first practice", http.StatusNotFound)),
		s.worker("lakeside-front-desk", "front-desk/0", "Kai Amundsen, front desk of the other practice", "HOPERAT", scopeUser,
			s.ask(0, "Appointment", "appointments of this practice's Nora Bergstrom", http.StatusOK),
			read(abroad, "404: a patient of the first practice", http.StatusNotFound)),
	}
}
