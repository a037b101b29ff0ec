package deident

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

const loincScore = "{'coding':[{'system':'http://loinc.org','code':'44261-6'}]}"

// observation is one of a patient, with a value and a date.
func observation(id, rest string) string {
	return "{'resourceType':'Observation','id':'" + id + "','status':'final','code':" + loincScore + ",'subject':{'reference':'Patient/p'}," + rest + "}"
}

// part is what is released of one element of an observation of somebody born then.
func part(t *testing.T, profile, birth, rest, name string) string {
	t.Helper()
	x := newTrial(t, profile, func(c *Config) { c.Subjects = people{"p": {Birth: birth}} })
	out := x.run(stored{patient: "p", body: observation("o", rest)})[0]
	if out == nil {
		t.Fatalf("left out: %v", x.report.LeftOut)
	}
	if v := out.Get(name); v != nil {
		return shown(v)
	}
	return ""
}

func TestD1_164_514_b_2_i_C_Dates(t *testing.T) {
	for _, c := range []struct{ birth, date, want string }{
		{"1980-06-15", "2024-03-05", "2024"},
		{"1980-06-15", "2024-03-05T23:59:59-08:00", "2024"},
		{"1980-06-15", "2024-03", "2024"},
		{"1980-06-15", "2024", "2024"},
		{"1980-06-15", "1980-06-15", "1980"}, // a newborn
		{"1936-03-01", "2026-01-01", "2026"}, // 90 today: a year that tells no age
		{"1936-03-01", "1937-03-01", ""},     // and the first year of life
		{"1936-03-01", "1936", ""},
		{"1936-03-02", "1937-01-01", "1937"}, // 89 until tomorrow
		{"1936", "1937-01-01", ""},           // perhaps 90
		{"1900-01-01", "1936-05-05", ""},     // whoever was there in 1936 is 90 this year
		{"", "1937-05-05", ""},               // not known, and perhaps so
		{"", "1938-05-05", "1938"},
	} {
		want := c.want
		if want != "" {
			want = "'" + want + "'"
		}
		if got := part(t, "safe-harbor", c.birth, "'effectiveDateTime':'"+c.date+"'", "effectiveDateTime"); got != want {
			t.Errorf("%s of somebody born on %s: %s, want %s", c.date, c.birth, got, want)
		}
	}
	// An instant cannot be a year, and a time of the day is none.
	if got := part(t, "safe-harbor", "1980", "'issued':'2024-03-05T10:00:00Z','effectiveInstant':'2024-03-05T10:00:00Z','valueTime':'10:11:12'", "issued"); got != "" {
		t.Error(got)
	}
}

func TestD1_164_514_b_2_i_C_BirthAndDeath(t *testing.T) {
	for _, c := range []struct{ birth, want string }{
		{"1980-06-15", "'birthDate':'1980'"}, {"1936-03-02", "'birthDate':'1936'"}, {"1936-03-01", ""}, {"1920-01-01", ""},
	} {
		x := newTrial(t, "safe-harbor", func(k *Config) { k.Subjects = people{"p": {Birth: c.birth}} })
		got := shown(x.run(stored{body: "{'resourceType':'Patient','id':'p','birthDate':'" + c.birth + "','_birthDate':{'extension':[{'url':'http://hl7.org/fhir/StructureDefinition/patient-birthTime','valueDateTime':'" +
			c.birth + "T10:00:00Z'}]},'deceasedDateTime':'2025-02-03T04:05:06Z'}"})[0])
		if c.want == "" == strings.Contains(got, "birthDate") || !strings.Contains(got, c.want) || !strings.Contains(got, "'deceasedDateTime':'2025'") || strings.Contains(got, "-0") {
			t.Errorf("born on %s: %s", c.birth, got)
		}
	}
}

func TestD1_164_514_b_2_i_C_Ages(t *testing.T) {
	over := "{'value':90,'comparator':'>=','system':'http://unitsofmeasure.org','code':'a'}"
	of := func(value, unit string) string {
		return "{'value':" + value + ",'system':'http://unitsofmeasure.org','code':'" + unit + "'}"
	}
	for _, c := range []struct{ birth, value, want string }{
		{"1980-01-01", of("45", "a"), of("45", "a")},
		{"1980-01-01", of("89", "a"), of("89", "a")},
		{"1980-01-01", of("89.9", "a"), of("89.9", "a")},
		{"1980-01-01", of("90", "a"), over},
		{"1980-01-01", of("104", "a"), over},
		{"1980-01-01", of("1080", "mo"), over},
		{"1980-01-01", of("1079", "mo"), of("1079", "mo")},
		{"1980-01-01", of("32873", "d"), over},
		{"1980-01-01", "{'value':89,'comparator':'>','system':'http://unitsofmeasure.org','code':'a'}", over},
		{"1980-01-01", "{'value':93,'unit':'years'}", ""},
		{"1980-01-01", "{'value':93}", ""},
		{"1980-01-01", "{'value':1931}", ""},
		{"1980-01-01", "{'value':27}", "{'value':27}"},
		{"1980-01-01", of("120", "mm[Hg]"), of("120", "mm[Hg]")},
		{"1930-01-01", of("85", "a"), ""}, // with the year of the record, over 89
		{"1930-01-01", of("95", "a"), over},
		{"1930-01-01", of("120", "mm[Hg]"), of("120", "mm[Hg]")},
	} {
		if got := part(t, "safe-harbor", c.birth, "'valueQuantity':"+c.value, "valueQuantity"); got != c.want {
			t.Errorf("%s, born %s: %s, want %s", c.value, c.birth, got, c.want)
		}
	}
	for value, want := range map[string]string{"12": "12", "89": "89", "90": "", "1931": "", "206555123": ""} {
		if got := part(t, "safe-harbor", "1980", "'valueInteger':"+value, "valueInteger"); got != want {
			t.Errorf("%s: %s", value, got)
		}
	}
	for value, want := range map[string]string{"7.50": "7.50", "27.84395724512": "27.843957", "0.000123456789": "0.00012346", "-7.2065550123": "-7.2065550", "12345678": "12345678", "206555012": "", "2065550123": "", "1e3": ""} {
		if want != "" {
			want = of(want, "mg/dL")
		}
		if got := part(t, "safe-harbor", "1980", "'valueQuantity':"+of(value, "mg/dL"), "valueQuantity"); got != want {
			t.Errorf("%s mg/dL: %s, want %s", value, got, want)
		}
	}
	// An age by its code, in no unit.
	x := newTrial(t, "safe-harbor")
	if got := shown(x.run(stored{patient: "p", body: "{'resourceType':'Observation','id':'o','status':'final','code':{'coding':[{'system':'http://loinc.org','code':'30525-0'}]},'valueInteger':71}"})[0]); strings.Contains(got, "71") {
		t.Error(got)
	}
	// An age that is one by its type; a range of ages.
	x = newTrial(t, "safe-harbor")
	for i, n := range x.run(
		stored{patient: "p", body: "{'resourceType':'Condition','id':'a','subject':{'reference':'Patient/p'},'onsetAge':" + of("91", "a") + "}"},
		stored{patient: "p", body: "{'resourceType':'Condition','id':'b','subject':{'reference':'Patient/p'},'onsetAge':{'value':91,'unit':'a'}}"},
		stored{patient: "p", body: "{'resourceType':'Condition','id':'c','subject':{'reference':'Patient/p'},'onsetRange':{'low':" + of("85", "a") + ",'high':" + of("95", "a") + "}}"},
		stored{patient: "p", body: "{'resourceType':'Condition','id':'d','subject':{'reference':'Patient/p'},'onsetRange':{'low':{'value':85},'high':{'value':95}}}"},
	) {
		want := []string{"'onsetAge':" + over, "", "'onsetRange':{'low':" + of("85", "a") + "}", ""}[i]
		if got := shown(n); !strings.Contains(got, want) || want == "" && strings.Contains(got, "onset") {
			t.Errorf("%d: %s", i, got)
		}
	}
}

// family is a patient with a visit, a diagnosis and a provider, who refer to each other.
func family(p string) []stored {
	id := fhir.ID(p)
	return []stored{
		{body: "{'resourceType':'Practitioner','id':'dr','name':[{'family':'Who'}]}"},
		{body: "{'resourceType':'Patient','id':'" + p + "','generalPractitioner':[{'reference':'Practitioner/dr'}],'managingOrganization':{'reference':'Organization/absent'}}"},
		{patient: id, body: "{'resourceType':'Encounter','id':'e-" + p + "','status':'finished','class':{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'AMB'},'subject':{'reference':'Patient/" + p +
			"','display':'Her Name'},'participant':[{'individual':{'reference':'Practitioner/dr'}}],'diagnosis':[{'condition':{'reference':'Condition/c-" + p + "/_history/2'}},{'condition':{'reference':'Condition/gone'}}]}"},
		{patient: id, body: "{'resourceType':'Condition','id':'c-" + p + "','subject':{'reference':'Patient/" + p + "'},'encounter':{'reference':'Encounter/e-" + p + "'}}"},
	}
}

// integrity finds references that name nothing that is released.
func integrity(t *testing.T, out []*element.Node) (followed int) {
	t.Helper()
	there := map[string]bool{}
	for _, n := range out {
		if n != nil {
			there[n.Get("resourceType").String()+"/"+n.Get("id").String()] = true
		}
	}
	for _, n := range out {
		n.Walk(func(name string, x *element.Node) bool {
			if name == "reference" && x.Kind == element.String && x.Text[0] != '#' {
				if followed++; !there[x.Text] {
					t.Errorf("%s is nowhere", x.Text)
				}
			}
			return true
		})
	}
	return followed
}

func TestD3_164_514_c_Surrogates(t *testing.T) {
	in := family("p")
	ids := map[string]int{}
	for range 2 {
		x := newTrial(t, "safe-harbor")
		out := x.run(in...)
		if n := integrity(t, out); n != 6 {
			t.Errorf("%d references are kept, want 6", n)
		}
		for i, n := range out {
			if n == nil {
				t.Fatal(x.report.LeftOut)
			}
			ids[n.Get("id").String()]++
			if d, ok, err := x.release.Transform(context.Background(), in[i].seal(t, x.grants)); err != nil || !ok || string(d.Ref().ID) != n.Get("id").String() {
				t.Error("a resource has two surrogates in one release")
			}
		}
		if got := shown(out[2]); strings.Contains(got, "Her") || strings.Contains(got, "_history") || strings.Count(got, "Condition/") != 1 || strings.Contains(got, "masked") {
			t.Errorf("what a reference keeps: %s", got)
		}
	}
	if len(ids) != 2*len(in) {
		t.Errorf("two releases of one patient share an id: %v", ids)
	}
	// A surrogate that is the id itself, or the patient's, fails the release.
	for _, id := range []fhir.ID{"o", "p", "", "no/id"} {
		x := newTrial(t, "safe-harbor", func(c *Config) { c.Surrogates = fixed{id} })
		s := stored{patient: "p", body: observation("o", "'valueInteger':1")}.seal(t, x.grants)
		if err := x.release.Survey(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		x.release.Settle()
		if _, ok, err := x.release.Transform(context.Background(), s); ok || !errors.Is(err, errSurrogate) {
			t.Errorf("%q: %v, %v", id, ok, err)
		}
	}
}

// fixed is a map that gives everything one id.
type fixed struct{ id fhir.ID }

func (fixed) Admit(context.Context, fhir.Ref, fhir.ID) error { return nil }

func (f fixed) Member(context.Context, fhir.Ref) (Member, bool, error) {
	return Member{ID: f.id, Patient: "p"}, true, nil
}

func TestD4_164_514_e_LimitedDataSet(t *testing.T) {
	x := newTrial(t, "limited-data-set", func(c *Config) { c.Subjects = people{"p": {Birth: "1920-01-02"}} })
	got := x.run(
		stored{body: "{'resourceType':'Patient','id':'p','name':[{'family':'X'}],'identifier':[{'value':'1'}],'telecom':[{'system':'phone','value':'1'}],'birthDate':'1920-01-02','deceasedDateTime':'2025-02-03T04:05:06.123456789Z'}"},
		stored{patient: "p", body: observation("o", "'effectiveDateTime':'2024-03-05','issued':'2024-03-05T10:00:00Z','note':[{'text':'x'}],'valueQuantity':{'value':95,'system':'http://unitsofmeasure.org','code':'a'}")},
	)
	for i, want := range []string{"'birthDate':'1920-01-02','deceasedDateTime':'2025-02-03T04:05:06Z'}", "'effectiveDateTime':'2024-03-05','issued':'2024-03-05T10:00:00Z','valueQuantity':{'value':95,"} {
		if s := shown(got[i]); !strings.Contains(s, want) || !strings.Contains(s, "'PSEUDED'") || !strings.Contains(s, "'NORELINK'") || strings.Contains(s, "'X'") {
			t.Error(s)
		}
	}
	base := Config{Grant: grant(t, "HRESCH"), Now: today, Subjects: people{}, Surrogates: NewRandom()}
	if _, err := Begin(profile(t, "limited-data-set"), base); err == nil || !strings.Contains(err.Error(), "agreement") {
		t.Errorf("without an agreement: %v", err)
	}
	base.Agreement = fhir.Ref{Type: "Contract", ID: "1"}
	if _, err := Begin(profile(t, "limited-data-set"), base); err != nil {
		t.Error(err)
	}
	base.Grant = grant(t, "TREAT")
	if _, err := Begin(profile(t, "limited-data-set"), base); err == nil {
		t.Error("a limited data set for treatment")
	}
}

func TestD6_164_514_b_NoFreeText(t *testing.T) {
	x := newTrial(t, "safe-harbor", func(c *Config) {
		c.Questionnaires = map[string][]string{"http://example.org/Questionnaire/known": {"q1", "q2"}}
	})
	got := x.run(
		stored{patient: "p", body: observation("o", "'text':{'status':'generated','div':'<div>Jane</div>'},'note':[{'text':'Jane'}],'valueString':'Jane'")},
		stored{patient: "p", body: "{'resourceType':'QuestionnaireResponse','id':'q','questionnaire':'http://example.org/Questionnaire/known|Jane','status':'completed','item':[" +
			"{'linkId':'q1','text':'Jane','answer':[{'valueString':'Jane'},{'valueInteger':3},{'valueDate':'2020-02-03'}]},{'linkId':'q2','answer':[{'valueInteger':1931}]},{'linkId':'Jane','answer':[{'valueInteger':3}]}]}"},
		stored{patient: "p", body: "{'resourceType':'QuestionnaireResponse','id':'r','questionnaire':'http://example.org/Jane','status':'completed','item':[{'linkId':'q1','answer':[{'valueInteger':3}]},{'linkId':'/44249-1/44250-9','answer':[{'valueInteger':3}]}]}"},
	)
	for i, want := range []string{
		"'subject':{'extension'",
		"'questionnaire':'http://example.org/Questionnaire/known','status':'completed','item':[{'linkId':'q1','answer':[{'valueInteger':3},{'valueDate':'2020'}]},{'linkId':'q2'}]}",
		"'status':'completed','item':[{'linkId':'/44249-1/44250-9','answer':[{'valueInteger':3}]}]}",
	} {
		if s := shown(got[i]); strings.Contains(s, "Jane") || i > 0 && !strings.HasSuffix(s, want) {
			t.Errorf("%s, want %s", s, want)
		}
	}
}

func TestD7_2_16_WhoDoesNotWantIt(t *testing.T) {
	x := newTrial(t, "safe-harbor", func(c *Config) { c.Subjects = people{"out": {OptedOut: true}, "nobody": {Birth: "unknown"}} })
	in := []stored{
		{body: "{'resourceType':'Patient','id':'out'}"},
		{patient: "out", body: observation("a", "'valueInteger':1")},
		{patient: "nobody", body: observation("b", "'valueInteger':1")},
		{patient: "", body: observation("c", "'valueInteger':1")},
		{patient: "p", labels: label.PsychNote, body: observation("d", "'valueInteger':1")},
		{patient: "p", labels: label.CounselingNote | label.Part2, body: observation("e", "'valueInteger':1")},
		{patient: "p", deleted: true, body: observation("f", "'valueInteger':1")},
		{patient: "p", labels: label.Part2, body: observation("g", "'valueInteger':1")},
	}
	for i, n := range x.run(in...) {
		if (n != nil) != (i == 7) {
			t.Errorf("%d: %s", i, shown(n))
		}
	}
	want := map[Reason]int{OptedOut: 1, Patient: 2, Note: 2, Tombed: 1}
	for r, n := range want {
		if x.report.LeftOut["Observation"][r] != n {
			t.Errorf("%s: %v", r, x.report.LeftOut)
		}
	}
}

// A value without its code means nothing; one with a code of the practice's own has it where that was said.
func TestD1_164_514_b_2_R_CodesOfOnesOwn(t *testing.T) {
	body := "{'resourceType':'Observation','id':'o','status':'final','code':{'coding':[{'system':'http://example.org/own','code':'intake'}],'text':'x'},'valueInteger':3," +
		"'component':[{'code':{'coding':[{'system':'http://example.org/own','code':'other'}]},'valueInteger':4},{'code':" + loincScore + ",'valueInteger':5}]}"
	for own, want := range map[bool]string{
		false: "'component':[{'code':" + loincScore + ",'valueInteger':5}],'code':{'extension'",
		true:  "'code':{'coding':[{'system':'http://example.org/own','code':'intake'}]},'valueInteger':3,'component':[{'code':" + loincScore + ",'valueInteger':5}]}",
	} {
		x := newTrial(t, "safe-harbor", func(c *Config) {
			if own {
				c.Codes = map[string][]string{"http://example.org/own": {"intake"}}
			}
		})
		if got := shown(x.run(stored{patient: "p", body: body})[0]); !strings.Contains(got, want) || strings.Contains(got, "other") {
			t.Errorf("%v: %s, want %s", own, got, want)
		}
	}
}

// What changes the meaning of the rest, or is not of R4, takes the whole resource out, and
// no error or report says what it was.
func TestWhatIsNotUnderstoodIsNotReleased(t *testing.T) {
	extension := "[{'url':'http://canary.example/Canary1','valueString':'Canary2'}]"
	for _, body := range []string{
		observation("o", "'modifierExtension':"+extension),
		observation("o", "'component':[{'code':"+loincScore+",'modifierExtension':"+extension+"}]"),
		observation("o", "'implicitRules':'http://canary.example/Canary1'"),
		observation("o", "'_implicitRules':{'id':'Canary1'}"),
		observation("o", "'Canary1':'Canary2'"),
		observation("o", "'_Canary1':{'id':'Canary2'}"),
		observation("o", "'component':'Canary2'"),
		observation("o", "'contained':[{'resourceType':'Specimen','id':'Canary1','modifierExtension':"+extension+"}],'specimen':{'reference':'#Canary1'}"),
		"{'resourceType':'DocumentReference','id':'o','status':'current','content':[{'attachment':{'title':'Canary1'}}]}",
		"{'resourceType':'Observation','id':'o'}",
	} {
		x := newTrial(t, "safe-harbor")
		s := stored{patient: "p", body: body}.seal(t, x.grants)
		errs := fmt.Sprint(x.release.Survey(context.Background(), s), x.release.Settle(), x.report)
		d, ok, err := x.release.Transform(context.Background(), s)
		if errs += fmt.Sprint(err, d); ok || strings.Contains(errs, "anary") {
			t.Errorf("%s: %v %s", body, ok, errs)
		}
		if x.release.Settle().Members != 0 {
			t.Errorf("%s is a member", body)
		}
	}
}

// The walk itself takes nothing for granted that the codec has refused before.
func TestTheWalkRefusesWhatR4DoesNotHave(t *testing.T) {
	for body, want := range map[string]Reason{
		`{"resourceType":"Observation","status":"final"}`:                                             "",
		`{"resourceType":"Observation","status":"final","_status":{"id":"x"}}`:                        "",
		`{"resourceType":"Observation","nonsense":1}`:                                                 Content,
		`{"resourceType":"Observation","_nonsense":{"id":"x"}}`:                                       Content,
		`{"resourceType":"Observation","_code":{"id":"x"}}`:                                           Content,
		`{"resourceType":"Observation","_id":{"id":"x"}}`:                                             Content,
		`{"resourceType":"Observation","status":{"id":"x"}}`:                                          Content,
		`{"resourceType":"Observation","status":["final"]}`:                                           Content,
		`{"resourceType":"Observation","category":{"text":"x"}}`:                                      Content,
		`{"resourceType":"Observation","code":"x"}`:                                                   Content,
		`{"resourceType":"Observation","component":[{"nonsense":1}]}`:                                 Content,
		`{"resourceType":"Observation","code":{"coding":["x"]}}`:                                      Content,
		`{"resourceType":"Observation","component":[{"modifierExtension":[{"url":"http://x.org"}]}]}`: Modified,
		`{"resourceType":"DocumentReference"}`:                                                        Type,
		`{"resourceType":"Period"}`:                                                                   Type,
	} {
		root, err := codec.ReadJSON([]byte(body), codec.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		x := newTrial(t, "safe-harbor")
		w := &walk{ctx: context.Background(), release: x.release, plans: x.release.plans, cells: map[string]bool{}}
		w.person = person{method: SafeHarbor, now: today}
		if out := w.resource(root, "x"); w.left != want || (out == nil) != (want != "") {
			t.Errorf("%s: %q, %s", body, w.left, shown(out))
		}
	}
}

func TestOnlyWhatWasSurveyedUnderTheGrantIsReleased(t *testing.T) {
	ctx := context.Background()
	x := newTrial(t, "safe-harbor")
	s := stored{patient: "p", body: observation("o", "'valueInteger':1")}
	if _, ok, err := x.release.Transform(ctx, s.seal(t, x.grants)); ok || !errors.Is(err, errUnsettled) {
		t.Error("before it is settled", ok, err)
	}
	if err := x.release.Survey(ctx, s.seal(t, grant(t, "TREAT"))); !errors.Is(err, errGrant) {
		t.Error("under another grant", err)
	}
	x.release.Settle()
	if err := x.release.Survey(ctx, s.seal(t, x.grants)); !errors.Is(err, errSettled) {
		t.Error("after it is settled", err)
	}
	if _, ok, err := x.release.Transform(ctx, s.seal(t, x.grants)); ok || err != nil {
		t.Error("what was not surveyed", ok, err)
	}
	// A body that cannot be decrypted, a map that fails and a patient who cannot be asked about fail the call.
	broken := errors.New("broken")
	y := newTrial(t, "safe-harbor")
	sealed := vault.SealEncrypted(vault.Header{Ref: fhir.Ref{Type: "Observation", ID: "o"}, Patient: "p"}, y.grants, func(context.Context) ([]byte, error) { return nil, broken })
	if err := y.release.Survey(ctx, sealed); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := Begin(Profile{Name: "safe-harbor", Version: "0", Method: SafeHarbor}, y.config); err == nil {
		t.Error("a profile of one's own")
	}
	for _, mod := range []func(*Config){
		func(c *Config) { c.Grant = grantNone }, func(c *Config) { c.Now = time.Time{} }, func(c *Config) { c.Subjects = nil },
		func(c *Config) { c.Surrogates = nil }, func(c *Config) { c.Expert = &Determination{} },
	} {
		c := y.config
		mod(&c)
		if _, err := Begin(profile(t, "safe-harbor"), c); err == nil {
			t.Error("a release without what it needs")
		}
	}
}

// Many may make resources of one release at once.
func TestD3_164_514_c_SurrogatesHoldForEverybody(t *testing.T) {
	ctx := context.Background()
	x := newTrial(t, "safe-harbor")
	in := family("p")
	out := x.run(in...)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i, s := range in {
				d, ok, err := x.release.Transform(ctx, s.seal(t, x.grants))
				if err != nil || !ok || string(d.Ref().ID) != out[i].Get("id").String() {
					t.Errorf("%d: %v, %v", i, ok, err)
				}
			}
		})
	}
	wait.Wait()
}

func TestNothingShowsWhatIsReleasedButTheSink(t *testing.T) {
	ctx := context.Background()
	x := newTrial(t, "safe-harbor")
	s := stored{patient: "p", body: observation("o", "'valueInteger':77")}.seal(t, x.grants)
	if err := x.release.Survey(ctx, s); err != nil {
		t.Fatal(err)
	}
	x.release.Settle()
	d, ok, err := x.release.Transform(ctx, s)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(f, d); got != "[de-identified]" {
			t.Error(got)
		}
	}
	if d.LogValue().String() != "[de-identified]" {
		t.Error(d.LogValue())
	}
	if got, err := json.Marshal(d); err == nil {
		t.Errorf("%s", got)
	}
	var b bytes.Buffer
	if err := x.release.NDJSON(&b).Put(Deidentified{}); !errors.Is(err, errForeign) {
		t.Error("nothing at all", err)
	}
	if err := newTrial(t, "safe-harbor").release.NDJSON(&b).Put(d); !errors.Is(err, errForeign) || b.Len() > 0 {
		t.Error("of another release", err)
	}
	if err := x.release.NDJSON(&b).Put(d); err != nil || strings.Count(b.String(), "\n") != 1 || !strings.HasSuffix(b.String(), "}\n") {
		t.Error(b.String(), err)
	}
	if r, err := codec.Parse(b.Bytes()); err != nil || r.Ref() != d.Ref() {
		t.Error(err)
	}
}
