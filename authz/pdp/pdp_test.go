package pdp

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

func house(t testing.TB) *Point {
	t.Helper()
	p, err := New(Embedded())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// question draws cells that lines speak of more often than chance would.
func drawQuestion(t *rapid.T) authz.Question {
	q := authz.Question{
		Roles:   rapid.SliceOfN(rapid.SampledFrom(append(Roles(), "nobody")), 0, 3).Draw(t, "roles"),
		Purpose: rapid.SampledFrom([]string{"TREAT", "TREAT", "TREAT", "HOPERAT", "HPAYMT", "PATRQT", "HRESCH", "HSYSADMIN", "HLEGAL", "BTG", "COC", ""}).Draw(t, "purpose"),
		Action:  rapid.SampledFrom([]authz.Action{"read", "read", "create", "update", "delete", ""}).Draw(t, "action"),
	}
	if rapid.Bool().Draw(t, "usual type") {
		q.Type = rapid.SampledFrom([]fhir.ResourceType{"DocumentReference", "Condition", "Patient", "Organization", "Claim", "Consent", "CareTeam"}).Draw(t, "type")
	} else {
		q.Type = rapid.SampledFrom(append(fhir.ResourceTypes(), "Nothing")).Draw(t, "type")
	}
	for _, l := range rapid.SliceOfN(rapid.SampledFrom(append(label.All.Codes(), "42CFRPart2", "42CFRPart2", "PSYTHPN", "SUDCN", "MINORCONSENT")), 0, 4).Draw(t, "labels") {
		s, _ := label.ParseSet(l)
		q.Labels |= s
	}
	if rapid.IntRange(0, 40).Draw(t, "stray bit") == 0 {
		q.Labels |= 1 << 30
	}
	return q
}

func drawFacts(t *rapid.T) authz.Fact {
	return authz.Fact(rapid.IntRange(0, int(allFacts)).Draw(t, "facts"))
}

// Permit is what Casbin's Enforce says for sets of facts, no more and
// no less, and so is the reference evaluator, which shares no code with either.
func TestPermitAgreesWithEnforceAndReference(t *testing.T) {
	p := house(t).current.Load()
	ref := newReference(t, Embedded())
	permitted := 0
	rapid.Check(t, func(t *rapid.T) {
		q := drawQuestion(t)
		if rapid.Bool().Draw(t, "usual question") { // chance alone seldom asks what is permitted
			q = authz.Question{Roles: []string{"therapist"}, Purpose: "TREAT", Action: authz.ActionRead, Type: "Condition", Labels: q.Labels & (label.PSY | label.MH | label.SUD)}
		}
		sets, err := p.permit(q)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range sets {
			for j, b := range sets {
				if i != j && a.Has(b) {
					t.Fatalf("%v: %s is not minimal beside %s", q, factNames(a), factNames(b))
				}
			}
		}
		n, ok := normal(q)
		// The least sets, what lacks one fact of them, none, all, and some by chance: all 2^n would be the same story, slower.
		facts := []authz.Fact{0, allFacts}
		for _, s := range sets {
			facts = append(facts, s)
			for _, x := range authz.Facts() {
				facts = append(facts, s&^x.Bit, allFacts&^x.Bit)
			}
		}
		for range 24 {
			facts = append(facts, drawFacts(t))
		}
		slices.Sort(facts)
		for _, f := range slices.Compact(facts) {
			got := slices.ContainsFunc(sets, f.Has)
			enforced := false
			if ok {
				if enforced, err = p.enforce(n, f); err != nil {
					t.Fatal(err)
				}
			}
			if want := ref.permit(q, f); got != want || enforced != want {
				t.Fatalf("%+v with %s: Permit says %v, Enforce %v, the reference %v", q, factNames(f), got, enforced, want)
			}
			if got {
				permitted++
			}
		}
	})
	if permitted == 0 {
		t.Error("nothing was ever permitted: the property was not tested")
	}
}

// Who is denied the unlabelled and all that lines ask for is denied everything:
// so a caller can be refused before anything is looked up.
func TestAskedIsTheLeastThatLinesCover(t *testing.T) {
	p := house(t)
	if len(p.Asked()) == 0 {
		t.Fatal("no line of the policy asks for a label")
	}
	rapid.Check(t, func(t *rapid.T) {
		q := drawQuestion(t)
		sets, err := p.Permit(q)
		if err != nil {
			t.Fatal(err)
		}
		if len(sets) == 0 {
			return
		}
		least := q
		for _, least.Labels = range append([]label.Set{0}, p.Asked()...) {
			sets, err := p.Permit(least)
			if err != nil {
				t.Fatal(err)
			}
			if len(sets) > 0 {
				return
			}
		}
		t.Fatalf("%+v is permitted, and nothing less is", q)
	})
}

// More facts never permit less; more labels never permit more, but that a note
// of a session is its originator's because it is one.
func TestMonotone(t *testing.T) {
	p := house(t)
	at := func(t *rapid.T, q authz.Question, f authz.Fact) bool {
		e, err := p.Explain(q, f)
		if err != nil {
			t.Fatal(err)
		}
		return e.Permit
	}
	rapid.Check(t, func(t *rapid.T) {
		q, f := drawQuestion(t), drawFacts(t)
		if at(t, q, f) && !at(t, q, f|drawFacts(t)) {
			t.Fatalf("%+v: a further fact takes the permit of %s away", q, factNames(f))
		}
		more := q
		more.Labels |= drawQuestion(t).Labels
		if !more.Labels.Any(label.Notes) && at(t, more, f) && !at(t, q, f) {
			t.Fatalf("%+v with %s: permitted only with the labels %s", q, factNames(f), more.Labels)
		}
	})
}

// The order and the repetition of roles say nothing.
func TestRolesAreASet(t *testing.T) {
	p := house(t)
	rapid.Check(t, func(t *rapid.T) {
		q := drawQuestion(t)
		a, _ := p.Permit(q)
		q.Roles = append(rapid.Permutation(q.Roles).Draw(t, "order"), q.Roles...)
		if b, _ := p.Permit(q); !slices.Equal(a, b) {
			t.Fatalf("%v and %v differ for %v", a, b, q.Roles)
		}
	})
}

// Whatever a careless line allows, the deny lines hold.
func TestDenyLinesHoldAgainstWideAllowLines(t *testing.T) {
	src := Embedded()
	everyRole := strings.Join(Roles()[:len(Roles())-1], "|")
	wide := "\np, " + everyRole + ", " + strings.Join(Purposes(), "|") + ", *, *, general+sud+high+42CFRPart2+MINORCONSENT+PSYTHPN+SUDCN, -, allow, careless\n"
	open, err := build(Source{src.Policy + wide, src.Groups})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // what was refused once is not known as good
		if _, err := New(Source{src.Policy + wide, src.Groups}); err == nil {
			t.Error("the self-test lets a careless policy come into force")
		}
	}
	if _, err := New(src); err != nil {
		t.Fatal(err)
	}
	if _, err := NewPractice(src, Overlay{File: "practice/policy.csv", Policy: "p, front-desk, TREAT, read, Condition, -, -, allow, careless"}); err == nil || !strings.Contains(err.Error(), "self-test") {
		t.Error("the self-test of a practice is that of the house alone:", err)
	}
	rapid.Check(t, func(t *rapid.T) {
		q, f := drawQuestion(t), drawFacts(t)
		n, ok := normal(q)
		if !ok {
			return
		}
		permit, err := open.enforce(n, f)
		if err != nil {
			t.Fatal(err)
		}
		if !permit || slices.Contains(n.Roles, Operator) {
			return
		}
		part2 := authz.Program | authz.Consent | authz.Self | authz.Emergency | authz.Exception | authz.Agreement
		switch {
		case !f.Has(authz.Unrestricted) && !slices.Contains(n.Roles, "privacy-officer"):
			t.Fatalf("%+v with %s breaks a restriction", q, factNames(f))
		case q.Labels.Any(label.Notes) && (q.Purpose == "ETREAT" || q.Purpose == "BTG"):
			t.Fatalf("%+v with %s opens a note of a session in an emergency", q, factNames(f))
		case f.Has(authz.Exception): // what is documented may open notes, and go to court: see package exception
		case q.Labels.Any(label.Notes) && f&(authz.Originator|authz.Consent) == 0:
			t.Fatalf("%+v with %s opens a note of a session", q, factNames(f))
		case q.Labels.Any(label.Notes) && q.Purpose != "TREAT" && !f.Has(authz.Consent):
			t.Fatalf("%+v opens a note of a session", q)
		case q.Labels.Any(label.Part2) && f&part2 == 0:
			t.Fatalf("%+v with %s opens a Part 2 record", q, factNames(f))
		case q.Labels.Any(label.Part2) && q.Purpose == "HLEGAL" && !f.Has(authz.Consent): // there is one to that alone (42 CFR 2.31(d))
			t.Fatalf("%+v takes a Part 2 record to court", q)
		case q.Labels.Any(label.MinorConsented) && slices.Contains(q.Roles, "hie"):
			t.Fatalf("%+v gives an exchange what a minor consented to", q)
		case q.Labels.Any(label.MinorConsented|label.Part2) && slices.Equal(n.Roles, []string{"proxy"}) && q.Purpose == "PATRQT" && !f.Has(authz.Self):
			t.Fatalf("%+v gives a proxy what a minor consented to", q)
		}
	})
}

func TestVersionFollowsEveryPart(t *testing.T) {
	src := Embedded()
	seen := map[string]bool{}
	for _, s := range []Source{src, {src.Policy + "\n", src.Groups}, {src.Policy, src.Groups + "\n"}} {
		p, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		if v := p.Version(); len(v) != 16 || seen[v] {
			t.Errorf("version %q is taken", v)
		} else {
			seen[v] = true
		}
	}
	if (&Point{}).Version() != "" {
		t.Error("no policy has no version")
	}
}

func TestNoPolicyIsDeny(t *testing.T) {
	var p Point
	if sets, err := p.Permit(authz.Question{Roles: []string{"therapist"}, Purpose: "TREAT", Action: "read", Type: "Patient"}); sets != nil || !errors.Is(err, errNoPolicy) {
		t.Errorf("got %v, %v", sets, err)
	}
	if e, err := p.Explain(authz.Question{}, allFacts); e.Permit || !errors.Is(err, errNoPolicy) {
		t.Errorf("got %v, %v", e, err)
	}
}

func TestReplaceIsAllOrNothing(t *testing.T) {
	p := house(t)
	before := p.Version()
	src := Embedded()
	for name, s := range map[string]Source{
		"empty":         {"", src.Groups},
		"one bad line":  {src.Policy + "\np, therapist, TREAT, read, Patient, -, -, Deny, x\n", src.Groups},
		"careless line": {src.Policy + "\np, front-desk, HOPERAT, read, clinical, general, -, allow, careless\n", src.Groups},
	} {
		if err := p.Replace(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if p.Version() != before {
			t.Fatalf("%s: half a policy is in force", name)
		}
	}
	next := Source{strings.ReplaceAll(src.Policy, "p, clinician, TREAT, read, care-team, general+sud+high+MINORCONSENT, treating, allow, treatment-care-team\n", ""), src.Groups}
	q := authz.Question{Roles: []string{"therapist"}, Purpose: "TREAT", Action: "read", Type: "CareTeam"}
	if sets, _ := p.Permit(q); len(sets) != 1 { // and the answer is remembered
		t.Fatalf("got %v", sets)
	}
	if err := p.Replace(next); err != nil {
		t.Fatal(err)
	}
	if p.Version() == before {
		t.Error("the version is the old one")
	}
	if sets, err := p.Permit(q); err != nil || sets != nil {
		t.Errorf("got %v, %v: the answer of the old version was served by the new one", sets, err)
	}
}

// Broken matchers deny: Casbin turns a panic into an error, and so do we.
func TestFailureIsDeny(t *testing.T) {
	p, err := build(Embedded())
	if err != nil {
		t.Fatal(err)
	}
	q := authz.Question{Roles: []string{"therapist"}, Purpose: "TREAT", Action: "read", Type: "Patient"}
	for name, f := range map[string]func(...any) (any, error){
		"error":   func(...any) (any, error) { return true, errors.New("no") },
		"panic":   func(...any) (any, error) { panic("no") },
		"no bool": func(...any) (any, error) { return "yes", nil },
	} {
		broken := functions(p.lines)
		broken["role"] = f
		if p.enforcer, err = newEnforcer(p.lines, broken); err != nil {
			t.Fatal(err)
		}
		if sets, err := p.minimal(q); err == nil || sets != nil {
			t.Errorf("%s: got %v, %v", name, sets, err)
		}
	}
	for name, f := range functions(p.lines) {
		for _, args := range [][]any{nil, {question{}}, {1, 2}, {question{}, "no such text"}, {question{}, "no such text", "allow"}, {question{}, "*", 1}, {"", "*", "deny"}, {question{}, "*", "deny", ""}} {
			if v, err := f(args...); err == nil {
				t.Errorf("%s(%v) = %v", name, args, v)
			}
		}
	}
	p.enforcer = nil
	if ok, err := p.enforce(q, 0); ok || err == nil {
		t.Errorf("a panic gives %v, %v", ok, err)
	}
}

// Answers are right under concurrent use and while policies change.
func TestConcurrent(t *testing.T) {
	p := house(t)
	a := Embedded()
	b := Source{a.Policy + "\np, research-analyst, HRESCH, read, definitions, -, -, allow, research-definitions\n", a.Groups}
	fixed := authz.Question{Roles: []string{"therapist"}, Purpose: "TREAT", Action: "read", Type: "Condition", Labels: label.PSY}
	moving := authz.Question{Roles: []string{"research-analyst"}, Purpose: "HRESCH", Action: "read", Type: "ValueSet"}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					runtime.Gosched()
				}
				if sets, err := p.Permit(fixed); err != nil || !slices.Equal(sets, []authz.Fact{authz.Treating | authz.Unrestricted}) {
					t.Errorf("got %v, %v", sets, err)
					return
				}
				if sets, err := p.Permit(moving); err != nil || len(sets) > 1 {
					t.Errorf("got %v, %v", sets, err)
					return
				}
			}
		})
	}
	for i := range 4 {
		src := a
		if i%2 == 0 {
			src = b
		}
		if err := p.Replace(src); err != nil {
			t.Error(err)
		}
		if sets, err := p.Permit(moving); err != nil || (len(sets) == 1) != (i%2 == 0) {
			t.Errorf("policy %d: got %v, %v", i, sets, err)
		}
	}
	close(stop)
	wg.Wait()
}

// A caller of Permit owns what it gets.
func TestPermitGivesACopy(t *testing.T) {
	p := house(t)
	q := authz.Question{Roles: []string{"therapist"}, Purpose: "TREAT", Action: "read", Type: "Condition"}
	first, _ := p.Permit(q)
	want := slices.Clone(first)
	for range 2 {
		got, _ := p.Permit(q)
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		clear(got)
	}
}

func TestCellsAreBounded(t *testing.T) {
	c := bounded[int, int]{max: 4}
	for i := range 10 {
		c.put(i, i)
		if v, ok := c.get(i); !ok || v != i || len(c.m) > 4 {
			t.Errorf("%d: got %v, %v of %d cells", i, v, ok, len(c.m))
		}
	}
	if p := house(t).current.Load(); p.cells.max != maxCells || p.parts.max != maxParts {
		t.Error("the policy's memory is not bounded")
	}
}

func TestExplain(t *testing.T) {
	p := house(t)
	q := authz.Question{Roles: []string{"psychiatrist"}, Purpose: "TREAT", Action: "read", Type: "Condition", Labels: label.Part2}
	e, err := p.Explain(q, authz.Treating|authz.Unrestricted)
	if err != nil {
		t.Fatal(err)
	}
	if e.Permit || !slices.Equal(e.By, []string{"part2-needs-program-consent-or-self"}) || e.Version != p.Version() ||
		!slices.Equal(e.Needs, []authz.Fact{authz.Treating | authz.Program | authz.Unrestricted, authz.Treating | authz.Consent | authz.Unrestricted}) || len(e.Lines) != 4 {
		t.Errorf("got %+v", e)
	}
	if e, _ = p.Explain(q, authz.Treating|authz.Consent|authz.Unrestricted); !e.Permit || !slices.Equal(e.By, []string{"treatment-consent"}) {
		t.Errorf("got %+v", e)
	}
	for _, l := range e.Lines {
		if l.Number == 0 || l.Name == "" || l.Facts == "" || l.Effect != "allow" && l.Effect != "deny" {
			t.Errorf("a line that explains nothing: %+v", l)
		}
	}
	if e, _ = p.Explain(authz.Question{}, allFacts); e.Permit || e.By != nil || e.Lines != nil {
		t.Errorf("got %+v", e)
	}
}

func BenchmarkPermit(b *testing.B) {
	p := house(b)
	q := authz.Question{Roles: []string{"therapist"}, Purpose: "TREAT", Action: "read", Type: "Condition", Labels: label.Part2}
	b.Run("first", func(b *testing.B) {
		c := p.current.Load()
		for b.Loop() {
			c.cells.m = nil
			if _, err := c.permit(q); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			if _, err := p.Permit(q); err != nil {
				b.Fatal(err)
			}
		}
	})
}
