package consent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/consent"
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

// bits translates label codes as a house with these labels does.
type bits struct{}

const (
	part2Bit = 1 << iota
	noteBit
	counselBit
	minorBit
	sudBit
	hivBit
	newBit // a label that no code names
)

var bitOf = map[string]uint32{"42CFRPart2": part2Bit, "PSYTHPN": noteBit, "SUDCN": counselBit, "MINORCONSENT": minorBit, "SUD": sudBit, "HIV": hivBit}

func (bits) Covers(e consent.Effect, codes []consent.Code) (consent.Mask, bool) {
	m := consent.Mask{Within: part2Bit}
	for _, c := range codes {
		b, ok := bitOf[c.Code]
		if !ok || c.System != actCode {
			return consent.Mask{}, false
		}
		m.Any |= b
		m.Within |= b
		if b == part2Bit {
			m.Within = consent.AllLabels.Within &^ (noteBit | counselBit)
		}
	}
	if e == consent.Deny {
		m.Within = consent.AllLabels.Within
	}
	return m, true
}

func compile(d consent.Directive) consent.Result { return consent.Compile(d, bits{}) }

// records of the program "sud", about nothing in particular.
func sudRecord() consent.Record {
	return consent.Record{Ref: fhir.Ref{Type: "Observation", ID: "o"}, Patient: "p1", Programs: []fhir.ID{"sud"}, Labels: part2Bit,
		Codes: []consent.Code{}, Date: consent.Period{Start: signed, End: signed.Add(time.Second)}}
}

func dr() consent.Caller { return consent.Caller{User: doctor} }

func exchange() consent.Caller { return consent.Caller{Organizations: []fhir.ID{"hie"}} }

// ask is a doctor's question for treatment half a year after the signature.
func ask(change ...func(*consent.Request)) consent.Request {
	q := consent.Request{Record: sudRecord(), Caller: dr(), Purpose: "TREAT", At: signed.AddDate(0, 6, 0)}
	for _, c := range change {
		c(&q)
	}
	return q
}

func permitted(q consent.Request, ds ...consent.Directive) bool {
	return consent.Evaluate(ds, bits{}, q).Permitted
}

func TestS15_2_33_a_2_TPO(t *testing.T) {
	for _, c := range []struct {
		caller  consent.Caller
		purpose string
		want    bool
	}{
		{dr(), "TREAT", true}, {dr(), "HPAYMT", true}, {dr(), "HOPERAT", true}, {dr(), "COC", true},
		{exchange(), "TREAT", true}, {exchange(), "CLMATTCH", true},
		{consent.Caller{Organizations: []fhir.ID{"other"}}, "TREAT", false},
		{dr(), "HLEGAL", false}, {dr(), "ETREAT", false}, {dr(), "BTG", false}, {dr(), "HMARKT", false}, {dr(), "", false}, {exchange(), "HLEGAL", false},
	} {
		if got := permitted(ask(func(q *consent.Request) { q.Caller, q.Purpose = c.caller, c.purpose }), tpo()); got != c.want {
			t.Errorf("%v for %s: %v", c.caller, c.purpose, got)
		}
	}
}

func TestS14_2_33_a_1_Specific(t *testing.T) {
	if !permitted(ask(), specific()) {
		t.Error("the named recipient may not")
	}
	for name, q := range map[string]consent.Request{
		"S14 another purpose":  ask(func(q *consent.Request) { q.Purpose = "HPAYMT" }),
		"another recipient":    ask(func(q *consent.Request) { q.Caller = exchange() }),
		"another program":      ask(func(q *consent.Request) { q.Record.Programs = []fhir.ID{"sud2"} }),
		"one program of two":   ask(func(q *consent.Request) { q.Record.Programs = []fhir.ID{"sud", "sud2"} }),
		"another patient":      ask(func(q *consent.Request) { q.Record.Patient = "p2" }),
		"a patient among some": ask(func(q *consent.Request) { q.Record.Several = true }),
		"S8 before":            ask(func(q *consent.Request) { q.At = signed.Add(-time.Second) }),
		"S8 after":             ask(func(q *consent.Request) { q.At = later }),
	} {
		if permitted(q, specific()) {
			t.Error(name)
		}
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
		"S7(3) only some data":    {tpo, func(d *consent.Directive) { d.Root.Data = []consent.Datum{{Meaning: "nearby", Reference: doctor}} }, "2.31(a)(3)"},
		"S7(3) only some labels":  {tpo, func(d *consent.Directive) { d.Root.SecurityLabels = []consent.Code{{System: actCode, Code: "XYZ"}} }, "2.31(a)(3)"},
		"S7(4) no recipient":      {tpo, func(d *consent.Directive) { d.Root.Actors = nil }, "2.31(a)(4)"},
		"S7(4) only the holder": {tpo, func(d *consent.Directive) {
			d.Root.Actors = []consent.Actor{{Role: []consent.Code{{System: roles, Code: "CST"}}, Reference: program}}
		}, "2.31(a)(4)"},
		"S7(4) an unknown class":         {tpo, func(d *consent.Directive) { d.Root.Actors = []consent.Actor{toClass("friends")} }, "2.31(a)(4)"},
		"S7(4) a place":                  {specific, func(d *consent.Directive) { d.Root.Actors = []consent.Actor{to(fhir.Ref{Type: "Location", ID: "1"})} }, "2.31(a)(4)"},
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
		"S8 malformed":             {tpo, func(d *consent.Directive) { d.Malformed = []string{"Consent.performer[1]"} }, "could not be understood"},
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
			r := compile(d)
			if len(r.Grants) > 0 {
				t.Errorf("it grants %+v", r.Grants)
			}
			for _, purpose := range []string{"TREAT", "HPAYMT", "HRESCH", "HLEGAL"} {
				for _, who := range []consent.Caller{dr(), exchange()} {
					if permitted(ask(func(q *consent.Request) { q.Purpose, q.Caller = purpose, who }), d) {
						t.Errorf("it permits %v for %s", who, purpose)
					}
				}
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
			if diff := cmp.Diff(decisions(tpo()), decisions(d)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// decisions are the answers to questions by which consents differ.
func decisions(ds ...consent.Directive) (out []bool) {
	for _, who := range []consent.Caller{dr(), exchange(), {User: patient}} {
		for _, purpose := range []string{"TREAT", "COC", "HPAYMT", "HOPERAT", "HRESCH", "HLEGAL"} {
			for _, labels := range []uint32{part2Bit, part2Bit | sudBit, part2Bit | hivBit} {
				out = append(out, permitted(ask(func(q *consent.Request) { q.Caller, q.Purpose, q.Record.Labels = who, purpose, labels }), ds...))
			}
		}
	}
	return out
}

func TestStartIsTheLaterOfSignatureAndPeriod(t *testing.T) {
	d := tpo()
	d.Root.Period.Start = signed.AddDate(0, 1, 0)
	at := func(when time.Time) consent.Request { return ask(func(q *consent.Request) { q.At = when }) }
	if permitted(at(d.Root.Period.Start.Add(-time.Second)), d) || !permitted(at(d.Root.Period.Start), d) {
		t.Error("a future start")
	}
	d.Root.Period.Start = signed.AddDate(0, -1, 0)
	if permitted(at(signed.Add(-time.Second)), d) || !permitted(at(signed), d) {
		t.Error("no consent before it is signed")
	}
}

// What is not understood of a denial widens it.
func TestDenialWidens(t *testing.T) {
	care := fhir.Ref{Type: "CareTeam", ID: "1"}
	others := consent.Caller{Organizations: []fhir.ID{"hie"}}
	base := tpo()
	both := base
	both.Organizations = []fhir.Ref{program, other}
	for name, c := range map[string]struct {
		change                           func(*consent.Directive)
		dr, drPays, hie, elsewhere, late bool // what is still permitted
	}{
		"as written":          {func(*consent.Directive) {}, false, true, true, true, true},
		"without formalities": {func(d *consent.Directive) { d.Source, d.Performers, d.DateTime = false, nil, time.Time{} }, false, true, true, true, true},
		"nobody named":        {func(d *consent.Directive) { d.Root.Actors = nil }, false, true, false, true, true},
		"somebody not understood": {func(d *consent.Directive) {
			d.Root.Actors = append(d.Root.Actors, to(fhir.Ref{Type: "Location", ID: "1"}))
		}, false, true, false, true, true},
		"a team of others":       {func(d *consent.Directive) { d.Root.Actors = []consent.Actor{to(care)} }, true, true, true, true, true},
		"a class":                {func(d *consent.Directive) { d.Root.Actors = []consent.Actor{toClass("treating-providers")} }, false, true, true, true, true},
		"no purpose":             {func(d *consent.Directive) { d.Root.Purposes = nil }, false, false, true, true, true},
		"purpose not understood": {func(d *consent.Directive) { d.Root.Purposes[0].System = "urn:x" }, false, false, true, true, true},
		"every purpose":          {func(d *consent.Directive) { d.Root.Purposes = purposes("PurposeOfUse") }, false, false, true, true, true},
		"research alone":         {func(d *consent.Directive) { d.Root.Purposes = purposes("HRESCH") }, true, true, true, true, true},
		"no program":             {func(d *consent.Directive) { d.Organizations = nil }, false, true, true, false, true},
		"a program unclear":      {func(d *consent.Directive) { d.Organizations = []fhir.Ref{program, doctor} }, false, true, true, false, true},
		"a program by name":      {func(d *consent.Directive) { d.Malformed = []string{"Consent.organization[1]"} }, false, true, true, false, true},
		"only other types": {func(d *consent.Directive) {
			d.Root.Classes = []consent.Code{{System: "http://hl7.org/fhir/resource-types", Code: "Condition"}}
		}, true, true, true, true, true},
		"types not understood":  {func(d *consent.Directive) { d.Root.Classes = []consent.Code{{Code: "x"}} }, false, true, true, true, true},
		"data not understood":   {func(d *consent.Directive) { d.Root.Data = []consent.Datum{{Meaning: "near", Reference: doctor}} }, false, true, true, true, true},
		"labels not understood": {func(d *consent.Directive) { d.Root.SecurityLabels = []consent.Code{{System: actCode, Code: "X"}} }, false, true, true, true, true},
		"to correct":            {func(d *consent.Directive) { d.Root.Actions = []consent.Code{{System: actions, Code: "correct"}} }, true, true, true, true, true},
		"to do what":            {func(d *consent.Directive) { d.Root.Actions = []consent.Code{{System: "urn:x", Code: "correct"}} }, false, true, true, true, true},
		"with exceptions for others": {func(d *consent.Directive) {
			d.Root.Nested = []consent.Provision{{Type: "permit", Actors: []consent.Actor{to(hie)}, Purposes: purposes("TREAT")}}
		}, false, true, true, true, true},
		"malformed":           {func(d *consent.Directive) { d.Malformed = []string{"Consent.provision.period"} }, false, false, false, false, false},
		"malformed deep down": {func(d *consent.Directive) { d.Root.Nested = []consent.Provision{{}} }, false, false, false, false, false},
		"opted out":           {func(d *consent.Directive) { d.Root.Type, d.PolicyRule[0].Code = "", "OPTOUT" }, false, true, true, true, true},
		"the custodian": {func(d *consent.Directive) {
			d.Root.Actors = append(d.Root.Actors, consent.Actor{Role: []consent.Code{{System: roles, Code: "CST"}}, Reference: hie})
		}, false, true, true, true, true},
		"S9 revoked": {func(d *consent.Directive) { d.Status = "inactive" }, true, true, true, true, true},
		"of nobody":  {func(d *consent.Directive) { d.Patient = fhir.Ref{} }, true, true, true, true, true},
		"of no kind": {func(d *consent.Directive) {
			d.Category, d.Scope = nil, []consent.Code{{System: "http://terminology.hl7.org/CodeSystem/consentscope", Code: "patient-privacy"}}
		},
			false, true, true, false, true},
		"about no disclosure": {func(d *consent.Directive) { d.Category, d.Scope = nil, nil }, true, true, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := specific()
			d.Root.Type = "deny"
			c.change(&d)
			for what, q := range map[string]struct {
				q    consent.Request
				want bool
			}{
				"the doctor":      {ask(), c.dr},
				"for payment":     {ask(func(q *consent.Request) { q.Purpose = "HPAYMT" }), c.drPays},
				"the exchange":    {ask(func(q *consent.Request) { q.Caller = others }), c.hie},
				"another program": {ask(func(q *consent.Request) { q.Record.Programs = []fhir.ID{"sud2"} }), c.elsewhere},
				"later":           {ask(func(q *consent.Request) { q.At = later }), c.late},
			} {
				if got := permitted(q.q, both, d); got != q.want {
					t.Errorf("%s: %v", what, got)
				}
			}
		})
	}
}

func TestRecipients(t *testing.T) {
	for name, c := range map[string]struct {
		caller        consent.Caller
		purpose, want string
	}{
		"clinician":          {consent.Caller{User: doctor, Organizations: []fhir.ID{"clinic"}}, "TREAT", "Organization/clinic Practitioner/dr class:treating-providers"},
		"coordination":       {dr(), "COC", "Practitioner/dr class:treating-providers"},
		"biller":             {dr(), "HPAYMT", "Practitioner/dr class:payers"},
		"office":             {dr(), "HOPERAT", "Practitioner/dr class:operations"},
		"S6 HLEGAL":          {dr(), "HLEGAL", "Practitioner/dr"},
		"emergency":          {dr(), "ETREAT", "Practitioner/dr"},
		"exchange":           {exchange(), "TREAT", "Organization/hie"},
		"patient":            {consent.Caller{User: patient}, "TREAT", "Patient/p1"},
		"no organization id": {consent.Caller{Organizations: []fhir.ID{"", "a/b", "*"}}, "TREAT", ""},
		"a member": {consent.Caller{User: doctor, ActsAs: []fhir.Ref{{Type: "CareTeam", ID: "t"}, {Type: "PractitionerRole", ID: "r"}}, Identifiers: []consent.Code{{System: "urn:npi", Code: "1"}}},
			"HRESCH", "CareTeam/t Practitioner/dr PractitionerRole/r identifier:urn:npi|1"},
	} {
		if got := strings.Join(c.caller.Recipients(c.purpose), " "); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
