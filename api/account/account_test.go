package account

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/fhir"
)

func TestBrandsThatCannotBeSeenAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"name":"Harbor","color":"#1f5f6b","dark":"#5fb3c1"}`: "",
		`{"name":"Harbor","color":"#b5651d"}`:                  "", // one shade that suits both
		`{"name":"Harbor"}`:                                    "",
		`{"name":"Harbor","color":"#ffee00"}`:                  "color: #ffee00 on a page of #ffffff has a contrast of 1.20",
		`{"name":"Harbor","color":"#002030"}`:                  "dark: #002030 on a page of #14181d has a contrast of 1.0",
		`{"name":"Harbor","dark":"#5fb3c1"}`:                   "dark is set, and color is not",
		`{"name":"Harbor","color":"red"}`:                      "a color is written as #rrggbb",
		`{"name":"Harbor","color":"#12345g"}`:                  "a color is written as #rrggbb",
		`{"name":""}`:                                          "name must have",
		`{"name":"Harbor","colour":"#1f5f6b"}`:                 "no JSON object of name, color and dark",
	} {
		_, err := ReadBrands(fstest.MapFS{"harbor.json": {Data: []byte(text)}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	b, err := ReadBrands(fstest.MapFS{"harbor.json": {Data: []byte(`{"name":"Harbor House","color":"#b5651d"}`)}, "harbor.png": {Data: []byte("png")}, "default.json": {Data: []byte(`{"name":"All of us"}`)}})
	if err != nil {
		t.Fatal(err)
	}
	if x := b.of("harbor"); x.Name != "Harbor House" || x.Logo != "harbor.png" || x.Sheet() != "brand/harbor.css" || !strings.Contains(string(b.files["harbor.css"]), "#b5651d") {
		t.Errorf("%+v", x)
	}
	if b.of("").Name != "All of us" || b.of("river-side").Name != "River side" {
		t.Error(b.of(""), b.of("river-side"))
	}
	if _, err := ReadBrands(fstest.MapFS{"Har bor.json": {Data: []byte(`{"name":"x"}`)}}); err == nil {
		t.Error("a file that is named like no practice")
	}
}

// Text on a color of a brand always has the contrast of WCAG 2.2, 1.4.3.
func TestTextOnAColorCanBeRead(t *testing.T) {
	for _, color := range []string{"#000000", "#767676", "#777777", "#808080", "#1f5f6b", "#5fb3c1", "#b5651d", "#ffffff", "#ff0000", "#00ff00", "#0000ff"} {
		l, err := luminance(color)
		if err != nil {
			t.Fatal(err)
		}
		if contrast(l, 1) < leastText && contrast(l, 0) < leastText {
			t.Errorf("%s takes neither black nor white", color)
		}
	}
	if l, _ := luminance("#767676"); contrast(l, 1) < 4.54 || contrast(l, 1) > 4.55 { // the known value
		t.Errorf("contrast of #767676 with white: %.3f", contrast(l, 1))
	}
}

func TestScopesInPlainWords(t *testing.T) {
	for scope, want := range map[string]struct {
		group     string
		text      string
		sensitive bool
		fixed     bool
	}{
		"patient/Condition.rs":                  {"Diagnoses and health problems", "See health problems and diagnoses of the chosen patient", true, false},
		"patient/MedicationRequest.read":        {"Medicines", "See prescriptions of the chosen patient", true, false},
		"patient/Observation.rs?category=x|lab": {"Results, measurements and questionnaires", "only those with the category lab", true, false},
		"patient/Patient.rs":                    {"Who the patient is", "personal details", true, false},
		"user/Practitioner.rs":                  {"The practice", "See practitioner records", false, false},
		"patient/*.cruds":                       {allRecords, "See, add, change and delete all kinds of records", true, false},
		"user/Basic.r":                          {otherRecords, "Open basic records", true, false},
		"patient/Nonsense.rs":                   {otherRecords, "no words for", true, false},
		"something-new":                         {otherRecords, "no words for", true, false},
		"launch/patient":                        {launched, "which patient", false, true},
		"launch":                                {launched, "from where", false, true},
		"openid":                                {aboutYou, "Recognise you", false, false},
		"offline_access":                        {lasting, "Keep access", false, false},
	} {
		groups := explain([]string{scope})
		if len(groups) != 1 || len(groups[0].Lines) != 1 {
			t.Fatalf("%s: %+v", scope, groups)
		}
		l := groups[0].Lines[0]
		if groups[0].Title != want.group || !strings.Contains(l.Text, want.text) || l.Sensitive != want.sensitive || l.Fixed != want.fixed || l.Scope != scope {
			t.Errorf("%s: %s: %+v", scope, groups[0].Title, l)
		}
		if reaches(groups) != want.sensitive {
			t.Errorf("%s: reaches %v", scope, reaches(groups))
		}
	}
}

// Every resource type that is about patients counts as one that can hold what is kept apart, whatever the areas say of it.
func TestOnlyTheDirectoryIsHarmless(t *testing.T) {
	for _, a := range areas {
		for _, name := range a.types {
			if !name.Valid() {
				t.Errorf("%s is no resource type", name)
			}
			if about := []fhir.ResourceType{"Patient", "Observation", "Condition", "Consent", "AuditEvent", "DocumentReference"}; a.directory && slices.Contains(about, name) {
				t.Errorf("%s counts as directory", name)
			}
		}
	}
}

func TestKeptIsNeverMoreThanAsked(t *testing.T) {
	asked := []string{"launch/patient", "patient/Patient.rs", "patient/Condition.rs"}
	if got := kept(asked, []string{"patient/Patient.rs", "user/*.cruds", "patient/*.rs"}); !slices.Equal(got, []string{"launch/patient", "patient/Patient.rs"}) {
		t.Error(got)
	}
}

func TestFormsMayLeadWhereTheAppIs(t *testing.T) {
	got := targets(app.App{Redirects: []string{"https://app.example.org/back?x=1", "https://app.example.org/other", "org.example.app:/back"}})
	if !slices.Equal(got, []string{"https://app.example.org", "org.example.app:"}) {
		t.Error(got)
	}
	if got := targets(app.App{Redirects: []string{"http://127.0.0.1:1/back"}, Loopback: true}); !slices.Equal(got, []string{"http://127.0.0.1:*"}) {
		t.Error(got)
	}
	if got := targets(app.App{Redirects: []string{"https://a.example; script-src *"}}); len(got) != 0 {
		t.Errorf("a redirect URI widens the policy: %v", got)
	}
}

func TestBrowserNames(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0":                                                              "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36 Edg/129.0.0.0":       "Edge on Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/1": "Safari on iPhone",
		"curl/8.1": "curl/8.1",
		"":         "A browser that does not say what it is",
	} {
		if got := browser(agent); got != want {
			t.Errorf("%q: %q", agent, got)
		}
	}
}
