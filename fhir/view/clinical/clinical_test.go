package clinical_test

import (
	"context"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/view"
	"github.com/cloister-health/cloister/fhir/view/clinical"
)

func TestViewsAreShareable(t *testing.T) {
	files, err := fs.Glob(os.DirFS("views"), "*.json")
	if err != nil || len(files) != len(clinical.Views()) {
		t.Errorf("%d files and %d views, %v", len(files), len(clinical.Views()), err)
	}
	for _, v := range clinical.Views() {
		if err := v.Shareable(); err != nil {
			t.Errorf("%s: %v", v.Name(), err)
		}
		if v.URL() != fhir.Canonical+"/ViewDefinition/"+v.Name() || v.Title() == "" || v.Description() == "" {
			t.Errorf("%s is %s, %q", v.Name(), v.URL(), v.Title())
		}
		if found, ok := clinical.Named(v.Name()); !ok || found != v || clinical.Definition(v.Name()) == nil {
			t.Errorf("%s is not found", v.Name())
		}
		for _, c := range v.Columns() {
			if c.Description == "" || c.Collection {
				t.Errorf("%s.%s: %+v", v.Name(), c.Name, c)
			}
		}
	}
	for _, name := range []string{"", "none", "../views/patient", "patient.json"} {
		if _, ok := clinical.Named(name); ok || clinical.Definition(name) != nil {
			t.Errorf("%q is found", name)
		}
	}
}

// TestViewsOfWhatIsNotReleasedYet runs the views over resources as they are stored: with days and times, codes in
// several systems, and shapes that the sample clinic does not have.
func TestViewsOfWhatIsNotReleasedYet(t *testing.T) {
	for _, c := range []struct{ view, resource, want string }{
		{"patient", `{'resourceType':'Patient','id':'a','gender':'female','birthDate':'1987-05-01','deceasedDateTime':'2024-01-01','address':[{'state':'MA','postalCode':'021','country':'US'},{'state':'NY'}],
			'maritalStatus':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-MaritalStatus','code':'M'}]},
			'communication':[{'language':{'coding':[{'system':'urn:ietf:bcp:47','code':'es'}]}},{'language':{'coding':[{'system':'urn:ietf:bcp:47','code':'en'}]},'preferred':true}],
			'extension':[{'url':'http://hl7.org/fhir/us/core/StructureDefinition/us-core-race','extension':[{'url':'ombCategory','valueCoding':{'code':'2106-3'}},{'url':'ombCategory','valueCoding':{'code':'2028-9'}}]}]}`,
			"a female 1987 1980 true MA 021 US M en 2106-3+2028-9 -"},
		{"patient", `{'resourceType':'Patient','id':'b','deceasedBoolean':false,'communication':[{'language':{'coding':[{'code':'es'}]}}]}`, "b - - - false - - - - es - -"},
		{"phq9_score", `{'resourceType':'Observation','id':'o','status':'final','code':{'coding':[{'code':'x'},{'system':'http://loinc.org','code':'44261-6'}]},'subject':{'reference':'Patient/a'},
			'effectivePeriod':{'start':'2024-01-02'},'valueInteger':4}`, "o a - - final 2024-01-02 4 minimal"},
		{"phq9_score", `{'resourceType':'Observation','id':'o','status':'amended','code':{'coding':[{'system':'http://loinc.org','code':'44261-6'}]},'valueQuantity':{'value':20}}`, "o - - - amended - 20 severe"},
		{"phq9_score", `{'resourceType':'Observation','id':'o','status':'final','code':{'coding':[{'system':'http://loinc.org','code':'44261-6'}]}}`, "o - - - final - - -"},
		{"phq9_score", `{'resourceType':'Observation','id':'o','status':'entered-in-error','code':{'coding':[{'system':'http://loinc.org','code':'44261-6'}]},'valueInteger':4}`, ""},
		{"phq9_score", `{'resourceType':'Observation','id':'o','status':'final','code':{'coding':[{'system':'http://other.example','code':'44261-6'}]},'valueInteger':4}`, ""},
		{"phq9_response", `{'resourceType':'QuestionnaireResponse','id':'q','status':'completed','authored':'2024','item':[{'linkId':'/44249-1','item':[
			{'linkId':'/44249-1/44255-8','answer':[{'valueCoding':{'system':'http://loinc.org','code':'LA6570-1'}}]},{'linkId':'/44249-1/44260-8','answer':[{'valueInteger':1}]},{'linkId':'/44249-1/44259-0','answer':[{'valueCoding':{'code':'LA9999-9'}}]}]},
			{'linkId':'44261-6','answer':[{'valueInteger':3}]}]}`, "q - - completed 2024 - 2 - - - - - - 1 3"},
		{"phq9_response", `{'resourceType':'QuestionnaireResponse','id':'q','status':'completed','item':[{'linkId':'69725-0'}]}`, ""},
		{"diagnosis", `{'resourceType':'Condition','id':'c','subject':{'reference':'Patient/a'},'code':{'coding':[{'system':'s1','code':'F33.1'},{'system':'s2','code':'9'}]},'onsetAge':{'value':30},'recordedDate':'2024'}`,
			"c a - 0 s1 F33.1 - - - - - 2024 / c a - 1 s2 9 - - - - - 2024"},
		{"diagnosis", `{'resourceType':'Condition','id':'c','verificationStatus':{'coding':[{'code':'refuted'}]},'code':{'coding':[{'code':'F33.1'}]}}`, ""},
		{"level_of_care", `{'resourceType':'Encounter','id':'e','status':'finished','class':{'code':'AMB'},'period':{'start':'2024-03'},'classHistory':[{'class':{'code':'IMP'},'period':{'start':'2024-01','end':'2024-02'}},{'class':{'code':'odd'}}]}`,
			"e - - finished AMB outpatient 2024-03 - true / e - - finished IMP inpatient 2024-01 2024-02 false / e - - finished odd - - - false"},
		{"level_of_care", `{'resourceType':'Encounter','id':'e','status':'cancelled','class':{'code':'AMB'}}`, ""},
		{"attendance", `{'resourceType':'Appointment','id':'p','status':'noshow','start':'2024-03-01T10:00:00Z','minutesDuration':50,'participant':[{'actor':{'reference':'Practitioner/d'}},{'actor':{'reference':'Patient/a'}}]}`,
			"p a noshow missed - - 2024-03-01T10:00:00Z 50 - d"},
		{"attendance", `{'resourceType':'Appointment','id':'p','status':'cancelled','cancelationReason':{'coding':[{'code':'pat'}]},'participant':[{'status':'accepted'}]}`, "p - cancelled cancelled pat - - - - -"}, //nolint:dupword // the status and what came of it
	} {
		v, ok := clinical.Named(c.view)
		if !ok {
			t.Fatal(c.view)
		}
		root, err := codec.ReadJSON([]byte(strings.ReplaceAll(c.resource, "'", `"`)), codec.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var rows []string
		err = v.Rows(context.Background(), root, func(r view.Row) error {
			cells := make([]string, len(r))
			for i, x := range r {
				if cells[i] = "-"; len(x) > 0 {
					cells[i] = strings.ReplaceAll(x[0], " ", "+")
				}
			}
			rows = append(rows, strings.Join(cells, " "))
			return nil
		})
		if got := strings.Join(rows, " / "); err != nil || got != c.want {
			t.Errorf("%s:\n%s, %v\nwant\n%s", c.view, got, err, c.want)
		}
	}
}
