package fhirpath_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/fhirpath"
)

const patient = `{"resourceType":"Patient","id":"p","active":true,
 "contained":[{"resourceType":"Organization","id":"o","name":"Here"}],
 "name":[{"use":"official","family":"Chalmers","given":["Peter","James"],"_given":[null,{"extension":[{"url":"http://x/q","valueCode":"IN"}]}]},
  {"use":"usual","given":["Jim"]}],
 "birthDate":"1974-12-25","_birthDate":{"extension":[{"url":"http://x/time","valueDateTime":"1974-12-25T14:35:45-05:00"}]},
 "_gender":{"extension":[{"url":"http://x/absent","valueCode":"unknown"}]},
 "deceasedBoolean":false,"multipleBirthInteger":2,
 "contact":[{"relationship":[{"text":"mother"}]}],
 "managingOrganization":{"reference":"#o"},
 "generalPractitioner":[{"reference":"Practitioner/1"},{"reference":"http://other/fhir/Organization/2"},{"identifier":{"value":"3"},"type":"PractitionerRole"}]}`

const observation = `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"29463-7"}]},
 "effectiveDateTime":"2020-02","valueQuantity":{"value":72.50,"unit":"kg","system":"http://unitsofmeasure.org","code":"kg"},
 "referenceRange":[{"low":{"value":50,"code":"kg"}},{"low":{"value":60,"code":"kg"}}],
 "component":[{"code":{"text":"a"},"valueString":"2020-01-01"},{"code":{"text":"b"},"valueInteger":7}]}`

func value(t testing.TB, body string) fhirpath.Value {
	t.Helper()
	r, err := codec.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	v, ok := fhirpath.Resource(r.Root)
	if !ok {
		t.Fatal("no resource")
	}
	return v
}

func show(out []fhirpath.Value) string {
	parts := make([]string, 0, len(out))
	for _, v := range out {
		switch {
		case v.Kind() == fhirpath.Complex:
			parts = append(parts, "<"+v.Type()+">")
		case !v.HasValue():
			parts = append(parts, "<"+v.Type()+" absent>")
		default:
			parts = append(parts, v.Text())
		}
	}
	return strings.Join(parts, ",")
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func TestExpressions(t *testing.T) {
	for _, c := range []struct{ on, expression, want string }{
		{patient, "Patient.name.given", "Peter,James,Jim"},
		{patient, "name.given[1].extension('http://x/q').value", "IN"},
		{patient, "Resource.id", "p"},
		{patient, "DomainResource.id", "p"},
		{patient, "Observation.id", ""},
		{patient, "name.where(use = 'official').family", "Chalmers"},
		{patient, "name.select(given.first() & ' ' & family)", "Peter Chalmers,Jim "},
		{patient, "name.given.where($index > 0)", "James,Jim"},
		{patient, "gender", "<code absent>"},
		{patient, "gender.hasValue()", "false"},
		{patient, "gender.exists()", "true"},
		{patient, "gender.extension.value", "unknown"},
		{patient, "birthDate.extension('http://x/time').value", "1974-12-25T14:35:45-05:00"},
		{patient, "birthDate = @1974-12-25", "true"},
		{patient, "birthDate < today()", "true"},
		{patient, "birthDate + 1 'mo' = @1975-01-25", "true"},
		{patient, "birthDate is date", "true"},
		{patient, "birthDate is Date", "true"},
		{patient, "birthDate is string", "false"},
		{patient, "deceased", "false"},
		{patient, "deceased is boolean", "true"},
		{patient, "deceased.exists() and deceased != false", "false"},
		{patient, "deceasedBoolean", ""},
		{patient, "multipleBirth.ofType(integer) + 1", "3"},
		{patient, "contact is Patient.contact", "true"},
		{patient, "contact is BackboneElement", "true"},
		{patient, "managingOrganization.resolve().name", "Here"},
		{patient, "generalPractitioner.where(resolve() is Practitioner).reference", "Practitioner/1"},
		{patient, "generalPractitioner.resolve().ofType(Organization).count()", "1"},
		{patient, "generalPractitioner.where(resolve() is PractitionerRole).identifier.value", "3"},
		{patient, "name.given.count() = 3 and name.exists(use = 'usual')", "true"},
		{patient, "name.all(given.exists())", "true"},
		{patient, "photo.all(false)", "true"},
		{patient, "name.family.toString()", "Chalmers"},
		{patient, "children().count()", "14"},
		{patient, "descendants().ofType(code).where(hasValue()).count()", "4"},
		{patient, "(name.use | name.use).count()", "2"},
		{patient, "name.use.union(name.use).count()", "2"},
		{patient, "name.use.combine(name.use).count()", "4"},
		{patient, "name.given.tail().first()", "James"},
		{patient, "name.given.skip(1).take(1)", "James"},
		{patient, "name.given.intersect('Jim' | 'Peter')", "Peter,Jim"},
		{patient, "name.given.exclude('Jim' | 'Peter')", "James"},
		{patient, "name.given contains 'Jim'", "true"},
		{patient, "'Joe' in name.given", "false"},
		{patient, "iif(active, 'yes', 'no')", "yes"},
		{patient, "name.given.aggregate($total & $this, '')", "PeterJamesJim"},
		{patient, "{}", ""},
		{patient, "{} and false", "false"},
		{patient, "{} or true", "true"},
		{patient, "{} implies true", "true"},
		{patient, "{} = 1", ""},
		{patient, "{} ~ {}", "true"},
		{patient, "1 + 2 * 3", "7"},
		{patient, "-3 + 5", "2"},
		{patient, "7 div 2", "3"},
		{patient, "-7 mod 4", "-3"},
		{patient, "7 / 2", "3.5"},
		{patient, "1 / 0", ""},
		{patient, "1.0 = 1", "true"},
		{patient, "0.1 + 0.2 = 0.3", "true"},
		{patient, "3.14159.round(2)", "3.14"},
		{patient, "2.power(10)", "1024"},
		{patient, "(2).power(-1)", "0.5"},
		{patient, "(-1).sqrt()", ""},
		{patient, "16.sqrt()", "4"},
		{patient, "100.log(10)", "2"},
		{patient, "(-1.5).floor()", "-2"},
		{patient, "(-1.5).truncate()", "-1"},
		{patient, "1000 'mg' = 1 'g'", "true"},
		{patient, "1 year = 12 months", "true"},
		{patient, "1 'kg' > 2 'm'", ""},
		{patient, "@2020-01-31 + 1 month", "2020-02-29"},
		{patient, "@2020-01 < @2020-01-15", ""},
		{patient, "@2019 < @2020-01-15", "true"},
		{patient, "@2020-01-01T10:00:00+02:00 = @2020-01-01T08:00:00Z", "true"},
		{patient, "@2020-01-01T10:00:00.5Z > @2020-01-01T10:00:00Z", "true"},
		{patient, "@T10:30 < @T10:45", "true"},
		{patient, "now()", "2026-03-04T12:00:00.000Z"},
		{patient, "'abc'.substring(1, 1)", "b"},
		{patient, "'abc'.indexOf('c')", "2"},
		{patient, "'a,b'.split(',')", "a,b"},
		{patient, "('a' | 'b').join('-')", "a-b"},
		{patient, "'abc'.matches('b')", "true"},
		{patient, "'abc'.matchesFull('b')", "false"},
		{patient, "'abc'.replaceMatches('[ab]', 'x')", "xxc"},
		{patient, "'abc'.replace('b', '')", "ac"},
		{patient, "' a '.trim().upper()", "A"},
		{patient, "'1'.toInteger() + 1", "2"},
		{patient, "'x'.toInteger()", ""},
		{patient, "'yes'.toBoolean()", "true"},
		{patient, "'2020-01-01'.toDate() < today()", "true"},
		{patient, "'A B' ~ 'a  b'", "true"},
		{patient, "1.01 ~ 1.0", "true"},
		{patient, "(1 | 2) = (2 | 1)", "false"},
		{patient, "(1 | 2) ~ (2 | 1)", "true"},
		{patient, "1 is Integer", "true"},
		{patient, "%ucum", "http://unitsofmeasure.org"},
		{patient, "%`ext-x`", "http://hl7.org/fhir/StructureDefinition/x"},
		{patient, "%resource.id = %context.id", "true"},
		{patient, "name.trace('given', given).count()", "2"},
		{patient, "name.given.repeat(extension).count()", "1"},
		{patient, "active is System.Boolean // a comment", "true"},
		{patient, "name[0].`given`[0]", "Peter"},
		{patient, "name.given.subsetOf('Jim' | 'Peter' | 'James')", "true"},
		{patient, "name.use.isDistinct()", "true"},
		{patient, "true.not()", "false"},
		{patient, "(1|2|3).where($this > 1).count()", "2"},
		{observation, "value.ofType(Quantity).value", "72.50"},
		{observation, "(Observation.value as Quantity).unit", "kg"},
		{observation, "Observation.value.as(Quantity).code", "kg"},
		{observation, "value > 70 'kg'", "true"},
		{observation, "value = 72500 'g'", "true"},
		{observation, "(effective as dateTime) <= @2020-03", "true"},
		{observation, "component.value.ofType(string)", "2020-01-01"},
		{observation, "component.value.ofType(string).first() is string", "true"},
		{observation, "component.value", "2020-01-01,7"},
		{observation, "code.memberOf('http://x/vs')", "true"},
		{observation, "referenceRange.low.value.aggregate($this + $total, 0)", "110"},
		{observation, "referenceRange.low.value.aggregate(iif($total.empty(), $this, iif($this < $total, $this, $total)))", "50"},
	} {
		e, err := fhirpath.Compile(c.expression)
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
			continue
		}
		out, err := e.Eval(context.Background(), value(t, c.on), fhirpath.Options{Now: noon,
			MemberOf: func(_ context.Context, set, system, code string) (bool, bool, error) {
				return set == "http://x/vs" && system == "http://loinc.org" && code == "29463-7", true, nil
			}})
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
		} else if got := show(out); got != c.want {
			t.Errorf("%s = %q, want %q", c.expression, got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, x := range []string{"", "name.", "name..given", "name.given(", "'abc", "name[0", "1 +", "a b", "foo()", "name is Nothing", "@2020-13", "@T25",
		"name.$this", "/* open", "$that", "name.first(1)", "'a'.matches('(')", "99999999999999999999", "name.where()", "%", "#",
		strings.Repeat("(", 100) + "1" + strings.Repeat(")", 100), strings.Repeat("a.", 6000) + "a", strings.Repeat("-", 20000) + "1"} {
		if _, err := fhirpath.Compile(x); err == nil {
			t.Errorf("%.40s compiles", x)
		} else if e := (*fhirpath.SyntaxError)(nil); !errors.As(err, &e) {
			t.Errorf("%.40s: %T", x, err)
		}
	}
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		expression string
		want       error
	}{
		{"name.given + 'x'", fhirpath.ErrSingle},
		{"name.single()", fhirpath.ErrSingle},
		{"name.given and true", fhirpath.ErrSingle},
		{"'a' + 1", fhirpath.ErrType},
		{"'a' < 1", fhirpath.ErrType},
		{"name.first() < 1", fhirpath.ErrType},
		{"%nothing", fhirpath.ErrUnknown},
		{"now()", fhirpath.ErrNow},
		{"(1|2|3|4|5).repeat($this + 1)", fhirpath.ErrSteps},
		{"(1|2|3|4|5).select(%context.descendants().select(%context.descendants().select(%context.descendants())))", fhirpath.ErrSteps},
		{"('aaaaaaaaaaaaaaaa'|1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16|17|18|19|20|21|22).aggregate(iif($index = 0, $this, $total & $total))", fhirpath.ErrText},
	} {
		e, err := fhirpath.Compile(c.expression)
		if err != nil {
			t.Fatal(c.expression, err)
		}
		_, err = e.Eval(context.Background(), value(t, patient), fhirpath.Options{Limits: fhirpath.Limits{Steps: 100_000}})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.expression, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e, _ := fhirpath.Compile("(1|2).repeat($this + 1)")
	if _, err := e.Eval(ctx, value(t, patient), fhirpath.Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
