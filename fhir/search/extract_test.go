package search

import (
	"encoding/json"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

func TestExtractHashes(t *testing.T) {
	has := func(keys []int64, want ...int64) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			for i, h := range want {
				if !slices.Contains(keys, h) {
					t.Errorf("value %d is not in the index", i)
				}
			}
		}
	}
	lacks := func(keys []int64, want ...int64) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			for i, h := range want {
				if slices.Contains(keys, h) {
					t.Errorf("value %d is in the index and must not be", i)
				}
			}
		}
	}
	x := Extract("Observation", read(t, observation))
	t.Run("coding", has(x.Tokens,
		hash(kindSystemCode, "code", "http://loinc.org", "44261-6"), hash(kindCode, "code", "44261-6"), hash(kindSystem, "code", "http://loinc.org"),
		hash(kindSystemCode, "code", "", "phq"), hash(kindCode, "component-code", "c1")))
	t.Run("not twice", lacks(x.Tokens, hash(kindCode, "combo-code", "c1"), hash(kindCode, "combo-code", "phq")))
	t.Run("code", has(x.Tokens,
		hash(kindCode, "status", "final"), hash(kindSystemCode, "status", "", "final"),
		hash(kindSystemCode, "status", "http://hl7.org/fhir/observation-status", "final")))
	t.Run("identifier", has(x.Tokens, hash(kindSystemCode, "identifier", "urn:ids", "A|7"), hash(kindSystem, "identifier", "urn:ids")))
	t.Run("of every resource", has(x.Tokens,
		hash(kindURI, "_profile", "http://example.org/p|1.0"), hash(kindURI, "_profile", "http://example.org/p"),
		hash(kindURI, "_source", "urn:src"), hash(kindSystemCode, "_tag", "urn:tags", "t1")))
	t.Run("choice", has(x.Tokens, hash(kindCode, "value-concept", "yes")))
	t.Run("not the security labels", lacks(x.Tokens, hash(kindCode, "_security", "R"), hash(kindCode, "_tag", "R")))
	t.Run("not contained", lacks(x.Tokens, hash(kindCode, "identifier", "hidden")))
	t.Run("not another code's parameter", lacks(x.Tokens, hash(kindCode, "component-code", "44261-6"), hash(kindCode, "code", "c1")))
	t.Run("references", has(keys(x.Refs),
		joined("subject", "Patient/p1"), joined("patient", "Patient/p1"),
		joined("encounter", "Encounter/e1"), joined("derived-from", "QuestionnaireResponse/q1"),
		ParamKey("performer")^URLHash("http://elsewhere.example/fhir/Practitioner/9"),
		ParamKey("focus")^URLHash("urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0")))
	t.Run("targets", has(keys(x.Refs),
		TargetHash(fhir.Ref{Type: "Patient", ID: "p1"}), TargetHash(fhir.Ref{Type: "Encounter", ID: "e1"}),
		TargetHash(fhir.Ref{Type: "QuestionnaireResponse", ID: "q1"}), TargetHash(fhir.Ref{Type: "Organization", ID: "deep"})))
	t.Run("no target from free text or other servers", lacks(keys(x.Refs),
		TargetHash(fhir.Ref{Type: "Patient", ID: "free-text"}), TargetHash(fhir.Ref{Type: "Practitioner", ID: "9"}),
		ParamKey("performer")^URLHash("#c"), joined("performer", "Practitioner/c")))
	if len(x.Dates) > 0 || !x.AtLo.Equal(at("2024-03-05T08:30:00Z")) || !x.AtHi.Equal(at("2024-03-05T08:30:01Z")) {
		t.Errorf("dates: %v, clinical [%v, %v)", x.Dates, x.AtLo, x.AtHi)
	}
	wantText := []StringEntry{{Param: "dna-variant", Text: "c.1521", Exact: "c.1521"}, {Param: "gene-dnavariant", Text: "c.1521", Exact: "c.1521"}, {Param: "value-string", Text: "ja, gewiß", Exact: "Ja, gewiß"}}
	if diff := cmp.Diff(wantText, x.Strings); diff != "" {
		t.Errorf("strings (-want +got):\n%s", diff)
	}
	checkShape(t, x)
}

func at(s string) time.Time {
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return v
}

// keys joins parameter and target as a store does.
func keys(refs []RefEntry) []int64 {
	var out []int64
	for _, r := range refs {
		out = append(out, r.Param^r.Target)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func joined(param, literal string) int64 {
	r, ok := LocalRef("", literal)
	if !ok {
		panic(literal)
	}
	return ParamKey(param) ^ TargetHash(r)
}

func checkShape(t testing.TB, x Index) {
	t.Helper()
	for i := 1; i < len(x.Tokens); i++ {
		if x.Tokens[i-1] >= x.Tokens[i] {
			t.Error("tokens are not sorted and distinct")
		}
	}
	if len(keys(x.Refs)) != len(x.Refs) {
		t.Error("refs are not distinct")
	}
	for _, d := range x.Dates {
		if !d.Lo.Before(d.Hi) || d.Lo.Before(Earliest) || d.Hi.After(Latest) || d.Lo.Location() != time.UTC || d.Lo.Nanosecond()%1000 != 0 || d.Hi.Nanosecond()%1000 != 0 {
			t.Errorf("date %v is out of shape", d)
		}
	}
	for i, q := range x.Quantities {
		if !(q.Lo <= q.Hi && q.UnitLo <= q.UnitHi) || i > 0 && x.Quantities[i-1] == q {
			t.Errorf("quantity %v is out of shape", q)
		}
	}
	for _, s := range x.Strings {
		if s.Text == "" || len(s.Text) > MaxText || len(s.Exact) > MaxText {
			t.Errorf("string of %s is out of shape", s.Param)
		}
	}
}

// TestFinds asks searches of small resources of many shapes: each must match or not.
func TestFinds(t *testing.T) {
	patient := `{"resourceType":"Patient","id":"p","active":true,
	  "name":[{"text":"Dr. Zoë  Ångström","family":"Ångström","given":["Zoë","Marie"]}],
	  "telecom":[{"system":"phone","value":"(555) 010-2345"},{"system":"email","value":"Zoe@Example.org"}],
	  "gender":"female","birthDate":"1980-02-29","deceasedDateTime":"2024",
	  "address":[{"city":"Malmö","postalCode":"21110","use":"home"}],
	  "identifier":[{"system":"urn:mrn","value":"1,2|3\\4$5"}],
	  "generalPractitioner":[{"reference":"Practitioner/g"},{"reference":"http://here.example/fhir/Organization/abs"}],
	  "communication":[{"language":{"coding":[{"code":"sv"}]}}],
	  "link":[{"other":{"reference":"RelatedPerson/r"},"type":"seealso"}]}`
	response := `{"resourceType":"QuestionnaireResponse","questionnaire":"http://example.org/Questionnaire/phq-9|2.1",
	  "status":"completed","authored":"2024-05-01","subject":{"reference":"#x"},"source":{"reference":"Patient/s"},
	  "contained":[{"resourceType":"Patient","id":"x"}]}`
	local := `{"resourceType":"QuestionnaireResponse","questionnaire":"Questionnaire/gad-7"}`
	tests := []struct {
		name, resource, query string
		want                  bool
	}{
		{"string starts with", patient, "name=zo", true},
		{"string without accents", patient, "family=angstrom", true},
		{"string with accents", patient, "family=" + quoted("ÅNG"), true},
		{"string other part", patient, "name=marie", true},
		{"string whole text", patient, "name=" + quoted("dr. zoe ang"), true},
		{"string not within", patient, "family=strom", false},
		{"string contains", patient, "family:contains=strom", true},
		{"string exact", patient, "family:exact=" + quoted("Ångström"), true},
		{"string exact is exact", patient, "family:exact=angstrom", false},
		{"string or", patient, "given=xx,marie", true},
		{"and", patient, "given=zoe&given=marie", true},
		{"and fails", patient, "given=zoe&given=peter", false},
		{"address", patient, "address=malmo", true},
		{"address city", patient, "address-city=malmo", true},
		{"address not city", patient, "address-city=211", false},
		{"gender", patient, "gender=female", true},
		{"gender case matters", patient, "gender=Female", false},
		{"gender system", patient, "gender=" + quoted("http://hl7.org/fhir/administrative-gender|female"), true},
		{"gender no system", patient, "gender=" + quoted("|female"), true},
		{"gender other system", patient, "gender=" + quoted("urn:x|female"), false},
		{"boolean", patient, "active=true", true},
		{"boolean other", patient, "active=false", false},
		{"deceased", patient, "deceased=true", true},
		{"deceased false", patient, "deceased=false", false},
		{"deceased absent", `{"resourceType":"Patient"}`, "deceased=false", true},
		{"deceased said false", `{"resourceType":"Patient","deceasedBoolean":false}`, "deceased=false", true},
		{"death date", patient, "death-date=2024-07", false},
		{"death year", patient, "death-date=2024", true},
		{"death ge", patient, "death-date=ge2024-07", true},
		{"birth date", patient, "birthdate=1980-02-29", true},
		{"birth month", patient, "birthdate=1980-02", true},
		{"birth lt", patient, "birthdate=lt1980-03", true},
		{"birth gt", patient, "birthdate=gt1980-02-29", false},
		{"birth sa", patient, "birthdate=sa1980-02-28", true},
		{"birth eb", patient, "birthdate=eb1980-02-29", false},
		{"birth ne", patient, "birthdate=ne1980", false},
		{"phone digits", patient, "phone=5550102345", true},
		{"phone as written", patient, "phone=" + quoted("(555) 010-2345"), true},
		{"email lower", patient, "email=zoe@example.org", true},
		{"email is no phone", patient, "phone=zoe@example.org", false},
		{"telecom system", patient, "telecom=" + quoted("email|zoe@example.org"), true},
		{"identifier escaped", patient, "identifier=" + quoted(`urn:mrn|1\,2\|3\\4\$5`), true},
		{"identifier any system", patient, "identifier=" + quoted(`1\,2\|3\\4\$5`), true},
		{"identifier system only", patient, "identifier=" + quoted("urn:mrn|"), true},
		{"identifier unescaped comma", patient, "identifier=" + quoted(`urn:mrn|1,2`), false},
		{"reference id", patient, "general-practitioner=g", true},
		{"reference typed", patient, "general-practitioner=Practitioner/g", true},
		{"reference modifier", patient, "general-practitioner:Practitioner=g", true},
		{"reference other type", patient, "general-practitioner:Organization=g", false},
		{"reference absolute here", patient, "general-practitioner=" + quoted("http://here.example/fhir/Practitioner/g"), true},
		{"reference stored absolute", patient, "general-practitioner=Organization/abs", true},
		{"reference elsewhere", patient, "general-practitioner=" + quoted("http://there.example/fhir/Practitioner/g"), false},
		{"nested", patient, "language=sv", true},
		{"link", patient, "link=RelatedPerson/r", true},
		{"canonical without version", response, "questionnaire=" + quoted("http://example.org/Questionnaire/phq-9"), true},
		{"canonical with version", response, "questionnaire=" + quoted("http://example.org/Questionnaire/phq-9|2.1"), true},
		{"canonical other version", response, "questionnaire=" + quoted("http://example.org/Questionnaire/phq-9|2"), false},
		{"canonical local", local, "questionnaire=gad-7", true},
		{"canonical local typed", local, "questionnaire=Questionnaire/gad-7", true},
		{"authored", response, "authored=2024-05-01", true},
		{"contained subject", response, "patient=x", false},
		{"source", response, "source=Patient/s", true},
		{"resolve is", `{"resourceType":"Appointment","participant":[{"actor":{"reference":"Practitioner/1"}}]}`, "practitioner=1", true},
		{"resolve is not", `{"resourceType":"Appointment","participant":[{"actor":{"reference":"Practitioner/1"}}]}`, "patient=1", false},
		{"resolve is not, asked by type", `{"resourceType":"Appointment","participant":[{"actor":{"reference":"Practitioner/1"}}]}`, "patient=Practitioner/1", false},
		{"resolve is, elsewhere", `{"resourceType":"Appointment","participant":[{"actor":{"reference":"http://x.example/r4/Patient/1/_history/2"}}]}`, "patient=" + quoted("http://x.example/r4/Patient/1/_history/2"), true},
		{"resolve is, by its type", `{"resourceType":"Appointment","participant":[{"actor":{"type":"Patient","reference":"urn:uuid:5"}}]}`, "patient=" + quoted("urn:uuid:5"), true},
		{"resolve is, of no type", `{"resourceType":"Appointment","participant":[{"actor":{"reference":"urn:uuid:5"}}]}`, "patient=" + quoted("urn:uuid:5"), false},
		{"where", `{"resourceType":"Library","relatedArtifact":[{"type":"depends-on","resource":"http://x.example/a"},{"type":"successor","resource":"http://x.example/b"}]}`, "depends-on=" + quoted("http://x.example/a"), true},
		{"where not", `{"resourceType":"Library","relatedArtifact":[{"type":"depends-on","resource":"http://x.example/a"},{"type":"successor","resource":"http://x.example/b"}]}`, "depends-on=" + quoted("http://x.example/b"), false},
		{"as", `{"resourceType":"Condition","onsetPeriod":{"start":"2020-01-01","end":"2020-12-31"}}`, "onset-date=sa2019", true},
		{"as other", `{"resourceType":"Condition","onsetString":"2020"}`, "onset-date=2020", false},
		{"open period", `{"resourceType":"Encounter","period":{"start":"2020-01-01"}}`, "date=gt2999", true},
		{"open period before", `{"resourceType":"Encounter","period":{"start":"2020-01-01"}}`, "date=lt2020", false},
		{"open period from its first day", `{"resourceType":"Encounter","period":{"start":"2020-01-01"}}`, "date=lt2020-01-02", true},
		{"period to its last day", `{"resourceType":"Encounter","period":{"end":"2020-12-31"}}`, "date=gt2020-12-30", true},
		{"period beyond its last day", `{"resourceType":"Encounter","period":{"end":"2020-12-31"}}`, "date=gt2020-12-31", false},
		{"backward period", `{"resourceType":"Encounter","period":{"start":"2021","end":"2019"}}`, "date=2020", false},
		{"timing", `{"resourceType":"Observation","effectiveTiming":{"event":["2020-05-01","2020-07-01"],"repeat":{"boundsPeriod":{"start":"2020-06-01"}}}}`, "date=ge2020-05-01", true},
		{"first entry", `{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"MessageHeader","id":"m"}},{"resource":{"resourceType":"MessageHeader","id":"n"}}]}`, "message=m", true},
		{"not the second entry", `{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"MessageHeader","id":"m"}},{"resource":{"resourceType":"MessageHeader","id":"n"}}]}`, "message=n", false},
		{"uri", `{"resourceType":"Questionnaire","url":"http://example.org/Questionnaire/x"}`, "url=" + quoted("http://example.org/Questionnaire/x"), true},
		{"uri is whole", `{"resourceType":"Questionnaire","url":"http://example.org/Questionnaire/x"}`, "url=" + quoted("http://example.org/Questionnaire"), false},
		{"medication choice", `{"resourceType":"MedicationRequest","medicationReference":{"reference":"Medication/m"}}`, "medication=m", true},
		{"medication code", `{"resourceType":"MedicationRequest","medicationCodeableConcept":{"coding":[{"system":"urn:rx","code":"36437"}]}}`, "code=" + quoted("urn:rx|36437"), true},
		{"tag", `{"resourceType":"Basic","meta":{"tag":[{"code":"t"}]}}`, "_tag=t", true},
		{"profile", `{"resourceType":"Basic","meta":{"profile":["http://p.example/x|1"]}}`, "_profile=" + quoted("http://p.example/x"), true},
	}
	opt := Options{Base: "http://here.example/fhir"}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := read(t, tt.resource)
			q, issues, err := Parse(typeOf(n), values(t, tt.query), opt)
			if err != nil || len(issues) > 0 {
				t.Fatalf("Parse: %v, %v", err, issues)
			}
			if got := matches(q, opt.Extract(q.Type(), n)); got != tt.want {
				t.Errorf("%s: found = %v, want %v", tt.query, got, tt.want)
			}
		})
	}
}

// matches is what the SQL of the store does with a query that needs nothing but the index.
func matches(q Query, x Index) bool { return allMatch(q.Type(), q.Legs[0].Where, x) }

func allMatch(t fhir.ResourceType, where []Criterion, x Index) bool {
	for _, c := range where {
		if matchesCriterion(t, c, x) == c.Not {
			return false
		}
	}
	return true
}

func matchesCriterion(t fhir.ResourceType, c Criterion, x Index) bool {
	switch c.Op {
	case Match:
		return slices.ContainsFunc(c.Any, func(v Value) bool { return matchesValue(t, c, v, x) })
	case Either:
		return slices.ContainsFunc(c.Groups, func(g []Criterion) bool { return allMatch(t, g, x) })
	default:
		panic("this needs more than the index")
	}
}

func matchesValue(t fhir.ResourceType, c Criterion, v Value, x Index) bool {
	keyed := func(param string, key, system int64) bool {
		return param == c.Param && (v.Key == 0 || v.Key == key) && (v.KeySystem == 0 || v.KeySystem == system)
	}
	kind := c.Type
	if kind == Composite {
		kind = v.Part
	}
	switch kind {
	case Token, URI, 0:
		return slices.Contains(x.Tokens, v.Hash)
	case Reference:
		return slices.Contains(keys(x.Refs), ParamKey(c.Param)^v.Hash)
	case Date:
		if code, ok := ClinicalDate(t); ok && code == c.Param {
			return !x.AtHi.IsZero() && matchesDate(v, DateEntry{Lo: x.AtLo, Hi: x.AtHi})
		}
		return slices.ContainsFunc(x.Dates, func(d DateEntry) bool { return keyed(d.Param, d.Key, d.KeySystem) && matchesDate(v, d) })
	case Number, Quantity:
		return slices.ContainsFunc(x.Quantities, func(q QuantityEntry) bool { return keyed(q.Param, q.Key, q.KeySystem) && matchesQuantity(v, q) })
	default:
		return slices.ContainsFunc(x.Strings, func(s StringEntry) bool {
			switch {
			case !keyed(s.Param, s.Key, s.KeySystem):
				return false
			case v.Match == Exact:
				return s.Exact == v.Text
			case v.Match == Contains:
				return strings.Contains(s.Text, v.Text)
			default:
				return strings.HasPrefix(s.Text, v.Text)
			}
		})
	}
}

func matchesQuantity(v Value, q QuantityEntry) bool {
	lo, hi := q.Lo, q.Hi
	if v.Unit != 0 {
		if q.Unit != v.Unit {
			return false
		}
		lo, hi = q.UnitLo, q.UnitHi
	}
	within := lo >= v.Low && hi < v.High
	switch v.Prefix {
	case "", "eq", "ap":
		return within
	case "ne":
		return !within
	case "gt", "sa":
		return hi > v.At
	case "lt", "eb":
		return lo < v.At
	case "ge":
		return hi >= v.At
	default:
		return lo <= v.At
	}
}

// matchesDate is the prefix table of R4 search over ranges.
func matchesDate(v Value, d DateEntry) bool {
	eq := !d.Lo.Before(v.Lo) && !d.Hi.After(v.Hi)
	switch v.Prefix {
	case "eq":
		return eq
	case "ne":
		return !eq
	case "gt":
		return d.Hi.After(v.Hi)
	case "lt":
		return d.Lo.Before(v.Lo)
	case "ge":
		return d.Hi.After(v.Hi) || eq
	case "le":
		return d.Lo.Before(v.Lo) || eq
	case "sa":
		return !d.Lo.Before(v.Hi)
	case "eb":
		return !d.Hi.After(v.Lo)
	default:
		return d.Lo.Before(v.Hi) && d.Hi.After(v.Lo)
	}
}

func TestLongStringsAreFoundByTheirBeginning(t *testing.T) {
	long := strings.Repeat("é", MaxText)
	x := Extract("Organization", read(t, `{"resourceType":"Organization","name":"`+long+`"}`))
	checkShape(t, x)
	if len(x.Strings) != 1 || !strings.HasPrefix(x.Strings[0].Text, "eee") {
		t.Fatalf("strings: %v", x.Strings)
	}
}

func TestExtractOddShapes(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"code":null}`, `{"code":[]}`, `{"code":"x","subject":"y","category":{"coding":{"code":1}}}`,
		`{"subject":[{"reference":7}],"contained":{"id":"x"}}`, `[]`, `"x"`, `null`, `{"effectivePeriod":"x","meta":[{"tag":3}]}`,
	} {
		for _, rt := range append(fhir.ResourceTypes(), "Nonsense", "") {
			checkShape(t, Extract(rt, read(t, text)))
		}
	}
	Extract("Patient", nil)
}

func TestExtractOfficialExamples(t *testing.T) {
	folder := shareddata.Open(t, shareddata.Examples)
	names := shareddata.Files(t, folder)
	if len(names) == 0 {
		t.Fatal("no examples")
	}
	var tokens, refs, dates, texts, numbers int
	for _, name := range names {
		b := shareddata.Read(t, folder, name)
		if !json.Valid(b) {
			t.Fatalf("%s is no JSON", name)
		}
		n := read(t, string(b))
		x := Extract(typeOf(n), n)
		checkShape(t, x)
		tokens, refs, dates, texts = tokens+len(x.Tokens), refs+len(x.Refs), dates+len(x.Dates), texts+len(x.Strings)
		numbers += len(x.Quantities)
		if !x.AtHi.IsZero() {
			dates++
		}
	}
	t.Logf("%d examples: %d tokens, %d refs, %d dates, %d strings, %d numbers", len(names), tokens, refs, dates, texts, numbers)
	if tokens < 10*len(names) || refs < 2*len(names) || dates < len(names)/4 || texts < len(names)/4 || numbers < len(names)/10 {
		t.Error("the examples yield too little")
	}
	spot := []struct {
		file, query string
	}{
		{"Observation-example.json", "code=29463-7&status=final&patient=example&date=2016-03-28"},
		{"Patient-example.json", "family=chalmers&given=peter&gender=male&birthdate=1974-12-25&organization=1&deceased=false"},
	}
	for _, s := range spot {
		b, err := fs.ReadFile(folder, s.file)
		if err != nil {
			t.Logf("%s is not among the examples", s.file)
			continue
		}
		n := read(t, string(b))
		q, _, err := Parse(typeOf(n), values(t, s.query), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !matches(q, Extract(q.Type(), n)) {
			t.Errorf("%s is not found by %s", s.file, s.query)
		}
	}
}

func BenchmarkExtract(b *testing.B) {
	n := read(b, observation)
	b.ReportAllocs()
	for b.Loop() {
		Extract("Observation", n)
	}
}
