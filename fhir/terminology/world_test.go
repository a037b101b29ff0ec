package terminology

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// quoted lets JSON be written with single quotes.
func quoted(s string) string { return strings.ReplaceAll(s, "'", `"`) }

func node(t testing.TB, text string) *element.Node {
	t.Helper()
	n, err := definition.Parse([]byte(quoted(text)))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return n
}

func valueSetOf(name, compose string) string {
	return "{'resourceType':'ValueSet','url':'http://x/vs/" + name + "','version':'1','status':'active','compose':" + compose + "}"
}

func include(text string) string { return "{'include':[" + text + "]}" }

func filtered(property, op, value string) string {
	return include("{'system':'http://x/animals','filter':[{'property':'" + property + "','op':'" + op + "','value':'" + value + "'}]}")
}

var world = append([]string{
	// bat stands below two others; unicorn is retired; being is only a heading.
	`{'resourceType':'CodeSystem','url':'http://x/animals','version':'2','name':'Animals','status':'active','content':'complete','caseSensitive':true,'language':'en',
	 'property':[{'code':'legs','type':'integer'},{'code':'status','type':'code'},{'code':'hidden','uri':'http://hl7.org/fhir/concept-properties#notSelectable','type':'boolean'},{'code':'parent','type':'code'},{'code':'cousin','type':'Coding'}],
	 'concept':[{'code':'being','display':'Being','property':[{'code':'hidden','valueBoolean':true}],'concept':[
	   {'code':'mammal','display':'Mammal','concept':[
	     {'code':'dog','display':'Dog','definition':'It barks.','designation':[{'language':'de-CH','value':'Hund'},{'language':'fr','use':{'code':'x'},'value':'Chien'}],'property':[{'code':'legs','valueInteger':4},{'code':'cousin','valueCoding':{'system':'http://x/animals','code':'wolf'}}]},
	     {'code':'bat','display':'Bat (animal)','property':[{'code':'legs','valueInteger':2},{'code':'parent','valueCode':'flyer'}]},
	     {'code':'unicorn','display':'Unicorn','property':[{'code':'status','valueCode':'retired'},{'code':'legs','valueInteger':4}]}]},
	   {'code':'flyer','display':'Flying being','concept':[{'code':'bird','display':'Bird','property':[{'code':'legs','valueInteger':2}]}]}]}]}`,
	`{'resourceType':'CodeSystem','url':'http://x/animals','version':'1','status':'active','content':'complete','concept':[{'code':'dog','display':'Old dog'}]}`,
	`{'resourceType':'CodeSystem','url':'http://x/colours','status':'active','content':'complete','caseSensitive':false,'concept':[{'code':'Red','display':'Red'},{'code':'green'}]}`,
	`{'resourceType':'CodeSystem','url':'http://x/part','status':'active','content':'fragment','concept':[{'code':'a','display':'A'}]}`,
	`{'resourceType':'CodeSystem','url':'http://x/absent','status':'active','content':'not-present'}`,
	`{'resourceType':'CodeSystem','url':'http://x/hand','status':'active','content':'complete','hierarchyMeaning':'part-of','concept':[{'code':'hand','concept':[{'code':'thumb'}]}]}`,
	valueSetOf("all", include("{'system':'http://x/animals'}")),
	valueSetOf("old", include("{'system':'http://x/animals','version':'1'}")),
	valueSetOf("odd", include("{'system':'http://x/animals|1'}")),
	valueSetOf("list", include("{'system':'http://x/animals','concept':[{'code':'dog','display':'Good dog','designation':[{'language':'it','value':'Cane'}]},{'code':'yeti'}]}")),
	valueSetOf("isa", filtered("concept", "is-a", "mammal")),
	valueSetOf("below", filtered("concept", "descendent-of", "mammal")),
	valueSetOf("nota", filtered("concept", "is-not-a", "mammal")),
	valueSetOf("above", filtered("concept", "generalizes", "bat")),
	valueSetOf("equal", filtered("legs", "=", "4")),
	valueSetOf("cousin", filtered("cousin", "=", "wolf")),
	valueSetOf("parent", filtered("parent", "=", "flyer")),
	valueSetOf("in", filtered("code", "in", "dog, bird")),
	valueSetOf("notin", filtered("legs", "not-in", "2,4")),
	valueSetOf("regex", filtered("code", "regex", "b[a-z]t|do")),
	valueSetOf("exists", filtered("legs", "exists", "true")),
	valueSetOf("missing", filtered("legs", "exists", "false")),
	valueSetOf("two", include("{'system':'http://x/animals','filter':[{'property':'concept','op':'is-a','value':'mammal'},{'property':'legs','op':'=','value':'2'}]}")),
	valueSetOf("badop", filtered("legs", "like", "4")),
	valueSetOf("badproperty", filtered("wings", "=", "4")),
	valueSetOf("badcode", filtered("concept", "is-a", "plant")),
	valueSetOf("badregex", filtered("code", "regex", "(")),
	valueSetOf("without", "{'include':[{'system':'http://x/animals'}],'exclude':[{'valueSet':['http://x/vs/isa']},{'system':'http://x/animals','concept':[{'code':'bird'}]}]}"),
	valueSetOf("active", "{'inactive':false,'include':[{'system':'http://x/animals'}]}"),
	valueSetOf("both", include("{'valueSet':['http://x/vs/isa','http://x/vs/in']}")),
	valueSetOf("narrow", include("{'system':'http://x/animals','valueSet':['http://x/vs/in']}")),
	valueSetOf("sum", include("{'valueSet':['http://x/vs/isa']},{'valueSet':['http://x/vs/above']},{'system':'http://x/colours','concept':[{'code':'red'}]}")),
	valueSetOf("self", include("{'valueSet':['http://x/vs/loop']}")),
	valueSetOf("loop", include("{'valueSet':['http://x/vs/self']}")),
	valueSetOf("colours", include("{'system':'http://x/colours'}")),
	valueSetOf("part", include("{'system':'http://x/part'}")),
	valueSetOf("absent", include("{'system':'http://x/absent'}")),
	valueSetOf("unheard", include("{'system':'http://x/unheard'}")),
	valueSetOf("mixed", include("{'system':'http://x/unheard'},{'system':'http://x/animals'}")),
	valueSetOf("unlisted", include("{'system':'http://x/unheard','concept':[{'code':'u','display':'U'}]}")),
	valueSetOf("dangling", include("{'valueSet':['http://x/vs/nowhere']}")),
	valueSetOf("doubt", "{'include':[{'system':'http://x/animals'}],'exclude':[{'valueSet':['http://x/vs/nowhere']}]}"),
	strings.Replace(valueSetOf("stored", include("{'system':'http://x/unheard'}")), "'compose'", "'expansion':{'total':3,'contains':[{'system':'http://x/unheard','code':'p','display':'P','contains':[{'system':'http://x/unheard','code':'q'}]},{'display':'heading','contains':[{'system':'http://x/unheard','code':'r'}]}]},'compose'", 1),
	strings.Replace(valueSetOf("torn", include("{'system':'http://x/unheard'}")), "'compose'", "'expansion':{'total':9,'contains':[{'system':'http://x/unheard','code':'p'}]},'compose'", 1),
	"{'resourceType':'ValueSet','url':'http://x/vs/empty','status':'active'}",
	`{'resourceType':'ConceptMap','url':'http://x/cm/a','status':'active','sourceCanonical':'http://x/vs/all','targetCanonical':'http://x/vs/colours','group':[
	 {'source':'http://x/animals','target':'http://x/colours','element':[
	   {'code':'dog','target':[{'code':'Red','equivalence':'wider'},{'code':'green','equivalence':'relatedto','dependsOn':[{'property':'http://x/season','value':'spring'}],'product':[{'property':'http://x/shade','system':'http://x/shades','value':'light'}]}]},
	   {'code':'bird','target':[{'equivalence':'unmatched'}]}],
	  'unmapped':{'mode':'fixed','code':'green','display':'Green'}},
	 {'source':'http://x/animals','target':'http://x/same','element':[],'unmapped':{'mode':'provided'}},
	 {'source':'http://x/animals','target':'http://x/other','unmapped':{'mode':'other-map','url':'http://x/cm/b'}}]}`,
	`{'resourceType':'ConceptMap','url':'http://x/cm/b','status':'active','group':[{'source':'http://x/animals','target':'http://x/other','element':[{'code':'dog','target':[{'code':'d','equivalence':'equal'}]}]}]}`,
}, chain(40)...)

// chain makes value sets of which each imports the next.
func chain(n int) []string {
	out := make([]string, n)
	for i := range out {
		next := "http://x/vs/deep" + strconv.Itoa(i+1)
		if i == n-1 {
			next = "http://x/vs/all"
		}
		out[i] = valueSetOf("deep"+strconv.Itoa(i), include("{'valueSet':['"+next+"']}"))
	}
	return out
}

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func newService(t testing.TB, o Options) *Service {
	t.Helper()
	bodies := make([]string, len(world))
	for i, w := range world {
		bodies[i] = quoted(w)
	}
	p, err := definition.New("test.world", "1.0.0", bodies...)
	if err != nil {
		t.Fatal(err)
	}
	o.Now = func() time.Time { return noon }
	return New(definition.NewSet(p), o)
}

var ctx = context.Background()

func category(err error) string {
	if err == nil {
		return ""
	}
	e := outcome.Of(err)
	return e.Issues[0].Category.Code()
}

// codes lists the codes of an expansion, or the code of the error.
func codes(n *element.Node, err error) string {
	if err != nil {
		return "! " + category(err)
	}
	var out []string
	for _, c := range n.Get("expansion").Get("contains").List() {
		out = append(out, c.Get("code").String())
	}
	return strings.Join(out, " ")
}

// parameter gives the values of a parameter, as JSON.
func parameter(n *element.Node, name string) string {
	var out []string
	for _, p := range n.Get("parameter").List() {
		if p.Get("name").String() == name {
			out = append(out, string(p.Fields[1].Value.AppendJSON(nil)))
		}
	}
	return strings.Join(out, " ")
}
