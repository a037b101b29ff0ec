package deident

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

func determined(quasi ...Quasi) func(*Config) {
	return func(c *Config) {
		random := NewRandom()
		c.Expert = &Determination{Reference: fhir.Ref{Type: "DocumentReference", ID: "expert"}, Shifts: random, Days: 100, K: MinK, Quasi: quasi, YearBand: 10}
		c.Surrogates = random
	}
}

// crowd is so many patients, each with a diagnosis.
func crowd(from, n int, patient, code string) (out []stored) {
	for i := range n {
		id := fmt.Sprintf("p%d", from+i)
		out = append(out,
			stored{body: "{'resourceType':'Patient','id':'" + id + "'," + patient + "}"},
			stored{patient: fhir.ID(id), body: "{'resourceType':'Condition','id':'c-" + id + "','subject':{'reference':'Patient/" + id + "'},'code':{'coding':[{'system':'http://hl7.org/fhir/sid/icd-10-cm','code':'" + code +
				"'}]},'recordedDate':'2024-03-05','abatementDateTime':'2024-06-05T10:11:12Z','onsetDateTime':'2020','evidence':[{'detail':[{'reference':'Patient/p0'}]}]}"})
	}
	return out
}

func TestD5_164_514_b_1_SmallGroupsAreNotReleased(t *testing.T) {
	x := newTrial(t, "expert-determination", determined(BirthYear, Gender, State))
	patient := func(gender, state string) string {
		return "'gender':'" + gender + "','birthDate':'1984-05-06','deceasedDateTime':'2025-02-03','maritalStatus':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-MaritalStatus','code':'M'}]}," +
			"'address':[{'state':'" + state + "','postalCode':'12180'},{'state':'CA'}]"
	}
	var in []stored
	in = append(in, crowd(0, 12, patient("female", "NY"), "F32.9")...)   // a group
	in = append(in, crowd(100, 11, patient("male", "NY"), "F32.9")...)   // just one
	in = append(in, crowd(200, 10, patient("female", "VT"), "F32.9")...) // too small
	in = append(in, crowd(300, 1, patient("other", "WY"), "F20.0")...)   // and one more makes eleven without anything
	out := x.run(in...)
	if integrity(t, out) < 60 {
		t.Error("references are lost")
	}
	groups := map[string]int{}
	codes := map[string]int{}
	for _, n := range out {
		if n == nil {
			t.Fatal(x.report)
		}
		if n.Get("resourceType").String() == "Condition" {
			codes[codeOf(n)]++
			continue
		}
		text := shown(n)
		groups[text[strings.Index(text, "]}")+2:]]++
	}
	want := map[string]int{
		",'birthDate':'1980','gender':'female','address':[{'state':'NY'}]}": 12,
		",'birthDate':'1980','gender':'male','address':[{'state':'NY'}]}":   11,
		"}": 11,
	}
	if fmt.Sprint(groups) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", groups, want)
	}
	// One patient alone has F20.0.
	if codes["F32.9"] != 33 || codes["F20.0"] != 0 {
		t.Error(codes)
	}
	got := *x.report.Determined
	if got.Patients != 34 || got.Groups != 3 || got.Smallest != 11 || got.Generalised != 11 || got.Suppressed != 0 {
		t.Errorf("%+v", got)
	}
	if len(got.Cells) != 1 || got.Cells[0] != (Cell{"Condition.code", "http://hl7.org/fhir/sid/icd-10-cm", "F20.0"}) {
		t.Errorf("%+v", got.Cells)
	}
}

func TestD5_164_514_b_1_WhoIsInNoGroupIsLeftOut(t *testing.T) {
	x := newTrial(t, "expert-determination", determined(Gender))
	in := append(crowd(100, 11, "'gender':'male'", "F32.9"), crowd(0, 3, "'gender':'female'", "F32.9")...)
	released := 0
	for i, n := range x.run(in...) {
		if n != nil {
			released++
		}
		if i >= 22 && n != nil {
			t.Errorf("one of three is released: %s", shown(n))
		}
		if n != nil && strings.Contains(shown(n), "'detail'") {
			t.Errorf("a reference to one who is not: %s", shown(n))
		}
	}
	if got := *x.report.Determined; released != 22 || got.Suppressed != 3 || got.Generalised != 0 || got.Groups != 1 {
		t.Errorf("%d released, %+v", released, got)
	}
}

func TestD8_CellsOfFewerThanEleven(t *testing.T) {
	for n, kept := range map[int]bool{10: false, 11: true} {
		x := newTrial(t, "expert-determination", determined())
		in := append(crowd(0, 20, "'gender':'male'", "F32.9"), crowd(100, n, "'gender':'male'", "F20.0")...)
		// Several records of one patient count once.
		extra := crowd(100, 1, "'gender':'male'", "F20.0")[1]
		extra.body = strings.Replace(extra.body, "'id':'c-", "'id':'d-", 1)
		in = append(in, extra)
		found := false
		for _, y := range x.run(in...) {
			found = found || strings.Contains(shown(y), "F20.0")
		}
		if found != kept {
			t.Errorf("%d patients: %v, %+v", n, found, x.report.Determined)
		}
	}
}

func TestD5_164_514_b_1_DatesAreShifted(t *testing.T) {
	in := crowd(0, 40, "'gender':'male'", "F32.9")
	shifts := map[int]bool{}
	for range 2 {
		x := newTrial(t, "expert-determination", determined(Gender))
		for i, n := range x.run(in...) {
			if i%2 == 0 {
				continue
			}
			at := func(name string) time.Time {
				d, err := time.Parse("2006-01-02", n.Get(name).String())
				if err != nil {
					t.Fatal(err, shown(n))
				}
				return d
			}
			first := at("recordedDate")
			shift := int(first.Sub(time.Date(2024, 3, 5, 0, 0, 0, 0, time.UTC)).Hours() / 24)
			if shifts[shift] = true; shift > 100 || shift < -100 || shift == 0 {
				t.Errorf("by %d days", shift)
			}
			if got := at("abatementDateTime").Sub(first).Hours() / 24; got != 92 {
				t.Errorf("the dates of one patient are %v days apart, were 92", got)
			}
			if n.Get("onsetDateTime").String() != "2020" {
				t.Error(shown(n))
			}
		}
	}
	if len(shifts) < 20 {
		t.Errorf("%d different shifts of 80", len(shifts))
	}
	x := newTrial(t, "expert-determination", determined(Gender), func(c *Config) { c.Expert.Shifts = far{} })
	if err := x.release.Survey(context.Background(), in[1].seal(t, x.grants)); err == nil {
		t.Error("a shift out of range")
	}
}

// An instant moves like a date and loses its time, which would tell the day.
func TestD5_164_514_b_1_Instants(t *testing.T) {
	p := person{method: Expert, now: today, born: today.AddDate(-40, 0, 0), shift: 7, moved: true}
	for in, want := range map[string]string{"2024-02-27T23:59:59.123-08:00": "2024-03-05T00:00:00Z", "2024": "", "": ""} {
		if got := p.instant(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	if p.moved = false; p.instant("2024-02-27T23:59:59Z") != "" || p.date("2024-02-27") != "2024" {
		t.Error("what belongs to no patient is not moved, and has its year")
	}
}

type far struct{}

func (far) Shift(context.Context, fhir.ID, int) (int, error) { return 101, nil }

func TestD5_164_514_b_1_WhatADeterminationNeeds(t *testing.T) {
	for name, mod := range map[string]func(*Determination){
		"document": func(d *Determination) { d.Reference = fhir.Ref{} }, "shifts": func(d *Determination) { d.Shifts = nil },
		"days": func(d *Determination) { d.Days = 0 }, "many days": func(d *Determination) { d.Days = MaxDays + 1 }, "k": func(d *Determination) { d.K = 10 },
		"band": func(d *Determination) { d.YearBand = -1 }, "quasi": func(d *Determination) { d.Quasi = []Quasi{"name"} }, "twice": func(d *Determination) { d.Quasi = []Quasi{Gender, Gender} },
	} {
		c := Config{Grant: grantOnce(t, "TREAT"), Now: today, Subjects: people{}, Surrogates: NewRandom()}
		determined(Gender)(&c)
		if _, err := Begin(profile(t, "expert-determination"), c); err != nil {
			t.Fatal(err)
		}
		mod(c.Expert)
		if _, err := Begin(profile(t, "expert-determination"), c); err == nil {
			t.Error(name)
		}
	}
}

// What a determination does not speak of is not released: quasi-identifiers that it does
// not name, who treats whom, and patients inside other resources.
func TestD5_164_514_b_1_WhatIsNotDetermined(t *testing.T) {
	quasi := []Quasi{BirthYear, Gender, State, ZIP3, MaritalStatus, Race, Ethnicity, Language, Deceased}
	ext := func(name string) string {
		return "{'url':'http://hl7.org/fhir/us/core/StructureDefinition/us-core-" + name + "','extension':[{'url':'ombCategory','valueCoding':{'system':'urn:oid:2.16.840.1.113883.6.238','code':'2106-3'}},{'url':'detailed','valueCoding':{'system':'urn:oid:2.16.840.1.113883.6.238','code':'1010-8'}},{'url':'text','valueString':'x'}]}"
	}
	patient := "'extension':[" + ext("race") + "," + ext("ethnicity") + "],'active':true,'gender':'female','birthDate':'1984-05-06','deceasedDateTime':'2025-02-03','multipleBirthInteger':2,'maritalStatus':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-MaritalStatus','code':'M'}]}," +
		"'address':[{'use':'home','state':'NY','postalCode':'12180','period':{'start':'2020'}}],'communication':[{'language':{'coding':[{'system':'urn:ietf:bcp:47','code':'en-US'}]},'preferred':true}]"
	marks := map[Quasi]string{BirthYear: "1980", Gender: "female", State: "'NY'", ZIP3: "'121'", MaritalStatus: "'M'", Race: "core-race", Ethnicity: "core-ethnicity", Language: "en-US", Deceased: "'deceasedBoolean':true"}
	for i := range len(quasi) + 1 {
		some := quasi[:i]
		x := newTrial(t, "expert-determination", determined(some...))
		in := append(crowd(0, 11, patient, "F32.9"), stored{body: "{'resourceType':'Organization','id':'org','active':true}"})
		out := x.run(in...)
		text := shown(out[0])
		for q, m := range marks {
			if strings.Contains(text, m) != slices.Contains(some, q) {
				t.Errorf("%v: %s", some, text)
			}
		}
		for _, no := range []string{"active", "multiple", "period", "preferred", "'use'", "detailed", "2025", "1010-8"} {
			if strings.Contains(text, no) {
				t.Errorf("%s in %s", no, text)
			}
		}
		if out[len(out)-1] != nil {
			t.Error("an organization is released")
		}
	}
	x := newTrial(t, "expert-determination", determined())
	in := crowd(0, 11, "'active':true", "F32.9")
	for i := 1; i < len(in); i += 2 {
		in[i].body = strings.Replace(in[i].body, "'id':", "'contained':[{'resourceType':'Patient','id':'x','gender':'male'}],'asserter':{'reference':'#x'},'id':", 1)
	}
	for _, n := range x.run(in...) {
		if s := shown(n); n == nil || strings.Contains(s, "contained") || strings.Contains(s, "asserter") {
			t.Error(s)
		}
	}
}

func codeOf(n *element.Node) string {
	codings := n.Get("code").Get("coding").List()
	if len(codings) == 0 {
		return ""
	}
	return codings[0].Get("code").String()
}
