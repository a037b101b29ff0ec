package pdp

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

func fhirType(t string) fhir.ResourceType { return fhir.ResourceType(t) }

func questionOfRow(r Row, labels label.Set) authz.Question {
	return authz.Question{Roles: []string{r.Role}, Purpose: r.Purpose, Action: r.Action, Type: r.Kind.Types[len(r.Kind.Types)-1], Labels: labels}
}

func practice(t testing.TB, policy string) *Point {
	t.Helper()
	p, err := NewPractice(Embedded(), overlay(policy))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDiff(t *testing.T) {
	h := house(t)
	if d := Diff(h, h); d != nil {
		t.Errorf("a policy differs from itself: %v", d)
	}
	if d := Diff(h, practice(t, "# nothing")); d != nil {
		t.Errorf("nothing is a change: %v", d)
	}
	d := Diff(h, practice(t, biller))
	if len(d) != 1 || !slices.Equal(d[0].Roles, []string{"biller"}) || !slices.Equal(d[0].Types, []fhir.ResourceType{"RelatedPerson"}) || d[0].Was != "deny" || d[0].Is != "unrestricted" ||
		!slices.Equal(d[0].Labels, []string{"-", "PSY", "MH", "BH", "COGN", "DVD", "EMOTDIS"}) {
		t.Errorf("got %v", d)
	}
	if back := Diff(practice(t, biller), h); len(back) != 1 || back[0].Was != "unrestricted" || back[0].Is != "deny" {
		t.Errorf("got %v", back)
	}
	d = Diff(h, practice(t, "drop, treatment-consent"))
	if len(d) == 0 || !slices.Equal(d[0].Roles, []string{"therapist", "psychiatrist", "trainee", "sud-counselor"}) ||
		d[0].Was != "treating+program+unrestricted or treating+consent+unrestricted" || d[0].Is != "treating+program+unrestricted" {
		t.Errorf("got %v", d)
	}
	for _, text := range []string{"therapist, psychiatrist", "(TREAT): read ", "and ", "42CFRPart2+{ALL}", "was    treating+program+unrestricted or treating+consent+unrestricted", "is     treating+program+unrestricted"} {
		if !strings.Contains(d[0].String(), text) {
			t.Errorf("%s\nlacks %q", d[0], text)
		}
	}
	d = Diff(h, practice(t, "jurisdiction, US-WA"))
	var exchange, outside []string
	for _, x := range d {
		if !slices.Equal(x.Labels[:min(3, len(x.Labels))], []string{"PSY", "MH", "BH"}) && !slices.Equal(x.Labels, []string{"42CFRPart2+PSY", "42CFRPart2+MH", "42CFRPart2+BH"}) {
			t.Errorf("the law of a state: %v", x)
		}
		for _, is := range strings.Split(x.Is, " or ") {
			if !strings.Contains(is, "consent") {
				t.Errorf("the law of a state, without consent: %v", x)
			}
		}
		outside = append(outside, x.Roles...)
		if slices.Equal(x.Roles, []string{"hie"}) {
			exchange = append(exchange, x.Purpose+": "+x.Was+", "+x.Is)
		}
	}
	// The directory, which may be of received records, the rest, and Groups.
	if want := []string{"TREAT: unrestricted, consent+unrestricted", "TREAT: unrestricted, consent+unrestricted", "TREAT: unrestricted+managing, consent+unrestricted+managing"}; !slices.Equal(exchange, want) {
		t.Errorf("the law of a state: %v", exchange)
	}
	slices.Sort(outside)
	outside = slices.Compact(outside)
	if want := []string{"auditor", "coroner", "court", "hie", "law-enforcement", "public-health", "research-analyst", "service-organization"}; !slices.Equal(outside, want) {
		t.Errorf("whom the law of a state concerns: %v", outside)
	}
	if Diff(&Point{}, h) != nil || Diff(h, &Point{}) != nil {
		t.Error("no policy differs")
	}
	src := Embedded()
	regrouped, err := New(Source{src.Policy, strings.Replace(src.Groups, "label, general, PSY+MH+BH", "label, general, PSY+MH", 1)})
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(h, regrouped); len(d) == 0 || !slices.Contains(d[0].Labels, "BH") {
		t.Errorf("a group that lost a label: %v", d)
	}
}

// What the rows say is what the point permits.
func TestRowsAreThePolicy(t *testing.T) {
	p := house(t)
	rows := p.Rows()
	if len(rows) < 50 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, r := range rows {
		for j, labels := range LabelClasses() {
			if (i+j)%7 != 0 {
				continue
			}
			q := questionOfRow(r, labels)
			sets, err := p.Permit(q)
			if err != nil || !slices.Equal(sets, r.Needs[labels]) {
				t.Fatalf("%+v: the row says %s, the point %s, %v", q, Needs(r.Needs[labels]), Needs(sets), err)
			}
		}
	}
	if (&Point{}).Rows() != nil {
		t.Error("no policy has rows")
	}
}

func TestLint(t *testing.T) {
	find := func(p *Point, name string) string {
		for _, f := range p.Lint() {
			if f.Name == name {
				return f.Text
			}
		}
		return ""
	}
	for _, f := range house(t).Lint() {
		t.Errorf("the house: line %d, %s: %s", f.Line, f.Name, f.Text)
	}
	for line, want := range map[string]string{
		biller: "",
		"p, biller, HPAYMT, read, Patient, general, -, allow, x":                    "other lines permit all of it",
		"p, biller, HPAYMT, read, Patient, general, treating, allow, x":             "other lines permit all of it",
		"p, biller, ETREAT, read, Composition, general+PSYTHPN!, -, allow, x":       "never takes effect",
		"p, proxy, FAMRQT, read, Encounter, general+MINORCONSENT!, proxy, allow, x": "the law bars some",
		"p, proxy, FAMRQT, read, Encounter, general, proxy, allow, x":               "",
		"jurisdiction, US-WA\np, hie, HPAYMT, read, Encounter, PSY!, -, allow, x":   "the law bars some",
		"p, hie, HPAYMT, read, Encounter, PSY!, -, allow, x":                        "",
	} {
		name := "x"
		if line == biller {
			name = "biller-relatives"
		}
		if got := find(practice(t, line), name); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	src := Embedded()
	bare, err := New(Source{src.Policy, strings.Replace(src.Groups, "+GDIS", "", 1)})
	if err != nil {
		t.Fatal(err)
	}
	if f := bare.Lint(); len(f) != 1 || !strings.Contains(f[0].Text, "GDIS") || f[0].Line != 0 {
		t.Errorf("a label that no line covers: %v", f)
	}
	if (&Point{}).Lint() != nil {
		t.Error("no policy has findings")
	}
}
