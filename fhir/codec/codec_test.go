package codec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// faults parses body and lists what is refused as "status path: text".
func faults(body string) []string {
	_, err := Parse([]byte(body))
	return listed(err)
}

func listed(err error) []string {
	if err == nil {
		return nil
	}
	var out []string
	for _, i := range outcome.Of(err).Issues {
		out = append(out, fmt.Sprintf("%d %s: %s", i.Category.Status(), i.Path, i.Text))
	}
	return out
}

// expect compares faults with want; each want is a beginning and, after " ~ ", a part of the text.
func expect(t *testing.T, got, want []string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		head, part, _ := strings.Cut(want[i], " ~ ")
		ok = strings.HasPrefix(got[i], head+":") && strings.Contains(got[i], part)
	}
	if !ok {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

const observation = `{"resourceType":"Observation","id":"phq","meta":{"versionId":"4","profile":["http://example.org/p"],
 "security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}],"tag":[{"system":"urn:t","code":"x"}]},
 "contained":[{"resourceType":"Organization","id":"org","name":"Clinic","meta":{"security":[{"code":"R"}]}}],
 "extension":[{"url":"http://example.org/e","valueUri":"DocumentReference/doc"},{"url":"http://example.org/c","valueCoding":{"system":"urn:s","code":"c1"}}],
 "status":"final","category":[{"coding":[{"system":"urn:cat","code":"survey"}]}],
 "code":{"coding":[{"system":"http://loinc.org","code":"44261-6"}],"text":"PHQ-9"},
 "subject":{"reference":"Patient/p1"},"performer":[{"reference":"#org"}],
 "effectiveDateTime":"2026-02-01T10:00:00.120+01:00","valueQuantity":{"value":12.50,"system":"http://unitsofmeasure.org","code":"{score}"},
 "note":[{"text":"seen"}],"_issued":{"extension":[{"url":"http://example.org/e","valueString":"later"}]}}`

func mustParse(t testing.TB, body string) *Resource {
	t.Helper()
	r, err := Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseAccepts(t *testing.T) {
	for name, body := range map[string]string{
		"observation":            observation,
		"id alone":               `{"resourceType":"Patient","id":"x"}`,
		"order does not matter":  `{"id":"x","resourceType":"Patient"}`,
		"extension for a value":  `{"resourceType":"Patient","_birthDate":{"extension":[{"url":"http://e","valueCode":"unknown"}]}}`,
		"value and extension":    `{"resourceType":"Patient","birthDate":"1970","_birthDate":{"id":"b"}, "_gender":{"extension":[{"url":"u","valueString":"s"}]}}`,
		"null padding":           `{"resourceType":"Patient","name":[{"given":["A",null],"_given":[null,{"extension":[{"url":"u","valueString":"s"}]}]}]}`,
		"only extensions":        `{"resourceType":"Patient","name":[{"_given":[{"extension":[{"url":"u","valueString":"s"}]}]}]}`,
		"parameters":             `{"resourceType":"Parameters","parameter":[{"name":"r","resource":{"resourceType":"Patient","gender":"male"}},{"name":"p","part":[{"name":"q","valueInteger":1}]}]}`,
		"nested extension":       `{"resourceType":"Basic","code":{"text":"x"},"extension":[{"url":"a","extension":[{"url":"b","valueBoolean":false}]}]}`,
		"urn in a bundle":        `{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:6c7f7c3e-9d2f-4d1c-8d3a-0123456789ab","resource":{"resourceType":"Patient"},"request":{"method":"POST","url":"Patient"}},{"resource":{"resourceType":"Condition","subject":{"reference":"urn:uuid:6c7f7c3e-9d2f-4d1c-8d3a-0123456789ab"}},"request":{"method":"POST","url":"Condition"}}]}`,
		"conditional reference":  `{"resourceType":"Condition","subject":{"reference":"Patient?identifier=a|b"}}`,
		"container reference":    `{"resourceType":"List","status":"current","mode":"working","contained":[{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/1"},"evidence":[{"detail":[{"reference":"#"}]}]}]}`,
		"display alone":          `{"resourceType":"Condition","subject":{"display":"somebody"}}`,
		"any kind of white":      "\t\r\n {\"resourceType\" : \"Patient\" , \"active\" : true }\n ",
		"absent required code":   `{"resourceType":"Condition","subject":{"display":"x"},"clinicalStatus":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]}}`,
		"emoji and escapes":      `{"resourceType":"Patient","name":[{"text":"\ud83d\ude00 \u00e9 \/ \"q\""}]}`,
		"narrative":              `{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p style=\"color: red\">a &amp; b<br/></p></div>"}}`,
		"contained by canonical": `{"resourceType":"QuestionnaireResponse","status":"completed","contained":[{"resourceType":"Questionnaire","id":"q","status":"active"}],"questionnaire":"#q"}`,
	} {
		if got := faults(body); got != nil {
			t.Errorf("%s: refused: %s", name, strings.Join(got, "; "))
		}
	}
}

func TestParseRefuses(t *testing.T) {
	deep := `{"resourceType":"Patient","extension":[` + strings.Repeat(`{"url":"u","extension":[`, 40) + strings.Repeat(`]}`, 40) + `]}`
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"nothing":              {``, []string{"400  ~ too early"}},
		"no object":            {`[1]`, []string{"400  ~ not a JSON object"}},
		"null body":            {`null`, []string{"400  ~ not a JSON object"}},
		"trailing data":        {`{"resourceType":"Patient"} {}`, []string{"400  ~ after the end"}},
		"second value":         {`{"resourceType":"Patient"}x`, []string{"400  ~ after the end"}},
		"byte order mark":      {"\ufeff{}", []string{"400  ~ byte order mark"}},
		"trailing comma":       {`{"resourceType":"Patient","name":[{"family":"A",}]}`, []string{"400 Patient.name[0] ~ byte 48"}},
		"array comma":          {`{"resourceType":"Patient","name":[{"family":"A"},]}`, []string{"400 Patient.name[1] ~ not JSON"}},
		"number form":          {`{"resourceType":"Observation","valueQuantity":{"value":01}}`, []string{"400 Observation.valueQuantity ~ byte 56"}},
		"NaN":                  {`{"resourceType":"Observation","valueQuantity":{"value":NaN}}`, []string{"400 Observation.valueQuantity.value"}},
		"comment":              {`{"resourceType":"Patient" /* x */}`, []string{"400 Patient ~ comma"}},
		"raw control":          {"{\"resourceType\":\"Patient\",\"id\":\"a\nb\"}", []string{"400 Patient.id ~ control"}},
		"bad escape":           {`{"resourceType":"Patient","id":"\x"}`, []string{"400 Patient.id ~ escape"}},
		"bad unicode escape":   {`{"resourceType":"Patient","id":"\u12g4"}`, []string{"400 Patient.id ~ hexadecimal"}},
		"open string":          {`{"resourceType":"Patient","id":"a`, []string{"400 Patient.id ~ ends inside"}},
		"open object":          {`{"resourceType":"Patient"`, []string{"400 Patient ~ ends inside"}},
		"too deep":             {deep, []string{"400 Patient.extension[0]" + strings.Repeat(".extension[0]", 31) + " ~ more than 64 levels"}},
		"no type":              {`{"id":"x"}`, []string{"400 Resource.resourceType ~ missing"}},
		"unknown type":         {`{"resourceType":"Pateint","x":{}}`, []string{"400 Resource.resourceType ~ not a resource type", "400 Resource.x ~ empty object"}},
		"abstract type":        {`{"resourceType":"DomainResource"}`, []string{"400 Resource.resourceType"}},
		"data type":            {`{"resourceType":"HumanName"}`, []string{"400 Resource.resourceType"}},
		"duplicate":            {`{"resourceType":"Patient","birthDate":"1980","birthDate":"1990"}`, []string{"400 Patient.birthDate ~ twice"}},
		"escaped duplicate":    {`{"resourceType":"Patient","birthDate":"1980","birth\u0044ate":"1990"}`, []string{"400 Patient.birthDate ~ twice"}},
		"duplicate type":       {`{"resourceType":"Patient","resourceType":"Group"}`, []string{"400 Patient.resourceType ~ twice"}},
		"case variant pair":    {`{"resourceType":"Patient","birthDate":"1980","BirthDate":"1990"}`, []string{"400 Patient.BirthDate ~ upper and lower case"}},
		"case variant":         {`{"resourceType":"Patient","BirthDate":"1990"}`, []string{"400 Patient.BirthDate ~ upper and lower case"}},
		"unknown, repeated":    {`{"resourceType":"Patient","a":1,"A":2,"a":3}`, []string{"422 Patient.a ~ no element", "400 Patient.A ~ upper and lower", "400 Patient.a ~ twice"}},
		"null character":       {`{"resourceType":"Patient","name":[{"family":"a\u0000b"}]}`, []string{"400 Patient.name[0].family ~ \\u0000"}},
		"null in a name":       {`{"resourceType":"Patient","a\u0000":"b"}`, []string{"400 Patient.`a?` ~ \\u0000"}},
		"surrogate":            {`{"resourceType":"Patient","name":[{"family":"a\ud800"},{"family":"\udc00\ud800"}]}`, []string{"400 Patient.name[0].family ~ surrogate", "400 Patient.name[1].family ~ surrogate"}},
		"invalid UTF-8":        {"{\"resourceType\":\"Patient\",\"name\":[{\"family\":\"a\xff\"}],\"gender\":\"x\"}", []string{"400 Patient.name[0].family ~ UTF-8", "422 Patient.gender ~ code"}},
		"null":                 {`{"resourceType":"Patient","active":null,"name":null,"contact":[null]}`, []string{"400 Patient.active ~ null", "400 Patient.name ~ null", "400 Patient.contact[0] ~ null"}},
		"empty":                {`{"resourceType":"Patient","name":[],"maritalStatus":{},"language":"","photo":[{}]}`, []string{"400 Patient.name ~ empty array", "400 Patient.maritalStatus ~ empty object", "400 Patient.language ~ empty string", "400 Patient.photo[0] ~ empty object"}},
		"null without value":   {`{"resourceType":"Patient","name":[{"given":["A",null]}]}`, []string{"400 Patient.name[0].given[1] ~ without an extension"}},
		"both null":            {`{"resourceType":"Patient","name":[{"given":["A",null],"_given":[{"id":"a","extension":[{"url":"u","valueString":"s"}]},null]}]}`, []string{"400 Patient.name[0].given[1] ~ without"}},
		"lengths differ":       {`{"resourceType":"Patient","name":[{"given":["A"],"_given":[null,{"extension":[{"url":"u","valueString":"s"}]}]}]}`, []string{"400 Patient.name[0].given ~ differ in length"}},
		"unknown":              {`{"resourceType":"Patient","nick":"x","name":[{"nick":{"a":""}}]}`, []string{"422 Patient.nick ~ Patient has no element", "422 Patient.name[0].nick ~ HumanName has no", "400 Patient.name[0].nick.a ~ empty string"}},
		"comments":             {`{"resourceType":"Patient","fhir_comments":["x"]}`, []string{"422 Patient.fhir_comments"}},
		"underscore object":    {`{"resourceType":"Patient","_name":[{"id":"x"}]}`, []string{"422 Patient._name"}},
		"underscore id":        {`{"resourceType":"Patient","id":"x","_id":{"extension":[{"url":"u","valueString":"s"}]}}`, []string{"422 Patient._id"}},
		"list for scalar":      {`{"resourceType":"Patient","gender":["male"],"maritalStatus":[{"text":"x"}]}`, []string{"422 Patient.gender ~ no array", "422 Patient.maritalStatus ~ no array"}},
		"scalar for list":      {`{"resourceType":"Patient","name":{"family":"x"}}`, []string{"422 Patient.name ~ array is expected"}},
		"string for object":    {`{"resourceType":"Patient","name":["x"]}`, []string{"422 Patient.name[0] ~ object is expected"}},
		"object for string":    {`{"resourceType":"Patient","gender":{"x":"y"},"active":"true","multipleBirthInteger":"1"}`, []string{"422 Patient.gender ~ JSON string", "422 Patient.active ~ true or false", "422 Patient.multipleBirth ~ JSON number"}},
		"required":             {`{"resourceType":"Observation","component":[{"valueString":"x"}]}`, []string{"422 Observation.component[0].code ~ required", "422 Observation.status ~ required", "422 Observation.code ~ required"}},
		"required, contained":  {`{"resourceType":"List","status":"current","mode":"working","contained":[{"resourceType":"Observation","id":"o","status":"final"}],"entry":[{"item":{"reference":"#o"}}]}`, []string{"422 List.contained[0].code ~ required"}},
		"required, bundle":     {`{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient"}},{"resource":{"resourceType":"Condition"}}]}`, []string{"422 Bundle.entry[1].resource.subject ~ required"}},
		"required, parameter":  {`{"resourceType":"Parameters","parameter":[{"name":"a","part":[{"resource":{"resourceType":"Condition"}}]}]}`, []string{"422 Parameters.parameter[0].part[0].resource.subject", "422 Parameters.parameter[0].part[0].name"}},
		"required choice":      {`{"resourceType":"MedicationRequest","status":"active","intent":"order","subject":{"display":"x"}}`, []string{"422 MedicationRequest.medication ~ required"}},
		"two of a choice":      {`{"resourceType":"Patient","deceasedBoolean":true,"deceasedDateTime":"2020"}`, []string{"422 Patient.deceased ~ only one type"}},
		"two, by extension":    {`{"resourceType":"Patient","deceasedBoolean":true,"_deceasedDateTime":{"extension":[{"url":"u","valueString":"s"}]}}`, []string{"422 Patient.deceased ~ only one type"}},
		"no such choice":       {`{"resourceType":"Patient","deceasedString":"x"}`, []string{"422 Patient.deceasedString"}},
		"code":                 {`{"resourceType":"Patient","gender":"M","contact":[{"gender":"F"}]}`, []string{"422 Patient.gender ~ not one of", "422 Patient.contact[0].gender ~ not one of"}},
		"concept":              {`{"resourceType":"Condition","subject":{"display":"x"},"clinicalStatus":{"coding":[{"system":"urn:other","code":"active"}]}}`, []string{"422 Condition.clinicalStatus ~ no coding"}},
		"currency":             {`{"resourceType":"Invoice","status":"draft","totalNet":{"value":1,"currency":"Euro"}}`, []string{"422 Invoice.totalNet.currency"}},
		"comparator":           {`{"resourceType":"Observation","status":"final","code":{"text":"x"},"referenceRange":[{"low":{"value":1,"comparator":"<"}}]}`, []string{"422 Observation.referenceRange[0].low.comparator"}},
		"target":               {`{"resourceType":"Condition","subject":{"reference":"Practitioner/1"},"encounter":{"reference":"https://example.org/fhir/Patient/1/_history/2"}}`, []string{"422 Condition.subject.reference ~ of this type", "422 Condition.encounter.reference ~ of this type"}},
		"target, contained":    {`{"resourceType":"Condition","contained":[{"resourceType":"Organization","id":"a","name":"x"}],"subject":{"reference":"#a"}}`, []string{"422 Condition.subject.reference ~ of this type"}},
		"target, bundle":       {`{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"urn:uuid:6c7f7c3e-9d2f-4d1c-8d3a-0123456789ab","resource":{"resourceType":"Location"}},{"resource":{"resourceType":"Condition","subject":{"reference":"urn:uuid:6c7f7c3e-9d2f-4d1c-8d3a-0123456789ab"}}}]}`, []string{"422 Bundle.entry[1].resource.subject.reference ~ of this type"}},
		"reference form":       {`{"resourceType":"Condition","subject":{"reference":"../Patient/1"},"encounter":{"reference":"Encounter/a_b"},"recorder":{"reference":"Nurse/1"}}`, []string{"422 Condition.subject.reference ~ neither", "422 Condition.encounter.reference ~ neither", "422 Condition.recorder.reference ~ neither"}},
		"dangling":             {`{"resourceType":"Condition","subject":{"reference":"#nobody"}}`, []string{"422 Condition.subject.reference ~ no contained"}},
		"container, outside":   {`{"resourceType":"Condition","subject":{"reference":"#"}}`, []string{"422 Condition.subject.reference ~ container"}},
		"contained":            {`{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"#a"},"contained":[{"resourceType":"Patient","id":"a","contained":[{"resourceType":"Patient","id":"b"}],"meta":{"versionId":"1"}},{"resourceType":"Patient","id":"a"},{"resourceType":"Patient"},{"resourceType":"Patient","id":"z"}]}`, []string{"422 Basic.contained[0].meta ~ dom-4", "422 Basic.contained[0].contained[0] ~ dom-2", "422 Basic.contained[1].id ~ same id", "422 Basic.contained[2].id ~ needs an id", "422 Basic.contained[3] ~ dom-3"}},
		"extension":            {`{"resourceType":"Patient","extension":[{"url":"a","valueString":"x","extension":[{"url":"b","valueString":"x"}]},{"url":"c"},{"valueString":"x"}]}`, []string{"422 Patient.extension[0] ~ ext-1", "422 Patient.extension[1] ~ ext-1", "422 Patient.extension[2].url ~ required"}},
		"two extension values": {`{"resourceType":"Patient","extension":[{"url":"a","valueString":"x","valueCode":"y"}]}`, []string{"422 Patient.extension[0].value ~ only one type"}},
		"id alone":             {`{"resourceType":"Patient","maritalStatus":{"id":"x"}}`, []string{"422 Patient.maritalStatus ~ ele-1"}},
		"ids":                  {`{"resourceType":"Patient","id":"a_b","meta":{"versionId":"a b"}}`, []string{"422 Patient.id ~ 1 to 64", "422 Patient.meta.versionId"}},
		"many":                 {`{"resourceType":"Patient","gender":"q","birthDate":"1.1.70","name":[{"use":"q"}],"active":1}`, []string{"422 Patient.gender", "422 Patient.birthDate", "422 Patient.name[0].use", "422 Patient.active"}},
	} {
		t.Run(name, func(t *testing.T) { expect(t, faults(c.body), c.want) })
	}
}

func TestFaultsAreCapped(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"resourceType":"Patient","name":[`)
	for i := range 500 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"use":"nope"}`)
	}
	b.WriteString(`]}`)
	got := faults(b.String())
	if len(got) != MaxIssues+1 || !strings.Contains(got[MaxIssues], "more faults") {
		t.Errorf("%d faults, the last %q", len(got), got[len(got)-1])
	}
}

func TestLimits(t *testing.T) {
	body := []byte(`{"resourceType":"Patient","name":[{"family":"x"}]}`)
	if _, err := ParseLimited(body, Limits{Bytes: len(body), Depth: 3}); err != nil {
		t.Error(err)
	}
	if _, err := ParseLimited(body, Limits{Bytes: len(body) - 1}); outcome.Of(err).Status() != 413 {
		t.Errorf("oversize: %v", err)
	}
	_, err := ParseLimited(body, Limits{Depth: 2})
	expect(t, listed(err), []string{"400 Patient.name[0] ~ more than 2 levels"})
}

// Bodies whose cost could grow with the square of their length; if one did, this
// test would not end.
func TestHostileBodies(t *testing.T) {
	const n = 100_000
	many := func(head, each, tail string) string { return head + strings.Repeat(each, n) + tail }
	numbered := func(head, format, tail string) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String() + tail
	}
	div := func(s string) string {
		return `{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">` + s + `</div>"}}`
	}
	for name, body := range map[string]string{
		"one name":       many(`{"resourceType":"Patient"`, `,"a":1`, `}`),
		"a known name":   many(`{"resourceType":"Patient"`, `,"active":true`, `}`),
		"many names":     numbered(`{"resourceType":"Patient","_gender":{"id":"x"}`, `,"a%d":1`, `}`),
		"nested unknown": many(`{"resourceType":"Patient","x":[1`, `,{"a":1,"a":2}`, `]}`),
		"fragments":      many(`{"resourceType":"List","status":"current","mode":"working","contained":[`+strings.Repeat(`{"resourceType":"Patient","id":"x"},`, 900)+`{"resourceType":"Patient","id":"y"}],"entry":[{"item":{"reference":"#y"}}`, `,{"item":{"reference":"#z"}}`, `]}`),
		"contained":      numbered(`{"resourceType":"List","status":"current","mode":"working","contained":[{"resourceType":"Patient"}`, `,{"resourceType":"Patient","id":"a%d"}`, `]}`),
		"style":          div(`<p style='` + strings.Repeat("url(data:image/png,)", n/4) + `expression(x)'>x</p>`),
		"attributes":     div(`<p` + strings.Repeat(" class='x'", n) + `>x</p>`),
		"elements":       div(strings.Repeat("<b>", n)),
		"entities":       div(strings.Repeat("&", n)),
		"open brackets":  strings.Repeat("[", n),
		"escapes":        many(`{"resourceType":"Patient","id":"`, `\ud800`, `"}`),
		"number":         many(`{"resourceType":"Observation","valueQuantity":{"value":1`, `0`, `}}`),
		"entries":        many(`{"resourceType":"Bundle","type":"batch","entry":[{"fullUrl":"urn:a"}`, `,{"resource":{}}`, `]}`),
		"null padding":   many(`{"resourceType":"Patient","name":[{"given":["a"`, `,null`, `]}]}`),
	} {
		if _, err := Parse([]byte(body)); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, bad, err := ParseBatch([]byte(body), DefaultLimits); err == nil && len(bad) == 0 {
			t.Errorf("%s: accepted as a batch", name)
		}
	}
}

// Values may be about a patient; an error may end in a log.
func TestErrorsDoNotRepeatValues(t *testing.T) {
	const secret = "CANARY-7f3a"
	for _, body := range []string{
		`{"resourceType":"Patient","gender":"` + secret + `","birthDate":"` + secret + `","name":"` + secret + `","id":"` + secret + ` ","nick":"` + secret + `"}`,
		`{"resourceType":"Condition","subject":{"reference":"#` + secret + `"},"encounter":{"reference":"` + secret + `"}}`,
		`{"resourceType":"Patient","name":[{"family":"` + secret + `",}]}`,
		`{"resourceType":"Patient","text":{"status":"generated","div":"` + secret + `"}}`,
	} {
		got := strings.Join(faults(body), "\n")
		if got == "" || strings.Contains(got, secret) {
			t.Errorf("%s\n%s", body, got)
		}
	}
}

func TestParseBatch(t *testing.T) {
	body := `{"resourceType":"Bundle","type":"batch","entry":[
	 {"resource":{"resourceType":"Patient","gender":"male"},"request":{"method":"POST","url":"Patient"}},
	 {"resource":{"resourceType":"Patient","gender":"M","gender":"F","x":1},"request":{"method":"POST","url":"Patient"}}]}`
	r, bad, err := ParseBatch([]byte(body), DefaultLimits)
	if err != nil || r.BundleType() != "batch" || len(bad) != 1 {
		t.Fatalf("%v %v", err, bad)
	}
	expect(t, listed(bad[1]), []string{"422 Bundle.entry[1].resource.gender", "400 Bundle.entry[1].resource.gender ~ twice", "422 Bundle.entry[1].resource.x"})
	if _, err := Parse([]byte(body)); err == nil {
		t.Error("Parse takes a Bundle with a bad entry")
	}
	if _, _, err := ParseBatch([]byte(strings.Replace(body, `"POST"`, `"PSOT"`, 1)), DefaultLimits); err == nil {
		t.Error("a fault of the Bundle itself is not an error")
	}
}

func TestCheckATreeOfOurOwn(t *testing.T) {
	n := element.NewObject(element.Field{Name: "resourceType", Value: element.NewString("Condition")})
	_, err := Check(n)
	expect(t, listed(err), []string{"422 Condition.subject ~ required"})
	n.Set("subject", element.NewObject(element.Field{Name: "reference", Value: element.NewString("Patient/1")}))
	if r, err := Check(n); err != nil || r.Type != "Condition" {
		t.Error(r, err)
	}
}
