package server_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

const own = fhir.Canonical

func ask(path string, pairs ...string) call {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return get(path + "?" + q.Encode())
}

func parameters(path, body string) call {
	return call{method: "POST", path: "/fhir" + path, body: strings.ReplaceAll("{'resourceType':'Parameters','parameter':["+body+"]}", "'", `"`)}
}

func TestTerminologyOperations(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	kinds, set := fhir.NoteKind, own+"/ValueSet/note-kind"
	note := "'system':'" + kinds + "','code':'psychotherapy-note'"
	for name, c := range map[string]struct {
		call   call
		status int
		has    string
	}{
		"expand":               {ask("/ValueSet/$expand", "url", set), 200, `"total":3,`},
		"expand, version":      {ask("/ValueSet/$expand", "url", set, "valueSetVersion", "1.0.0", "count", "1", "offset", "1"), 200, `"contains":[{"system":"` + kinds + `","version":"1.0.0","code":"psychotherapy-note","display":"Psychotherapy note"}]`},
		"expand, no version":   {ask("/ValueSet/$expand", "url", set, "valueSetVersion", "9"), 422, `"code":"not-found"`},
		"expand, number":       {parameters("/ValueSet/$expand", "{'name':'url','valueUri':'"+set+"'},{'name':'count','valueInteger':1},{'name':'excludeNotForUI','valueBoolean':true}"), 200, `"total":2,`},
		"expand, inline":       {parameters("/ValueSet/$expand", "{'name':'valueSet','resource':{'resourceType':'ValueSet','status':'active','compose':{'include':[{'valueSet':['"+set+"']}]}}}"), 200, `"total":3,`},
		"expand, not inline":   {parameters("/ValueSet/$expand", "{'name':'valueSet','resource':{'resourceType':'Patient'}}"), 400, "is a ValueSet"},
		"expand, bad inline":   {parameters("/ValueSet/$expand", "{'name':'valueSet','resource':{'resourceType':'ValueSet','status':'active','compose':{'include':[{'concept':[{'code':'a'}]}]}}}"), 422, "ValueSet.compose.include[0]"},
		"expand, nothing":      {get("/ValueSet/$expand"), 422, `"code":"required"`},
		"expand, two":          {ask("/ValueSet/$expand", "url", set, "url", set), 400, "may stand once"},
		"expand, negative":     {ask("/ValueSet/$expand", "url", set, "count", "-1"), 400, "not negative"},
		"expand, odd flag":     {ask("/ValueSet/$expand", "url", set, "activeOnly", "yes"), 400, "true or false"},
		"expand, other":        {ask("/ValueSet/$expand", "url", set, "date", "2020"), 400, "no parameter"},
		"expand, unknown":      {ask("/ValueSet/$expand", "url", "http://x/none"), 422, "http://x/none is not installed"},
		"lookup":               {ask("/CodeSystem/$lookup", "system", kinds, "code", "psychotherapy-note", "displayLanguage", "es"), 200, `{"name":"display","valueString":"Nota de psicoterapia"}`},
		"lookup, coding":       {parameters("/CodeSystem/$lookup", "{'name':'coding','valueCoding':{"+note+"}},{'name':'property','valueCode':'parent'}"), 200, `"session-note"`},
		"lookup, coding text":  {ask("/CodeSystem/$lookup", "coding", kinds+"|psychotherapy-note"), 400, "posted"},
		"lookup, no system":    {ask("/CodeSystem/$lookup", "code", "psychotherapy-note"), 422, "system"},
		"lookup, no code":      {ask("/CodeSystem/$lookup", "system", kinds, "code", "other"), 422, "no such code"},
		"in system":            {ask("/CodeSystem/$validate-code", "url", kinds, "code", "psychotherapy-note", "display", "psychotherapy NOTE"), 200, `{"name":"result","valueBoolean":true}`},
		"in system, abstract":  {parameters("/CodeSystem/$validate-code", "{'name':'url','valueUri':'"+kinds+"'},{'name':'code','valueCode':'session-note'},{'name':'abstract','valueBoolean':false}"), 200, `{"name":"result","valueBoolean":false}`},
		"in set":               {parameters("/ValueSet/$validate-code", "{'name':'url','valueUri':'"+set+"'},{'name':'codeableConcept','valueCodeableConcept':{'coding':[{'system':'http://x','code':'y'},{"+note+"}]}}"), 200, `{"name":"result","valueBoolean":true}`},
		"in set, not":          {ask("/ValueSet/$validate-code", "url", set, "system", kinds, "code", "other"), 200, `{"name":"result","valueBoolean":false}`},
		"in set, no system":    {ask("/ValueSet/$validate-code", "url", set, "code", "other"), 422, "system"},
		"subsumes":             {ask("/CodeSystem/$subsumes", "system", kinds, "codeA", "session-note", "codeB", "psychotherapy-note"), 200, `"subsumes"`},
		"subsumes, codings":    {parameters("/CodeSystem/$subsumes", "{'name':'codingA','valueCoding':{"+note+"}},{'name':'codingB','valueCoding':{"+note+"}}"), 200, `"equivalent"`},
		"subsumes, two system": {parameters("/CodeSystem/$subsumes", "{'name':'codingA','valueCoding':{"+note+"}},{'name':'codingB','valueCoding':{'system':'http://x','code':'y'}}"), 400, "one code system"},
		"subsumes, one":        {ask("/CodeSystem/$subsumes", "system", kinds, "codeA", "session-note"), 422, "codeB"},
		"translate":            {ask("/ConceptMap/$translate", "url", own+"/ConceptMap/note-kind-label", "system", kinds, "code", "psychotherapy-note"), 200, `"code":"PSYTHPN"`},
		"translate, by set":    {ask("/ConceptMap/$translate", "source", set, "system", kinds, "code", "psychotherapy-note"), 200, `"code":"PSYTHPN"`},
		"translate, reverse": {parameters("/ConceptMap/$translate", "{'name':'url','valueUri':'"+own+"/ConceptMap/note-kind-label'},{'name':'reverse','valueBoolean':true},{'name':'dependency','part':[{'name':'element','valueUri':'http://x'}]},"+
			"{'name':'coding','valueCoding':{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'PSYTHPN'}}"), 200, `"code":"psychotherapy-note"`},
		"not a Parameters": {call{method: "POST", path: "/fhir/ValueSet/$expand", body: `{"resourceType":"ValueSet","status":"active"}`}, 400, "Parameters"},
	} {
		a := h.do("front-desk", c.call)
		if a.status != c.status || !strings.Contains(a.body, c.has) {
			t.Errorf("%s: %d %s\nwant %d with %s", name, a.status, a.body, c.status, c.has)
		}
		if _, err := codec.Parse([]byte(a.body)); err != nil {
			t.Errorf("%s: the answer is no valid R4: %v\n%s", name, err, a.body)
		}
	}
}

// Everybody gets the same bytes, whatever she may see of the records; and an access is recorded for each.
func TestTerminologyIsTheSameForAll(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	count := func() (n int) {
		t.Helper()
		if err := h.owner().QueryRow(context.Background(), "SELECT count(*) FROM audit.event WHERE type = 'ValueSet' AND interaction = 'operation' AND outcome = '0'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before, first, asked := count(), "", 0
	for _, who := range []string{"therapist", "colleague", "front-desk", "hie"} {
		if _, ok := persona(who); !ok {
			t.Fatalf("no persona %s", who)
		}
		a := h.do(who, ask("/ValueSet/$validate-code", "url", own+"/ValueSet/note-kind", "system", fhir.NoteKind, "code", "psychotherapy-note"))
		asked++
		if first == "" {
			first = a.body
		}
		if a.status != 200 || a.body != first {
			t.Errorf("%s gets %d %s", who, a.status, a.body)
		}
	}
	if got := count() - before; got != asked {
		t.Errorf("%d accesses are recorded of %d", got, asked)
	}
}

// A value set that somebody stored as a record is no definition: it is seen by whom its labels and the policy let see
// it, and the operations have no part in it.
func TestStoredValueSetsAreNoDefinitions(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	r, err := codec.Parse([]byte(`{"resourceType":"ValueSet","id":"planted","url":"http://x/planted","status":"active","compose":{"include":[{"system":"http://x","concept":[{"code":"a"}]}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.load("harbor", r); err != nil {
		t.Fatal(err)
	}
	if a := h.do("therapist", ask("/ValueSet/$expand", "url", "http://x/planted")); a.status != 422 {
		t.Errorf("a stored value set was expanded: %d %s", a.status, a.body)
	}
}

// A package that is installed while the server runs is there within a second.
func TestTerminologySeesANewPackage(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	rq := ask("/ValueSet/$expand", "url", "http://x/late")
	if a := h.do("therapist", rq); a.status != 422 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	p, err := definition.New("test.late", "1.0.0", `{"resourceType":"ValueSet","url":"http://x/late","status":"active","compose":{"include":[{"system":"http://x","concept":[{"code":"a"}]}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.InstallPackage(context.Background(), h.dsn, p, nil); err != nil {
		t.Fatal(err)
	}
	if a := h.do("therapist", rq); a.status != 200 { // each request is a second later
		t.Errorf("%d %s", a.status, a.body)
	}
}
