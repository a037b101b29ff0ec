package consent_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

func drawDirective(t *rapid.T) consent.Directive {
	d := tpo()
	if rapid.Bool().Draw(t, "specific") {
		d = specific()
	}
	d.Root.Type = rapid.SampledFrom([]string{"permit", "permit", "permit", "deny", ""}).Draw(t, "type")
	d.Status = rapid.SampledFrom([]string{"active", "active", "active", "inactive"}).Draw(t, "status")
	d.Organizations = rapid.SliceOfN(rapid.SampledFrom([]fhir.Ref{program, other}), 0, 3).Draw(t, "programs")
	d.Performers = rapid.SliceOfN(rapid.SampledFrom([]fhir.Ref{patient, patient, doctor}), 0, 2).Draw(t, "performers")
	d.Root.Actors = append(d.Root.Actors, rapid.SliceOfN(rapid.SampledFrom([]consent.Actor{to(hie), to(doctor), toClass("payers"), {Reference: hie}, to(patient)}), 0, 2).Draw(t, "actors")...)
	d.Root.Purposes = append(d.Root.Purposes, purposes(rapid.SliceOfN(rapid.SampledFrom([]string{"TREAT", "HPAYMT", "COC", "HLEGAL", "HRESCH"}), 0, 1).Draw(t, "purposes")...)...)
	if rapid.IntRange(0, 9).Draw(t, "malformed") == 0 {
		d.Malformed = []string{"x"}
	}
	return d
}

type asked struct {
	programs   []fhir.ID
	recipients []string
	purpose    string
	at         time.Time
}

func drawAsked(t *rapid.T) asked {
	user := rapid.SampledFrom([]fhir.Ref{doctor, {}, patient}).Draw(t, "user")
	purpose := rapid.SampledFrom([]string{"TREAT", "HPAYMT", "HOPERAT", "HLEGAL", "COC"}).Draw(t, "purpose")
	orgs := rapid.SliceOfN(rapid.SampledFrom([]string{"hie", "clinic"}), 0, 2).Draw(t, "organizations")
	return asked{
		rapid.SliceOfNDistinct(rapid.SampledFrom([]fhir.ID{"sud", "sud2"}), 1, 2, rapid.ID).Draw(t, "asked programs"),
		consent.Recipients(user, orgs, purpose), purpose,
		signed.AddDate(0, rapid.IntRange(-2, 14).Draw(t, "months"), 0),
	}
}

func (a asked) covered(ds ...consent.Directive) bool {
	var g []consent.Grant
	for _, d := range ds {
		g = append(g, consent.Compile(d).Grants...)
	}
	return consent.Covers(g, "p1", a.programs, a.recipients, a.purpose, a.at)
}

// The order of repetitions in a Consent, and of Consents, says nothing.
func TestOrderIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDirective(t)
		e := d
		e.Organizations = rapid.Permutation(d.Organizations).Draw(t, "o")
		e.Performers = rapid.Permutation(d.Performers).Draw(t, "p")
		e.Category = rapid.Permutation(d.Category).Draw(t, "c")
		e.Root.Actors = rapid.Permutation(d.Root.Actors).Draw(t, "a")
		e.Root.Purposes = rapid.Permutation(d.Root.Purposes).Draw(t, "u")
		if diff := cmp.Diff(consent.Compile(d), consent.Compile(e)); diff != "" {
			t.Fatal(diff)
		}
		q, f := drawAsked(t), drawDirective(t)
		if q.covered(d, f) != q.covered(f, d) {
			t.Fatal("the order of consents matters")
		}
	})
}

// An element that 42 CFR 2.31(a) requires never widens a permit by being away:
// neither altogether nor one of its repetitions.
func TestRemovingAnElementNeverWidens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, q := drawDirective(t), drawAsked(t)
		d.Root.Type = "permit"
		if q.covered(d) {
			return
		}
		e := d
		less := func(n int) (int, bool) {
			if n == 0 {
				return 0, false
			}
			return rapid.IntRange(0, n-1).Draw(t, "which"), true
		}
		switch rapid.SampledFrom([]string{"patient", "date", "source", "performer", "organization", "category", "actor", "rule", "performers", "organizations", "actors", "purposes"}).Draw(t, "element") {
		case "patient":
			e.Patient = fhir.Ref{}
		case "date":
			e.DateTime = time.Time{}
		case "source":
			e.Source = false
		case "rule":
			e.PolicyRule = nil
		case "category":
			e.Category = nil
		case "performers":
			e.Performers = nil
		case "organizations":
			e.Organizations = nil
		case "actors":
			e.Root.Actors = nil
		case "purposes":
			e.Root.Purposes = nil
		case "performer":
			if i, ok := less(len(e.Performers)); ok {
				e.Performers = slices.Delete(slices.Clone(e.Performers), i, i+1)
			}
		case "organization":
			if i, ok := less(len(e.Organizations)); ok {
				e.Organizations = slices.Delete(slices.Clone(e.Organizations), i, i+1)
			}
		case "actor":
			// A class in a specific consent spoils it; without the class it is sound.
			if i, ok := less(len(e.Root.Actors)); ok && e.Root.Actors[i].Identifier.Code == "" {
				e.Root.Actors = slices.Delete(slices.Clone(e.Root.Actors), i, i+1)
			}
		}
		if q.covered(e) {
			t.Fatalf("%+v covers what %+v does not", e, d)
		}
	})
}

// A denial, even one that adds nothing but a denial, never adds a disclosure;
// nor does a Consent that is not active.
func TestADenialNeverAdds(t *testing.T) {
	covered := 0
	rapid.Check(t, func(t *rapid.T) {
		d, deny, q := drawDirective(t), drawDirective(t), drawAsked(t)
		if rapid.Bool().Draw(t, "sound") { // chance alone seldom makes a consent that covers a question
			d = specific()
			q = asked{[]fhir.ID{program.ID}, consent.Recipients(doctor, nil, "TREAT"), "TREAT", signed.AddDate(0, 1, 0)}
		}
		deny.Root.Type = "deny"
		for _, g := range consent.Compile(deny).Grants {
			if g.Effect != consent.Deny {
				t.Fatalf("a denial permits: %+v", g)
			}
		}
		if q.covered(d, deny) && !q.covered(d) {
			t.Fatal("a denial adds a disclosure")
		}
		if q.covered(d) {
			covered++
		}
	})
	if covered == 0 {
		t.Error("nothing was ever covered: the property was not tested")
	}
}

// No grant is ever for what no consent can cover, and none that permits is for everyone.
func TestNoGrantForProceedingsOrEveryone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, g := range consent.Compile(drawDirective(t)).Grants {
			if g.Effect != consent.Permit {
				continue
			}
			if g.Recipient == consent.Everyone || g.Program == "" || g.Patient == "" || g.Start.IsZero() {
				t.Fatalf("too wide: %+v", g)
			}
			for _, p := range []string{"HLEGAL", "ETREAT", "BTG", "HMARKT", "HRESCH"} {
				if slices.Contains(g.Purposes, p) {
					t.Fatalf("%+v is for %s", g, p)
				}
			}
		}
	})
}
