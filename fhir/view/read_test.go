package view_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/view"
)

const column = `'select':[{'column':[{'name':'k','path':'id'}]}]`

func TestStrict(t *testing.T) {
	for _, c := range []struct {
		view, at string
		category outcome.Category
	}{
		{`{}`, "ViewDefinition.resource", outcome.Required},
		{`[]`, "ViewDefinition", outcome.Structure},
		{`{'resource':'Patient'}`, "ViewDefinition.select", outcome.Required},
		{`{'resource':'Patient','select':[]}`, "ViewDefinition.select", outcome.Structure},
		{`{'resource':'Patient','select':[{}]}`, "ViewDefinition.select[0]", outcome.Required},
		{`{'resource':'Patient','select':[{'forEach':'name'}]}`, "ViewDefinition.select[0]", outcome.Required},
		{`{'resource':'Patient','select':[{'forEach':1,'column':[{'name':'k','path':'id'}]}]}`, "ViewDefinition.select[0].forEach", outcome.Structure},
		{`{'resource':'Patient','select':[{'forEach':'@@','column':[{'name':'k','path':'id'}]}]}`, "ViewDefinition.select[0].forEach", outcome.Value},
		{`{'resource':'Patient','select':[{'forEach':'name','forEachOrNull':'name','column':[{'name':'k','path':'id'}]}]}`, "ViewDefinition.select[0].forEachOrNull", outcome.Structure},
		{`{'resource':'Patient','select':[{'forEach':'name','repeat':['name'],'column':[{'name':'k','path':'id'}]}]}`, "ViewDefinition.select[0].repeat", outcome.Structure},
		{`{'resource':'Patient','select':[{'foreach':'name','column':[{'name':'k','path':'id'}]}]}`, "ViewDefinition.select[0].foreach", outcome.Structure},
		{`{'resource':'Patient','modifierExtension':[{'url':'x'}],` + column + `}`, "ViewDefinition.modifierExtension", outcome.Structure},
		{`{'resourceType':'Patient','resource':'Patient',` + column + `}`, "ViewDefinition.resourceType", outcome.Structure},
		{`{'resource':'Person_','select':[{'column':[{'name':'k','path':'id'}]}]}`, "ViewDefinition.resource", outcome.CodeInvalid},
		{`{'resource':'HumanName',` + column + `}`, "ViewDefinition.resource", outcome.CodeInvalid},
		{`{'resource':'Patient','name':'a view',` + column + `}`, "ViewDefinition.name", outcome.Value},
		{`{'resource':'Patient','fhirVersion':['5.0.0'],` + column + `}`, "ViewDefinition.fhirVersion", outcome.NotSupported},
		{`{'resource':'Patient','where':[{'path':'id = %nobody'}],` + column + `}`, "ViewDefinition.where[0].path", outcome.Value},
		{`{'resource':'Patient','where':[{'description':'x'}],` + column + `}`, "ViewDefinition.where[0].path", outcome.Required},
		{`{'resource':'Patient','where':{'path':'active'},` + column + `}`, "ViewDefinition.where", outcome.Structure},
		{`{'resource':'Patient','constant':[{'name':'a'}],` + column + `}`, "ViewDefinition.constant[0].value[x]", outcome.Required},
		{`{'resource':'Patient','constant':[{'valueCode':'a'}],` + column + `}`, "ViewDefinition.constant[0].name", outcome.Required},
		{`{'resource':'Patient','constant':[{'name':'a','valueCode':'a','valueString':'b'}],` + column + `}`, "ViewDefinition.constant[0].valueString", outcome.Structure},
		{`{'resource':'Patient','constant':[{'name':'a','valueCoding':{}}],` + column + `}`, "ViewDefinition.constant[0].valueCoding", outcome.Structure},
		{`{'resource':'Patient','constant':[{'name':'a','valueDate':'yesterday'}],` + column + `}`, "ViewDefinition.constant[0]", outcome.Value},
		{`{'resource':'Patient','constant':[{'name':'a','valueInteger':'1'}],` + column + `}`, "ViewDefinition.constant[0]", outcome.Value},
		{`{'resource':'Patient','constant':[{'name':'a','valueInteger64':'1.5'}],` + column + `}`, "ViewDefinition.constant[0]", outcome.Value},
		{`{'resource':'Patient','constant':[{'name':'a','valueCode':'a'},{'name':'a','valueCode':'b'}],` + column + `}`, "ViewDefinition.constant[1].name", outcome.Value},
		{`{'resource':'Patient','constant':[{'name':'resource','valueCode':'a'}],` + column + `}`, "ViewDefinition.constant[0].name", outcome.Value},
		{`{'resource':'Patient','constant':[{'name':'rowIndex','valueInteger':1}],` + column + `}`, "ViewDefinition.constant[0].name", outcome.Value},
		{`{'resource':'Patient','select':[{'column':[{'name':'k','path':'id'},{'name':'k','path':'gender'}]}]}`, "ViewDefinition.select[0].column[1].name", outcome.Value},
		{`{'resource':'Patient',` + column[:len(column)-1] + `,{'select':[{'column':[{'name':'k','path':'id'}]}]}]}`, "ViewDefinition.select[1].select[0].column[0].name", outcome.Value},
		{`{'resource':'Patient','select':[{'column':[{'name':'1k','path':'id'}]}]}`, "ViewDefinition.select[0].column[0].name", outcome.Value},
		{`{'resource':'Patient','select':[{'column':[{'path':'id'}]}]}`, "ViewDefinition.select[0].column[0].name", outcome.Required},
		{`{'resource':'Patient','select':[{'column':[{'name':'k'}]}]}`, "ViewDefinition.select[0].column[0].path", outcome.Required},
		{`{'resource':'Patient','select':[{'column':[{'name':'k','path':'id','type':'HumanName'}]}]}`, "ViewDefinition.select[0].column[0].type", outcome.NotSupported},
		{`{'resource':'Patient','select':[{'column':[{'name':'k','path':'id','collection':'true'}]}]}`, "ViewDefinition.select[0].column[0].collection", outcome.Structure},
		{`{'resource':'Patient','select':[{'column':[{'name':'k','path':'id','tags':[]}]}]}`, "ViewDefinition.select[0].column[0].tags", outcome.Structure},
		{`{'resource':'Patient','select':[{'column':[{'name':'k','path':'id','tag':[{'name':'ansi/type'}]}]}]}`, "ViewDefinition.select[0].column[0].tag[0].value", outcome.Required},
		{`{'resource':'Patient','select':[{'column':[{'name':'k','path':'id.getResourceKey(1)'}]}]}`, "ViewDefinition.select[0].column[0].path", outcome.Value},
		{`{'resource':'Patient','select':[{'unionAll':[{'column':[{'name':'a','path':'id'},{'name':'b','path':'id'}]},{'column':[{'name':'b','path':'id'},{'name':'a','path':'id'}]}]}]}`,
			"ViewDefinition.select[0].unionAll[1]", outcome.Value},
		{`{'resource':'Patient','select':[{'unionAll':[{'column':[{'name':'a','path':'id'}]},{'column':[{'name':'a','path':'id'},{'name':'b','path':'id'}]}]}]}`,
			"ViewDefinition.select[0].unionAll[1]", outcome.Value},
		{`{'resource':'Patient','select':[{'unionAll':[{'column':[{'name':'a','path':'id','type':'id'}]},{'column':[{'name':'a','path':'id','type':'string'}]}]}]}`,
			"ViewDefinition.select[0].unionAll[1]", outcome.Value},
		{`{'resource':'Patient','select':[{'unionAll':[{'column':[{'name':'a','path':'id'}]},{'column':[{'name':'a','path':'id','collection':true}]}]}]}`,
			"ViewDefinition.select[0].unionAll[1]", outcome.Value},
		{`{'resource':'Patient','select':[{'column':[{'name':'a','path':'id'}],'unionAll':[{'column':[{'name':'a','path':'id'}]}]}]}`, "ViewDefinition.select[0].unionAll[0].column[0].name", outcome.Value},
		{`{'resource':'Patient','select':[{'unionAll':[{'column':[{'name':'a','path':'id'}]}]},{'column':[{'name':'a','path':'id'}]}]}`, "ViewDefinition.select[1].column[0].name", outcome.Value},
		{`{'resource':'Patient','select':[` + strings.Repeat(`{'select':[`, 17) + `{'column':[{'name':'a','path':'id'}]}` + strings.Repeat(`]}`, 17) + `]}`,
			"ViewDefinition" + strings.Repeat(".select[0]", 17), outcome.TooCostly},
	} {
		_, err := view.Parse(quoted(c.view))
		e := (*outcome.Error)(nil)
		if !errors.As(err, &e) || e.Issues[0].Path != c.at || e.Issues[0].Category != c.category || e.Status() >= 500 {
			t.Errorf("%s: %v, want a fault at %s", c.view, err, c.at)
		}
	}
	for _, twice := range []string{`{"resource":"Patient","resource":"Group"}`, `{`, `{"resource":"Patient"} {}`} {
		if _, err := view.Parse([]byte(twice)); err == nil || outcome.Of(err).Status() != 400 {
			t.Errorf("%s: %v", twice, err)
		}
	}
}

func TestShareable(t *testing.T) {
	for _, c := range []struct{ view, want string }{
		{`{'resource':'Patient','select':[{'column':[{'name':'k','path':'id'},{'name':'g','path':'gender','type':'code'}]}]}`,
			"ViewDefinition: to be shareable it needs url, name, fhirVersion, the type of column k"},
		{`{'resourceType':'ViewDefinition','url':'http://x.example/v','name':'v','status':'active','fhirVersion':['4.0.1'],'resource':'Patient',
			'select':[{'column':[{'name':'k','path':'id','type':'http://hl7.org/fhir/StructureDefinition/id','description':'its key','tag':[{'name':'ansi/type','value':'VARCHAR'}]}]}]}`, ""},
	} {
		v, err := view.Parse(quoted(c.view))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := v.Shareable(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s", c.view, got)
		}
		if k := v.Columns()[0]; k.Name != "k" || c.want == "" && (k.Type != "id" || k.Description != "its key" || v.Name() != "v" || v.URL() != "http://x.example/v") {
			t.Errorf("%+v", k)
		}
	}
}
