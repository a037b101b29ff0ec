package authz_test

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/consent/state"
	"github.com/cloister-health/cloister/fhir"
)

// careless is a policy that permits everything to everybody.
type careless struct{}

func (careless) Version() string                             { return "1" }
func (careless) Asked() []label.Set                          { return nil }
func (careless) Permit(authz.Question) ([]authz.Fact, error) { return []authz.Fact{0, authz.Self}, nil }

// lawful makes careless the policy of two practices, the second in Washington.
type lawful struct{ states map[int32]state.Set }

func (l lawful) Of(tenant int32) authz.Practice {
	return authz.Practice{Policy: careless{}, States: l.states[tenant]}
}

// Whatever a policy permits, the law holds: in the decision on each record, and in the plan of the query.
func TestP4_S5_S6_S27_J1_NoPolicyOpensWhatTheLawBars(t *testing.T) {
	washington, err := state.Select("US-WA")
	if err != nil {
		t.Fatal(err)
	}
	catalogue := classes{1: 0, 2: label.Part2, 3: label.PsychNote, 4: label.CounselingNote | label.Part2, 5: label.MinorConsented, 6: label.PSY}
	e := authz.NewEngineOf(lawful{map[int32]state.Set{2: washington}}, &catalogue, func() time.Time { return time.Unix(0, 0) })
	ctx := context.Background()
	const everything = authz.Fact(1<<11 - 1)
	for _, c := range []struct {
		what    string
		tenant  int32
		role    string
		purpose string
		labels  label.Set
		facts   authz.Fact
		write   bool
		want    bool
	}{
		{"an ordinary record", 1, "therapist", "TREAT", label.PSY, 0, false, true},
		{"P4: another's note", 1, "therapist", "TREAT", label.PsychNote, everything &^ (authz.Originator | authz.Consent | authz.Exception), false, false},
		{"P5: one's own note", 1, "therapist", "TREAT", label.PsychNote, authz.Originator, false, true},
		{"P4: with an authorization", 1, "therapist", "HOPERAT", label.PsychNote, authz.Consent, false, true},
		{"P6: training", 1, "supervisor", "TRAIN", label.PsychNote, authz.Supervising, false, true},
		{"P6: supervision for treatment", 1, "supervisor", "TREAT", label.PsychNote, authz.Supervising, false, false},
		{"P6-P12: a documented exception", 1, "privacy-officer", "HOPERAT", label.PsychNote, authz.Exception, false, true},
		{"P17: the patient", 1, "patient", "PATRQT", label.PsychNote, authz.Self, false, false},
		{"P19: an emergency", 1, "psychiatrist", "BTG", label.PsychNote, everything, false, false},
		{"S11: a counseling note with all but its bases", 1, "therapist", "TREAT", label.CounselingNote | label.Part2, authz.Program | authz.Treating | authz.Emergency, false, false},
		{"S10: one's own counseling note", 1, "sud-counselor", "TREAT", label.CounselingNote | label.Part2, authz.Program | authz.Originator, false, true},
		{"S10: outside the program", 1, "sud-counselor", "TREAT", label.CounselingNote, authz.Originator, false, false},
		{"S12: with a consent to that", 1, "therapist", "TREAT", label.CounselingNote | label.Part2, authz.Consent, false, true},
		{"S42: a program's record", 1, "therapist", "TREAT", label.Part2, authz.Treating | authz.Proxy | authz.Unrestricted | authz.Originator, false, false},
		{"S38: in the program", 1, "therapist", "TREAT", label.Part2, authz.Program, false, true},
		{"S15: with consent", 1, "hie", "TREAT", label.Part2, authz.Consent, false, true},
		{"S15: with consent, to write", 1, "hie", "TREAT", label.Part2, authz.Consent, true, false},
		{"S22: under an agreement", 1, "biller", "HOPERAT", label.Part2, authz.Agreement, false, true},
		{"S26: the patient", 1, "patient", "PATRQT", label.Part2, authz.Self, false, true},
		{"S33: an emergency", 1, "therapist", "BTG", label.Part2, authz.Emergency, false, true},
		{"S33: an emergency, for payment", 1, "biller", "HPAYMT", label.Part2, authz.Emergency, false, false},
		{"S6: a proceeding", 1, "privacy-officer", "HLEGAL", label.Part2, everything &^ (authz.Consent | authz.Exception), false, false},
		{"S6: a proceeding with consent to it", 1, "privacy-officer", "HLEGAL", label.Part2, authz.Consent, false, true},
		{"S27: a parent", 1, "proxy", "PATRQT", label.MinorConsented, authz.Proxy, false, false},
		{"S27: a parent in the family's name", 1, "proxy", "FAMRQT", label.MinorConsented, authz.Proxy, false, false},
		{"S27: who is the patient, too", 1, "proxy", "PATRQT", label.MinorConsented, authz.Proxy | authz.Self, false, true},
		{"S27: an exchange", 1, "hie", "TREAT", label.MinorConsented, authz.Treating, false, false},
		{"S27: the clinician", 1, "therapist", "TREAT", label.MinorConsented, 0, false, true},
		{"J1: an exchange, elsewhere", 1, "hie", "TREAT", label.PSY, 0, false, true},
		{"J1: an exchange, in Washington", 2, "hie", "TREAT", label.PSY, 0, false, false},
		{"J1: with consent, in Washington", 2, "hie", "TREAT", label.PSY, authz.Consent, false, true},
		{"J1: inside, in Washington", 2, "therapist", "TREAT", label.PSY, 0, false, true},
		{"the operator", 1, authz.Operator, "HSYSADMIN", label.PsychNote | label.Part2, 0, true, true},
		{"the operator's role for another purpose", 1, authz.Operator, "TREAT", label.PsychNote, 0, false, false},
		{"another's role for the operator's purpose", 1, "therapist", "HSYSADMIN", label.Part2, 0, false, false},
	} {
		i := fhir.Read
		if c.write {
			i = fhir.Update
		}
		g, err := e.Authorize(ctx, authz.Principal{Tenant: c.tenant, Subject: "s", Roles: []string{c.role}, Purpose: c.purpose, Scopes: smart.Parse("system/*.cruds")}, i, "Observation")
		if err != nil {
			t.Fatal(c.what, err)
		}
		// The policy permits with no fact, and with self: so the facts of the case are asked of the law alone.
		q := authz.Question{Roles: []string{c.role}, Purpose: c.purpose, Action: authz.ActionRead, Type: "Observation", Labels: c.labels}
		if c.write {
			q.Action = authz.ActionUpdate
		}
		if rule, ok := authz.Lawful(q, c.facts, washingtonOnly(washington, c.tenant)); ok != c.want {
			t.Errorf("%s: the law says %v (%s)", c.what, ok, rule)
		}
		d, err := e.Decide(ctx, g, i, authz.Resource{Type: "Observation", Labels: c.labels, Facts: c.facts})
		if err != nil || d.Permit && !c.want {
			t.Errorf("%s: the engine says %v, %v", c.what, d.Permit, err)
		}
		if c.facts&^authz.Self == 0 && d.Permit != c.want {
			t.Errorf("%s: the engine says %v", c.what, d.Permit)
		}
	}
	arms, err := planFor(t, e, "therapist")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range arms {
		for _, class := range a.Classes {
			if l := catalogue[class]; l.Any(label.Notes) || l.Any(label.Part2) && a.Needs != authz.Self {
				t.Errorf("the query opens %s with %b", l, a.Needs)
			}
		}
	}
}

// A fact more never bars, so that what the plan of a query permits by the least facts no decision undoes.
func TestLawfulIsMonotoneAndFree(t *testing.T) {
	draw := func(t *rapid.T) (authz.Question, authz.Fact) {
		return authz.Question{
			Roles:   rapid.SliceOfN(rapid.SampledFrom(append(authz.Roles(), "unheard-of")), 1, 2).Draw(t, "roles"),
			Purpose: rapid.SampledFrom([]string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT", "FAMRQT", "ETREAT", "BTG", "HLEGAL", "TRAIN", "HSYSADMIN"}).Draw(t, "purpose"),
			Action:  rapid.SampledFrom([]authz.Action{authz.ActionRead, authz.ActionUpdate}).Draw(t, "action"), Type: "Condition",
			Labels: label.Set(rapid.Uint32().Draw(t, "labels")) & label.All,
		}, authz.Fact(rapid.IntRange(0, 1<<11-1).Draw(t, "facts"))
	}
	states, err := state.Select(state.Known()...)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		q, f := draw(t)
		more := f | authz.Fact(1)<<rapid.IntRange(0, 10).Draw(t, "more")
		if _, ok := authz.Lawful(q, f, states); ok {
			if rule, still := authz.Lawful(q, more, states); !still {
				t.Fatalf("%+v with %b is lawful, and with %b barred by %s", q, f, more, rule)
			}
		}
	})
	q := authz.Question{Roles: []string{"therapist"}, Purpose: "TREAT", Action: authz.ActionRead, Type: "Condition", Labels: label.Part2 | label.PSY}
	if n := testing.AllocsPerRun(100, func() { authz.Lawful(q, authz.Program, states) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func washingtonOnly(s state.Set, tenant int32) state.Set {
	if tenant == 2 {
		return s
	}
	return nil
}

// Whatever a policy says, nobody is told that something of a source is left out of
// what she sees, whatever holds; and nothing bars to tell of what is sensitive alone.
func TestS4_P21_S27_NothingTellsOfSources(t *testing.T) {
	const everything = authz.Fact(1<<11 - 1)
	e := authz.NewEngine(careless{}, &classes{0: 0}, time.Now)
	g, err := e.Authorize(context.Background(), authz.Principal{Tenant: 1, Subject: "s", Roles: []string{"biller"}, Purpose: "HPAYMT", Scopes: smart.Parse("user/*.r")}, fhir.Read, "Claim")
	if err != nil {
		t.Fatal(err)
	}
	for labels, want := range map[label.Set]string{
		label.Part2: "S4", label.Part2 | label.SUD: "S4", label.Received: "S4", label.PsychNote: "P21", label.CounselingNote: "P21", label.MinorConsented: "S27", label.Oversight: "L45",
		0: "", label.HIV: "", label.SUD | label.PSY: "",
	} {
		q := authz.Question{Roles: []string{"biller"}, Purpose: "HPAYMT", Action: authz.ActionMask, Type: "Claim", Labels: labels}
		for _, f := range []authz.Fact{0, everything} {
			if rule, ok := authz.Lawful(q, f, nil); rule != want || ok != (want == "") {
				t.Errorf("%s with %b: %v by %q, want %q", labels, f, ok, rule, want)
			}
		}
		d, err := e.Decide(context.Background(), g, fhir.Mask, authz.Resource{Type: "Claim", Labels: labels, Facts: everything})
		if err != nil || d.Permit != (want == "") {
			t.Errorf("%s: the engine says %v, %v", labels, d.Permit, err)
		}
	}
	// Who may not read by her scopes is not told either.
	g, err = e.Authorize(context.Background(), authz.Principal{Tenant: 1, Subject: "s", Roles: []string{"biller"}, Purpose: "HPAYMT", Scopes: smart.Parse("user/*.s")}, fhir.SearchType, "Claim")
	if err != nil {
		t.Fatal(err)
	}
	if d, err := e.Decide(context.Background(), g, fhir.Mask, authz.Resource{Type: "Claim", Facts: everything}); err != nil || d.Permit {
		t.Errorf("without the scope: %v, %v", d.Permit, err)
	}
}
