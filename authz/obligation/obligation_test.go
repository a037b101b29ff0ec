package obligation_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
)

type disclosure = obligation.Disclosure

var one = []fhir.ID{"c"}

func names(d disclosure) string {
	out := ""
	for _, n := range obligation.Of(d) {
		out += string(n) + " "
	}
	return strings.TrimSpace(out)
}

func check(t *testing.T, cases map[string]struct {
	d    disclosure
	want string
}) {
	t.Helper()
	for name, c := range cases {
		if got := names(c.d); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

const consented = "notice-2.32 copy-of-consent-2.32 NORDSCLCD accounting-entry"

func TestS14_S15_2_33_a_WithConsent(t *testing.T) {
	check(t, map[string]struct {
		d    disclosure
		want string
	}{
		"to an exchange":                 {disclosure{Labels: label.Part2 | label.SUD, Facts: authz.Consent, Consents: one, Purpose: "TREAT"}, consented},
		"to a clinician of the practice": {disclosure{Labels: label.Part2, Facts: authz.Consent | authz.Treating, Consents: one, Recipient: authz.Workforce, Purpose: "TREAT"}, consented},
		"for payment":                    {disclosure{Labels: label.Part2, Facts: authz.Consent, Consents: one, Recipient: authz.Workforce, Purpose: "HPAYMT"}, consented},
		"within the program":             {disclosure{Labels: label.Part2, Facts: authz.Program | authz.Treating, Recipient: authz.Workforce, Purpose: "TREAT"}, ""},
		"to the patient":                 {disclosure{Labels: label.Part2, Facts: authz.Self, Recipient: authz.Individual, Purpose: "PATRQT"}, ""},
	})
}

func TestS19_S20_2_32_NoticeWithConsentAloneAndOnlyForPart2(t *testing.T) {
	check(t, map[string]struct {
		d    disclosure
		want string
	}{
		"counseling note":                {disclosure{Labels: label.Part2 | label.CounselingNote, Consents: one, Purpose: "TREAT"}, consented},
		"received from a program":        {disclosure{Labels: label.Received, Consents: one, Purpose: "TREAT"}, consented},
		"received, and no consent asked": {disclosure{Labels: label.Received | label.SUD, Purpose: "TREAT"}, ""},
		"substance use, no program":      {disclosure{Labels: label.SUD, Consents: one, Purpose: "TREAT"}, ""},
		"psychotherapy note, authorized": {disclosure{Labels: label.PsychNote, Consents: one, Purpose: "TREAT"}, ""},
		"no labels":                      {disclosure{Purpose: "TREAT"}, ""},
	})
	if !strings.Contains(obligation.ShortNotice, "42 CFR part 2 prohibits unauthorized use or disclosure of these records.") {
		t.Error("the notice")
	}
}

func TestS22_2_11_NoRedisclosureByServiceOrganizations(t *testing.T) {
	check(t, map[string]struct {
		d    disclosure
		want string
	}{
		"under an agreement":       {disclosure{Labels: label.Part2, Facts: authz.Agreement, Purpose: "HOPERAT"}, "NORDSCLCD accounting-entry"},
		"of the program itself":    {disclosure{Labels: label.Part2, Facts: authz.Agreement | authz.Program, Purpose: "HOPERAT"}, ""},
		"what is no Part 2 record": {disclosure{Labels: label.MH, Facts: authz.Agreement, Purpose: "HOPERAT"}, ""},
	})
}

func TestS33_2_51_DocumentationOfEmergencies(t *testing.T) {
	check(t, map[string]struct {
		d    disclosure
		want string
	}{
		"without consent":    {disclosure{Labels: label.Part2, Facts: authz.Emergency, Recipient: authz.Workforce, Purpose: "ETREAT"}, "documentation-2.51 accounting-entry"},
		"with consent":       {disclosure{Labels: label.Part2, Facts: authz.Emergency | authz.Consent, Consents: one, Recipient: authz.Workforce, Purpose: "ETREAT"}, consented},
		"within the program": {disclosure{Labels: label.Part2, Facts: authz.Emergency | authz.Program, Recipient: authz.Workforce, Purpose: "ETREAT"}, ""},
		"no Part 2 record":   {disclosure{Labels: label.MH, Facts: authz.Emergency, Recipient: authz.Workforce, Purpose: "ETREAT"}, ""},
	})
}

func TestH1_164_528_a_1_WhatIsAccountedFor(t *testing.T) {
	check(t, map[string]struct {
		d    disclosure
		want string
	}{
		"research":         {disclosure{Purpose: "HRESCH"}, "accounting-entry"},
		"public health":    {disclosure{Purpose: "PUBHLTH"}, "accounting-entry"},
		"a proceeding":     {disclosure{Purpose: "HLEGAL"}, "accounting-entry"},
		"nobody knows why": {disclosure{Purpose: ""}, "accounting-entry"},
		"treatment":        {disclosure{Purpose: "TREAT"}, ""},
		"coordination":     {disclosure{Purpose: "COC"}, ""},
		"payment":          {disclosure{Purpose: "HPAYMT"}, ""},
		"operations":       {disclosure{Purpose: "HOPERAT"}, ""},
		"authorized":       {disclosure{Labels: label.MH, Consents: one, Purpose: "HRESCH"}, ""},
		"the individual":   {disclosure{Recipient: authz.Individual, Purpose: "PATRQT"}, ""},
		"a parent":         {disclosure{Recipient: authz.Representative, Purpose: "PATRQT"}, ""},
		"the workforce":    {disclosure{Recipient: authz.Workforce, Purpose: "THREAT"}, ""},
	})
}

// Whatever is added to a record's labels takes no obligation away, and a notice
// never comes without the consent's scope, the refrain and the accounting.
func TestS19_MoreLabelsObligeToMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := disclosure{
			Labels: label.Set(rapid.Uint32().Draw(t, "labels")) & label.All, Facts: authz.Fact(rapid.Uint16().Draw(t, "facts")),
			Recipient: authz.Recipient(rapid.IntRange(0, 4).Draw(t, "recipient")), Purpose: rapid.SampledFrom(pdp.Purposes()).Draw(t, "purpose"),
		}
		if rapid.Bool().Draw(t, "consented") {
			d.Consents = one
		}
		had := obligation.Of(d)
		d.Labels |= label.Set(rapid.Uint32().Draw(t, "more")) & label.All
		has := obligation.Of(d)
		for _, n := range had {
			if !slices.Contains(has, n) && !(n == part2.Documentation) {
				t.Fatalf("%v lost %s", d, n)
			}
		}
		if slices.Contains(has, part2.Notice) != (len(has) == 4) || len(d.Consents) == 0 && slices.Contains(has, part2.Notice) {
			t.Fatalf("%v: %v", d, has)
		}
	})
}

func TestS19_2_32_b_Explanation(t *testing.T) {
	for want, s := range map[string]obligation.Scope{
		"The patient's written consent for treatment, payment and health care operations (42 CFR 2.33(a)(2)): the records of the program, to treating providers, for TREAT, until it is revoked": {
			Consent: "c", Kind: "part2-tpo", Recipients: []string{"class:treating-providers"}, Purposes: []string{"TREAT"}, Whole: true},
		"The patient's written consent for the purposes that it names (42 CFR 2.33(a)(1)): those records of the program that it describes, to Organization/x, for COC, TREAT, until 2026-08-01T00:00:00Z or until it is revoked": {
			Consent: "c", Kind: "part2-specific", Recipients: []string{"Organization/x", "Organization/x"}, Purposes: []string{"TREAT", "COC"}, Until: time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)},
		"The patient's written consent: the records of the program, to whom it does not name, for any purpose, until it is revoked": {Whole: true},
	} {
		if got := s.Explain(); got != want {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
	odd := obligation.Scope{Recipients: []string{"a\"b\\c\r\nSet-Cookie: x é"}}.Explain()
	for _, r := range odd {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			t.Errorf("%q cannot stand in a header", odd)
		}
	}
}

const (
	confidentiality = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality|"
	act             = "http://terminology.hl7.org/CodeSystem/v3-ActCode|"
)

type tag struct {
	System, Code string
	Extension    []struct {
		URL                  string
		ValueAnnotation      struct{ Text string }
		ValueRelatedArtifact struct{ Type, URL string }
		ValueCoding          struct{ Code string }
		ValueContributor     struct{ Type, Name string }
	}
}

func tags(t *testing.T, in []byte) (out []tag, codes string) {
	t.Helper()
	if in == nil {
		return nil, ""
	}
	if err := json.Unmarshal(in, &out); err != nil {
		t.Fatalf("%v: %s", err, in)
	}
	for _, x := range out {
		codes += x.System + "|" + x.Code + " "
	}
	return out, strings.TrimSpace(codes)
}

func TestSecurityOfARecord(t *testing.T) {
	withConsent := obligation.Of(disclosure{Labels: label.Part2, Consents: one})
	for name, c := range map[string]struct {
		s    label.Set
		due  []obligation.Name
		l    obligation.Labelling
		want string
	}{
		"S20 marks without labels":        {label.Part2 | label.SUD, withConsent, obligation.Obliged, act + "42CFRPart2 " + act + "NORDSCLCD " + act + "RedisclosureProhibitionMark"},
		"S20 marks with labels":           {label.Part2 | label.SUD, withConsent, obligation.Labels, confidentiality + "R " + act + "42CFRPart2 " + act + "SUD " + act + "NORDSCLCD " + act + "RedisclosureProhibitionMark"},
		"none asked for, none due":        {label.Part2 | label.SUD, nil, obligation.Obliged, ""},
		"no labels are normal":            {0, nil, obligation.Labels, confidentiality + "N"},
		"labels of a note":                {label.PsychNote, nil, obligation.Labels, confidentiality + "V " + act + "PSYTHPN"},
		"what v3-ActCode has no code for": {label.MinorConsented, nil, obligation.Labels, confidentiality + "R " + fhir.SecurityLabel + "|MINORCONSENT"},
		"a service organization":          {label.Part2, []obligation.Name{part2.NoRedisclosure}, obligation.Obliged, act + "42CFRPart2 " + act + "NORDSCLCD"},
	} {
		if _, got := tags(t, obligation.Security(c.s, c.due, c.l, nil)); got != c.want {
			t.Errorf("%s: %s\nwant %s", name, got, c.want)
		}
	}
}

func TestDS4PExtensions(t *testing.T) {
	due := obligation.Of(disclosure{Labels: label.Part2, Consents: one})
	const base = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-"
	got, _ := tags(t, obligation.Security(label.Part2|label.MH, due, obligation.Obliged, []string{"https://h/Consent/c", "https://h/Consent/d"}))
	refrain, mark := got[1], got[2]
	if len(refrain.Extension) != 2 || refrain.Extension[0].URL != base+"sec-label-related-artifact" || refrain.Extension[0].ValueRelatedArtifact.Type != "justification" || refrain.Extension[1].ValueRelatedArtifact.URL != "https://h/Consent/d" {
		t.Errorf("the consents: %+v", refrain)
	}
	if len(mark.Extension) != 1 || mark.Extension[0].URL != base+"display" || mark.Extension[0].ValueAnnotation.Text != obligation.ShortNotice {
		t.Errorf("what must be displayed: %+v", mark)
	}
	got, _ = tags(t, obligation.Security(label.Part2|label.MH, nil, obligation.Detailed, nil))
	if len(got) != 3 || got[0].Extension[0].ValueCoding.Code != "42CFRPart2" || got[0].Extension[1].ValueContributor.Name == "" || got[1].Extension[0].URL != base+"sec-label-basis" || len(got[2].Extension) != 1 || got[2].Extension[0].URL != base+"sec-label-classifier" {
		t.Errorf("basis and classifier: %+v", got)
	}
	if got, _ = tags(t, obligation.Security(label.Part2|label.MH, nil, obligation.Labels, nil)); len(got[0].Extension) != 0 {
		t.Errorf("not asked for: %+v", got)
	}
}
