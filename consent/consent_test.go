package consent_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
)

const (
	actCode   = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
	actReason = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	roles     = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	actions   = "http://terminology.hl7.org/CodeSystem/consentaction"
)

var (
	patient = fhir.Ref{Type: "Patient", ID: "p1"}
	program = fhir.Ref{Type: "Organization", ID: "sud"}
	other   = fhir.Ref{Type: "Organization", ID: "sud2"}
	hie     = fhir.Ref{Type: "Organization", ID: "hie"}
	doctor  = fhir.Ref{Type: "Practitioner", ID: "dr"}
	signed  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	later   = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
)

func purposes(codes ...string) (out []consent.Code) {
	for _, c := range codes {
		out = append(out, consent.Code{System: actReason, Code: c})
	}
	return out
}

func to(r fhir.Ref) consent.Actor {
	return consent.Actor{Role: []consent.Code{{System: roles, Code: "IRCP"}}, Reference: r}
}

func toClass(code string) consent.Actor {
	return consent.Actor{Role: []consent.Code{{System: roles, Code: "IRCP"}}, Identifier: consent.Code{System: fhir.RecipientClass, Code: code}}
}

func tpo() consent.Directive {
	return consent.Directive{
		Status: "active", Category: []consent.Code{{System: "http://loinc.org", Code: "59284-0"}, {System: fhir.ConsentKind, Code: "part2-tpo"}},
		Patient: patient, DateTime: signed, Performers: []fhir.Ref{patient}, Organizations: []fhir.Ref{program}, Source: true,
		PolicyRule: []consent.Code{{System: actCode, Code: "OPTIN"}},
		Root: consent.Provision{Type: "permit", Actors: []consent.Actor{toClass("treating-providers"), toClass("payers"), toClass("operations"), to(hie)},
			Purposes: purposes("TREAT", "HPAYMT", "HOPERAT")},
	}
}

func specific() consent.Directive {
	d := tpo()
	d.Category = []consent.Code{{System: fhir.ConsentKind, Code: "part2-specific"}}
	d.Root.Actors = []consent.Actor{to(doctor)}
	d.Root.Purposes = purposes("TREAT")
	d.Root.Period = consent.Period{Start: signed, End: later}
	return d
}

func TestS15_2_33_a_2_TPO(t *testing.T) {
	g := func(recipient string, purposes ...string) consent.Grant {
		return consent.Grant{Kind: "part2-tpo", Effect: consent.Permit, Patient: "p1", Program: "sud", Recipient: recipient, Purposes: purposes, Start: signed}
	}
	want := consent.Result{Grants: []consent.Grant{
		g("Organization/hie", "HOPERAT", "HPAYMT", "TREAT"),
		g("class:operations", "HOPERAT"), g("class:payers", "HPAYMT"), g("class:treating-providers", "TREAT"),
	}}
	if diff := cmp.Diff(want, consent.Compile(tpo())); diff != "" {
		t.Error(diff)
	}
}

func TestS14_2_33_a_1_Specific(t *testing.T) {
	want := consent.Result{Grants: []consent.Grant{{Kind: "part2-specific", Effect: consent.Permit, Patient: "p1", Program: "sud",
		Recipient: "Practitioner/dr", Purposes: []string{"TREAT"}, Start: signed, End: later}}}
	if diff := cmp.Diff(want, consent.Compile(specific())); diff != "" {
		t.Error(diff)
	}
}

// S7, S8, S12, S13: what is deficient on its face permits nothing, and says why.
func TestS7_S8_2_31_Deficient(t *testing.T) {
	for name, c := range map[string]struct {
		from  func() consent.Directive
		spoil func(*consent.Directive)
		want  string // in some defect; "" for none
	}{
		"S7(1) no patient":        {tpo, func(d *consent.Directive) { d.Patient = fhir.Ref{} }, "2.31(a)(1)"},
		"S7(1) a group":           {tpo, func(d *consent.Directive) { d.Patient.Type = "Group" }, "2.31(a)(1)"},
		"S7(2) no discloser":      {tpo, func(d *consent.Directive) { d.Organizations = nil }, "2.31(a)(2)"},
		"S7(2) no organization":   {tpo, func(d *consent.Directive) { d.Organizations = []fhir.Ref{doctor} }, "2.31(a)(2)"},
		"S7(3) only some classes": {tpo, func(d *consent.Directive) { d.Root.Classes = []consent.Code{{Code: "x"}} }, "2.31(a)(3)"},
		"S7(3) only some codes":   {tpo, func(d *consent.Directive) { d.Root.Codes = []consent.Code{{Code: "x"}} }, "2.31(a)(3)"},
		"S7(3) only some data":    {tpo, func(d *consent.Directive) { d.Root.Data = 1 }, "2.31(a)(3)"},
		"S7(3) only some time":    {tpo, func(d *consent.Directive) { d.Root.DataPeriod.End = later }, "2.31(a)(3)"},
		"S7(3) only some labels":  {tpo, func(d *consent.Directive) { d.Root.SecurityLabels = []consent.Code{{System: actCode, Code: "ETH"}} }, "2.31(a)(3)"},
		"S7(3) with exceptions":   {tpo, func(d *consent.Directive) { d.Root.Nested = []consent.Provision{{Type: "deny"}} }, "2.31(a)(3)"},
		"S7(4) no recipient":      {tpo, func(d *consent.Directive) { d.Root.Actors = nil }, "2.31(a)(4)"},
		"S7(4) only the holder": {tpo, func(d *consent.Directive) {
			d.Root.Actors = []consent.Actor{{Role: []consent.Code{{System: roles, Code: "CST"}}, Reference: program}}
		}, "2.31(a)(4)"},
		"S7(4) an unknown class":         {tpo, func(d *consent.Directive) { d.Root.Actors = []consent.Actor{toClass("friends")} }, "2.31(a)(4)"},
		"S7(4) a care team":              {specific, func(d *consent.Directive) { d.Root.Actors = []consent.Actor{to(fhir.Ref{Type: "CareTeam", ID: "1"})} }, "2.31(a)(4)"},
		"S7(4)(i) a class, specifically": {specific, func(d *consent.Directive) { d.Root.Actors = append(d.Root.Actors, toClass("payers")) }, "2.31(a)(4)(i)"},
		"S7(5) no purpose":               {tpo, func(d *consent.Directive) { d.Root.Purposes = nil }, "2.31(a)(5)"},
		"S7(5) a part of the phrase":     {tpo, func(d *consent.Directive) { d.Root.Purposes = purposes("TREAT") }, "2.31(a)(5)"},
		"S7(5) codes of another system":  {tpo, func(d *consent.Directive) { d.Root.Purposes[0].System = "urn:x" }, "2.31(a)(5)"},
		"S6 S13 and proceedings":         {tpo, func(d *consent.Directive) { d.Root.Purposes = purposes("TREAT", "HPAYMT", "HOPERAT", "HLEGAL") }, "2.31(a)(5)"},
		"S6 S13 specific proceedings":    {specific, func(d *consent.Directive) { d.Root.Purposes = purposes("HLEGAL") }, "2.31(a)(5)"},
		"S13 proceedings among others":   {specific, func(d *consent.Directive) { d.Root.Purposes = purposes("TREAT", "HLEGAL") }, "2.31(a)(5)"},
		"S14 research":                   {specific, func(d *consent.Directive) { d.Root.Purposes = purposes("HRESCH") }, "2.31(a)(5)"},
		"S14 marketing":                  {specific, func(d *consent.Directive) { d.Root.Purposes = purposes("HMARKT") }, "2.31(a)(5)"},
		"S33 emergency":                  {specific, func(d *consent.Directive) { d.Root.Purposes = purposes("ETREAT", "BTG") }, "2.31(a)(5)"},
		"S7(6) no signed form":           {tpo, func(d *consent.Directive) { d.Source = false }, "2.31(a)(6)"},
		"S7(7) specific without expiry":  {specific, func(d *consent.Directive) { d.Root.Period.End = time.Time{} }, "2.31(a)(7)"},
		"S7(8) nobody signed":            {tpo, func(d *consent.Directive) { d.Performers = nil }, "2.31(a)(8)"},
		"S27 the parent signed":          {tpo, func(d *consent.Directive) { d.Performers = []fhir.Ref{{Type: "RelatedPerson", ID: "mom"}} }, "2.31(a)(8)"},
		"S7(8) another patient signed":   {tpo, func(d *consent.Directive) { d.Performers = []fhir.Ref{{Type: "Patient", ID: "p2"}} }, "2.31(a)(8)"},
		"S7(9) not dated":                {tpo, func(d *consent.Directive) { d.DateTime = time.Time{} }, "2.31(a)(9)"},
		"S12 two kinds": {tpo, func(d *consent.Directive) {
			d.Category = append(d.Category, consent.Code{System: fhir.ConsentKind, Code: "part2-specific"})
		}, "category"},
		"S12 an unknown kind": {tpo, func(d *consent.Directive) {
			d.Category = []consent.Code{{System: fhir.ConsentKind, Code: "sud-counseling-notes"}}
		}, "category"},
		"no kind":                  {tpo, func(d *consent.Directive) { d.Category = nil }, "category"},
		"a kind of another system": {tpo, func(d *consent.Directive) { d.Category = []consent.Code{{System: "urn:x", Code: "part2-tpo"}} }, "category"},
		"S8 malformed":             {tpo, func(d *consent.Directive) { d.Malformed = []string{"Consent.provision.period"} }, "could not be understood"},
		"S8 ends before it starts": {specific, func(d *consent.Directive) { d.Root.Period.End = signed }, "provision.period"},
		"neither permit nor deny":  {tpo, func(d *consent.Directive) { d.Root.Type, d.PolicyRule = "", nil }, "provision.type"},
		"an unknown type":          {tpo, func(d *consent.Directive) { d.Root.Type = "Permit" }, "provision.type"},
		"only to correct":          {tpo, func(d *consent.Directive) { d.Root.Actions = []consent.Code{{System: actions, Code: "correct"}} }, "provision.action"},
		"S8 draft":                 {tpo, func(d *consent.Directive) { d.Status = "draft" }, ""},
		"S9 revoked":               {tpo, func(d *consent.Directive) { d.Status = "inactive" }, ""},
		"S8 entered in error":      {tpo, func(d *consent.Directive) { d.Status = "entered-in-error" }, ""},
		"S8 no status":             {tpo, func(d *consent.Directive) { d.Status = "" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := c.from()
			c.spoil(&d)
			r := consent.Compile(d)
			if len(r.Grants) > 0 {
				t.Errorf("it grants %+v", r.Grants)
			}
			found := c.want == ""
			for _, x := range r.Defects {
				found = found || c.want != "" && strings.Contains(x, c.want)
			}
			if !found || c.want == "" && r.Defects != nil {
				t.Errorf("defects %q, want %q", r.Defects, c.want)
			}
		})
	}
}

// Spellings of the same consent.
func TestStillAConsent(t *testing.T) {
	for name, change := range map[string]func(*consent.Directive){
		"the label of Part 2": func(d *consent.Directive) {
			d.Root.SecurityLabels = []consent.Code{{System: actCode, Code: "42CFRPart2"}}
		},
		"to disclose": func(d *consent.Directive) {
			d.Root.Actions = []consent.Code{{System: actions, Code: "correct"}, {System: actions, Code: "disclose"}}
		},
		"opted in": func(d *consent.Directive) { d.Root.Type = "" },
		"the program as holder": func(d *consent.Directive) {
			d.Root.Actors = append(d.Root.Actors, consent.Actor{Role: []consent.Code{{System: roles, Code: "CST"}}, Reference: program})
		},
		"two signatures":           func(d *consent.Directive) { d.Performers = append(d.Performers, doctor) },
		"type over policy rule":    func(d *consent.Directive) { d.PolicyRule[0].Code = "OPTOUT" },
		"the same recipient twice": func(d *consent.Directive) { d.Root.Actors = append(d.Root.Actors, d.Root.Actors...) },
	} {
		t.Run(name, func(t *testing.T) {
			d := tpo()
			change(&d)
			if diff := cmp.Diff(consent.Compile(tpo()), consent.Compile(d)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStartIsTheLaterOfSignatureAndPeriod(t *testing.T) {
	d := tpo()
	d.Root.Period.Start = signed.AddDate(0, 1, 0)
	if g := consent.Compile(d).Grants; len(g) == 0 || !g[0].Start.Equal(d.Root.Period.Start) {
		t.Errorf("a future start: %+v", g)
	}
	d.Root.Period.Start = signed.AddDate(0, -1, 0)
	if g := consent.Compile(d).Grants; len(g) == 0 || !g[0].Start.Equal(signed) {
		t.Errorf("no consent before it is signed: %+v", g)
	}
}

func TestDenialWidens(t *testing.T) {
	deny := func(change func(*consent.Directive)) []consent.Grant {
		d := specific()
		d.Root.Type = "deny"
		change(&d)
		return consent.Compile(d).Grants
	}
	one := func(program fhir.ID, recipient string, start, end time.Time, purposes ...string) []consent.Grant {
		return []consent.Grant{{Kind: "part2-specific", Effect: consent.Deny, Patient: "p1", Program: program, Recipient: recipient, Purposes: purposes, Start: start, End: end}}
	}
	all := part2.ConsentablePurposes()
	slices.Sort(all)
	none := time.Time{}
	for name, c := range map[string]struct {
		change func(*consent.Directive)
		want   []consent.Grant
	}{
		"as written":          {func(*consent.Directive) {}, one("sud", "Practitioner/dr", signed, later, "TREAT")},
		"without formalities": {func(d *consent.Directive) { d.Source, d.Performers, d.DateTime = false, nil, none }, one("sud", "Practitioner/dr", signed, later, "TREAT")},
		"nobody named":        {func(d *consent.Directive) { d.Root.Actors = nil }, one("sud", consent.Everyone, signed, later, "TREAT")},
		"somebody not understood": {func(d *consent.Directive) {
			d.Root.Actors = append(d.Root.Actors, to(fhir.Ref{Type: "CareTeam", ID: "1"}))
		}, one("sud", consent.Everyone, signed, later, "TREAT")},
		"a class":                {func(d *consent.Directive) { d.Root.Actors = []consent.Actor{toClass("payers")} }, one("sud", "class:payers", signed, later, "TREAT")},
		"no purpose":             {func(d *consent.Directive) { d.Root.Purposes = nil }, one("sud", "Practitioner/dr", signed, later, all...)},
		"purpose not understood": {func(d *consent.Directive) { d.Root.Purposes[0].System = "urn:x" }, one("sud", "Practitioner/dr", signed, later, all...)},
		"every purpose":          {func(d *consent.Directive) { d.Root.Purposes = purposes("PurposeOfUse") }, one("sud", "Practitioner/dr", signed, later, all...)},
		"research alone":         {func(d *consent.Directive) { d.Root.Purposes = purposes("HRESCH") }, one("sud", "Practitioner/dr", signed, later, "HRESCH")},
		"no program":             {func(d *consent.Directive) { d.Organizations = nil }, one("", "Practitioner/dr", signed, later, "TREAT")},
		"a program unclear":      {func(d *consent.Directive) { d.Organizations = []fhir.Ref{program, doctor} }, one("", "Practitioner/dr", signed, later, "TREAT")},
		"only some data":         {func(d *consent.Directive) { d.Root.Data, d.Root.Classes = 1, []consent.Code{{Code: "x"}} }, one("sud", "Practitioner/dr", signed, later, "TREAT")},
		"with exceptions":        {func(d *consent.Directive) { d.Root.Nested = []consent.Provision{{Type: "permit"}} }, one("sud", "Practitioner/dr", signed, later, "TREAT")},
		"malformed":              {func(d *consent.Directive) { d.Malformed = []string{"x"} }, one("", consent.Everyone, none, none, all...)},
		"opted out":              {func(d *consent.Directive) { d.Root.Type, d.PolicyRule[0].Code = "", "OPTOUT" }, one("sud", "Practitioner/dr", signed, later, "TREAT")},
		"S9 revoked":             {func(d *consent.Directive) { d.Status = "inactive" }, nil},
		"of nobody":              {func(d *consent.Directive) { d.Patient = fhir.Ref{} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, deny(c.change)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRecipients(t *testing.T) {
	for name, c := range map[string]struct {
		user          fhir.Ref
		organizations []string
		purpose, want string
	}{
		"clinician":          {doctor, []string{"clinic"}, "TREAT", "* Practitioner/dr Organization/clinic class:treating-providers"},
		"biller":             {doctor, nil, "HPAYMT", "* Practitioner/dr class:payers"},
		"office":             {doctor, nil, "HOPERAT", "* Practitioner/dr class:operations"},
		"S6 HLEGAL":          {doctor, nil, "HLEGAL", "* Practitioner/dr"},
		"emergency":          {doctor, nil, "ETREAT", "* Practitioner/dr"},
		"exchange":           {fhir.Ref{}, []string{"hie"}, "TREAT", "* Organization/hie"},
		"patient":            {patient, nil, "TREAT", "* Patient/p1"},
		"no organization id": {fhir.Ref{}, []string{"", "a/b", "*"}, "TREAT", "*"},
	} {
		if got := strings.Join(consent.Recipients(c.user, c.organizations, c.purpose), " "); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestCovers(t *testing.T) {
	at := signed.AddDate(0, 6, 0)
	answers := consent.Recipients(doctor, []string{"clinic"}, "TREAT")
	grants := func(ds ...consent.Directive) (out []consent.Grant) {
		for _, d := range ds {
			out = append(out, consent.Compile(d).Grants...)
		}
		return out
	}
	second := tpo()
	second.Organizations = []fhir.Ref{other}
	objection := specific()
	objection.Root.Type = "deny"
	expired := specific()
	expired.Root.Period.End = at
	early := specific()
	early.Root.Period.Start = at.Add(time.Second)
	revoked := tpo()
	revoked.Status = "inactive"
	wide := objection
	wide.Organizations = nil
	for name, c := range map[string]struct {
		grants   []consent.Grant
		programs []fhir.ID
		purpose  string
		want     bool
	}{
		"S15 TPO":                         {grants(tpo()), []fhir.ID{"sud"}, "TREAT", true},
		"S14 specific":                    {grants(specific()), []fhir.ID{"sud"}, "TREAT", true},
		"S14 another purpose":             {grants(specific()), []fhir.ID{"sud"}, "HPAYMT", false},
		"S6 proceedings":                  {grants(tpo()), []fhir.ID{"sud"}, "HLEGAL", false},
		"S8 expired":                      {grants(expired), []fhir.ID{"sud"}, "TREAT", false},
		"S8 not yet":                      {grants(early), []fhir.ID{"sud"}, "TREAT", false},
		"S9 revoked":                      {grants(revoked), []fhir.ID{"sud"}, "TREAT", false},
		"another program":                 {grants(second), []fhir.ID{"sud"}, "TREAT", false},
		"one program of two":              {grants(tpo()), []fhir.ID{"sud", "sud2"}, "TREAT", false},
		"both programs":                   {grants(tpo(), second), []fhir.ID{"sud", "sud2"}, "TREAT", true},
		"an objection overrides":          {grants(tpo(), second, objection), []fhir.ID{"sud", "sud2"}, "TREAT", false},
		"an objection to another program": {grants(second, objection), []fhir.ID{"sud2"}, "TREAT", true},
		"an objection to every program":   {grants(second, wide), []fhir.ID{"sud2"}, "TREAT", false},
		"no program":                      {grants(tpo()), nil, "TREAT", false},
		"no consent":                      {nil, []fhir.ID{"sud"}, "TREAT", false},
		"the empty program":               {grants(tpo()), []fhir.ID{""}, "TREAT", false},
	} {
		if got := consent.Covers(c.grants, "p1", c.programs, answers, c.purpose, at); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if consent.Covers(grants(tpo()), "p2", []fhir.ID{"sud"}, answers, "TREAT", at) {
		t.Error("another patient's consent")
	}
	if consent.Covers(grants(specific()), "p1", []fhir.ID{"sud"}, consent.Recipients(fhir.Ref{Type: "Practitioner", ID: "x"}, nil, "TREAT"), "TREAT", at) {
		t.Error("another practitioner")
	}
}
