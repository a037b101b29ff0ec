package state_test

import (
	"testing"
	"time"

	"github.com/cloister-health/cloister/consent/rule"
	"github.com/cloister-health/cloister/consent/state"
)

// out is what leaves the practice; with gives a copy of it that is changed.
var out = state.Disclosure{Purpose: "TREAT", Outside: true, OtherState: true}

func with(d state.Disclosure, change func(*state.Disclosure)) state.Disclosure {
	change(&d)
	return d
}

func consent(d *state.Disclosure)   { d.Consent = true }
func self(d *state.Disclosure)      { d.Self = true }
func emergency(d *state.Disclosure) { d.Emergency = true }
func inside(d *state.Disclosure)    { d.Outside, d.OtherState = false, false }
func mental(d *state.Disclosure)    { d.MentalHealth = true }
func payment(d *state.Disclosure)   { d.Purpose = "HPAYMT" }

// leaves checks what is common to the laws of mental health records.
func leaves(t *testing.T, rule string, bars func(state.Disclosure) string, d state.Disclosure) {
	t.Helper()
	if got := bars(d); got != rule {
		t.Errorf("barred by %q", got)
	}
	no(t, bars(d) == "", "without consent")
	for what, change := range map[string]func(*state.Disclosure){"consent": consent, "self": self, "emergency": emergency, "inside": inside} {
		yes(t, bars(with(d, change)) == "", what)
	}
}

func TestJ1_RCW_70_02_230(t *testing.T) {
	leaves(t, "J1", state.Washington, with(out, mental))
	yes(t, state.Washington(out) == "", "another record")
}

func TestJ2_RCW_19_373(t *testing.T) {
	yes(t, state.ConsumerHealthData(false, false), "an app's")
	no(t, state.ConsumerHealthData(true, false) || state.ConsumerHealthData(false, true), "what is protected already")
}

func TestJ3_Civ_56_104(t *testing.T) {
	d := with(out, func(d *state.Disclosure) { d.Psychotherapy = true })
	leaves(t, "J3", state.California, d)
	yes(t, state.California(with(d, func(d *state.Disclosure) { d.Request = true })) == "", "on a written request")
	yes(t, state.California(out) == "", "another record")
}

func TestJ4_AB_352(t *testing.T) {
	for what, change := range map[string]func(*state.Disclosure){
		"reproductive": func(d *state.Disclosure) { d.Reproductive = true }, "gender": func(d *state.Disclosure) { d.GenderCare = true },
	} {
		d := with(out, change)
		no(t, state.California(d) != "J4", what)
		no(t, state.California(with(d, emergency)) != "J4", what+" in an emergency")
		yes(t, state.California(with(d, consent)) == "" && state.California(with(d, self)) == "", what+" with consent")
		yes(t, state.California(with(d, func(d *state.Disclosure) { d.OtherState = false })) == "", what+" in California")
	}
}

func TestJ6_740_ILCS_110(t *testing.T) {
	leaves(t, "J6", state.Illinois, with(out, mental))
	personal := func(d *state.Disclosure) { d.PersonalNote, d.Consent = true, true }
	no(t, state.Illinois(with(out, personal)) != "J6", "a personal note")
	no(t, state.Illinois(with(with(state.Disclosure{}, personal), func(d *state.Disclosure) { d.ToParent = true })) != "J6", "a personal note, to a parent")
	yes(t, state.Illinois(with(state.Disclosure{}, personal)) == "", "a personal note, inside")
	yes(t, state.Illinois(out) == "", "another record")
}

func TestJ7_MHL_33_13(t *testing.T) {
	leaves(t, "J7", state.NewYork, with(out, mental))
	yes(t, state.NewYork(out) == "", "another record")
}

func TestJ8_HSC_611(t *testing.T) {
	leaves(t, "J8", state.Texas, with(with(out, mental), payment))
	yes(t, state.Texas(with(out, mental)) == "" && state.Texas(with(out, payment)) == "", "treatment, and another record")
}

func TestJ9_394_4615(t *testing.T) {
	leaves(t, "J9", state.Florida, with(with(out, mental), payment))
	yes(t, state.Florida(with(out, mental)) == "" && state.Florida(with(out, payment)) == "", "treatment, and another record")
}

func TestJ10_Pa_255_5(t *testing.T) {
	d := with(out, func(d *state.Disclosure) { d.SubstanceUse = true })
	leaves(t, "J10", state.Pennsylvania, d)
	no(t, state.Pennsylvania(with(with(d, consent), payment)) != "J10", "payment, even with consent")
	yes(t, state.Pennsylvania(out) == "", "another record")
}

func TestJ11_MinorsConsent(t *testing.T) {
	var s state.Set
	minor := state.Disclosure{MinorConsented: true, ToParent: true}
	no(t, s.Bars(minor) != "J11", "to a parent")
	no(t, s.Bars(state.Disclosure{MinorConsented: true, Outside: true}) != "J11", "out of the practice")
	yes(t, s.Bars(with(minor, consent)) == "" && s.Bars(with(minor, self)) == "", "with the minor's consent, to the minor")
	exception := func(d *state.Disclosure) { d.Exception = true }
	yes(t, s.Bars(with(state.Disclosure{MinorConsented: true, Outside: true}, exception)) == "", "by a documented exception")
	no(t, s.Bars(with(minor, exception)) != "J11", "to a parent, by an exception")
	yes(t, s.Bars(state.Disclosure{MinorConsented: true}) == "", "inside")
	yes(t, s.Bars(state.Disclosure{ToParent: true, Outside: true}) == "", "another record")
	for code, from := range map[string]int{"US-CA": 12, "US-WA": 13, "US-IL": 12, "US-NY": 16, "US-TX": 16, "US-FL": 13, "US-PA": 14} {
		yes(t, state.MayConsentAlone(code, state.MentalHealth, from), code)
		no(t, state.MayConsentAlone(code, state.MentalHealth, from-1), code)
		no(t, state.MayConsentAlone(code, state.MentalHealth, 18) || state.MayConsentAlone(code, state.SubstanceUse, -1), code)
	}
	for code, from := range map[string]int{"US-CA": 12, "US-WA": 13, "US-IL": 12, "US-NY": 0, "US-TX": 0, "US-FL": 0, "US-PA": 0} {
		yes(t, state.MayConsentAlone(code, state.SubstanceUse, from), code)
		no(t, state.MayConsentAlone(code, state.SubstanceUse, from-1), code)
	}
	no(t, state.MayConsentAlone("US-ZZ", state.MentalHealth, 17) || state.MayConsentAlone("US-CA", "surgery", 17), "where we do not know the law")
	birth := time.Date(2008, 3, 1, 0, 0, 0, 0, time.UTC)
	yes(t, state.OfAge(birth, birth.AddDate(18, 0, 0)), "18")
	no(t, state.OfAge(birth, birth.AddDate(18, 0, -1)), "a day before")
}

func TestJ14_225_ILCS_155_15_Software(t *testing.T) {
	var s state.Set
	machine := state.Disclosure{Machine: true}
	no(t, s.Bars(machine) != "J14", "without consent")
	no(t, s.Bars(with(machine, consent)) != "J14", "another consent")
	no(t, s.Bars(with(machine, emergency)) != "J14", "an emergency")
	yes(t, s.Bars(with(machine, func(d *state.Disclosure) { d.MachineConsent = true })) == "", "with consent to that")
	yes(t, s.Bars(state.Disclosure{}) == "", "a person")
	minor := with(machine, func(d *state.Disclosure) { d.MachineConsent, d.MinorConsented, d.Outside = true, true, true })
	no(t, s.Bars(minor) != "J11", "what a minor consented to alone")
}

func TestJ12_GDPR_18(t *testing.T) {
	frozen := state.Disclosure{Frozen: true}
	no(t, state.GDPR(frozen) != "J12", "restricted")
	yes(t, state.GDPR(with(frozen, consent)) == "" && state.GDPR(with(frozen, self)) == "" && state.GDPR(out) == "", "with consent")
}

func TestJ13_GDPR_12_33(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	answer, authority := state.Deadlines(at, false)
	yes(t, answer.Equal(at.AddDate(0, 1, 0)) && authority.Equal(at.Add(72*time.Hour)), "a month, 72 hours")
	answer, _ = state.Deadlines(at, true)
	yes(t, answer.Equal(at.AddDate(0, 3, 0)), "three months")
	no(t, answer.After(at.AddDate(0, 3, 0)), "longer")
}

func TestSelect(t *testing.T) {
	s, err := state.Select("US-WA", "US-CA")
	if err != nil || len(s) != 2 {
		t.Fatal(s, err)
	}
	yes(t, s.Bars(with(out, mental)) == "J1", "the first")
	yes(t, s.Bars(with(out, func(d *state.Disclosure) { d.GenderCare = true })) == "J4", "the second")
	yes(t, s.Bars(out) == "", "neither")
	for _, codes := range [][]string{{"US-ZZ"}, {"US-WA", "US-WA"}, {""}} {
		if _, err := state.Select(codes...); err == nil {
			t.Errorf("%v is accepted", codes)
		}
	}
	if s, err := state.Select(); err != nil || s.Bars(with(out, mental)) != "" {
		t.Error("no jurisdiction bars")
	}
	for _, code := range state.Known() {
		if s, err := state.Select(code); err != nil || s[0].Jurisdiction() != code {
			t.Error(code, err)
		}
	}
	for _, r := range state.Rules() {
		if r.Title == "" || r.Citation == "" || (r.Status == rule.Outside) != (len(r.Funcs) == 0) {
			t.Errorf("%+v", r)
		}
	}
}
