package consent_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

var (
	parent   = fhir.Ref{Type: "RelatedPerson", ID: "mom"}
	noteRule = fhir.Ref{Type: "DocumentReference", ID: "n"}
)

func ofKind(kinds ...string) consent.Directive {
	d := specific()
	d.Category = nil
	for _, k := range kinds {
		d.Category = append(d.Category, consent.Code{System: fhir.ConsentKind, Code: k})
	}
	return d
}

func says(d *consent.Directive, codes ...string) {
	for _, c := range codes {
		d.PolicyRule = append(d.PolicyRule, consent.Code{System: fhir.ConsentStatement, Code: c})
	}
}

// Each kind opens what asks for it, and nothing that asks for another.
func TestS6_S11_S13_S27_P4_P14_EachKindOpensItsOwn(t *testing.T) {
	record := func(change func(*consent.Request)) consent.Request { return ask(change) }
	note := func(s consent.Source, programs ...fhir.ID) consent.Request {
		return record(func(q *consent.Request) { q.Record.Ref, q.Record.Source, q.Record.Programs = noteRule, s, programs })
	}
	minor := record(func(q *consent.Request) {
		q.Caller = consent.Caller{User: parent, Roles: []string{"proxy"}}
		q.Purpose, q.Record.Source.MinorConsented = "FAMRQT", true
	})
	questions := map[string]consent.Request{
		"part2-specific":      ask(),
		"hipaa-authorization": record(func(q *consent.Request) { q.Record.Programs = nil }),
		"hipaa-psychotherapy": note(consent.Source{PsychotherapyNote: true}),
		"part2-sudcn":         note(consent.Source{CounselingNote: true}, "sud"),
		"part2-legal":         record(func(q *consent.Request) { q.Purpose = "LEGAL" }),
		"part2-research":      record(func(q *consent.Request) { q.Purpose = "CLINTRCH" }),
		"minor-disclosure":    minor,
	}
	given := map[string]consent.Directive{}
	for kind := range questions {
		d := ofKind(kind)
		switch kind {
		case "part2-legal":
			d.Root.Purposes = purposes("LEGAL")
		case "part2-research":
			d.Root.Purposes = purposes("HRESCH")
		case "minor-disclosure":
			d.Root.Actors, d.Root.Purposes = []consent.Actor{to(parent)}, purposes("FAMRQT")
		}
		given[kind] = d
	}
	for kind, d := range given {
		for asked, q := range questions {
			if got := permitted(q, d); got != (kind == asked) {
				t.Errorf("%s for what asks for %s: %v %q", kind, asked, got, consent.Evaluate([]consent.Directive{d}, bits{}, q).Sentences())
			}
		}
	}
	// A psychotherapy note of a program is a record of the program, too.
	both := note(consent.Source{PsychotherapyNote: true}, "sud")
	if permitted(both, given["hipaa-psychotherapy"]) || !permitted(both, given["hipaa-psychotherapy"], given["part2-specific"]) {
		t.Error("a psychotherapy note of a program asks for both")
	}
	machine := ask(func(q *consent.Request) { q.Caller.Roles = []string{"ai-assistant"} })
	if permitted(machine, specific()) || !permitted(machine, specific(), ofKind("ai-documentation")) {
		t.Error("a machine asks for the consent to it, too")
	}
	// Of what no program holds it asks for that alone: the practice itself has it document.
	machine.Record.Programs = nil
	if permitted(machine) || permitted(machine, ofKind("hipaa-authorization")) || !permitted(machine, ofKind("ai-documentation")) {
		t.Error("a machine asks for the consent to it")
	}
	machine.Record.Source.PsychotherapyNote = true
	if permitted(machine, ofKind("ai-documentation")) || permitted(machine, ofKind("hipaa-psychotherapy")) {
		t.Error("a machine asks for one of the consents to a note")
	}
	// An SUD counseling note in a proceeding asks for both consents, of which none covers the other.
	proceeding := note(consent.Source{CounselingNote: true}, "sud")
	proceeding.Purpose = "LEGAL"
	if permitted(proceeding, given["part2-legal"]) || permitted(proceeding, given["part2-sudcn"]) || len(consent.Evaluate(nil, bits{}, proceeding).Needs) != 2 {
		t.Error("a counseling note in a proceeding asks for both")
	}
}

// What a disclosure asks for, by where the record comes from, what for, and who asks.
func TestS6_S11_S27_S35_P4_Required(t *testing.T) {
	for name, c := range map[string]struct {
		s       consent.Source
		purpose string
		role    string
		want    string // kinds, each list of alternatives in brackets
	}{
		"ordinary":                             {consent.Source{}, "TREAT", "", "[hipaa-authorization]"},
		"ordinary, a proceeding":               {consent.Source{}, "LEGAL", "", "[hipaa-authorization]"},
		"a program's":                          {consent.Source{Part2: true}, "TREAT", "", "[part2-tpo part2-specific part2-intermediary]"},
		"a program's, a proceeding":            {consent.Source{Part2: true}, "HLEGAL", "", "[part2-legal]"},
		"a program's, research":                {consent.Source{Part2: true}, "DSRCH", "", "[part2-research]"},
		"a program's, a parent":                {consent.Source{Part2: true}, "FAMRQT", "proxy", "[part2-tpo part2-specific part2-intermediary]"},
		"a minor's, a parent":                  {consent.Source{Part2: true, MinorConsented: true}, "FAMRQT", "proxy", "[minor-disclosure]"},
		"a minor's, a doctor":                  {consent.Source{Part2: true, MinorConsented: true}, "TREAT", "", "[part2-tpo part2-specific part2-intermediary]"},
		"a minor's, a parent in a proceeding":  {consent.Source{Part2: true, MinorConsented: true}, "LEGAL", "proxy", "[minor-disclosure] [part2-legal]"},
		"a psychotherapy note":                 {consent.Source{PsychotherapyNote: true}, "TREAT", "", "[hipaa-psychotherapy]"},
		"a program's psychotherapy note":       {consent.Source{PsychotherapyNote: true, Part2: true}, "LEGAL", "", "[hipaa-psychotherapy] [part2-legal]"},
		"a counseling note":                    {consent.Source{CounselingNote: true}, "TREAT", "", "[part2-sudcn]"},
		"a counseling note, a proceeding":      {consent.Source{CounselingNote: true}, "LEGAL", "", "[part2-sudcn] [part2-legal]"},
		"ordinary, software":                   {consent.Source{}, "TREAT", "ai-assistant", "[ai-documentation]"},
		"a program's, software":                {consent.Source{Part2: true}, "TREAT", "ai-assistant", "[part2-tpo part2-specific part2-intermediary] [ai-documentation]"},
		"a psychotherapy note, for software":   {consent.Source{PsychotherapyNote: true}, "TREAT", "ai-assistant", "[hipaa-psychotherapy] [ai-documentation]"},
		"a program's, software, for a hearing": {consent.Source{Part2: true}, "LEGAL", "ai-assistant", "[part2-legal] [ai-documentation]"},
	} {
		var lists []string
		for _, n := range consent.Required(c.s, c.purpose, c.role) {
			lists = append(lists, fmt.Sprint(n.List()))
		}
		if got := strings.Join(lists, " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestS7_S12_S13_P14_P16_DefectsOfKinds(t *testing.T) {
	intermediary := func(others ...consent.Actor) func(*consent.Directive) {
		return func(d *consent.Directive) {
			d.Root.Actors = append([]consent.Actor{{Role: []consent.Code{{System: fhir.ConsentActorRole, Code: "intermediary"}}, Reference: hie}}, others...)
		}
	}
	represent := func(authority string, who ...fhir.Ref) func(*consent.Directive) {
		return func(d *consent.Directive) {
			d.Performers, d.Verified = who, []fhir.Ref{parent}
			if authority != "" {
				says(d, "authority-"+authority)
			}
		}
	}
	nothing := func(*consent.Directive) {}
	for name, c := range map[string]struct {
		kinds  []string
		change func(*consent.Directive)
		want   string // in some defect; "" for a sound consent
	}{
		"P14 psychotherapy and another":    {[]string{"hipaa-psychotherapy", "hipaa-authorization"}, nothing, "164.508(b)(3)(ii)"},
		"P14 psychotherapy alone":          {[]string{"hipaa-psychotherapy"}, nothing, ""},
		"S12 counseling and another":       {[]string{"part2-sudcn", "part2-specific"}, nothing, "2.31(b)(2)"},
		"S12 counseling alone":             {[]string{"part2-sudcn"}, nothing, ""},
		"S13 proceedings and another":      {[]string{"part2-legal", "part2-specific"}, func(d *consent.Directive) { d.Root.Purposes = purposes("LEGAL") }, "2.31(d)"},
		"S13 proceedings and treatment":    {[]string{"part2-legal"}, func(d *consent.Directive) { d.Root.Purposes = purposes("LEGAL", "TREAT") }, "2.31(a)(5)"},
		"S7(4)(ii) participants":           {[]string{"part2-intermediary"}, intermediary(to(doctor)), ""},
		"S7(4)(ii) those who treat":        {[]string{"part2-intermediary"}, intermediary(toClass("treating-providers")), ""},
		"S7(4)(ii) others":                 {[]string{"part2-intermediary"}, intermediary(toClass("payers"), to(doctor)), "2.31(a)(4)(ii)(B)"},
		"S7(4)(ii) the intermediary alone": {[]string{"part2-intermediary"}, intermediary(), "2.31(a)(4)(ii)(A)"},
		"S7(4)(ii) no intermediary":        {[]string{"part2-intermediary"}, nothing, "2.31(a)(4)(ii): the intermediary"},
		"S7(7) no end, specific": {[]string{"part2-specific"}, func(d *consent.Directive) {
			d.Root.Period.End = d.Root.Period.Start
			d.Root.Period = consent.Period{}
			says(d, "expires-none")
		}, "2.31(a)(7)"},
		"S7(7) the end of treatment": {[]string{"part2-specific"}, func(d *consent.Directive) { d.Root.Period = consent.Period{}; says(d, "expires-end-of-treatment") }, ""},
		"S7(7) the end of the study": {[]string{"part2-research"}, func(d *consent.Directive) {
			d.Root.Period = consent.Period{}
			d.Root.Purposes = purposes("HRESCH")
			says(d, "expires-end-of-study")
		}, ""},
		"S7(10) coded statements": {[]string{"part2-specific"}, func(d *consent.Directive) {
			d.Source = false
			d.Policies = []string{fhir.ConsentStatement + "#revocation"}
		}, ""},
		"S28 the parent alone":           {[]string{"part2-specific"}, represent("parent", parent), "2.31(a)(8)"},
		"S28 parent and minor":           {[]string{"part2-specific"}, represent("parent", parent, patient), ""},
		"S28 the minor alone where both": {[]string{"part2-specific"}, represent("parent", patient), "2.31(a)(8)"},
		"S30 the guardian":               {[]string{"part2-specific"}, represent("guardian", parent), ""},
		"S30 the executor":               {[]string{"part2-specific"}, represent("executor", parent), ""},
		"S30 somebody":                   {[]string{"part2-specific"}, represent("", parent), "2.31(a)(8)"},
		"S30 nobody verified it":         {[]string{"part2-specific"}, func(d *consent.Directive) { represent("guardian", parent)(d); d.Verified = nil }, "2.31(a)(8)"},
		"S27 a guardian for the minor": {[]string{"minor-disclosure"}, func(d *consent.Directive) {
			represent("guardian", parent)(d)
			d.Root.Actors = []consent.Actor{to(parent)}
		}, "2.31(a)(8)"},
		"S27 to a doctor":           {[]string{"minor-disclosure"}, nothing, "2.14(b)"},
		"P16 no recipient":          {[]string{"hipaa-authorization"}, func(d *consent.Directive) { d.Root.Actors = nil }, "164.508(c)(1)(iii)"},
		"P16 no discloser":          {[]string{"hipaa-authorization"}, func(d *consent.Directive) { d.Organizations = nil }, "164.508(c)(1)(ii)"},
		"P16 no purpose":            {[]string{"hipaa-authorization"}, func(d *consent.Directive) { d.Root.Purposes = nil }, "164.508(c)(1)(iv)"},
		"P16 no expiry":             {[]string{"hipaa-authorization"}, func(d *consent.Directive) { d.Root.Period = consent.Period{} }, "164.508(c)(1)(v)"},
		"P16 no signature":          {[]string{"hipaa-authorization"}, func(d *consent.Directive) { d.Performers = nil }, "164.508(c)(1)(vi)"},
		"P16 a representative, why": {[]string{"hipaa-authorization"}, represent("", parent), "164.508(c)(1)(vi)"},
		"P16 a representative":      {[]string{"hipaa-authorization"}, represent("guardian", parent), ""},
		"P16 no statements":         {[]string{"hipaa-authorization"}, func(d *consent.Directive) { d.Source = false }, "164.508(c)(2)(i)"},
		"P16 statements":            {[]string{"hipaa-authorization"}, func(d *consent.Directive) { d.Source = false; says(d, "revocation", "conditioning", "redisclosure") }, ""},
		"a machine, unsigned":       {[]string{"ai-documentation"}, func(d *consent.Directive) { d.Performers = nil }, "performer"},
	} {
		t.Run(name, func(t *testing.T) {
			d := ofKind(c.kinds...)
			c.change(&d)
			r := compile(d)
			if c.want == "" && (len(r.Defects) > 0 || len(r.Grants) == 0) || c.want != "" && (len(r.Grants) > 0 || !strings.Contains(strings.Join(r.Defects, "\n"), c.want)) {
				t.Errorf("defects %q, %d grants, want %q", r.Defects, len(r.Grants), c.want)
			}
		})
	}
}

// S25, H3: a restriction forbids, whatever permits; one that is asked for and not agreed to does not.
func TestS25_H3_164_522_Restriction(t *testing.T) {
	d := ofKind("restriction")
	d.Root.Type = "deny"
	x := consent.Evaluate([]consent.Directive{specific(), d}, bits{}, ask())
	if !x.Restricted || !x.Permitted {
		t.Errorf("%+v", x)
	}
	if x := consent.Evaluate([]consent.Directive{d}, bits{}, ask(func(q *consent.Request) { q.Caller = exchange() })); x.Restricted {
		t.Error("it binds whom it does not name")
	}
	d.Status = "proposed"
	if x := consent.Evaluate([]consent.Directive{d}, bits{}, ask()); x.Restricted {
		t.Error("what was only asked for binds")
	}
	d.Status, d.Malformed = "active", []string{"Consent.provision.purpose[0]"}
	if x := consent.Evaluate([]consent.Directive{specific(), d}, bits{}, ask()); !x.Restricted || x.Permitted {
		t.Error("a malformed restriction does not bind everyone")
	}
}

// S25, H3: what was paid for in full is kept from the plan that asks, whether or not the practice agreed.
func TestS25_H3_164_522_a_1_vi_MustAgree(t *testing.T) {
	plan := fhir.Ref{Type: "Organization", ID: "plan"}
	asked := func(change ...func(*consent.Directive)) consent.Directive {
		d := ofKind("restriction")
		d.Status, d.Root = "proposed", consent.Provision{Type: "deny"}
		says(&d, "paid-in-full")
		for _, c := range change {
			c(&d)
		}
		return d
	}
	naming := func(actors ...consent.Actor) func(*consent.Directive) {
		return func(d *consent.Directive) { d.Root.Actors = actors }
	}
	status := func(s string) func(*consent.Directive) { return func(d *consent.Directive) { d.Status = s } }
	purpose := func(codes ...string) func(*consent.Directive) {
		return func(d *consent.Directive) { d.Root.Purposes = purposes(codes...) }
	}
	insurer := consent.Caller{Organizations: []fhir.ID{"plan"}}
	for name, c := range map[string]struct {
		d       consent.Directive
		caller  consent.Caller
		purpose string
		want    bool
	}{
		"payment":                           {asked(), dr(), "HPAYMT", true},
		"a part of payment":                 {asked(), dr(), "CLMATTCH", true},
		"payment, by whoever is no person":  {asked(), insurer, "HPAYMT", true},
		"treatment":                         {asked(), dr(), "TREAT", false},
		"operations of nobody who is named": {asked(), dr(), "HOPERAT", false},
		"not paid":                          {asked(func(d *consent.Directive) { d.PolicyRule = nil }), dr(), "HPAYMT", false},
		"paid, by a policy": {asked(func(d *consent.Directive) {
			d.PolicyRule, d.Policies = nil, []string{fhir.ConsentStatement + "#paid-in-full"}
		}), dr(), "HPAYMT", true},
		"agreed to, it binds as far as it goes": {asked(status("active")), dr(), "TREAT", true},
		"the practice rejected it":              {asked(status("rejected")), dr(), "HPAYMT", false},
		"the patient took it back":              {asked(status("inactive")), dr(), "HPAYMT", false},
		"a draft":                               {asked(status("draft")), dr(), "HPAYMT", false},
		"another kind": {asked(func(d *consent.Directive) {
			d.Category = []consent.Code{{System: fhir.ConsentKind, Code: "deidentified-optout"}}
		}),
			dr(), "HPAYMT", false},
		"of two kinds": {asked(func(d *consent.Directive) {
			d.Category = append(d.Category, consent.Code{System: fhir.ConsentKind, Code: "deidentified-optout"})
		}), dr(), "HPAYMT", false},
		"the plan, for payment":                 {asked(naming(to(plan))), insurer, "HPAYMT", true},
		"the plan, for operations":              {asked(naming(to(plan))), insurer, "CAREMGT", true},
		"the plan, for a proceeding":            {asked(naming(to(plan))), insurer, "HLEGAL", false},
		"the plan, for an investigation":        {asked(naming(to(plan))), insurer, "HCOMPL", false},
		"the plan, to treat":                    {asked(naming(to(plan))), insurer, "TREAT", false},
		"another plan":                          {asked(naming(to(hie))), insurer, "HPAYMT", false},
		"payers":                                {asked(naming(toClass("payers"))), dr(), "HPAYMT", true},
		"payers, for operations":                {asked(naming(toClass("payers"))), dr(), "HOPERAT", false},
		"one who is no plan":                    {asked(naming(to(doctor))), dr(), "HPAYMT", false},
		"a plan, and one who is none":           {asked(naming(to(doctor), to(plan))), dr(), "HPAYMT", false},
		"a recipient that nobody understands":   {asked(naming(to(fhir.Ref{Type: "Location", ID: "l"}))), dr(), "HPAYMT", true},
		"asked for payment and treatment":       {asked(purpose("TREAT", "HPAYMT")), dr(), "HPAYMT", true},
		"which does not bind for treatment":     {asked(purpose("TREAT", "HPAYMT")), dr(), "TREAT", false},
		"asked for treatment alone":             {asked(purpose("TREAT")), dr(), "HPAYMT", false},
		"understood in part":                    {asked(func(d *consent.Directive) { d.Malformed = []string{"Consent.provision.class[0]"} }), dr(), "HPAYMT", true},
		"understood in part, for what it is no": {asked(func(d *consent.Directive) { d.Malformed = []string{"Consent.provision.class[0]"} }), dr(), "TREAT", false},
		"what it is not about":                  {asked(func(d *consent.Directive) { d.Root.Classes = []consent.Code{{System: resourceType, Code: "Claim"}} }), dr(), "HPAYMT", false},
		"with an exception": {asked(func(d *consent.Directive) {
			d.Root.Nested = []consent.Provision{{Type: "permit", Classes: []consent.Code{{System: resourceType, Code: "Observation"}}}}
		}), dr(), "HPAYMT", false},
		"within what is permitted": {asked(func(d *consent.Directive) {
			d.Root = consent.Provision{Type: "permit", Actors: []consent.Actor{to(plan)}, Nested: []consent.Provision{{Type: "deny"}}}
		}), insurer, "HOPERAT", true},
		"within what is permitted to another": {asked(func(d *consent.Directive) {
			d.Root = consent.Provision{Type: "permit", Actors: []consent.Actor{to(doctor)}, Nested: []consent.Provision{{Type: "deny"}}}
		}), dr(), "HOPERAT", false},
	} {
		x := consent.Evaluate([]consent.Directive{c.d}, bits{}, ask(func(q *consent.Request) { q.Caller, q.Purpose = c.caller, c.purpose }))
		if x.Restricted != c.want {
			t.Errorf("%s: %v %q", name, x.Restricted, x.Sentences())
		}
		if len(x.Accounts) != 1 || (x.Accounts[0].Verdict == consent.Denies) != c.want {
			t.Errorf("%s: %+v", name, x.Accounts)
		}
	}
	// It keeps from the plan, and takes no consent away.
	both := consent.Evaluate([]consent.Directive{specific(), asked(func(d *consent.Directive) { d.Malformed = []string{"Consent.provision.class[0]"} })}, bits{}, ask())
	if !both.Permitted || both.Restricted {
		t.Errorf("what is only asked for forbids to treat: %q", both.Sentences())
	}
}

// S5, S6: the traps of the hierarchy of purposes.
func TestPurposeTraps(t *testing.T) {
	wide := ofKind("hipaa-authorization")
	for purpose, want := range map[string]bool{"TREAT": true, "COC": true, "HOPERAT": true, "TRAIN": true, "PUBHLTH": true, "DISASTER": true,
		"ETREAT": false, "BTG": false, "ERTREAT": false, "HLEGAL": false, "THREAT": false, "HPAYMT": false, "": false} {
		wide.Root.Purposes = purposes("TREAT", "HOPERAT", "PUBHLTH")
		if got := permitted(ask(func(q *consent.Request) { q.Record.Programs, q.Purpose = nil, purpose }), wide); got != want {
			t.Errorf("%q: %v", purpose, got)
		}
	}
}
