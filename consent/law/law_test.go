package law_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/consent/hipaa"
	"github.com/cloister-health/cloister/consent/law"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/consent/state"
)

// ordinary is a clinician's look at an ordinary record, which everything permits.
var ordinary = law.Request{
	Tenant: true, Compartment: true, Caller: true, Scope: true, Purpose: "TREAT", Recipient: law.Workforce, Minimum: true,
}

func with(r law.Request, changes ...func(*law.Request)) law.Request {
	for _, c := range changes {
		c(&r)
	}
	return r
}

// decides checks a decision, and that the floor agrees wherever it is the floor that denies.
func decides(t *testing.T, what string, r law.Request, permit bool, rule string) {
	t.Helper()
	d := law.Evaluate(r)
	if d.Permit != permit || d.Rule != rule {
		t.Errorf("%s: %v by %s, want %v by %s", what, d.Permit, d.Rule, permit, rule)
	}
	if _, floor := law.Floor(r); d.Permit && !floor {
		t.Errorf("%s: permitted through the floor", what)
	}
}

func denied(t *testing.T, what string, r law.Request, rule string) {
	t.Helper()
	decides(t, what, r, false, rule)
	if got, permit := law.Floor(r); permit || got != rule {
		t.Errorf("%s: the floor says %v by %s", what, permit, got)
	}
}

func psych(r *law.Request)      { r.Record.PsychNote = true }
func counseling(r *law.Request) { r.Record.CounselingNote = true }
func part2Record(r *law.Request) {
	r.Record.Part2 = true
}
func originator(r *law.Request) { r.Originator = true }
func inProgram(r *law.Request)  { r.Program = true }
func court(r *law.Request)      { r.Purpose, r.Recipient = "HLEGAL", law.Court }
func tpo(r *law.Request)        { r.Consents.TPO = true }
func exchange(r *law.Request)   { r.Recipient, r.OtherState = law.Exchange, true }

func TestWhatIsMissingDenies(t *testing.T) {
	decides(t, "ordinary", ordinary, true, "HIPAA")
	decides(t, "nothing", law.Request{}, false, "practice and compartment")
	for what, c := range map[string]struct {
		change func(*law.Request)
		rule   string
	}{
		"tenant":      {func(r *law.Request) { r.Tenant = false }, "practice and compartment"},
		"compartment": {func(r *law.Request) { r.Compartment = false }, "practice and compartment"},
		"caller":      {func(r *law.Request) { r.Caller = false }, "caller and scopes"},
		"scope":       {func(r *law.Request) { r.Scope = false }, "caller and scopes"},
		"purpose":     {func(r *law.Request) { r.Purpose = "" }, "caller and scopes"},
		"recipient":   {func(r *law.Request) { r.Recipient = "" }, "caller and scopes"},
		"denied":      {func(r *law.Request) { r.Denied = true }, "consents of the patient"},
		"unreadable":  {func(r *law.Request) { r.Unreadable = true }, "consents of the patient"},
		"minimum":     {func(r *law.Request) { r.Minimum = false }, "H4"},
		"restriction": {func(r *law.Request) { r.Restriction = hipaa.Restriction{Covers: true, Agreed: true} }, "H3"},
	} {
		decides(t, what, with(ordinary, c.change), false, c.rule)
	}
}

func TestS6_2_12_d_1_TheBarComesFirst(t *testing.T) {
	r := with(ordinary, part2Record, court, tpo, inProgram)
	denied(t, "consent for treatment, payment and operations", r, "S6")
	denied(t, "a record received under a consent", with(ordinary, court, func(r *law.Request) { r.Record.Received = true }), "S6")
	decides(t, "a record received under a consent, for treatment", with(ordinary, func(r *law.Request) { r.Record.Received = true }), true, "HIPAA")
	denied(t, "a counseling note", with(ordinary, counseling, court, inProgram), "S6")
	decides(t, "an ordinary record", with(ordinary, court), true, "HIPAA")
	decides(t, "consent to proceedings", with(r, func(r *law.Request) { r.Consents.Legal = true }), true, "S6")
	order := part2.Order{Section: "2.64", Findings: true, Subpoena: true, InScope: true, Sealed: true}
	decides(t, "an order and a subpoena", with(r, func(r *law.Request) { r.Order = order }), true, "S6")
	order.Subpoena = false
	denied(t, "an order", with(r, func(r *law.Request) { r.Order = order }), "S6")
	decides(t, "a documented exception", with(r, func(r *law.Request) { r.Exception = true }), true, "S6")
}

// A consent to proceedings is for them, for who is named in it, and to see; it is accompanied as every other.
func TestS13_2_31_d_AConsentToProceedings(t *testing.T) {
	legal := func(r *law.Request) { r.Consents.Legal = true }
	r := with(ordinary, part2Record, court, legal)
	decides(t, "a court", r, true, "S6")
	decides(t, "an officer of the practice", with(ordinary, part2Record, legal, func(r *law.Request) { r.Purpose = "HLEGAL" }), true, "S6")
	denied(t, "to write", with(r, func(r *law.Request) { r.Write = true }), "S6")
	decides(t, "to write, by an order", with(ordinary, part2Record, court, func(r *law.Request) {
		r.Write, r.Order = true, part2.Order{Section: "2.64", Findings: true, Subpoena: true, InScope: true, Sealed: true}
	}), true, "S6")
	denied(t, "for treatment", with(ordinary, part2Record, legal), "S42")
	denied(t, "a counseling note", with(r, counseling), "S11")
	denied(t, "a psychotherapy note", with(r, psych), "P4")
	for _, c := range []law.Consents{{TPO: true}, {Specific: true}, {Research: true}, {Machine: true}, {Minor: true}} {
		denied(t, "another consent", with(ordinary, part2Record, court, func(r *law.Request) { r.Consents = c }), "S6")
	}
	yes(t, slices.Contains(law.Evaluate(r).Obligations, part2.Notice), "the notice")
	no(t, slices.Contains(law.Evaluate(with(ordinary, part2Record, court, func(r *law.Request) { r.Exception = true })).Obligations, part2.Notice), "a notice with what was ordered")
	washington, err := state.Select("US-WA")
	if err != nil {
		t.Fatal(err)
	}
	mental := func(r *law.Request) { r.States, r.Record.MentalHealth = washington, true }
	decides(t, "in Washington", with(r, mental), true, "S6")
	denied(t, "in Washington, by an order", with(ordinary, part2Record, court, mental, func(r *law.Request) { r.Exception = true }), "J1")
}

// A consent to research is for research, and to see.
func TestS35_2_31_a_7_AConsentToResearch(t *testing.T) {
	study := func(r *law.Request) { r.Purpose, r.Recipient, r.Consents.Research = "HRESCH", law.Researcher, true }
	r := with(ordinary, part2Record, study)
	decides(t, "research", r, true, "S14")
	decides(t, "a trial", with(r, func(r *law.Request) { r.Purpose = "CLINTRCH" }), true, "S14")
	denied(t, "treatment", with(r, func(r *law.Request) { r.Purpose = "TREAT" }), "S42")
	denied(t, "to write", with(r, func(r *law.Request) { r.Write = true }), "S42")
	denied(t, "without", with(r, func(r *law.Request) { r.Consents.Research = false }), "S42")
	denied(t, "a counseling note", with(r, counseling), "S11")
	denied(t, "a psychotherapy note", with(r, psych), "P4")
	yes(t, slices.Contains(law.Evaluate(r).Obligations, part2.Notice), "the notice")
	washington, err := state.Select("US-WA")
	if err != nil {
		t.Fatal(err)
	}
	decides(t, "in Washington", with(r, func(r *law.Request) { r.States, r.Record.MentalHealth = washington, true }), true, "S14")
}

// Software that drafts documentation is shown what the patient consented to show it, and no note of a session.
func TestJ14_P20_225_ILCS_155_15_Software(t *testing.T) {
	software := func(r *law.Request) { r.Recipient, r.Machine = law.Assistant, true }
	consented := func(r *law.Request) { r.Consents.Machine = true }
	denied(t, "no consent", with(ordinary, software), "J14")
	decides(t, "consent", with(ordinary, software, consented), true, "HIPAA")
	denied(t, "in the program", with(ordinary, software, part2Record, inProgram), "J14")
	denied(t, "another consent", with(ordinary, software, func(r *law.Request) {
		r.Consents = law.Consents{TPO: true, Specific: true, Counseling: true, Legal: true, Notes: true, Minor: true, Research: true}
	}), "J14")
	denied(t, "the consent to that alone, for a program's record", with(ordinary, software, part2Record, consented), "S42")
	decides(t, "both", with(ordinary, software, part2Record, consented, tpo), true, "S15")
	everything := func(r *law.Request) {
		r.Originator, r.Program, r.Exception = true, true, true
		r.Consents = law.Consents{TPO: true, Specific: true, Counseling: true, Notes: true, Minor: true, Machine: true}
	}
	denied(t, "a psychotherapy note", with(ordinary, software, psych, everything), "P20")
	denied(t, "a counseling note", with(ordinary, software, counseling, everything), "P20")
	decides(t, "a person, a note", with(ordinary, psych, everything), true, "P5")
	decides(t, "a person", ordinary, true, "HIPAA")
}

// Who is outside: everybody but the practice's own people, the patient and who acts for her.
func TestJ1_J11_Outside(t *testing.T) {
	for _, r := range []law.Recipient{law.Exchange, law.LawEnforcement, law.Court, law.PublicHealth, law.Researcher, law.Service, law.Oversight, law.Examiner, law.Assistant, "", "somebody"} {
		yes(t, r.Outside(), string(r))
	}
	for _, r := range []law.Recipient{law.Workforce, law.Patient, law.Parent} {
		no(t, r.Outside(), string(r))
	}
	denied := func(what string, r law.Request, rule string) {
		t.Helper()
		if got, permit := law.Floor(r); permit || got != rule {
			t.Errorf("%s: %v by %s", what, permit, got)
		}
	}
	denied("nobody", with(ordinary, func(r *law.Request) { r.Recipient = "" }), "recipient")
	minor := func(r *law.Request) { r.Record.MinorConsented, r.Purpose, r.Recipient = true, "HCOMPL", law.Oversight }
	denied("what a minor consented to", with(ordinary, minor), "J11")
	decides(t, "by a documented exception", with(ordinary, minor, func(r *law.Request) { r.Exception = true }), true, "HIPAA")
	denied("to a parent, by an exception", with(ordinary, minor, func(r *law.Request) { r.Exception, r.Recipient = true, law.Parent }), "J11")
}

func TestP4_164_508_a_2_NotesBeforePart2(t *testing.T) {
	denied(t, "a colleague", with(ordinary, psych), "P4")
	decides(t, "the originator", with(ordinary, psych, originator), true, "P5")
	denied(t, "the originator outside the program", with(ordinary, psych, part2Record, originator), "S42")
	decides(t, "the originator inside", with(ordinary, psych, part2Record, originator, inProgram), true, "S38")
	decides(t, "an authorization", with(ordinary, psych, func(r *law.Request) { r.Consents.Notes = true }), true, "P4")
	denied(t, "another consent", with(ordinary, psych, func(r *law.Request) { r.Consents = law.Consents{TPO: true, Specific: true, Counseling: true} }), "P4")
	decides(t, "a documented exception", with(ordinary, psych, func(r *law.Request) { r.Exception = true }), true, "P6-P12")
	decides(t, "what the law requires", with(ordinary, psych, func(r *law.Request) { r.Note.Law = "duty to warn" }), true, "P9")
}

func TestP17_P19_164_524_NoAccessNoEmergency(t *testing.T) {
	own := func(r *law.Request) { r.Purpose, r.Recipient, r.Self = "PATRQT", law.Patient, true }
	denied(t, "the patient", with(ordinary, psych, own), "P17")
	decides(t, "the patient's other records", with(ordinary, own), true, "HIPAA")
	denied(t, "an emergency", with(ordinary, psych, func(r *law.Request) { r.Purpose, r.Emergency = "BTG", true }), "P19")
}

func TestS11_2_31_b_1_CounselingNotes(t *testing.T) {
	denied(t, "a colleague in the program", with(ordinary, counseling, inProgram), "S11")
	denied(t, "a consent for treatment", with(ordinary, counseling, inProgram, tpo), "S11")
	decides(t, "its originator", with(ordinary, counseling, inProgram, originator), true, "S38")
	denied(t, "its originator outside the program", with(ordinary, counseling, originator), "S42")
	decides(t, "a consent to that", with(ordinary, counseling, func(r *law.Request) { r.Consents.Counseling = true }), true, "S15")
	denied(t, "a consent to counseling notes, for another record", with(ordinary, part2Record, func(r *law.Request) { r.Consents.Counseling = true }), "S42")
	denied(t, "both kinds of note, one authorization", with(ordinary, psych, counseling, inProgram, func(r *law.Request) { r.Consents.Notes = true }), "S11")
	decides(t, "training", with(ordinary, counseling, inProgram, func(r *law.Request) { r.Purpose, r.Counseling.Training = "TRAIN", true }), true, "S38")
	decides(t, "a documented exception", with(ordinary, counseling, inProgram, func(r *law.Request) { r.Exception = true }), true, "S38")
}

func TestS15_S19_2_33_ConsentAndItsObligations(t *testing.T) {
	denied(t, "no consent", with(ordinary, part2Record), "S42")
	r := with(ordinary, part2Record, tpo)
	decides(t, "consent", r, true, "S15")
	want := []part2.Obligation{part2.Notice, part2.CopyOfConsent, part2.NoRedisclosure, part2.AccountingEntry}
	yes(t, slices.Equal(law.Evaluate(r).Obligations, want), "the obligations")
	note := law.Evaluate(with(ordinary, counseling, func(r *law.Request) { r.Consents.Counseling = true }))
	yes(t, note.Permit && slices.Contains(note.Obligations, part2.Notice), "the notice with a counseling note")
	no(t, slices.Contains(law.Evaluate(with(ordinary, tpo)).Obligations, part2.Notice), "a notice for nothing of part 2")
	no(t, slices.Contains(law.Evaluate(with(r, inProgram)).Obligations, part2.Notice), "a notice inside the program")
	denied(t, "another purpose", with(r, func(r *law.Request) { r.Purpose = "HMARKT" }), "S42")
	denied(t, "to write", with(r, func(r *law.Request) { r.Write = true }), "S42")
	decides(t, "to write, by an exception", with(r, func(r *law.Request) { r.Write, r.Exception = true, true }), true, "S34-S41")
	decides(t, "to write, in the program", with(r, inProgram, func(r *law.Request) { r.Write = true }), true, "S38")
	denied(t, "to write, with a specific consent", with(ordinary, part2Record, func(r *law.Request) { r.Write, r.Purpose, r.Consents.Specific = true, "COC", true }), "S42")
}

func TestS14_S22_S33_OtherBases(t *testing.T) {
	for rule, change := range map[string]func(*law.Request){
		"S14":     func(r *law.Request) { r.Purpose, r.Consents.Specific = "COC", true },
		"S22":     func(r *law.Request) { r.Agreement = true },
		"S26":     func(r *law.Request) { r.Self = true },
		"S33":     func(r *law.Request) { r.Purpose, r.Emergency = "ETREAT", true },
		"S34-S41": func(r *law.Request) { r.Purpose, r.Exception = "HRESCH", true },
	} {
		decides(t, rule, with(ordinary, part2Record, change), true, rule)
	}
	denied(t, "none", with(ordinary, part2Record, func(r *law.Request) { r.Purpose = "ETREAT" }), "S42")
	yes(t, slices.Contains(law.Evaluate(with(ordinary, part2Record, func(r *law.Request) { r.Purpose, r.Emergency = "ETREAT", true })).Obligations, part2.Documentation), "documentation")
}

func TestJ11_S27_WhatAMinorConsentedTo(t *testing.T) {
	minor := func(r *law.Request) { r.Record.MinorConsented = true }
	parent := func(r *law.Request) { r.Recipient, r.Purpose = law.Parent, "PATRQT" }
	own := func(r *law.Request) { r.Consents.Minor = true }
	denied(t, "a parent", with(ordinary, minor, parent), "J11")
	denied(t, "an exchange", with(ordinary, minor, exchange), "J11")
	denied(t, "another consent", with(ordinary, minor, exchange, tpo), "J11")
	decides(t, "with the minor's consent", with(ordinary, minor, parent, own), true, "HIPAA")
	decides(t, "inside", with(ordinary, minor), true, "HIPAA")
	decides(t, "another record", with(ordinary, parent), true, "HIPAA")
}

func TestJ1_J4_J10_StatesAreSelected(t *testing.T) {
	in := func(codes ...string) func(*law.Request) {
		return func(r *law.Request) {
			var err error
			if r.States, err = state.Select(codes...); err != nil {
				t.Fatal(err)
			}
		}
	}
	mental := func(r *law.Request) { r.Record.MentalHealth = true }
	denied(t, "Washington", with(ordinary, exchange, mental, in("US-WA")), "J1")
	denied(t, "California, psychotherapy", with(ordinary, exchange, mental, in("US-CA")), "J3")
	denied(t, "California", with(ordinary, exchange, in("US-CA"), func(r *law.Request) { r.Record.Reproductive = true }), "J4")
	denied(t, "California, too", with(ordinary, exchange, in("US-CA"), func(r *law.Request) { r.Record.GenderCare = true }), "J4")
	denied(t, "Pennsylvania", with(ordinary, exchange, part2Record, tpo, in("US-PA"), func(r *law.Request) { r.Purpose = "HPAYMT" }), "J10")
	denied(t, "Pennsylvania, SUD elsewhere", with(ordinary, exchange, in("US-PA"), func(r *law.Request) { r.Record.SubstanceUse = true }), "J10")
	denied(t, "Illinois", with(ordinary, exchange, psych, in("US-IL"), func(r *law.Request) { r.Consents.Notes = true }), "J6")
	denied(t, "Illinois, a counseling note", with(ordinary, exchange, counseling, in("US-IL"), func(r *law.Request) { r.Consents.Counseling = true }), "J6")
	decides(t, "Illinois, an ordinary record", with(ordinary, exchange, in("US-IL")), true, "HIPAA")
	denied(t, "EU", with(ordinary, in("EU"), func(r *law.Request) { r.Record.Frozen = true }), "J12")
	for _, c := range []law.Consents{{TPO: true}, {Specific: true}, {Notes: true}, {Minor: true}, {Counseling: true}, {Research: true}, {Legal: true}} {
		decides(t, "Washington, with consent", with(ordinary, exchange, mental, in("US-WA"), func(r *law.Request) { r.Consents = c }), true, "HIPAA")
	}
	decides(t, "Washington, what an exchange brings in", with(ordinary, exchange, mental, in("US-WA"), func(r *law.Request) { r.Write = true }), true, "HIPAA")
	decides(t, "Washington, an emergency", with(ordinary, exchange, mental, in("US-WA"), func(r *law.Request) { r.Emergency = true }), true, "HIPAA")
	decides(t, "Washington, inside", with(ordinary, mental, in("US-WA")), true, "HIPAA")
	decides(t, "elsewhere", with(ordinary, exchange, mental), true, "HIPAA")
	decides(t, "to the patient", with(ordinary, mental, in("US-WA"), func(r *law.Request) { r.Recipient, r.Self = law.Patient, true }), true, "HIPAA")
	decides(t, "to a parent", with(ordinary, mental, in("US-WA"), func(r *law.Request) { r.Recipient = law.Parent }), true, "HIPAA")
}

func TestH1_H4_Obligations(t *testing.T) {
	payment := with(ordinary, func(r *law.Request) { r.Purpose = "HPAYMT" })
	yes(t, slices.Equal(law.Evaluate(payment).Obligations, []part2.Obligation{law.MinimumNecessary}), "payment")
	no(t, len(law.Evaluate(ordinary).Obligations) > 0, "treatment")
	health := with(ordinary, func(r *law.Request) { r.Purpose, r.Recipient = "PUBHLTH", law.PublicHealth })
	yes(t, slices.Equal(law.Evaluate(health).Obligations, []part2.Obligation{law.MinimumNecessary, part2.AccountingEntry}), "public health")
	no(t, slices.Contains(law.Evaluate(with(health, func(r *law.Request) { r.Recipient = law.Workforce })).Obligations, part2.AccountingEntry), "the workforce")
	no(t, slices.Contains(law.Evaluate(with(health, func(r *law.Request) { r.Recipient = law.Patient })).Obligations, part2.AccountingEntry), "the patient")
	no(t, slices.Contains(law.Evaluate(with(health, func(r *law.Request) { r.Self = true })).Obligations, part2.AccountingEntry), "the individual")
	for what, change := range map[string]func(*law.Request){
		"specific consent": func(r *law.Request) { r.Consents.Specific = true },
		"authorization":    func(r *law.Request) { r.Consents.Notes = true },
		"the Secretary":    func(r *law.Request) { r.Note.Secretary = true },
		"the law":          func(r *law.Request) { r.Note.Law = "x" },
	} {
		no(t, slices.Contains(law.Evaluate(with(payment, change)).Obligations, law.MinimumNecessary), what)
	}
	count := 0
	for _, o := range law.Evaluate(with(health, part2Record, func(r *law.Request) { r.Agreement = true })).Obligations {
		if o == part2.AccountingEntry {
			count++
		}
	}
	yes(t, count == 1, "one entry")
	authorized := with(health, psych, func(r *law.Request) { r.Consents.Notes = true })
	no(t, slices.Contains(law.Evaluate(authorized).Obligations, part2.AccountingEntry), "an authorized disclosure")
	specific := with(health, part2Record, func(r *law.Request) { r.Consents.Specific = true })
	yes(t, slices.Contains(law.Evaluate(specific).Obligations, part2.AccountingEntry), "part 2 accounts for those with consent")
}

func TestTheTrailEndsAtTheFirstDenial(t *testing.T) {
	d := law.Evaluate(with(ordinary, psych, part2Record))
	if n := len(d.Trail); n != 4 || d.Trail[n-1] != (law.Step{Stage: 3, Name: "notes of sessions", Rule: "P4"}) || d.Obligations != nil {
		t.Errorf("%+v", d)
	}
	if d := law.Evaluate(ordinary); len(d.Trail) != 9 {
		t.Errorf("%+v", d.Trail)
	}
}

type broken struct{}

func (broken) Jurisdiction() string         { return "ZZ" }
func (broken) Bars(state.Disclosure) string { panic("out of order") }

func TestAPanicDenies(t *testing.T) {
	d := law.Evaluate(with(ordinary, func(r *law.Request) { r.States = state.Set{broken{}} }))
	if d.Permit || d.Rule != "error: out of order" {
		t.Errorf("%+v", d)
	}
}

func draw(t *rapid.T) law.Request {
	flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
	return law.Request{
		Tenant: true, Compartment: true, Caller: true, Scope: true, Minimum: true,
		Purpose:   rapid.SampledFrom([]string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT", "ETREAT", "BTG", "HLEGAL", "TRAIN", "HRESCH", "COC"}).Draw(t, "purpose"),
		Recipient: rapid.SampledFrom([]law.Recipient{law.Workforce, law.Exchange, law.Patient, law.Parent, law.Court, law.Researcher, law.Assistant}).Draw(t, "recipient"), Write: flag("write"),
		Record:  law.Record{Part2: flag("part2"), PsychNote: flag("psych"), CounselingNote: flag("counseling"), MinorConsented: flag("minor"), MentalHealth: flag("mental")},
		Program: flag("program"), Originator: flag("originator"), Self: flag("self"),
		Consents:  law.Consents{TPO: flag("tpo"), Specific: flag("specific"), Counseling: flag("sudcn"), Legal: flag("legal"), Notes: flag("notes"), Minor: flag("own"), Research: flag("research"), Machine: flag("software's")},
		Machine:   flag("software"),
		Emergency: flag("emergency"), Exception: flag("exception"), Agreement: flag("agreement"),
	}
}

// A label more, or a consent less, never permits more (S9 among others).
func TestMonotone(t *testing.T) {
	permitted := 0
	rapid.Check(t, func(t *rapid.T) {
		r := draw(t)
		if law.Evaluate(r).Permit {
			permitted++
			return
		}
		worse := r
		switch rapid.IntRange(0, 8).Draw(t, "worse") {
		case 0:
			worse.Record.Part2 = true
		case 1:
			worse.Record.PsychNote = true
		case 2:
			worse.Record.MinorConsented = true
		case 3:
			worse.Consents.TPO = false
		case 4:
			worse.Consents.Notes = false
		case 5:
			worse.Consents.Minor = false
		case 6:
			worse.Denied = true
		case 7:
			worse.Exception = false
		case 8:
			worse.Record.CounselingNote = true
			if r.Consents.Counseling {
				return // this consent is about such notes, so that the label is what it asks for
			}
		}
		if law.Evaluate(worse).Permit {
			t.Fatalf("%+v is denied and %+v is not", r, worse)
		}
	})
	if permitted == 0 {
		t.Error("nothing was permitted")
	}
}

// The floor is a part of the whole, and costs no allocation.
func TestFloor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := draw(t)
		if _, floor := law.Floor(r); floor != law.Evaluate(r).Permit {
			t.Fatalf("%+v: the floor says %v; nothing else denies it", r, floor)
		}
	})
	s, err := state.Select("US-WA", "US-CA")
	if err != nil {
		t.Fatal(err)
	}
	r := with(ordinary, part2Record, tpo, func(r *law.Request) { r.States = s })
	if n := testing.AllocsPerRun(100, func() { law.Floor(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEveryRuleIsListedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range law.Rules() {
		if seen[r.ID] {
			t.Errorf("%s is listed twice", r.ID)
		}
		seen[r.ID] = true
	}
	if len(seen) != 21+43+10+8+14 {
		t.Errorf("%d rules", len(seen))
	}
}
