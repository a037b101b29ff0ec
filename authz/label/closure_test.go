package label_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

const actCode = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

func drawSet(t *rapid.T, name string) label.Set {
	return label.Set(rapid.Uint32().Draw(t, name)) & label.All
}

func TestCovers(t *testing.T) {
	for _, c := range []struct{ codes, permit, deny string }{
		{"-", "-", "-"},
		{"ETH", "ETH", "ETH+SUD+ETHUD+OPIOIDUD"},
		{"SUD", "SUD+ETHUD+OPIOIDUD", "ETH+SUD+ETHUD+OPIOIDUD"},
		{"ETHUD", "ETHUD", "ETHUD"},
		{"OPIOIDUD", "OPIOIDUD", "OPIOIDUD"},
		{"MH", "MH", "PSYTHPN+PSY+MH+BH+COGN+DVD+EMOTDIS"},
		{"PSY", "PSY", "PSYTHPN+PSY+MH+BH+COGN+DVD+EMOTDIS"},
		{"BH", "BH+COGN+DVD+EMOTDIS", "PSYTHPN+PSY+MH+BH+COGN+DVD+EMOTDIS"},
		{"DVD", "DVD", "DVD"},
		{"PSYTHPN", "PSYTHPN", "PSYTHPN"},
		{"42CFRPart2", "42CFRPart2", "42CFRPart2+SUDCN+42CFRPart2-RECEIVED"},
		{"HIV+MH", "HIV+MH", "PSYTHPN+PSY+MH+BH+HIV+COGN+DVD+EMOTDIS"},
	} {
		s := set(t, c.codes)
		if got := label.PermitCovers(s); got != set(t, c.permit) {
			t.Errorf("a permit for %s covers %s, want %s", s, got, c.permit)
		}
		if got := label.DenyCovers(s); got != set(t, c.deny) {
			t.Errorf("a denial of %s covers %s, want %s", s, got, c.deny)
		}
	}
}

// Both are closure operators that keep joins, a denial reaches at least as far
// as a permit, and no permit reaches the note of a session that it does not name.
func TestCoversAreClosures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawSet(t, "a"), drawSet(t, "b")
		for name, covers := range map[string]func(label.Set) label.Set{"permit": label.PermitCovers, "deny": label.DenyCovers} {
			switch {
			case !covers(a).Has(a):
				t.Errorf("%s: %s is not in what it covers", name, a)
			case covers(covers(a)) != covers(a):
				t.Errorf("%s: twice covers more than once: %s", name, a)
			case covers(a|b) != covers(a)|covers(b):
				t.Errorf("%s: %s and %s cover more together", name, a, b)
			case covers(a)&^label.All != 0:
				t.Errorf("%s: %s covers what is no label", name, a)
			}
		}
		if !label.DenyCovers(a).Has(label.PermitCovers(a)) {
			t.Errorf("a denial of %s leaves what a permit for it covers", a)
		}
		if (label.PermitCovers(a)&^a)&(label.Source) != 0 {
			t.Errorf("a permit for %s widens to a source: %s", a, label.PermitCovers(a))
		}
		if label.DenyCovers(a|label.PSY).Any(label.PsychNote) == false {
			t.Error("a denial of psychiatry leaves psychotherapy notes")
		}
	})
}

func TestConfidentiality(t *testing.T) {
	for text, want := range map[string]string{
		"-": "N", "HIV": "R", "PSY": "R", "42CFRPart2": "R", "42CFRPart2-RECEIVED": "R", "MINORCONSENT": "R", "PSYTHPN": "V", "SUDCN": "V", "SUDCN+SUD": "V",
	} {
		if got := set(t, text).Confidentiality(); got.String() != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawSet(t, "a"), drawSet(t, "b")
		c, d := a.Confidentiality(), (a | b).Confidentiality()
		if c > d || d != max(c, b.Confidentiality()) {
			t.Errorf("%s is %s, with %s it is %s", a, c, b, d)
		}
		if c < label.Normal {
			t.Errorf("%s is %s: nothing here is below N", a, c)
		}
		x := label.Confidentiality(rapid.IntRange(1, 6).Draw(t, "x"))
		if !x.PermitCovers(c) && !x.DenyCovers(c) {
			t.Errorf("%s is neither up to %s nor from it on", c, x)
		}
	})
	const system = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
	var last label.Confidentiality
	for _, code := range []string{"U", "L", "M", "N", "R", "V"} {
		c, ok := label.ConfidentialityOf(system, code)
		if !ok || c.String() != code || c <= last || !c.PermitCovers(c) || !c.DenyCovers(c) || c.PermitCovers(c+1) || last != 0 && c.DenyCovers(last) {
			t.Errorf("%s is %v (%v), after %v", code, c, ok, last)
		}
		last = c
	}
	for _, c := range [][2]string{{system, "X"}, {system, ""}, {system, "NR"}, {actCode, "R"}, {"", "R"}} {
		if got, ok := label.ConfidentialityOf(c[0], c[1]); ok && got != 0 {
			t.Errorf("%v is %s", c, got)
		}
	}
	if none := label.Confidentiality(0); none.String() != "" || none.PermitCovers(label.Unrestricted) || label.VeryRestricted.PermitCovers(none) || !label.VeryRestricted.DenyCovers(none) || label.Confidentiality(9).String() != "" {
		t.Error("what is no confidentiality permits nothing, and is denied")
	}
}

func TestOfLabelCode(t *testing.T) {
	for _, c := range []struct {
		system, code, want string
		ok                 bool
	}{
		{actCode, "42CFRPart2", "42CFRPart2", true},
		{actCode, "42CFRPart2CD", "42CFRPart2", true},
		{"urn:oid:2.16.840.1.113883.5.4", "42cfrpart2", "42CFRPart2", true},
		{actCode, "PSYTHPN", "PSYTHPN", true},
		{actCode, "HIPAAPsyNotes", "PSYTHPN", true},
		{actCode, "SUD", "SUD", true},
		{actCode, "SCA", "SICKLE", true},
		{actCode, "SPI", "SUD+PSY+MH+BH", true},
		{actCode, "Title38Section7332", "ETH+SUD+ETHUD+OPIOIDUD+HIV+SICKLE", true},
		{fhir.SecurityLabel, "SUDCN", "SUDCN", true},
		{fhir.SecurityLabel, "MINORCONSENT", "MINORCONSENT", true},
		{fhir.SecurityLabel, "42CFRPart2-RECEIVED", "42CFRPart2-RECEIVED", true},
		{actCode, "SUDCN", "-", false},
		{fhir.SecurityLabel, "SUD", "-", false},
		{fhir.SecurityLabel, "SPI", "-", false},
		{actCode, "HIPAANOPP", "-", false},
		{actCode, "NORDSCLCD", "-", false},
		{actCode, "", "-", false},
		{"", "SUD", "-", false},
		{icd, "F10", "-", false},
	} {
		if got, ok := label.OfLabelCode(c.system, c.code); ok != c.ok || got != set(t, c.want) {
			t.Errorf("%s|%s is %s (%v), want %s", c.system, c.code, got, ok, c.want)
		}
	}
	for _, code := range label.All.Codes() {
		s := set(t, code)
		system, code := label.LabelCode(s)
		if got, ok := label.OfLabelCode(system, code); !ok || got != s {
			t.Errorf("%s is named %s|%s, which is %s", s, system, code, got)
		}
	}
	if system, code := label.LabelCode(label.SUD | label.ETH); system != "" || code != "" {
		t.Error("two labels have one code")
	}
}
