package search

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/outcome"
)

func definition(code, base, typ, expression string) string {
	return `{"resourceType":"SearchParameter","url":"http://example.org/SearchParameter/` + code + `","code":"` + code +
		`","base":["` + base + `"],"type":"` + typ + `","expression":"` + expression + `"}`
}

func compiled(t testing.TB, text string) *Param {
	t.Helper()
	p, err := Compile(read(t, text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

const (
	raceURL  = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
	someRace = `{"resourceType":"Patient","id":"p","birthDate":"1980-05-06","multipleBirthInteger":2,
	  "extension":[{"url":"` + raceURL + `","extension":[{"url":"ombCategory","valueCoding":{"system":"urn:oid:2.16.840.1.113883.6.238","code":"2106-3"}},
	    {"url":"text","valueString":"White"}]},{"url":"urn:weight","valueQuantity":{"value":80,"system":"http://unitsofmeasure.org","code":"kg"}},
	    {"url":"urn:home","valueReference":{"reference":"Organization/o"}},{"url":"urn:plan","valueCanonical":"http://example.org/Plan|2"}],
	  "maritalStatus":{"coding":[{"code":"M"}],"text":"Married, twice"},"name":[{"family":"Ångström"}],
	  "identifier":[{"type":{"coding":[{"code":"MR"}]},"system":"urn:mrn","value":"7"}]}`
)

// TestOwnParameters finds a resource by parameters of a practice, each by values that hold and by values that do not.
func TestOwnParameters(t *testing.T) {
	n := read(t, someRace)
	for _, tt := range []struct {
		code, typ, expression, hit, miss string
	}{
		{"race", "token", "Patient.extension.where(url = '" + raceURL + "').extension.value.code", "2106-3", "White"},
		{"race-coding", "token", "Patient.extension('" + raceURL + "').extension.value.ofType(Coding)", "urn:oid:2.16.840.1.113883.6.238|2106-3", "urn:x|2106-3"},
		{"marital", "token", "Patient.maritalStatus", "M", "S"},
		{"birth-order", "number", "(Patient.multipleBirth as integer)", "2", "3"},
		{"twin", "token", "Patient.multipleBirth.exists()", "true", "false"},
		{"born", "date", "Patient.birthDate", "1980-05", "1981"},
		{"weight", "quantity", "Patient.extension('urn:weight').value", "80000|http://unitsofmeasure.org|g", "80|http://unitsofmeasure.org|g"},
		{"weight2", "quantity", "Patient.extension('urn:weight')", "gt79", "gt80"},
		{"home", "reference", "Patient.extension('urn:home').value", "Organization/o", "Organization/p"},
		{"plan", "uri", "Patient.extension('urn:plan').value.ofType(canonical)", "http://example.org/Plan", "http://example.org/Pla"},
		{"sounds", "string", "Patient.name.family", "ang", "strom"},
		{"upper", "string", "Patient.name.family.upper()", "ang", "strom"},
		{"mrn", "token", "Patient.identifier.where(system='urn:mrn')", "7", "8"},
		{"age-order", "number", "Patient.multipleBirth.ofType(integer) + 1", "3", "2"},
		{"wrong", "date", "Patient.name | Patient.birthDate.toString() + 'x' | Patient.nothing", "", "1980"},
		{"fails", "token", "Patient.name.single().family + 1", "", "x"},
	} {
		t.Run(tt.code, func(t *testing.T) {
			r, err := Overlay(compiled(t, definition(tt.code, "Patient", tt.typ, tt.expression)))
			if err != nil {
				t.Fatal(err)
			}
			x := Options{Registry: r}.Extract("Patient", n)
			checkShape(t, x)
			p, ok := r.Lookup("Patient", tt.code)
			if !ok || !slices.Contains(r.Params("Patient"), p) {
				t.Fatal("not in the registry")
			}
			for value, want := range map[string]bool{tt.hit: true, tt.miss: false} {
				if value != "" && ownMatches(t, r, p, value, x) != want {
					t.Errorf("%s=%s: want %v", tt.code, value, want)
				}
			}
			if plain := Extract("Patient", n); len(plain.Tokens) > len(x.Tokens) || len(plain.Dates) > len(x.Dates) {
				t.Error("R4's parameters are gone")
			}
			if _, ok := Lookup("Patient", tt.code); ok {
				t.Error("one practice's parameter is everybody's")
			}
		})
	}
}

// ownMatches asks by one value of a parameter that Parse may not know.
func ownMatches(t *testing.T, r *Registry, p *Param, value string, x Index) bool {
	t.Helper()
	q := parser{opt: Options{Registry: r}}
	values, reason := q.value("Patient", p, modifier{}, value)
	if reason != "" {
		t.Fatalf("%s: %s", value, reason)
	}
	return matchesCriterion("Patient", Criterion{Param: p.Code, Type: p.Type, Any: values}, x)
}

func TestOwnParametersArePathsWhereTheyCan(t *testing.T) {
	for _, tt := range []struct{ typ, expression, paths string }{
		{"token", "Patient.extension.where(url = 'urn:r').extension.value.code", `$.extension[*]?(@.url == "urn:r").extension.keyvalue()?(@.key starts with "value").value.code[*]`},
		{"token", "Patient.extension('urn:r').value.ofType(Coding)", `$.extension[*]?(@.url == "urn:r").valueCoding[*]`},
		{"token", "Patient.maritalStatus", "$.maritalStatus[*]"},
		{"date", "(Patient.deceased as dateTime) | Person.birthDate", "$.deceasedDateTime[*]"},
		{"string", "Patient.name[0].family", "$.name[0].family[*]"},
		{"string", "Patient.deceased", ""}, // neither type is a text
		{"token", "Patient.name.exists()", ""},
		{"token", "Patient.contact.where(name.exists()).gender", ""},
		{"token", "Patient.nonsense", ""},
	} {
		r, err := Overlay(compiled(t, definition("own", "Patient", tt.typ, tt.expression)))
		if err != nil {
			t.Fatal(err)
		}
		p, _ := r.Lookup("Patient", "own")
		if got := strings.Join(p.Paths(), " "); got != tt.paths {
			t.Errorf("%s: %s", tt.expression, got)
		}
	}
	r, err := Overlay(compiled(t, definition("subject-is", "Observation", "reference", "Observation.subject.where(resolve() is Patient)")))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := r.Lookup("Observation", "subject-is")
	own, _ := Lookup("Observation", "patient")
	if !slices.Equal(p.Paths(), own.Paths()) || !slices.Equal(p.SortPaths(), own.SortPaths()) || len(p.Paths()) != 1 {
		t.Errorf("%v is not %v", p.Paths(), own.Paths())
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"another resource": `{"resourceType":"Patient"}`,
		"no code":          definition("", "Patient", "token", "Patient.active"),
		"control":          definition("_sort", "Patient", "token", "Patient.active"),
		"modifier":         definition("a:b", "Patient", "token", "Patient.active"),
		"chain":            definition("a.b", "Patient", "token", "Patient.active"),
		"composite":        definition("a", "Patient", "composite", "Patient.active"),
		"special":          definition("a", "Patient", "special", "Patient.active"),
		"no type":          definition("a", "Patient", "", "Patient.active"),
		"base":             definition("a", "Nonsense", "token", "Patient.active"),
		"syntax":           definition("a", "Patient", "token", "Patient.active.where("),
		"no expression":    definition("a", "Patient", "token", ""),
		"target":           strings.Replace(definition("a", "Patient", "reference", "Patient.link.other"), `"code"`, `"target":["Nonsense"],"code"`, 1),
	} {
		_, err := Compile(read(t, text))
		var oe *outcome.Error
		if !errors.As(err, &oe) || len(oe.Issues) == 0 || !strings.HasPrefix(oe.Issues[0].Path, "SearchParameter") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Compile(nil); err == nil {
		t.Error("nothing was compiled")
	}
	if p := compiled(t, definition("a", "DomainResource", "token", "DomainResource.language")); len(p.Bases) < 100 || slices.Contains(p.Bases, "Bundle") {
		t.Error("DomainResource is every type but Bundle, Binary and Parameters")
	}
}

func TestOverlayRedefinesNothing(t *testing.T) {
	for _, code := range []string{"gender", "identifier"} {
		if _, err := Overlay(compiled(t, definition(code, "Patient", "token", "Patient.active"))); err == nil {
			t.Errorf("%s was redefined", code)
		}
	}
	own := compiled(t, definition("own", "Patient", "token", "Patient.active"))
	if _, err := Overlay(own, own); err == nil {
		t.Error("one code stands for two parameters")
	}
	r, err := Overlay()
	if err != nil || len(r.Params("Patient")) != len(Params("Patient")) || r.Params("Nonsense") != nil {
		t.Error("an empty overlay is not R4")
	}
}
