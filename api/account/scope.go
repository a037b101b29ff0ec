package account

import (
	"net/url"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

// line is one scope on the page of consent.
type line struct {
	Scope     string // as the app asked for it, which is what approval passes on
	Text      string
	Detail    string // what narrows it, or what it is called in the standard
	Sensitive bool   // it can reach records of mental-health care and of substance-use treatment
	Fixed     bool   // launch context: without it the app would not know what it was opened for
}

// group is the lines about one kind of record.
type group struct {
	Title string
	Lines []line
}

// areas put resource types into words. The first that has a type is its area; what is in none is "Other records".
var areas = []struct {
	title     string
	directory bool // holds no patient's record
	types     []fhir.ResourceType
}{
	{"Who the patient is", false, []fhir.ResourceType{"Patient", "RelatedPerson", "Person", "Coverage", "CoverageEligibilityRequest", "CoverageEligibilityResponse", "Flag", "List", "Group"}},
	{"Diagnoses and health problems", false, []fhir.ResourceType{"Condition", "AllergyIntolerance", "FamilyMemberHistory", "ClinicalImpression", "DetectedIssue", "AdverseEvent", "RiskAssessment"}},
	{"Medicines", false, []fhir.ResourceType{"MedicationRequest", "MedicationStatement", "MedicationDispense", "MedicationAdministration", "Immunization", "ImmunizationEvaluation", "ImmunizationRecommendation"}},
	{"Results, measurements and questionnaires", false, []fhir.ResourceType{"Observation", "DiagnosticReport", "QuestionnaireResponse", "Specimen", "Media", "ImagingStudy", "MolecularSequence", "BodyStructure"}},
	{"Visits and appointments", false, []fhir.ResourceType{"Encounter", "EpisodeOfCare", "Appointment", "AppointmentResponse", "ServiceRequest", "Procedure"}},
	{"Notes and documents", false, []fhir.ResourceType{"DocumentReference", "DocumentManifest", "Composition", "Binary", "Bundle"}},
	{"Plans and care team", false, []fhir.ResourceType{"CarePlan", "CareTeam", "Goal", "NutritionOrder", "RequestGroup", "Task", "Communication", "CommunicationRequest", "DeviceRequest", "DeviceUseStatement", "Device"}},
	{"Bills", false, []fhir.ResourceType{"Claim", "ClaimResponse", "ExplanationOfBenefit", "Account", "ChargeItem", "Invoice", "PaymentNotice", "PaymentReconciliation", "EnrollmentRequest", "EnrollmentResponse", "Contract"}},
	{"Consents and access records", false, []fhir.ResourceType{"Consent", "AuditEvent", "Provenance"}},
	{"The practice", true, []fhir.ResourceType{"Practitioner", "PractitionerRole", "Organization", "OrganizationAffiliation", "Location", "HealthcareService", "Endpoint", "Schedule", "Slot", "Medication", "Substance", "Questionnaire", "PlanDefinition", "ActivityDefinition", "ValueSet", "CodeSystem", "ConceptMap", "StructureDefinition", "SearchParameter", "CapabilityStatement", "Library"}},
}

const (
	allRecords   = "All records"
	otherRecords = "Other records"
	aboutYou     = "Who you are"
	launched     = "What the app is opened for"
	lasting      = "How long it lasts"
)

// order is that of the groups on the page.
func order(title string) int {
	if title == allRecords {
		return -1
	}
	for i, a := range areas {
		if a.title == title {
			return i
		}
	}
	return 100 + slices.Index([]string{otherRecords, launched, aboutYou, lasting}, title)
}

// whose says whose records a level of scopes is about, in the words of the page.
type whose struct{ patient, user string }

// explain puts scopes into groups of plain sentences.
func explain(scopes []string, of whose) []group {
	at := map[string]int{}
	var out []group
	for _, s := range scopes {
		title, l := about(s, of)
		i, ok := at[title]
		if !ok {
			i = len(out)
			at[title] = i
			out = append(out, group{Title: title})
		}
		out[i].Lines = append(out[i].Lines, l)
	}
	slices.SortStableFunc(out, func(a, b group) int { return order(a.Title) - order(b.Title) })
	return out
}

// about is one scope in words (SMART App Launch 2.2, section 6).
func about(scope string, of whose) (string, line) {
	l := line{Scope: scope, Detail: scope}
	switch scope {
	case "openid":
		l.Text = "Recognise you when you come back"
		return aboutYou, l
	case "profile", "fhirUser":
		l.Text = "Know your name and your entry in the records of the practice"
		return aboutYou, l
	case "email":
		l.Text = "Know your e-mail address"
		return aboutYou, l
	case "launch":
		l.Text, l.Fixed = "Know from where it was opened", true
		return launched, l
	case "launch/patient":
		l.Text, l.Fixed = "Know which patient it is about", true
		return launched, l
	case "launch/encounter":
		l.Text, l.Fixed = "Know which visit it is about", true
		return launched, l
	case "offline_access":
		l.Text = "Keep access when you do not use it"
		return lasting, l
	case "online_access":
		l.Text = "Keep access while you are signed in here"
		return lasting, l
	}
	level, rest, ok := strings.Cut(scope, "/")
	name, grant, dotted := strings.Cut(rest, ".")
	if !ok || !dotted || level != "patient" && level != "user" && level != "system" {
		l.Text, l.Sensitive = "Something that this page has no words for", true
		return otherRecords, l
	}
	grant, only, _ := strings.Cut(grant, "?")
	title, things := allRecords, "everything in the record"
	l.Sensitive = true
	if name != "*" {
		title, things = otherRecords, spaced(name)
		for _, a := range areas {
			if slices.Contains(a.types, fhir.ResourceType(name)) {
				title, l.Sensitive = a.title, !a.directory
				things = spaced(name)
				break
			}
		}
	}
	l.Text = verbs(grant) + " " + things
	switch {
	case !l.Sensitive:
	case level == "patient":
		l.Text += " of " + of.patient
	default:
		l.Text += " of " + of.user
	}
	if only != "" {
		l.Text += ", only " + constraint(only)
	}
	return title, l
}

// verbs are the letters of a scope, or the words of its first version, in the order in which they are granted.
func verbs(grant string) string {
	switch grant {
	case "read":
		grant = "rs"
	case "write":
		grant = "cud"
	case "*":
		grant = "cruds"
	}
	var words []string
	if strings.ContainsAny(grant, "rs") {
		words = append(words, "see")
	}
	for i, word := range []string{"add", "change", "delete"} {
		if strings.Contains(grant, "cud"[i:i+1]) {
			words = append(words, word)
		}
	}
	switch len(words) {
	case 0:
		return "Use"
	case 1:
		return strings.ToUpper(words[0][:1]) + words[0][1:]
	}
	last := words[len(words)-1]
	s := strings.Join(words[:len(words)-1], ", ") + " and " + last
	return strings.ToUpper(s[:1]) + s[1:]
}

// constraint is the search of a granular scope in words: the codes without their systems.
func constraint(query string) string {
	values, err := url.ParseQuery(query)
	if err != nil {
		return query
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	parts := make([]string, 0, len(names))
	for _, name := range names {
		var codes []string
		for _, v := range values[name] {
			for one := range strings.SplitSeq(v, ",") {
				codes = append(codes, one[strings.LastIndexByte(one, '|')+1:])
			}
		}
		parts = append(parts, name+" "+strings.Join(codes, " or "))
	}
	return strings.Join(parts, " and ")
}

// words are the types whose names a patient would not understand.
var words = map[string]string{
	"Patient": "name, birth date, address and contacts", "RelatedPerson": "relatives and contacts", "Condition": "diagnoses and problems", "AllergyIntolerance": "allergies",
	"FamilyMemberHistory": "family history", "MedicationRequest": "prescriptions", "MedicationStatement": "medicines taken", "MedicationDispense": "medicines handed out",
	"MedicationAdministration": "medicines given", "Immunization": "vaccinations", "Observation": "test results, drug screens, measurements and scores",
	"DiagnosticReport": "lab and imaging reports", "QuestionnaireResponse": "answers to questionnaires", "Encounter": "visits and sessions", "EpisodeOfCare": "episodes of care",
	"Appointment": "appointments", "ServiceRequest": "orders and referrals", "Procedure": "treatments and procedures", "DocumentReference": "clinical notes and documents",
	"Composition": "documents", "Binary": "attached files", "CarePlan": "care plans", "CareTeam": "who takes part in the care", "Goal": "goals", "Task": "tasks", "Communication": "messages",
	"Claim": "claims to insurers", "ExplanationOfBenefit": "statements of insurers", "Coverage": "insurance", "Consent": "consents", "AuditEvent": "who looked at the record",
	"Provenance": "who wrote what", "Practitioner": "staff", "PractitionerRole": "roles of staff", "Organization": "organizations", "Location": "places",
	"HealthcareService": "services", "Schedule": "schedules", "Slot": "free times", "Questionnaire": "empty questionnaires", "Medication": "medicines as products",
}

// spaced is a type in words: "ImagingStudy" is "imaging study" where words has nothing better.
func spaced(name string) string {
	if w, ok := words[name]; ok {
		return w
	}
	var b strings.Builder
	for i, c := range name {
		if i > 0 && c >= 'A' && c <= 'Z' {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return strings.ToLower(b.String())
}

// reaches reports whether some line can reach what is kept apart by law.
func reaches(groups []group) bool {
	for _, g := range groups {
		if slices.ContainsFunc(g.Lines, func(l line) bool { return l.Sensitive }) {
			return true
		}
	}
	return false
}
