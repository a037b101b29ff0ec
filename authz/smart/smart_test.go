package smart

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir"
)

var interactions = []fhir.Interaction{
	fhir.Create, fhir.Read, fhir.VRead, fhir.HistoryInstance, fhir.Update, fhir.Delete, fhir.SearchType,
	fhir.Batch, fhir.Transaction, fhir.Capabilities,
}

// open lists the interactions of one type as letters: crvhuds, upper case where only patient scopes cover them.
func open(s Scopes, t fhir.ResourceType) string {
	var b strings.Builder
	for n, i := range interactions {
		letter := "crvhudsBTM"[n : n+1]
		ok, patientOnly := s.Allow(t, i)
		switch {
		case ok && patientOnly:
			b.WriteString(strings.ToUpper(letter))
		case ok:
			b.WriteString(letter)
		case patientOnly:
			b.WriteString("!")
		}
	}
	return b.String()
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ scope, observation, patient string }{
		{"", "", ""},
		{"openid fhirUser launch/patient offline_access", "", ""},
		// v1
		{"patient/Observation.read", "RVHS", ""},
		{"user/Observation.read", "rvhs", ""},
		{"system/Observation.write", "cud", ""},
		{"user/*.write", "cud", "cud"},
		{"user/*.*", "crvhuds", "crvhuds"},
		{"patient/*.read user/Observation.write", "cRVHudS", "RVHS"},
		// v2
		{"patient/Observation.rs", "RVHS", ""},
		{"user/Observation.r", "rvh", ""},
		{"user/Observation.s", "s", ""},
		{"user/Observation.c user/Observation.d", "cd", ""},
		{"user/Observation.cruds", "crvhuds", ""},
		{"patient/*.cruds", "CRVHUDS", "CRVHUDS"},
		{"patient/Observation.rs user/Observation.r", "rvhS", ""},
		// What grants nothing.
		{"user/Observation.sr", "", ""},
		{"user/Observation.dus", "", ""},
		{"user/Observation.rr", "", ""},
		{"user/Observation.", "", ""},
		{"user/Observation", "", ""},
		{"user/Observation.rx", "", ""},
		{"user/Observation.R", "", ""},
		{"user/Observation.Read", "", ""},
		{"user/Observation.readwrite", "", ""},
		{"user/Observation.r*", "", ""},
		{"user/observation.rs", "", ""},
		{"user/Observations.rs", "", ""},
		{"user/Obs*.rs", "", ""},
		{"user/.rs", "", ""},
		{"User/Observation.rs", "", ""},
		{"admin/Observation.rs", "", ""},
		{"/Observation.rs", "", ""},
		{"user//Observation.rs", "", ""},
		{"user/Observation.rs.rs", "", ""},
		{"user/Observation.rs?category=laboratory", "", ""},
		{"user/Observation.rs?", "", ""},
		{"user/Observation.rs,user/Patient.rs", "", ""},
		{"user/Observation.rs\tuser/Patient.rs", "", ""},
		{"user/Observation.rs\n", "", ""},
		{"user/Observation.rs  user/Patient.rs", "rvhs", "rvhs"}, // an empty scope between them
		{" user/Patient.r ", "", "rvh"},
	} {
		s := Parse(c.scope)
		if got := open(s, "Observation"); got != c.observation {
			t.Errorf("%q leaves Observation %q, want %q", c.scope, got, c.observation)
		}
		if got := open(s, "Patient"); got != c.patient {
			t.Errorf("%q leaves Patient %q, want %q", c.scope, got, c.patient)
		}
	}
}

func TestNothingIsOpenWithoutAScopeOrAType(t *testing.T) {
	if got := open(Scopes{}, "Patient"); got != "" {
		t.Errorf("the zero Scopes leaves %q", got)
	}
	for _, name := range []fhir.ResourceType{"", "*", "Resource", "DomainResource", "patient"} {
		if got := open(Parse("user/*.* system/*.cruds patient/*.*"), name); got != "" {
			t.Errorf("type %q: %q", name, got)
		}
	}
}

// scope draws scopes, most of them well-formed.
func scope() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"patient", "user", "system", "x"}).Draw(t, "level") + "/" +
			rapid.SampledFrom([]string{"*", "Patient", "Observation", "Encounter", "Nothing"}).Draw(t, "type") + "." +
			rapid.OneOf(rapid.SampledFrom([]string{"read", "write", "*"}), rapid.StringMatching(`c?r?u?d?s?`), rapid.StringMatching(`[cruds]{1,3}`)).Draw(t, "grant") +
			rapid.SampledFrom([]string{"", "", "", "?a=b"}).Draw(t, "query")
	})
}

func TestMoreScopesNeverNarrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfN(scope(), 0, 6).Draw(t, "some")
		more := rapid.SliceOfN(scope(), 0, 6).Draw(t, "more")
		less, all := Parse(strings.Join(some, " ")), Parse(strings.Join(append(more, some...), " "))
		for _, typ := range []fhir.ResourceType{"Patient", "Observation", "Encounter", "Task"} {
			for _, i := range interactions {
				before, narrowBefore := less.Allow(typ, i)
				after, narrowAfter := all.Allow(typ, i)
				if before && !after {
					t.Fatalf("%s %s: closed by more scopes", i, typ)
				}
				if before && !narrowBefore && narrowAfter {
					t.Fatalf("%s %s: narrowed to the launch patient by more scopes", i, typ)
				}
				if narrowAfter && !after {
					t.Fatalf("%s %s: patientOnly of what is closed", i, typ)
				}
			}
		}
	})
}

func TestOrderOfScopesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scopes := rapid.SliceOfN(scope(), 0, 6).Draw(t, "scopes")
		shuffled := rapid.Permutation(scopes).Draw(t, "shuffled")
		a, b := Parse(strings.Join(scopes, " ")), Parse(strings.Join(shuffled, " "))
		for _, typ := range []fhir.ResourceType{"Patient", "Observation"} {
			if open(a, typ) != open(b, typ) {
				t.Fatalf("%s: %q against %q", typ, open(a, typ), open(b, typ))
			}
		}
	})
}

// FuzzParse holds the parser against the grammar, spelled out as a list: every scope that opens anything is on it.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"patient/Observation.rs", "user/*.read", "system/Patient.cruds", "user/Patient.sr", "user/Patient.r?x=y", " / . ", "user/*.*"} {
		f.Add(s)
	}
	grants := map[string]bool{"read": true, "write": true, "*": true}
	for set := 1; set < 1<<len(letters); set++ {
		g := ""
		for n := range letters {
			if set&(1<<n) != 0 {
				g += letters[n : n+1]
			}
		}
		grants[g] = true
	}
	f.Fuzz(func(t *testing.T, text string) {
		wellFormed := false
		for _, s := range strings.Split(text, " ") {
			for _, level := range []string{"patient/", "user/", "system/"} {
				rest, ok := strings.CutPrefix(s, level)
				name, grant, _ := strings.Cut(rest, ".")
				wellFormed = wellFormed || ok && (name == "*" || fhir.ResourceType(name).Valid()) && grants[grant]
			}
		}
		s, opened := Parse(text), false
		for _, typ := range fhir.ResourceTypes() {
			opened = opened || open(s, typ) != ""
		}
		if opened != wellFormed {
			t.Errorf("%q: opens something: %v, well-formed: %v", text, opened, wellFormed)
		}
	})
}
