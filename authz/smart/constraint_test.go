package smart

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir"
)

const categories = "http://terminology.hl7.org/CodeSystem/observation-category"

func TestConstraint(t *testing.T) {
	for _, c := range []struct{ scope, observation, normal string }{
		{"patient/Observation.rs?category=" + categories + "|laboratory", "R?V?H?S?", "patient/Observation.rs?category=" + categories + "|laboratory"},
		{"user/Observation.rs?category=http%3A%2F%2Fx%7Claboratory", "r?v?h?s?", "user/Observation.rs?category=http://x|laboratory"},
		{"user/Observation.rs?cat%65gory=laboratory", "r?v?h?s?", "user/Observation.rs?category=laboratory"},
		{"user/Observation.rs?category=laboratory", "r?v?h?s?", "user/Observation.rs?category=laboratory"},
		{"user/Observation.rs?status=final&category=laboratory", "r?v?h?s?", "user/Observation.rs?category=laboratory&status=final"},
		{"user/Observation.rs?category=b,a,b", "r?v?h?s?", "user/Observation.rs?category=a,b"},
		{"user/Observation.rs?category=a,b&category=a", "r?v?h?s?", "user/Observation.rs?category=a"},
		{"user/Observation.rs?code=a%5C,b", "r?v?h?s?", "user/Observation.rs?code=a%5C,b"},
		{"user/Observation.rs?code=a+b", "r?v?h?s?", "user/Observation.rs?code=a%20b"},
		{"user/Observation.rs?combo-code=a", "r?v?h?s?", "user/Observation.rs?combo-code=a"},
		{"user/Observation.c?category=a user/Observation.rs?category=a", "c?r?v?h?s?", "user/Observation.crs?category=a"},
		// Several scopes are one or the other.
		{"user/Observation.rs?category=a user/Observation.rs?category=b", "r?v?h?s?", "user/Observation.rs?category=a user/Observation.rs?category=b"},
		{"user/Observation.rs?category=a&status=final user/Observation.rs?category=b", "r?+?v?+?h?+?s?+?", "user/Observation.rs?category=a&status=final user/Observation.rs?category=b"},
		{"patient/Observation.rs user/Observation.rs?category=b", "R+?V+?H+?S+?", "patient/Observation.rs user/Observation.rs?category=b"},
		{"patient/Observation.rs?category=a patient/Observation.rs", "RVHS", "patient/Observation.rs"},
		{"patient/Observation.crs?category=a patient/*.rs", "C?RVHS", "patient/*.rs patient/Observation.c?category=a"},
		{"patient/Observation.rs?category=a user/*.r", "rvhS?", "patient/Observation.rs?category=a user/*.r"},
		{"user/Observation.rs?category=a user/Observation.rs?category=a,b", "r?v?h?s?", "user/Observation.rs?category=a,b"},
		{"user/Observation.rs?category=a user/Observation.rs?category=b user/Observation.s", "r?v?h?s", "user/Observation.s user/Observation.r?category=a user/Observation.r?category=b"},
		// What grants nothing: malformed,
		{"user/Observation.rs?", "", ""},
		{"user/Observation.rs?category", "", ""},
		{"user/Observation.rs?category=", "", ""},
		{"user/Observation.rs?category=a,", "", ""},
		{"user/Observation.rs?category=a&", "", ""},
		{"user/Observation.rs?&category=a", "", ""},
		{"user/Observation.rs?category=%zz", "", ""},
		{"user/Observation.rs?category=a;status=final", "", ""},
		{"user/Observation.rs?category=a?status=final", "", ""},
		{"user/Observation.rs?category=\\a", "", ""},
		{"user/Observation.rs?category=a%5C", "", ""},
		{"user/Observation.rs?category=é", "", ""},
		{"user/Observation.rs?category=|", "", ""},
		{"user/Observation.sr?category=a", "", ""},
		// of the first version, or of no type,
		{"user/Observation.read?category=a", "", ""},
		{"user/Observation.*?category=a", "", ""},
		{"user/*.rs?category=a", "", ""},
		// unknown, or answered by more than the tokens of the resource itself.
		{"user/Observation.rs?nothing=a", "", ""},
		{"user/Observation.rs?clinical-status=active", "", ""},
		{"user/Observation.rs?category=a&nothing=b", "", ""},
		{"user/Observation.rs?category:not=a", "", ""},
		{"user/Observation.rs?category:in=http://x", "", ""},
		{"user/Observation.rs?category:missing=false", "", ""},
		{"user/Observation.rs?category%3Anot=a", "", ""},
		{"user/Observation.rs?identifier:of-type=a|b|c", "", ""},
		{"user/Observation.rs?subject:identifier=a|b", "", ""},
		{"user/Observation.rs?subject=Patient/1", "", ""},
		{"user/Observation.rs?subject.active=true", "", ""},
		{"user/Observation.rs?date=ge2020", "", ""},
		{"user/Observation.rs?value-quantity=5", "", ""},
		{"user/Observation.rs?value-string=a", "", ""},
		{"user/Observation.rs?code-value-quantity=a$5", "", ""},
		{"user/Observation.rs?_security=R", "", ""},
		{"user/Observation.rs?_id=1", "", ""},
		{"user/Observation.rs?_has:Provenance:target:agent=Practitioner/1", "", ""},
		{"user/Observation.rs?_filter=status+eq+final", "", ""},
		{"user/Observation.rs?_count=5", "", ""},
		{"user/Observation.rs?category=a&_sort=date", "", ""},
	} {
		s := Parse(c.scope)
		if got := open(s, "Observation"); got != c.observation {
			t.Errorf("%q leaves %q, want %q", c.scope, got, c.observation)
		}
		if got := s.String(); got != c.normal {
			t.Errorf("%q in normal form is %q, want %q", c.scope, got, c.normal)
		}
	}
}

// The scopes that US Core asks servers to support (US Core 6.1 and later, SMART on FHIR obligations and capabilities).
func TestScopesOfUSCore(t *testing.T) {
	uscore := "http://hl7.org/fhir/us/core/CodeSystem/us-core-category"
	condition := "http://terminology.hl7.org/CodeSystem/condition-category"
	for typ, all := range map[fhir.ResourceType][]string{
		"Condition": {condition + "|encounter-diagnosis", condition + "|problem-list-item", "http://hl7.org/fhir/us/core/CodeSystem/condition-category|health-concern"},
		"Observation": {
			uscore + "|sdoh", categories + "|social-history", categories + "|laboratory", categories + "|survey", categories + "|vital-signs",
		},
		"DocumentReference": {"http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category|clinical-note"},
	} {
		for _, category := range all {
			for _, level := range []string{"patient", "user", "system"} {
				scope := level + "/" + string(typ) + ".rs?category=" + category
				s := Parse(scope)
				if s.String() != scope {
					t.Errorf("%s in normal form is %q", scope, s)
				}
				for _, i := range []fhir.Interaction{fhir.Read, fhir.SearchType} {
					if got := s.Allow(typ, i); len(got) != 1 || got[0].Where == nil || got[0].PatientOnly != (level == "patient") {
						t.Errorf("%s: %s is %v", scope, i, got)
					}
				}
			}
		}
	}
}

func TestNormalFormOpensTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(scope(), 0, 8).Draw(t, "scopes"), " ")
		s := Parse(text)
		again := Parse(s.String())
		if again.String() != s.String() {
			t.Fatalf("%q, then %q", s, again)
		}
		var all []clause
		for token := range strings.SplitSeq(text, " ") {
			if c, ok := parseClause(token); ok {
				all = append(all, c)
			}
		}
		each(func(typ fhir.ResourceType, i fhir.Interaction, launch bool, tokens []int64) {
			want := slices.ContainsFunc(all, func(c clause) bool {
				return c.may&needs[i] != 0 && (c.typ == typ || c.typ == wildcard) && (launch || c.level != ofPatient) && c.where.Holds(tokens)
			})
			if got := covers(again.Allow(typ, i), launch, tokens); got != want {
				t.Fatalf("%s %s: open %v, by the scopes one by one %v", i, typ, got, want)
			}
		})
	})
}

func TestNarrow(t *testing.T) {
	for _, c := range []struct{ granted, requested, want string }{
		{"openid launch/patient patient/*.rs", "launch/patient openid offline_access patient/Observation.cruds", "launch/patient openid patient/Observation.rs"},
		{"patient/Observation.rs", "patient/Observation.rs?category=a", "patient/Observation.rs?category=a"},
		{"patient/Observation.rs?category=a", "patient/Observation.rs", "patient/Observation.rs?category=a"},
		{"patient/Observation.rs?category=a", "patient/*.read", "patient/Observation.rs?category=a"},
		{"patient/Observation.rs?category=a,b", "patient/Observation.rs?category=b", "patient/Observation.rs?category=b"},
		{"patient/Observation.rs?category=a", "patient/Observation.rs?status=final", "patient/Observation.rs?category=a&status=final"},
		{"user/Observation.rs", "system/Observation.rs patient/Observation.rs", ""},
		{"user/Observation.rs", "user/Observation.c user/Patient.rs", ""},
		{"user/Observation.rs?nothing=a", "user/Observation.rs?nothing=a", ""},
		{"user/Observation.rs", "user/Observation.sr openid", ""},
		{"user/Observation.sr", "user/Observation.sr", ""},
		{"", "openid user/*.rs", ""},
	} {
		if got := Narrow(c.granted, c.requested); got != c.want {
			t.Errorf("Narrow(%q, %q) = %q, want %q", c.granted, c.requested, got, c.want)
		}
	}
}

func TestNarrowOpensWhatBothOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Scopes of one level: those of different ones do not meet.
		at := rapid.SampledFrom([]string{"patient/", "user/", "system/"}).Draw(t, "level")
		draw := func(name string) string {
			all := rapid.SliceOfN(scope(), 0, 6).Draw(t, name)
			for i, s := range all {
				_, rest, _ := strings.Cut(s, "/")
				all[i] = at + rest
			}
			return strings.Join(all, " ")
		}
		granted, requested := draw("granted"), draw("requested")
		a, b, both := Parse(granted), Parse(requested), Parse(Narrow(granted, requested))
		each(func(typ fhir.ResourceType, i fhir.Interaction, launch bool, tokens []int64) {
			want := covers(a.Allow(typ, i), launch, tokens) && covers(b.Allow(typ, i), launch, tokens)
			if got := covers(both.Allow(typ, i), launch, tokens); got != want {
				t.Fatalf("%s %s: open %v, by both %v (%s)", i, typ, got, want, both)
			}
		})
	})
}

func TestAllowIsNotChangedByItsAnswers(t *testing.T) {
	s := Parse("user/Observation.rs?category=a user/Observation.r?category=b user/Observation.s?category=c")
	first := s.Allow("Observation", fhir.Read)
	before := slices.Clone(first[0].Where[0])
	s.Allow("Observation", fhir.SearchType)
	s.Allow("Observation", fhir.Read)
	if !slices.Equal(first[0].Where[0], before) {
		t.Error("an answer changed an earlier one")
	}
}

func TestDescribe(t *testing.T) {
	for scope, want := range map[string]string{
		"patient/Observation.rs?category=" + categories + "|laboratory": "See test results and measurements of the chosen patient, only those with the category laboratory",
		"patient/Observation.rs?category=" + categories + "|vital-signs,x|survey&status=final": "See test results and measurements of the chosen patient, only those" +
			" with the category vital signs or survey and with the status final",
		"user/Condition.crus":            "See, add and change health problems and diagnoses of everybody whose records you may reach",
		"system/*.read":                  "See all kinds of records of everybody whose records the app itself may reach",
		"patient/MolecularSequence.d":    "Delete molecular sequence records of the chosen patient",
		"openid":                         "",
		"user/Observation.rs?_security=": "",
	} {
		all := Describe(scope)
		got := ""
		if len(all) > 0 {
			got = all[0].Text
		}
		if got != want || len(all) > 1 {
			t.Errorf("%s: %q, want %q", scope, got, want)
		}
	}
}
