package consent_test

import (
	"strings"
	"testing"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

// denying is d as a denial of the same.
func denying(d consent.Directive, change ...func(*consent.Directive)) consent.Directive {
	d.Root.Type = "deny"
	for _, c := range change {
		c(&d)
	}
	return d
}

func changed(d consent.Directive, change func(*consent.Directive)) consent.Directive {
	change(&d)
	return d
}

// What each Consent contributes is told: whether it decides, by which provision, or why not.
func TestVerdicts(t *testing.T) {
	ref := fhir.Ref{Type: "Consent", ID: "c"}
	unsigned := func(d *consent.Directive) { d.Performers = nil }
	stranger := func(d *consent.Directive) { d.Root.Actors = []consent.Actor{to(hie)} }
	for name, c := range map[string]struct {
		d    consent.Directive
		want consent.Verdict
		path string
		why  string // the criterion of the first reason, or ""
	}{
		"permits":               {specific(), consent.Permits, "Consent.provision", ""},
		"denies":                {denying(specific()), consent.Denies, "Consent.provision", ""},
		"permits another kind":  {ofKind("hipaa-authorization"), consent.AnotherKind, "Consent.provision", ""},
		"denies another kind":   {denying(ofKind("hipaa-authorization")), consent.AnotherKind, "Consent.provision", ""},
		"restricts":             {denying(ofKind("restriction")), consent.Denies, "Consent.provision", ""},
		"a draft":               {changed(specific(), func(d *consent.Directive) { d.Status = "draft" }), consent.NotInForce, "", ""},
		"expired":               {changed(specific(), func(d *consent.Directive) { d.Root.Period.End = signed.AddDate(0, 1, 0) }), consent.NotInForce, "", "period"},
		"for somebody else":     {changed(specific(), stranger), consent.DoesNotApply, "", "actor"},
		"unsigned":              {changed(specific(), unsigned), consent.Invalid, "", ""},
		"unsigned, of a denial": {denying(specific(), unsigned), consent.Denies, "Consent.provision", ""},
		"unsigned, and it forbids somebody else something": {changed(changed(specific(), unsigned), func(d *consent.Directive) {
			stranger(d)
			d.Root.Nested = []consent.Provision{{Type: "deny"}}
		}), consent.Invalid, "", "actor"},
		"an exception": {changed(specific(), func(d *consent.Directive) {
			d.Root.Nested = []consent.Provision{{Type: "deny", Purposes: purposes("TREAT")}}
		}),
			consent.Denies, "Consent.provision.provision[0]", ""},
	} {
		c.d.Ref = ref
		x := consent.Evaluate([]consent.Directive{c.d}, bits{}, ask())
		a := x.Accounts[0]
		if a.Verdict != c.want || a.Provision != c.path || a.Consent != ref {
			t.Errorf("%s: %+v", name, a)
		}
		if c.why == "" != (len(a.Why) == 0) || c.why != "" && a.Why[0].Criterion != c.why {
			t.Errorf("%s: the reasons are %+v", name, a.Why)
		}
		if x.Permitted != (c.want == consent.Permits) || (len(x.PermittedBy) == 1 && x.PermittedBy[0] == ref) != x.Permitted || len(x.PermittedBy) > 1 {
			t.Errorf("%s: permitted is %v, by %v", name, x.Permitted, x.PermittedBy)
		}
	}
	// Of several Consents, only what permits is what the permission rests on; and each reason is told once.
	another := ofKind("hipaa-authorization")
	another.Ref = fhir.Ref{Type: "Consent", ID: "other"}
	whole := specific()
	whole.Ref = ref
	if x := consent.Evaluate([]consent.Directive{another, whole}, bits{}, ask()); len(x.PermittedBy) != 1 || x.PermittedBy[0] != ref {
		t.Errorf("it rests on %v", x.PermittedBy)
	}
	both := ask(func(q *consent.Request) { q.Record.Programs = []fhir.ID{"sud", "sud2"} })
	of := changed(specific(), stranger)
	of.Organizations = []fhir.Ref{program, other}
	if a := consent.Evaluate([]consent.Directive{of}, bits{}, both).Accounts[0]; len(a.Why) != 1 {
		t.Errorf("the same reason twice: %+v", a.Why)
	}
	// A denial lacks no form, whatever it lacks.
	if r := compile(denying(specific(), unsigned)); len(r.Defects) > 0 || len(r.Grants) != 1 {
		t.Errorf("%+v", r)
	}
}

// What a provision does not understand makes what is nested in it doubtful, too.
func TestADoubtfulDenialHasNoExceptions(t *testing.T) {
	d := denying(specific())
	d.Root.Nested = []consent.Provision{{Type: "permit"}}
	if !permitted(ask(), d) {
		t.Error("an exception to a denial permits")
	}
	d.Root.SecurityLabels = []consent.Code{{System: actCode, Code: "NOPE"}}
	if permitted(ask(), d) || permitted(ask(), d, specific()) {
		t.Error("an exception to what nobody understands permits")
	}
	// A denial that does not say clearly whose records it is about is about all; what it excepts is of the programs that it names.
	d = denying(specific())
	d.Organizations = []fhir.Ref{program, doctor}
	d.Root.Nested = []consent.Provision{{Type: "permit"}}
	elsewhere := ask(func(q *consent.Request) { q.Record.Programs = []fhir.ID{"sud2"} })
	given := specific()
	given.Organizations = []fhir.Ref{other}
	if !permitted(ask(), d) || permitted(elsewhere, d, given) || !permitted(elsewhere, given) {
		t.Error("an exception is about programs that are not named")
	}
}

// Of a permit without provisions below it, what is not understood is left out; else nothing of the criterion is sure.
func TestOnlyALeafIsNarrowed(t *testing.T) {
	d := specific()
	d.Root.Actors = append(d.Root.Actors, to(fhir.Ref{Type: "Location", ID: "l"}))
	if !permitted(ask(), d) {
		t.Error("one who is understood does not receive, because of one who is not")
	}
	d.Root.Nested = []consent.Provision{{Type: "deny", Purposes: purposes("HPAYMT")}}
	if permitted(ask(), d) {
		t.Error("a provision with others below it is narrowed")
	}
	d = specific()
	d.Root.Nested = []consent.Provision{{Type: "permit"}}
	if !permitted(ask(), d) {
		t.Error("a nested provision has not the purposes of the one above it")
	}
}

// A minor's consent to disclose is about care outside of any program, too; no other consent under part 2 is.
func TestS27_2_14_b_CareOutsideOfAProgram(t *testing.T) {
	d := ofKind("minor-disclosure")
	d.Root.Actors, d.Root.Purposes = []consent.Actor{to(parent)}, purposes("FAMRQT")
	outside := func(programs ...fhir.ID) consent.Request {
		return ask(func(q *consent.Request) {
			q.Caller = consent.Caller{User: parent, Roles: []string{"proxy"}}
			q.Purpose, q.Record.Source.MinorConsented, q.Record.Programs = "FAMRQT", true, programs
		})
	}
	if !permitted(outside(), d) || !permitted(outside("sud"), d) || permitted(outside("sud2"), d) {
		t.Error("a minor lets a parent see other care than she says")
	}
	received := ask(func(q *consent.Request) { q.Record.Programs, q.Record.Source.Part2 = nil, true })
	if permitted(received, specific()) {
		t.Error("a consent about one program is about what came from another")
	}
}

func TestS12_S13_P14_WhatIsCombinedWithWhat(t *testing.T) {
	for kinds, want := range map[string][3]bool{ // psychotherapy, counseling, proceedings
		"part2-specific hipaa-authorization": {}, "hipaa-psychotherapy hipaa-authorization": {true}, "part2-sudcn part2-specific": {false, true},
		"part2-legal part2-research": {false, false, true}, "hipaa-psychotherapy part2-sudcn part2-legal": {true, true, true},
	} {
		text := strings.Join(compile(ofKind(strings.Fields(kinds)...)).Defects, "\n")
		for i, says := range []string{"164.508(b)(3)(ii)", "2.31(b)(2))\n", "a consent for proceedings is combined"} {
			if strings.Contains(text+"\n", says) != want[i] && !(i == 1 && want[2]) {
				t.Errorf("%s: %q", kinds, text)
			}
		}
		if !strings.Contains(text, "a consent is of one kind") {
			t.Errorf("%s: %q", kinds, text)
		}
	}
}

func TestP16_164_508_c_1_v_WhenAnAuthorizationEnds(t *testing.T) {
	authorization := func(event string, codes ...string) consent.Directive {
		d := ofKind("hipaa-authorization")
		d.Root.Period, d.Root.Purposes = consent.Period{}, purposes(codes...)
		if event != "" {
			says(&d, event)
		}
		return d
	}
	for name, c := range map[string]struct {
		d    consent.Directive
		want bool
	}{
		"research, the end of the study":      {authorization("expires-end-of-study", "HRESCH"), true},
		"research, none":                      {authorization("expires-none", "CLINTRCH", "HRESCH"), true},
		"research, without a word":            {authorization("", "HRESCH"), false},
		"treatment, none":                     {authorization("expires-none", "TREAT"), false},
		"treatment, the end of a study":       {authorization("expires-end-of-study", "TREAT"), false},
		"treatment, its end":                  {authorization("expires-end-of-treatment", "TREAT"), true},
		"treatment and research, none":        {authorization("expires-none", "HRESCH", "TREAT"), false},
		"research and treatment, the study's": {authorization("expires-end-of-study", "TREAT", "HRESCH"), false},
	} {
		if got := !strings.Contains(strings.Join(compile(c.d).Defects, "\n"), "164.508(c)(1)(v)"); got != c.want {
			t.Errorf("%s: %q", name, compile(c.d).Defects)
		}
	}
}

func TestS30_2_15_WhoSignsForThePatient(t *testing.T) {
	d := specific()
	d.Performers, d.Verified = []fhir.Ref{doctor}, []fhir.Ref{doctor}
	says(&d, "authority-guardian")
	if permitted(ask(), d) {
		t.Error("a doctor signs as a guardian")
	}
	d.Performers, d.Verified = []fhir.Ref{parent}, []fhir.Ref{parent}
	if !permitted(ask(), d) {
		t.Error("a guardian does not sign")
	}
	nobody := fhir.Ref{Type: "RelatedPerson"}
	d.Performers, d.Verified = []fhir.Ref{nobody}, []fhir.Ref{nobody}
	if permitted(ask(), d) {
		t.Error("nobody signs")
	}
}

func TestS7_2_31_a_4_ii_TheIntermediaryIsAnOrganization(t *testing.T) {
	role := []consent.Code{{System: fhir.ConsentActorRole, Code: "intermediary"}}
	d := ofKind("part2-intermediary")
	d.Root.Actors = []consent.Actor{{Role: role, Reference: doctor}, toClass("treating-providers")}
	if text := strings.Join(compile(d).Defects, "\n"); !strings.Contains(text, "the intermediary is not named") {
		t.Errorf("%q", text)
	}
	d.Root.Actors = []consent.Actor{{Role: role, Reference: hie}, {Role: role, Reference: doctor}, toClass("treating-providers")}
	if text := strings.Join(compile(d).Defects, "\n"); strings.Contains(text, "is not named") {
		t.Errorf("%q", text)
	}
}
