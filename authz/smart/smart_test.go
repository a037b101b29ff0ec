package smart

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	find "github.com/cloister-health/cloister/fhir/search"
)

var interactions = []fhir.Interaction{
	fhir.Create, fhir.Read, fhir.VRead, fhir.HistoryInstance, fhir.Update, fhir.Delete, fhir.SearchType,
	fhir.Batch, fhir.Transaction, fhir.Capabilities,
}

// open lists the interactions of one type as letters: crvhuds, upper case where
// only patient scopes cover them, with ? behind where something narrows them by what a resource says.
func open(s Scopes, t fhir.ResourceType) string {
	var b strings.Builder
	for n, i := range interactions {
		letter := "crvhudsBTM"[n : n+1]
		for m, o := range s.Allow(t, i) {
			switch {
			case m > 0:
				letter = "+"
			case o.PatientOnly:
				letter = strings.ToUpper(letter)
			}
			b.WriteString(letter)
			if o.Where != nil {
				b.WriteString("?")
			}
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
			rapid.SampledFrom([]string{
				"", "", "", "?a=b", "?category=c%7Claboratory", "?category=c|survey,laboratory", "?category=laboratory", "?category=survey&category=laboratory",
				"?status=final", "?status=final,preliminary", "?category=laboratory&status=final", "?code=a%5C,b", "?code=a,b", "?_id=x",
			}).Draw(t, "query")
	})
}

// covers reports whether what is open holds a resource of the launch patient, or of another, with these tokens.
func covers(all []authz.Opening, launch bool, tokens []int64) bool {
	return slices.ContainsFunc(all, func(o authz.Opening) bool { return (launch || !o.PatientOnly) && o.Where.Holds(tokens) })
}

// concept is a CodeableConcept.
func concept(system, code string) *element.Node {
	coding := element.NewObject(element.Field{Name: "code", Value: element.NewString(code)})
	if system != "" {
		coding.Set("system", element.NewString(system))
	}
	return element.NewObject(element.Field{Name: "coding", Value: array(coding)})
}

func array(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

// contents are the tokens of Observations that differ in what constraints ask for.
var contents = func() (out [][]int64) {
	for _, c := range []struct {
		status   string
		category []*element.Node
		code     *element.Node
	}{
		{"", nil, nil},
		{"final", []*element.Node{concept("c", "laboratory")}, nil},
		{"final", []*element.Node{concept("c", "laboratory"), concept("c", "survey")}, nil},
		{"preliminary", []*element.Node{concept("d", "laboratory")}, nil},
		{"preliminary", nil, concept("", "a,b")},
		{"final", []*element.Node{concept("c", "survey")}, concept("", "b")},
	} {
		root := element.NewObject(element.Field{Name: "resourceType", Value: element.NewString("Observation")})
		if c.status != "" {
			root.Set("status", element.NewString(c.status))
		}
		if c.category != nil {
			root.Set("category", array(c.category...))
		}
		if c.code != nil {
			root.Set("code", c.code)
		}
		out = append(out, find.Extract("Observation", root).Tokens)
	}
	return out
}()

func TestMoreScopesNeverNarrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfN(scope(), 0, 6).Draw(t, "some")
		more := rapid.SliceOfN(scope(), 0, 6).Draw(t, "more")
		less, all := Parse(strings.Join(some, " ")), Parse(strings.Join(append(more, some...), " "))
		each(func(typ fhir.ResourceType, i fhir.Interaction, launch bool, tokens []int64) {
			if covers(less.Allow(typ, i), launch, tokens) && !covers(all.Allow(typ, i), launch, tokens) {
				t.Fatalf("%s %s: closed by more scopes", i, typ)
			}
		})
	})
}

// each goes over what a resource can differ in.
func each(f func(fhir.ResourceType, fhir.Interaction, bool, []int64)) {
	for _, typ := range []fhir.ResourceType{"Patient", "Observation", "Encounter", "Task"} {
		for _, i := range interactions {
			for _, launch := range []bool{true, false} {
				for _, tokens := range contents {
					f(typ, i, launch, tokens)
				}
			}
		}
	}
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

// FuzzParse holds the parser against the grammar, spelled out as a list: every
// scope that opens anything is on it, and what opens all of a type has no parameters.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"patient/Observation.rs", "user/*.read", "system/Patient.cruds", "user/Patient.sr", "user/Patient.r?x=y", " / . ", "user/*.*",
		"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory", "user/Observation.rs?category=a%2Cb&status=final",
		"user/Observation.rs?code=%5C,%5C%5C,x&code=+", "patient/Condition.c?clinical-status=active&clinical-status=active", "user/Patient.r?active=true", "user/Observation.rs?combo-code=x",
		"user/ValueSet.s?url=http://x.example/a?b", "user/Observation.rs?category=;", "user/Observation.rs?category=%zz", "user/Patient.r?phone=(555)",
	} {
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
		whole, partial := false, false
		for _, s := range strings.Split(text, " ") {
			s, query, constrained := strings.Cut(s, "?")
			for _, level := range []string{"patient/", "user/", "system/"} {
				rest, ok := strings.CutPrefix(s, level)
				name, grant, _ := strings.Cut(rest, ".")
				ok = ok && (name == "*" || fhir.ResourceType(name).Valid()) && grants[grant]
				whole = whole || ok && !constrained
				partial = partial || ok && constrained && strings.Contains(query, "=")
			}
		}
		s, opened, narrowed := Parse(text), false, false
		types := slices.DeleteFunc(fhir.ResourceTypes(), func(typ fhir.ResourceType) bool {
			return typ != "Task" && !strings.Contains(text, string(typ))
		})
		for _, typ := range types {
			for _, i := range interactions {
				for _, o := range s.Allow(typ, i) {
					opened, narrowed = opened || o.Where == nil, narrowed || o.Where != nil
				}
			}
		}
		if opened != whole || narrowed && !partial {
			t.Errorf("%q: opens %v, narrowed %v; well-formed: %v, with parameters %v", text, opened, narrowed, whole, partial)
		}
		normal := s.String()
		if again := Parse(normal).String(); again != normal {
			t.Errorf("%q: the normal form %q has the normal form %q", text, normal, again)
		}
		if !openAlike(types, s, Parse(normal)) {
			t.Errorf("%q: the normal form %q opens something else", text, normal)
		}
		for _, d := range Describe(text) {
			if d.Text == "" || strings.ContainsFunc(d.Text, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%q: described as %q", text, d.Text)
			}
		}
	})
}

func openAlike(types []fhir.ResourceType, a, b Scopes) bool {
	for _, typ := range types {
		for _, i := range interactions {
			if !reflect.DeepEqual(a.Allow(typ, i), b.Allow(typ, i)) {
				return false
			}
		}
	}
	return true
}
