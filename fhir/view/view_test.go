package view_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/view"
)

// quoted is JSON that was written with single quotes.
func quoted(s string) []byte { return []byte(strings.ReplaceAll(s, "'", `"`)) }

func resource(t testing.TB, body string) *element.Node {
	t.Helper()
	root, err := codec.ReadJSON(quoted(body), codec.Limits{})
	if err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return root
}

// two people and what one of them answered, said and was billed.
const (
	ann = `{'resourceType':'Patient','id':'ann','active':true,'gender':'female','birthDate':'1980-06',
		'name':[{'use':'official','family':'Moss','given':['Ann','Bea']},{'use':'nickname','given':['Nan']}],
		'telecom':[{'system':'phone','value':'1'},{'system':'email','value':'2'}],
		'contact':[{'name':{'family':'Moss'},'telecom':[{'system':'phone','value':'3'}]},{'name':{'family':'Fern'}}],
		'generalPractitioner':[{'reference':'Practitioner/d1'},{'reference':'Organization/o1'}],
		'extension':[{'url':'http://x.example/size','valueDecimal':1.70}]}`
	bob   = `{'resourceType':'Patient','id':'bob','_gender':{'extension':[{'url':'http://hl7.org/fhir/StructureDefinition/data-absent-reason','valueCode':'masked'}]},'multipleBirthInteger':2}`
	score = `{'resourceType':'Observation','id':'s1','status':'final','code':{'coding':[{'system':'http://loinc.org','code':'44261-6'}]},
		'subject':{'reference':'Patient/ann'},'effectiveDateTime':'2024-03','valueQuantity':{'value':17.0,'code':'{score}'}}`
	form = `{'resourceType':'QuestionnaireResponse','id':'q1','status':'completed','item':[
		{'linkId':'1','item':[{'linkId':'1.1','answer':[{'valueInteger':3,'item':[{'linkId':'1.1.1','answer':[{'valueBoolean':true}]}]}]},{'linkId':'1.2'}]},
		{'linkId':'2','answer':[{'valueString':'x'},{'valueString':'y'}]}]}`
)

// table shows the rows of a view: columns by | and rows by a line, - for what is empty, lists by commas.
func table(t testing.TB, v *view.View, bodies ...string) (string, error) {
	t.Helper()
	var lines []string
	for _, b := range bodies {
		err := v.Rows(context.Background(), resource(t, b), func(r view.Row) error {
			cells := make([]string, len(r))
			for i, c := range r {
				if cells[i] = strings.Join(c, ","); c == nil {
					cells[i] = "-"
				}
			}
			lines = append(lines, strings.Join(cells, "|"))
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return strings.Join(lines, " "), nil
}

func TestRows(t *testing.T) {
	for _, c := range []struct{ name, view, want string }{
		{"columns in order, null for what is not there", `'resource':'Patient','select':[{'column':[{'name':'k','path':'getResourceKey()'},{'name':'born','path':'birthDate','type':'date'},
			{'name':'on','path':'active','type':'boolean'},{'name':'nth','path':'multipleBirth.ofType(integer)','type':'integer'}]}]`,
			"ann|1980-06|true|- bob|-|-|2"},
		{"what has extensions alone has no value", `'resource':'Patient','select':[{'column':[{'name':'g','path':'gender','type':'code'},{'name':'there','path':'gender.exists()','type':'boolean'}]}]`,
			"female|true -|true"},
		{"where keeps what is true", `'resource':'Patient','where':[{'path':'active'},{'path':'gender = \"female\"'}],'select':[{'column':[{'name':'k','path':'id'}]}]`, "ann"},
		{"of another type there is no row", `'resource':'Observation','select':[{'column':[{'name':'v','path':'value.ofType(Quantity).value','type':'decimal'}]}]`, "17.0"},
		{"a collection", `'resource':'Patient','select':[{'column':[{'name':'k','path':'id'},{'name':'g','path':'name.given','collection':true}]}]`, "ann|Ann,Bea,Nan bob|-"},
		{"forEach leaves out who has none", `'resource':'Patient','select':[{'column':[{'name':'k','path':'id'}]},{'forEach':'name','column':[{'name':'u','path':'use'},{'name':'g','path':'given.first()'}]}]`,
			"ann|official|Ann ann|nickname|Nan"},
		{"forEachOrNull keeps her", `'resource':'Patient','select':[{'column':[{'name':'k','path':'id'}]},{'forEachOrNull':'name','column':[{'name':'u','path':'use'},{'name':'said','path':'true','type':'boolean'}]}]`,
			"ann|official|true ann|nickname|true bob|-|-"},
		{"forEach over values", `'resource':'Patient','select':[{'forEach':'name.given','column':[{'name':'g','path':'$this'},{'name':'i','path':'%rowIndex','type':'integer'}]}]`, "Ann|0 Bea|1 Nan|2"},
		{"siblings are multiplied", `'resource':'Patient','select':[{'forEach':'name','column':[{'name':'u','path':'use'}]},{'forEach':'telecom','column':[{'name':'s','path':'system'}]}]`,
			"official|phone official|email nickname|phone nickname|email"},
		{"nested, with its own focus", `'resource':'Patient','select':[{'column':[{'name':'k','path':'id'}],'select':[{'forEach':'contact','column':[{'name':'f','path':'name.family'}],
			'select':[{'forEachOrNull':'telecom','column':[{'name':'v','path':'value'}]}]}]}]`, "ann|Moss|3 ann|Fern|-"},
		{"columns come before selects, unionAll last", `'resource':'Patient','select':[{'unionAll':[{'column':[{'name':'e','path':'\"E\"'}]},{'column':[{'name':'e','path':'\"F\"'}]}],
			'select':[{'column':[{'name':'c','path':'\"C\"'}]}],'column':[{'name':'a','path':'\"A\"'}]},{'column':[{'name':'g','path':'id'}]}]`, "A|C|E|ann A|C|F|ann A|C|E|bob A|C|F|bob"},
		{"unionAll puts rows below each other", `'resource':'Patient','select':[{'column':[{'name':'k','path':'id'}],'unionAll':[{'forEach':'telecom','column':[{'name':'v','path':'value'},{'name':'own','path':'true','type':'boolean'}]},
			{'forEach':'contact.telecom','column':[{'name':'v','path':'value'},{'name':'own','path':'false','type':'boolean'}]}]}]`, "ann|1|true ann|2|true ann|3|false"},
		{"a union in a union", `'resource':'Patient','select':[{'unionAll':[{'forEach':'telecom[0]','column':[{'name':'v','path':'value'}]},
			{'unionAll':[{'forEach':'telecom[1]','column':[{'name':'v','path':'value'}]},{'forEachOrNull':'contact.telecom','column':[{'name':'v','path':'value'}]}]}]}]`, "1 2 3 -"},
		{"a constant", `'resource':'Observation','constant':[{'name':'phq9','valueCode':'44261-6'},{'name':'top','valueDecimal':20.5},{'name':'big','valueInteger64':'9007199254740993'}],
			'where':[{'path':'code.coding.exists(system = %loinc and code = %phq9)'}],'select':[{'column':[{'name':'low','path':'value.ofType(Quantity).value < %top','type':'boolean'},{'name':'b','path':'%big + 1','type':'integer64'}]}]`, "true|9007199254740994"},
		{"keys of references", `'resource':'Patient','select':[{'column':[{'name':'d','path':'generalPractitioner.getReferenceKey(Practitioner)'},{'name':'o','path':'generalPractitioner.getReferenceKey(Organization)'},
			{'name':'x','path':'generalPractitioner.getReferenceKey(Patient)'}]}]`, "d1|o1|- -|-|-"},
		{"the key of a reference is that of its resource", `'resource':'Observation','select':[{'column':[{'name':'k','path':'subject.getReferenceKey(Patient) = \"ann\"','type':'boolean'}]}]`, "true"},
		{"repeat goes down", `'resource':'QuestionnaireResponse','select':[{'column':[{'name':'k','path':'id'}]},{'repeat':['item'],'column':[{'name':'l','path':'linkId'},{'name':'i','path':'%rowIndex','type':'integer'}]}]`,
			"q1|1|0 q1|1.1|1 q1|1.2|2 q1|2|3"},
		{"repeat by several ways", `'resource':'QuestionnaireResponse','select':[{'repeat':['item','answer.item'],'column':[{'name':'l','path':'linkId'}],'select':[{'forEach':'answer','column':[{'name':'v','path':'value.toString()'}]}]}]`,
			"1.1|3 1.1.1|true 2|x 2|y"},
		{"the row of nobody has index 0", `'resource':'Patient','select':[{'forEachOrNull':'name','column':[{'name':'i','path':'%rowIndex','type':'integer'}]}]`, "0 1 0"},
		{"extensions and boundaries", `'resource':'Patient','select':[{'column':[{'name':'e','path':'extension(\"http://x.example/size\").value.ofType(decimal)','type':'decimal'},{'name':'b','path':'birthDate.highBoundary()','type':'date'},
			{'name':'n','path':'name.given.join(\"+\")'}]}]`, "1.70|1980-06-30|Ann+Bea+Nan -|-|-"},
		{"the resource from below", `'resource':'Patient','select':[{'forEach':'telecom','column':[{'name':'k','path':'%resource.id'},{'name':'v','path':'%context.value'}]}]`, "ann|1 ann|2"},
		{"a date is a dateTime, an integer a decimal", `'resource':'QuestionnaireResponse','select':[{'column':[{'name':'n','path':'item.item.answer.value.ofType(integer)','type':'decimal'},{'name':'d','path':'@2024','type':'dateTime'}]}]`, "3|2024"},
	} {
		v, err := view.Parse([]byte(strings.ReplaceAll(`{`+string(quoted(c.view))+`}`, `\"`, `'`)))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got, err := table(t, v, ann, bob, score, form); err != nil || got != c.want {
			t.Errorf("%s:\n%s, %v\nwant\n%s", c.name, got, err, c.want)
		}
	}
}

// TestRowsFail finds what only the data show. What they say is not in the error.
func TestRowsFail(t *testing.T) {
	for _, c := range []struct{ view, want string }{
		{`'resource':'Patient','select':[{'column':[{'name':'g','path':'name.given'}]}]`,
			"ViewDefinition.select[0].column[0].path: column g gets several values and is no collection; say so, or take first() of them"},
		{`'resource':'Patient','select':[{'column':[{'name':'g','path':'id'}]},{'column':[{'name':'n','path':'name'}]}]`,
			"ViewDefinition.select[1].column[0].path: column n gets a value that is not of a primitive type"},
		{`'resource':'Patient','select':[{'column':[{'name':'g','path':'gender','type':'boolean'}]}]`, "ViewDefinition.select[0].column[0].path: column g gets a value that is no boolean"},
		{`'resource':'Patient','select':[{'column':[{'name':'g','path':'birthDate','type':'instant'}]}]`, "ViewDefinition.select[0].column[0].path: column g gets a value that is no instant"},
		{`'resource':'Patient','select':[{'column':[{'name':'g','path':'birthDate','type':'string'}]}]`, "ViewDefinition.select[0].column[0].path: column g gets a value that is no string"},
		{`'resource':'Patient','where':[{'path':'gender'}],'select':[{'column':[{'name':'g','path':'id'}]}]`,
			"ViewDefinition.where[0].path: the condition is not a Boolean; exists() and comparisons give one"},
		{`'resource':'Patient','select':[{'forEach':'name.given + 1','column':[{'name':'g','path':'id'}]}]`, "ViewDefinition.select[0].forEach: FHIRPath: one item is expected where the data has several"},
		{`'resource':'Patient','select':[{'column':[{'name':'g','path':'now().toString()'}]}]`, "ViewDefinition.select[0].column[0].path: FHIRPath: the current time is not known here"},
		{`'resource':'Patient','select':[{'repeat':['$this'],'column':[{'name':'g','path':'id'}]}]`, "ViewDefinition.select[0].repeat[0]: the repetition finds too much"},
	} {
		v, err := view.Parse(quoted(`{` + c.view + `}`))
		if err != nil {
			t.Fatal(err)
		}
		_, err = table(t, v, ann)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n%v\nwant\n%s", c.view, err, c.want)
		}
	}
}

// TestRowsAreBounded multiplies what one resource has until it is too much.
func TestRowsAreBounded(t *testing.T) {
	var selects []string
	for i := range 12 {
		selects = append(selects, fmt.Sprintf(`{'forEach':'telecom.combine(telecom)','column':[{'name':'c%d','path':'value'}]}`, i))
	}
	v, err := view.Parse(quoted(`{'resource':'Patient','select':[` + strings.Join(selects, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	err = v.Rows(context.Background(), resource(t, ann), func(view.Row) error { rows++; return nil })
	if e := (*outcome.Error)(nil); !errors.As(err, &e) || e.Issues[0].Category != outcome.TooCostly || rows > 100_000 {
		t.Errorf("%d rows, then %v", rows, err)
	}
	v, err = view.Parse(quoted(`{'resource':'Patient','select':[{'forEach':'(%resource | name).descendants().select(%resource.descendants().select(%resource.descendants().select(%resource.descendants())))','column':[{'name':'c','path':'id'}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table(t, v, ann); outcome.Of(err).Issues[0].Category != outcome.TooCostly {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := v.Rows(ctx, resource(t, ann), func(view.Row) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	stop := errors.New("enough")
	v, _ = view.Parse(quoted(`{'resource':'Patient','select':[{'column':[{'name':'c','path':'id'}]}]}`))
	if err := v.Rows(context.Background(), resource(t, ann), func(view.Row) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}
