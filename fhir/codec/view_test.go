package codec

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

const part2Consent = `{"resourceType":"Consent","id":"c1","status":"active",
 "text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">I agree</div>"},
 "contained":[{"resourceType":"Organization","id":"o","name":"x","partOf":{"reference":"#"}}],
 "scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
 "category":[{"coding":[{"system":"https://cloister.health/fhir/CodeSystem/consent-kind","code":"part2-tpo"},{"system":"http://loinc.org","code":"59284-0"}]}],
 "patient":{"reference":"Patient/p1","display":"P"},"dateTime":"2026-01-02T10:00:00-05:00",
 "performer":[{"reference":"Patient/p1"}],"organization":[{"reference":"Organization/sud/_history/3"}],
 "sourceAttachment":{"title":"paper"},"policyRule":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"42CFRPart2"}]},
 "verification":[{"verified":false},{"verified":true,"verifiedWith":{"reference":"Patient/p1"},"verificationDate":"2026-01-02"}],
 "provision":{"type":"permit","period":{"start":"2026-01-02","end":"2026-12-31"},
  "actor":[{"role":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}]},"reference":{"reference":"Organization/hie"}},
   {"role":{"coding":[{"code":"IRCP"}]},"reference":{"identifier":{"system":"https://cloister.health/fhir/CodeSystem/recipient-class","value":"treating-providers"}}}],
  "action":[{"coding":[{"code":"disclose"}]}],"securityLabel":[{"system":"urn:s","code":"R"}],
  "purpose":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}],"class":[{"system":"urn:c","code":"Observation"}],"code":[{"coding":[{"code":"44261-6"}]}],
  "dataPeriod":{"end":"2026-06"},"data":[{"meaning":"instance","reference":{"reference":"Observation/1"}}],
  "provision":[{"type":"deny","period":{"end":"2016-12-31T23:59:60Z"}}]}}`

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

func ref(s string) fhir.Ref {
	r, ok := fhir.ParseRef(s)
	if !ok {
		panic(s)
	}
	return r
}

func TestConsentDirective(t *testing.T) {
	got, err := ConsentDirective(mustParse(t, part2Consent))
	if err != nil {
		t.Fatal(err)
	}
	want := consent.Directive{
		Ref: ref("Consent/c1"), Status: "active", Scope: []consent.Code{{System: "http://terminology.hl7.org/CodeSystem/consentscope", Code: "patient-privacy"}},
		Category: []consent.Code{{System: fhir.ConsentKind, Code: "part2-tpo"}, {System: "http://loinc.org", Code: "59284-0"}},
		Patient:  ref("Patient/p1"), DateTime: time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC),
		Performers: []fhir.Ref{ref("Patient/p1")}, Organizations: []fhir.Ref{ref("Organization/sud")}, Source: true, Verified: []fhir.Ref{ref("Patient/p1")},
		PolicyRule: []consent.Code{{System: "http://terminology.hl7.org/CodeSystem/v3-ActCode", Code: "42CFRPart2"}},
		Root: consent.Provision{
			Type: "permit", Period: consent.Period{Start: day(2026, 1, 2), End: day(2027, 1, 1)},
			Actors: []consent.Actor{
				{Role: []consent.Code{{System: "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", Code: "IRCP"}}, Reference: ref("Organization/hie")},
				{Role: []consent.Code{{Code: "IRCP"}}, Identifier: consent.Code{System: fhir.RecipientClass, Code: "treating-providers"}}},
			Actions: []consent.Code{{Code: "disclose"}}, SecurityLabels: []consent.Code{{System: "urn:s", Code: "R"}},
			Purposes: []consent.Code{{System: "http://terminology.hl7.org/CodeSystem/v3-ActReason", Code: "TREAT"}},
			Classes:  []consent.Code{{System: "urn:c", Code: "Observation"}}, Codes: []consent.Code{{Code: "44261-6"}},
			DataPeriod: consent.Period{End: day(2026, 7, 1)}, Data: []consent.Datum{{Meaning: "instance", Reference: ref("Observation/1")}},
			Nested: []consent.Provision{{Type: "deny", Period: consent.Period{End: day(2017, 1, 1)}}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := ConsentDirective(mustParse(t, observation)); err == nil {
		t.Error("an Observation is read as a Consent")
	}
}

// Whatever is not understood must show: a Consent with any of these grants nothing.
func TestConsentMalformed(t *testing.T) {
	const head = `{"resourceType":"Consent","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"coding":[{"code":"x"}]}],"policyRule":{"coding":[{"code":"p"}]},`
	patient := `"patient":{"reference":"Patient/1"},`
	for name, c := range map[string]struct{ body, want string }{
		"no patient":           {head + `"provision":{"type":"permit"}}`, "Consent.patient"},
		"foreign patient":      {head + `"patient":{"reference":"https://example.org/fhir/Patient/1"}}`, "Consent.patient"},
		"patient by name":      {head + `"patient":{"display":"Jo"}}`, "Consent.patient"},
		"contained actor":      {head + patient + `"contained":[{"resourceType":"Organization","id":"o","name":"x"}],"provision":{"actor":[{"role":{"coding":[{"code":"x"}]},"reference":{"reference":"#o"}}]}}`, "Consent.provision.actor[0].reference"},
		"actor by name":        {head + patient + `"provision":{"actor":[{"role":{"coding":[{"code":"x"}]},"reference":{"display":"all"}}]}}`, "Consent.provision.actor[0].reference"},
		"conditional actor":    {head + patient + `"provision":{"actor":[{"role":{"coding":[{"code":"x"}]},"reference":{"reference":"Organization?name=x"}}]}}`, "Consent.provision.actor[0].reference"},
		"identifier of nobody": {head + patient + `"provision":{"actor":[{"role":{"coding":[{"code":"x"}]},"reference":{"identifier":{"system":"urn:x"}}}]}}`, "Consent.provision.actor[0].reference.identifier"},
		"role in words":        {head + patient + `"provision":{"actor":[{"role":{"text":"x"},"reference":{"reference":"Organization/1"}}]}}`, "Consent.provision.actor[0].role"},
		"action in words":      {head + patient + `"provision":{"action":[{"text":"disclose"}]}}`, "Consent.provision.action[0]"},
		"purpose in words":     {head + patient + `"provision":{"purpose":[{"display":"care"}]}}`, "Consent.provision.purpose[0]"},
		"custodian by name":    {head + patient + `"organization":[{"display":"Clinic"}]}`, "Consent.organization[0]"},
		"performer by name":    {head + patient + `"performer":[{"display":"Mother"}]}`, "Consent.performer[0]"},
		"modifier":             {head + patient + `"modifierExtension":[{"url":"urn:m","valueBoolean":true}]}`, "Consent.modifierExtension[0]"},
		"modifier deep down":   {head + patient + `"provision":{"provision":[{"modifierExtension":[{"url":"urn:m","valueBoolean":true}]}]}}`, "Consent.provision.provision[0].modifierExtension[0]"},
		"implicit rules":       {head + patient + `"implicitRules":"urn:r"}`, "Consent.implicitRules"},
		"type withheld":        {head + patient + `"provision":{"_type":{"extension":[{"url":"urn:x","valueString":"s"}]}}}`, "Consent.provision.type"},
		"end withheld":         {head + patient + `"provision":{"period":{"start":"2020","_end":{"extension":[{"url":"urn:x","valueString":"s"}]}}}}`, "Consent.provision.period.end"},
		"period backwards":     {head + patient + `"provision":{"period":{"start":"2021","end":"2020"}}}`, "Consent.provision.period"},
	} {
		d, err := ConsentDirective(mustParse(t, c.body))
		if err != nil {
			t.Fatal(name, err)
		}
		found := false
		for _, p := range d.Malformed {
			found = found || p == c.want
		}
		if !found {
			t.Errorf("%s: malformed is %q, want %s", name, d.Malformed, c.want)
		}
	}
	d, err := ConsentDirective(mustParse(t, head+patient+`"provision":{"period":{"start":"2020","end":"2020"},"extension":[{"url":"urn:x","valueString":"s"}]}}`))
	if err != nil || len(d.Malformed) > 0 || !d.Root.Period.End.Equal(day(2021, 1, 1)) {
		t.Error(d, err)
	}
}

// The end of a period is inclusive in FHIR: it is widened by its precision.
func TestPeriodPrecision(t *testing.T) {
	for in, want := range map[string]time.Time{
		"2024":                        day(2025, 1, 1),
		"2024-02":                     day(2024, 3, 1),
		"2024-02-28":                  day(2024, 2, 29),
		"2024-02-28T10:00:00-05:00":   time.Date(2024, 2, 28, 15, 0, 1, 0, time.UTC),
		"2024-02-28T10:00:00.5Z":      time.Date(2024, 2, 28, 10, 0, 0, 501e6, time.UTC),
		"2024-02-28T10:00:00.123456Z": time.Date(2024, 2, 28, 10, 0, 0, 123457e3, time.UTC),
	} {
		v, err := RelatedPerson(mustParse(t, `{"resourceType":"RelatedPerson","active":true,"patient":{"reference":"Patient/1"},"period":{"end":"`+in+`"}}`))
		if err != nil || !v.Period.End.Equal(want) || !v.Active {
			t.Errorf("%s: %v %v", in, v, err)
		}
	}
}

func TestCareTeam(t *testing.T) {
	v, err := CareTeam(mustParse(t, `{"resourceType":"CareTeam","status":"entered-in-error","subject":{"reference":"Patient/1"},"period":{"start":"2025-01-01"},
	 "participant":[{"role":[{"coding":[{"system":"urn:r","code":"therapist"}]},{"text":"x"}],"member":{"reference":"Practitioner/t"},"period":{"end":"2025-02-01"}},
	 {"member":{"display":"Somebody"}},{"member":{"reference":"Practitioner/u"},"modifierExtension":[{"url":"urn:not","valueBoolean":true}]},
	 {"member":{"reference":"Practitioner/v"},"period":{"_end":{"extension":[{"url":"u","valueString":"s"}]},"start":"2020"}},{"member":{"reference":"Organization/o"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := CareTeamView{Status: "entered-in-error", Patient: ref("Patient/1"), Period: consent.Period{Start: day(2025, 1, 1)},
		Participants: []Participant{
			{Member: ref("Practitioner/t"), Roles: []consent.Code{{System: "urn:r", Code: "therapist"}}, Period: consent.Period{End: day(2025, 2, 2)}},
			{Member: ref("Organization/o")}},
		Malformed: []string{"CareTeam.participant[1].member", "CareTeam.participant[2].modifierExtension[0]", "CareTeam.participant[3].period", "CareTeam.participant[3].period.end"}}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
	for _, body := range []string{
		`{"resourceType":"CareTeam","status":"active","modifierExtension":[{"url":"urn:not","valueBoolean":true}],"subject":{"reference":"Patient/1"},"participant":[{"member":{"reference":"Practitioner/t"}}]}`,
		`{"resourceType":"CareTeam","status":"active","subject":{"display":"x"},"participant":[{"member":{"reference":"Practitioner/t"}}]}`,
		`{"resourceType":"CareTeam","status":"active","subject":{"reference":"Patient/1"},"period":{"start":"2021","end":"2020"},"participant":[{"member":{"reference":"Practitioner/t"}}]}`,
	} {
		if v, err := CareTeam(mustParse(t, body)); err != nil || len(v.Participants) > 0 || len(v.Malformed) == 0 {
			t.Error(v, err)
		}
	}
	if _, err := CareTeam(mustParse(t, observation)); err == nil {
		t.Error("an Observation is read as a CareTeam")
	}
}

func TestRelatedPerson(t *testing.T) {
	for body, want := range map[string]RelatedPersonView{
		`{"resourceType":"RelatedPerson","active":true,"patient":{"reference":"Patient/1"},"period":{"start":"2020","end":"2021"},"name":[{"family":"x"}]}`: {Active: true, Patient: ref("Patient/1"), Period: consent.Period{Start: day(2020, 1, 1), End: day(2022, 1, 1)}},
		`{"resourceType":"RelatedPerson","patient":{"reference":"Patient/1"}}`:                                                                              {Patient: ref("Patient/1")},
		`{"resourceType":"RelatedPerson","active":false,"patient":{"reference":"Patient/1"}}`:                                                               {Patient: ref("Patient/1")},
		`{"resourceType":"RelatedPerson","active":true,"patient":{"display":"x"}}`:                                                                          {Malformed: []string{"RelatedPerson.patient"}},
		`{"resourceType":"RelatedPerson","active":true,"modifierExtension":[{"url":"urn:not","valueBoolean":true}],"patient":{"reference":"Patient/1"}}`:    {Patient: ref("Patient/1"), Malformed: []string{"RelatedPerson.modifierExtension[0]"}},
	} {
		v, err := RelatedPerson(mustParse(t, body))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, v); diff != "" {
			t.Errorf("%s\n%s", body, diff)
		}
	}
	if _, err := RelatedPerson(nil); err == nil {
		t.Error("nothing is read as a RelatedPerson")
	}
}
