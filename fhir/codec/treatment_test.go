package codec

import (
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

const encounterText = `{"resourceType":"Encounter","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/anna"},
"period":{"start":"2026-01-10T10:00:00Z","end":"2026-01-10T11:00:00Z"},
"participant":[{"type":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"PPRF"}]}],"individual":{"reference":"Practitioner/elena"}}]}`

const appointmentText = `{"resourceType":"Appointment","status":"booked","start":"2026-01-10T10:00:00Z","end":"2026-01-10T11:00:00Z",
"participant":[{"actor":{"reference":"Patient/anna"},"status":"accepted"},{"actor":{"reference":"PractitionerRole/role"},"status":"accepted"}]}`

const episodeText = `{"resourceType":"EpisodeOfCare","status":"active","patient":{"reference":"Patient/anna"},"period":{"start":"2026-01-10"},
"careManager":{"reference":"Practitioner/elena"},"team":[{"reference":"CareTeam/team"}]}`

const referralText = `{"resourceType":"ServiceRequest","status":"active","intent":"order","subject":{"reference":"Patient/anna"},"authoredOn":"2026-01-10T10:00:00Z",
"performer":[{"reference":"Practitioner/elena"}]}`

func TestTreatment(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	ten, eleven := at("2026-01-10T10:00:00Z"), at("2026-01-10T11:00:01Z") // an inclusive end lasts as long as its precision
	day := at("2026-01-10T00:00:00Z")
	for name, c := range map[string]struct {
		text, old, new string
		members        []string
		start, end     time.Time
	}{
		"encounter":                        {encounterText, "", "", []string{"Practitioner/elena"}, ten, eleven},
		"encounter of a role":              {encounterText, "Practitioner/elena", "PractitionerRole/role", []string{"PractitionerRole/role"}, ten, eleven},
		"encounter without an end":         {encounterText, `"end":"2026-01-10T11:00:00Z"`, `"id":"x"`, []string{"Practitioner/elena"}, ten, ten},
		"encounter planned without end":    {strings.Replace(encounterText, `,"end":"2026-01-10T11:00:00Z"`, "", 1), "finished", "planned", []string{"Practitioner/elena"}, ten, ten},
		"encounter whose end is not said":  {encounterText, `"end":"2026-01-10T11:00:00Z"`, `"_end":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]}`, nil, ten, ten},
		"encounter with a code of others'": {encounterText, "v3-ParticipationType", "other", nil, ten, ten},
		"encounter that is cancelled":      {encounterText, "finished", "cancelled", nil, ten, ten},
		"encounter in error":               {encounterText, "finished", "entered-in-error", nil, ten, ten},
		"encounter of unknown state":       {encounterText, "finished", "unknown", nil, ten, ten},
		"encounter without a time":         {encounterText, `"period"`, `"_period"`, nil, ten, ten},
		"encounter with an escort":         {encounterText, "PPRF", "ESC", nil, ten, ten},
		"encounter with a referrer":        {encounterText, "PPRF", "REF", nil, ten, ten},
		"encounter with a modified seat":   {encounterText, `"individual"`, `"modifierExtension":[{"url":"http://x","valueBoolean":true}],"individual"`, nil, ten, ten},
		"encounter that is modified":       {encounterText, `"status"`, `"modifierExtension":[{"url":"http://x","valueBoolean":true}],"status"`, nil, ten, ten},
		"encounter of a group":             {encounterText, "Patient/anna", "Group/anna", nil, ten, ten},
		"encounter left before it began":   {encounterText, `"individual"`, `"period":{"end":"2026-01-09"},"individual"`, nil, ten, ten},
		"appointment":                      {appointmentText, "", "", []string{"PractitionerRole/role"}, ten, eleven},
		"appointment without an end":       {appointmentText, `"end":"2026-01-10T11:00:00Z",`, "", []string{"PractitionerRole/role"}, ten, ten},
		"appointment that is cancelled":    {appointmentText, "booked", "cancelled", nil, ten, ten},
		"appointment without the patient":  {appointmentText, "booked", "noshow", nil, ten, ten},
		"appointment only asked for":       {appointmentText, "booked", "pending", nil, ten, ten},
		"appointment not accepted":         {appointmentText, `role"},"status":"accepted"`, `role"},"status":"tentative"`, nil, ten, ten},
		"appointment with a modified seat": {appointmentText, `role"},"status"`, `role"},"modifierExtension":[{"url":"http://x","valueBoolean":true}],"status"`, nil, ten, ten},
		"appointment the patient declined": {appointmentText, `anna"},"status":"accepted"`, `anna"},"status":"declined"`, nil, ten, ten},
		"episode":                          {episodeText, "", "", []string{"Practitioner/elena", "CareTeam/team"}, day, time.Time{}},
		"episode that is over":             {episodeText, "active", "finished", nil, day, day},
		"episode not begun":                {episodeText, "active", "planned", nil, day, day},
		"episode without a time":           {episodeText, `"period"`, `"_period"`, nil, day, day},
		"episode that only ends":           {episodeText, `"start"`, `"end"`, nil, day, day},
		"referral":                         {referralText, "", "", []string{"Practitioner/elena"}, ten, ten.Add(ReferralTerm)},
		"referral that is over":            {referralText, `"active"`, `"completed"`, nil, ten, ten},
		"referral in error":                {referralText, `"active"`, `"entered-in-error"`, nil, ten, ten},
		"referral only proposed":           {referralText, `"order"`, `"proposal"`, nil, ten, ten},
		"referral not to be carried out":   {referralText, `"intent"`, `"doNotPerform":true,"intent"`, nil, ten, ten},
		"referral without a date":          {referralText, `"authoredOn"`, `"_authoredOn"`, nil, ten, ten},
		"referral until a day":             {referralText, `"performer"`, `"occurrencePeriod":{"end":"2026-01-20"},"performer"`, []string{"Practitioner/elena"}, ten, at("2026-01-21T00:00:00Z")},
		"referral from a day":              {referralText, `"performer"`, `"occurrencePeriod":{"start":"2026-01-20T10:00:00Z"},"performer"`, []string{"Practitioner/elena"}, ten, at("2026-01-20T10:00:00Z").Add(ReferralTerm)},
		"another resource":                 {encounterText, `"Encounter"`, `"Flag"`, nil, ten, ten},
	} {
		t.Run(name, func(t *testing.T) {
			text := c.text
			if c.old != "" {
				if !strings.Contains(text, c.old) {
					t.Fatal("the case changes nothing")
				}
				text = strings.ReplaceAll(text, c.old, c.new)
			}
			root, err := ReadJSON([]byte(text), DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			v := Treatment(&Resource{Type: fhir.ResourceType(root.Get("resourceType").String()), Root: root})
			var got []string
			for _, m := range v.Members {
				got = append(got, m.Member.String())
			}
			if strings.Join(got, " ") != strings.Join(c.members, " ") {
				t.Fatalf("members %v, want %v", got, c.members)
			}
			if c.members == nil {
				return
			}
			if len(v.Patients) != 1 || v.Patients[0] != "anna" {
				t.Errorf("patients %v", v.Patients)
			}
			if name == "encounter without an end" {
				c.end = c.start // finished without an end is over as it begins
			}
			for _, m := range v.Members {
				if !m.Period.Start.Equal(c.start) || !m.Period.End.Equal(c.end) {
					t.Errorf("%s is %v to %v, want %v to %v", m.Member, m.Period.Start, m.Period.End, c.start, c.end)
				}
			}
		})
	}
	open := strings.Replace(strings.Replace(encounterText, "finished", "in-progress", 1), `,"end":"2026-01-10T11:00:00Z"`, "", 1)
	root, err := ReadJSON([]byte(open), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if v := Treatment(&Resource{Type: "Encounter", Root: root}); len(v.Members) != 1 || !v.Members[0].Period.End.IsZero() {
		t.Errorf("an Encounter under way: %+v", v)
	}
}

func TestPractitionerRole(t *testing.T) {
	const whole = `{"resourceType":"PractitionerRole","active":true,"practitioner":{"reference":"Practitioner/elena"},"period":{"start":"2026-01-01"}}`
	for name, c := range map[string]struct {
		old, new string
		ok       bool
	}{
		"modified":              {`"period"`, `"modifierExtension":[{"url":"http://x","valueBoolean":true}],"period"`, false},
		"whole":                 {"active", "active", true},
		"not active":            {"true", "false", false},
		"without saying so":     {`"active":true,`, "", false},
		"text for a boolean":    {"true", `"true"`, false},
		"of nobody":             {"practitioner\"", "organization\"", false},
		"of no Practitioner":    {"Practitioner/elena", "Patient/anna", false},
		"with no period at all": {`"start":"2026-01-01"`, `"start":"x"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := ReadJSON([]byte(strings.Replace(whole, c.old, c.new, 1)), DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			r := PractitionerRole(&Resource{Type: "PractitionerRole", Root: root})
			if (r.Practitioner.ID == "elena") != c.ok {
				t.Errorf("%+v", r)
			}
			if c.ok && !r.Period.Start.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
				t.Errorf("it begins %v", r.Period.Start)
			}
		})
	}
}

// An agreement counts while it is in force, and says which organization serves which program
// (42 CFR 2.11, 2.12(c)(4)).
func TestS22_2_11_QualifiedService(t *testing.T) {
	const whole = `{"resourceType":"OrganizationAffiliation","active":true,"organization":{"reference":"Organization/sud"},"participatingOrganization":{"reference":"Organization/lab"},` +
		`"period":{"start":"2026-02-01","end":"2026-03-31"},"code":[{"coding":[{"system":"` + fhir.AffiliationKind + `","code":"qsoa"}]}]}`
	for name, c := range map[string]struct {
		old, new string
		ok       bool
	}{
		"whole":                   {"active", "active", true},
		"not active":              {"true", "false", false},
		"without saying so":       {`"active":true,`, "", false},
		"of another kind":         {"qsoa", "member", false},
		"of a kind of others'":    {fhir.AffiliationKind, "http://x", false},
		"with no service":         {"participatingOrganization", "network", false},
		"with a person":           {"Organization/lab", "Practitioner/lab", false},
		"of no program":           {`"organization"`, `"location"`, false},
		"with no readable period": {"2026-03-31", "x", false},
		"with a period backwards": {"2026-03-31", "2026-01-01", false},
		"modified":                {`"period"`, `"modifierExtension":[{"url":"http://x","valueBoolean":true}],"period"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := ReadJSON([]byte(strings.Replace(whole, c.old, c.new, 1)), DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			a := QualifiedService(&Resource{Type: "OrganizationAffiliation", Root: root})
			if (a.Program == "sud" && a.Service == "lab") != c.ok || !c.ok && a != (Agreement{}) {
				t.Errorf("%+v", a)
			}
			if c.ok && (!a.Period.Start.Equal(time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)) || !a.Period.End.Equal(time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC))) {
				t.Errorf("in force %v to %v", a.Period.Start, a.Period.End)
			}
		})
	}
}
