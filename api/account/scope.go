package account

import (
	"slices"

	scopes "github.com/cloister-health/cloister/authz/smart"
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

// explain puts scopes into groups of plain sentences.
func explain(asked []string) []group {
	at := map[string]int{}
	var out []group
	for _, s := range asked {
		title, l := about(s)
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
func about(scope string) (string, line) {
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
	l.Sensitive = true // until it is known to be a scope about something else
	d := scopes.Describe(scope)
	if len(d) != 1 {
		l.Text = "Something that this page has no words for"
		return otherRecords, l
	}
	l.Text = d[0].Text
	if d[0].Type == "*" {
		return allRecords, l
	}
	for _, a := range areas {
		if slices.Contains(a.types, d[0].Type) {
			l.Sensitive = !a.directory
			return a.title, l
		}
	}
	return otherRecords, l
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
