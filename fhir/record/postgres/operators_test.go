package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/search"
)

// query reads a search: "Observation?code=x", or "?_type=..." for the system.
func query(t testing.TB, text string) search.Query {
	t.Helper()
	path, rest, _ := strings.Cut(text, "?")
	v, err := url.ParseQuery(rest)
	if err != nil {
		t.Fatal(err)
	}
	o := search.Options{Base: "http://localhost/fhir"}
	var q search.Query
	if path == "" {
		q, _, err = search.ParseSystem(v, o)
	} else {
		q, _, err = search.Parse(fhir.ResourceType(path), v, o)
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return q
}

// reach plans everything that q looks at.
func (h *house) reach(p authz.Principal, q search.Query) authz.Reach {
	h.t.Helper()
	ctx := context.Background()
	i := fhir.SearchType
	if q.Type() == "" {
		i = fhir.SearchSystem
	}
	g, err := h.engine.Authorize(ctx, p, i, q.Type())
	if err != nil {
		h.t.Fatalf("search of %s: %v", q.Type(), err)
	}
	reach, err := h.engine.Reach(ctx, g, i, q.Types()...)
	if err != nil {
		h.t.Fatal(err)
	}
	return reach
}

// find answers q, and releases all of it.
func (h *house) find(p authz.Principal, q search.Query) (record.Page, string) {
	h.t.Helper()
	reach := h.reach(p, q)
	page, err := h.store.Search(context.Background(), reach, q)
	if err != nil {
		h.t.Fatalf("%+v: %v (%v)", q.Legs, err, errors.Unwrap(outcome.Of(err)))
	}
	return page, strings.TrimSpace(h.names(reach.Grant(), q.Type(), page.Entries) + " + " + h.names(reach.Grant(), q.Type(), page.Included))
}

func (h *house) names(g authz.Grant, t fhir.ResourceType, in []record.Sealed) string {
	h.t.Helper()
	out, err := h.gate.Release(context.Background(), g, t, in...)
	if err != nil {
		h.t.Fatalf("release: %v (%v)", err, errors.Unwrap(outcome.Of(err)))
	}
	names := make([]string, len(out))
	for i, r := range out {
		names[i] = string(r.Ref().ID)
		var b bytes.Buffer
		if _, err := r.WriteTo(&b); err != nil || !strings.Contains(b.String(), strconv.Quote(names[i])) {
			h.t.Fatalf("%s: %v, body of another", r.Ref(), err)
		}
	}
	return strings.Join(names, " ")
}

// ward is a clinic where dora sees what is anna's, and what is bert's is hidden
// from her: each of his records would change an answer of hers if it counted.
func ward(t *testing.T) *house {
	t.Helper()
	h := clinic(t)
	for _, r := range wardRecords {
		h.load(r)
	}
	return h
}

const quantity = "'valueQuantity':{'value':%,'system':'http://unitsofmeasure.org','code':'kg'}"

func measured(id, who, code, date, value, more string) string {
	s := "{'resourceType':'Observation','id':'" + id + "','status':'final','code':{'coding':[{'system':'http://loinc.org','code':'" + code + "','display':'Körper " + code + "'}]},'subject':{'reference':'Patient/" + who + "'}"
	if date != "" {
		s += ",'effectiveDateTime':'" + date + "'"
	}
	if value != "" {
		s += "," + strings.Replace(quantity, "%", value, 1)
	}
	return s + more + "}"
}

var wardRecords = []string{
	measured("o1", "anna", "w", "2026-01-05T10:00:00Z", "70", ",'performer':[{'reference':'Practitioner/dora'}],'note':[{'text':'quiet night'}]"),
	measured("o2", "anna", "w", "2026-01-06", "71.5", ",'performer':[{'reference':'Practitioner/emil'}],'derivedFrom':[{'reference':'Observation/o1'}]"),
	measured("o3", "anna", "h", "2026-01", "", ",'hasMember':[{'reference':'Observation/o2'},{'reference':'Observation/h2'}]"),
	measured("o4", "anna", "h", "", "900", ",'encounter':{'reference':'Encounter/e1'},'text':{'status':'generated','div':'<div xmlns=\\'http://www.w3.org/1999/xhtml\\'>restless <b>sleep</b></div>'}"),
	measured("o5", "anna", "z", "2025-12-31", "0.5", ",'encounter':{'reference':'Encounter/e2'},'component':[{'code':{'coding':[{'code':'a'}]},'valueQuantity':{'value':1,'unit':'x'}},{'code':{'coding':[{'code':'b'}]},'valueQuantity':{'value':2,'unit':'x'}}]"),
	measured("h1", "bert", "w", "2026-01-07", "72", ",'derivedFrom':[{'reference':'Observation/o1'}],'note':[{'text':'quiet night'}]"),
	measured("h2", "bert", "h", "2026-02-01", "1", ",'hasMember':[{'reference':'Observation/o1'}],'text':{'status':'generated','div':'<div xmlns=\\'http://www.w3.org/1999/xhtml\\'>sleep</div>'}"),
	measured("h3", "bert", "z", "", "", ""),
	"{'resourceType':'Encounter','id':'e1','status':'finished','class':{'code':'AMB'},'subject':{'reference':'Patient/anna'},'period':{'start':'2026-01-01','end':'2026-03-01'},'participant':[{'individual':{'reference':'Practitioner/dora'}}]}",
	"{'resourceType':'Encounter','id':'e2','status':'planned','class':{'code':'IMP'},'subject':{'reference':'Patient/bert'},'period':{'start':'2026-01-01'},'participant':[{'individual':{'reference':'Practitioner/dora'}}]}",
	"{'resourceType':'Questionnaire','id':'q1','url':'http://example.org/sheets/mood','version':'2','title':'Mood','status':'active'}",
	"{'resourceType':'Questionnaire','id':'q2','url':'http://example.org/sheets','title':'Sheets','status':'draft'}",
	"{'resourceType':'QuestionnaireResponse','id':'qr1','status':'completed','questionnaire':'http://example.org/sheets/mood|2','subject':{'reference':'Patient/anna'},'authored':'2026-01-02'}",
	"{'resourceType':'QuestionnaireResponse','id':'qr2','status':'amended','questionnaire':'http://example.org/sheets','subject':{'reference':'Patient/bert'},'authored':'2026-01-03'}",
	"{'resourceType':'List','id':'l1','status':'current','mode':'working','subject':{'reference':'Patient/anna'},'entry':[{'item':{'reference':'Observation/o1'}},{'item':{'reference':'Observation/h1'}}]}",
	"{'resourceType':'List','id':'l2','status':'current','mode':'working','subject':{'reference':'Patient/bert'},'entry':[{'item':{'reference':'Observation/o2'}}]}",
	"{'resourceType':'RiskAssessment','id':'r1','status':'final','subject':{'reference':'Patient/anna'},'prediction':[{'probabilityDecimal':0.2}]}",
	"{'resourceType':'RiskAssessment','id':'r2','status':'final','subject':{'reference':'Patient/anna'},'prediction':[{'probabilityRange':{'low':{'value':0.5},'high':{'value':0.8}}}]}",
	"{'resourceType':'RiskAssessment','id':'r3','status':'final','subject':{'reference':'Patient/bert'},'prediction':[{'probabilityDecimal':0.7}]}",
}

// asked are searches, with what the operator and what dora finds: ids in order,
// then after a plus what is included.
var asked = []struct{ query, all, hers string }{
	// every type of parameter
	{"Observation?code=w&_sort=_id", "h1 o1 o2 +", "o1 o2 +"},
	{"Observation?code=w,z&_sort=_id", "h1 h3 o1 o2 o5 +", "o1 o2 o5 +"},
	{"Observation?code=w&status=final&performer=Practitioner/dora", "o1 +", "o1 +"},
	{"Observation?_id=o1,h1&_sort=_id", "h1 o1 +", "o1 +"},
	{"Observation?code=http://loinc.org|w&value-quantity=gt70&_sort=_id", "h1 o2 +", "o2 +"},
	{"Observation?code=w&value-quantity=gt70,lt1&_sort=_id", "h1 o2 +", "o2 +"},
	{"Observation?code=http://snomed.info/sct|w&value-quantity=gt70", "+", "+"},
	{"Observation?code=|w&value-quantity=gt70", "+", "+"},
	{"Observation?code=w,h&value-quantity=gt70&_sort=_id", "h1 o2 o4 +", "o2 o4 +"},
	{"Observation?code=w&value-quantity=gt70000|http://unitsofmeasure.org|g&_sort=_id", "h1 o2 +", "o2 +"},
	{"Observation?code:not=w&value-quantity=gt0.6&_sort=_id", "h2 o4 +", "o4 +"},
	{"Observation?subject=Patient/bert&_sort=_id", "h1 h2 h3 +", "+"},
	{"Observation?date=2026-01&_sort=_id", "h1 o1 o2 o3 +", "o1 o2 o3 +"},
	{"Observation?date=ge2026-01-06&_sort=_id", "h1 h2 o2 o3 +", "o2 o3 +"},
	{"Observation?date=ge2026-01-06&date=lt2026-01-07&_sort=_id", "o2 o3 +", "o2 o3 +"},
	{"Observation?date=gt2026-01-31&_sort=_id", "h2 +", "+"},
	{"Observation?date=sa2026-01-05&_sort=_id", "h1 h2 o2 +", "o2 +"},
	{"Observation?date=eb2026-01-06&_sort=_id", "o1 o5 +", "o1 o5 +"},
	{"Observation?date=le2026-01-05&_sort=_id", "o1 o3 o5 +", "o1 o3 o5 +"},
	{"Observation?date=lt2026-01-01&_sort=_id", "o5 +", "o5 +"},
	{"Observation?date=ne2026-01&_sort=_id", "h2 o5 +", "o5 +"},
	{"Observation?date=2026-01-06,2025-12-31&_sort=_id", "o2 o5 +", "o2 o5 +"},
	{"Encounter?date=ge2026-04&_sort=_id", "e2 +", "+"},
	{"Encounter?date=2026-02&_sort=_id", "+", "+"},
	{"Encounter?date=ap2026-02&_sort=_id", "e1 e2 +", "e1 +"},
	{"Observation?value-quantity=70&_sort=_id", "o1 +", "o1 +"},
	{"Observation?value-quantity=70|http://unitsofmeasure.org|kg&_sort=_id", "o1 +", "o1 +"},
	{"Observation?value-quantity=70000|http://unitsofmeasure.org|g&_sort=_id", "o1 +", "o1 +"},
	{"Observation?value-quantity=gt71|http://unitsofmeasure.org|kg&_sort=_id", "h1 o2 o4 +", "o2 o4 +"},
	{"Observation?value-quantity=ge71.5|http://unitsofmeasure.org|kg&_sort=_id", "h1 o2 o4 +", "o2 o4 +"},
	{"Observation?value-quantity=lt1|http://unitsofmeasure.org|kg&_sort=_id", "o5 +", "o5 +"},
	{"Observation?value-quantity=le1&_sort=_id", "h2 o5 +", "o5 +"},
	{"Observation?value-quantity=ne70&_sort=_id", "h1 h2 o2 o4 o5 +", "o2 o4 o5 +"},
	{"Observation?value-quantity=sa71&_sort=_id", "h1 o2 o4 +", "o2 o4 +"},
	{"Observation?value-quantity=eb70&_sort=_id", "h2 o5 +", "o5 +"},
	{"Observation?value-quantity=ap75&_sort=_id", "h1 o1 o2 +", "o1 o2 +"},
	{"RiskAssessment?probability=0.2&_sort=_id", "r1 +", "r1 +"},
	{"RiskAssessment?probability=gt0.6&_sort=_id", "r2 r3 +", "r2 +"},
	{"RiskAssessment?probability=lt0.6&_sort=_id", "r1 r2 +", "r1 r2 +"},
	{"RiskAssessment?probability=sa0.6&_sort=_id", "r3 +", "+"},
	{"RiskAssessment?probability=eb0.8&_sort=_id", "r1 r3 +", "r1 +"},
	{"RiskAssessment?probability=ge0.8&_sort=_id", "r2 +", "r2 +"},
	{"Questionnaire?url=http://example.org/sheets", "q2 +", "q2 +"},
	{"Questionnaire?url:below=http://example.org/sheets&_sort=_id", "q1 q2 +", "q1 q2 +"},
	{"Questionnaire?url:above=http://example.org/sheets/mood/1&_sort=_id", "q1 q2 +", "q1 q2 +"},
	{"Questionnaire?url:below=http://example.org/sheet", "+", "+"},
	{"Questionnaire?title:contains=oo", "q1 +", "q1 +"},
	// composites match within one element
	{"Observation?code-value-quantity=w$gt71|http://unitsofmeasure.org|kg&_sort=_id", "h1 o2 +", "o2 +"},
	{"Observation?code-value-quantity=http://loinc.org|w$70", "o1 +", "o1 +"},
	{"Observation?code-value-quantity=urn:x|w$70", "+", "+"},
	{"Observation?component-code-value-quantity=a$1", "o5 +", "o5 +"},
	{"Observation?component-code-value-quantity=a$2", "+", "+"},
	{"Observation?combo-code-value-quantity=b$2,h$900&_sort=_id", "o4 o5 +", "o4 o5 +"},
	// modifiers
	{"Observation?code:not=w&_sort=_id", "h2 h3 o3 o4 o5 +", "o3 o4 o5 +"},
	{"Observation?performer:missing=true&_sort=_id", "h1 h2 h3 o3 o4 o5 +", "o3 o4 o5 +"},
	{"Observation?performer:missing=false&_sort=_id", "o1 o2 +", "o1 o2 +"},
	{"Observation?date:missing=true&_sort=_id", "h3 o4 +", "o4 +"},
	{"Observation?code:text=korper w&_sort=_id", "h1 o1 o2 +", "o1 o2 +"},
	{"Observation?_text=sleep&_sort=_id", "h2 o4 +", "o4 +"},
	{"Observation?_content=NIGHT&_sort=_id", "h1 o1 +", "o1 +"},
	{"Observation?_content=generated&_sort=_id", "h2 o4 +", "o4 +"},
	{"Patient?name:contains=üll", "anna +", "anna +"},
	{"Patient?name:exact=Bauer", "bert +", "+"},
	// chains
	{"Observation?subject:Patient.name=bauer&_sort=_id", "h1 h2 h3 +", "+"},
	{"Observation?patient.name=mull&code=w&_sort=_id", "o1 o2 +", "o1 o2 +"},
	{"Observation?encounter.class=IMP", "o5 +", "+"},
	{"Observation?encounter:Encounter.status:not=finished", "o5 +", "+"},
	{"Observation?has-member:Observation.date=ge2026-02", "o3 +", "+"},
	{"Observation?has-member:Observation.derived-from:Observation.performer:Practitioner.name=dora&_sort=_id", "o3 +", "o3 +"},
	{"QuestionnaireResponse?questionnaire.title=mood", "qr1 +", "qr1 +"},
	{"QuestionnaireResponse?questionnaire.status=draft", "qr2 +", "+"},
	// reverse chains
	{"Patient?_has:Observation:patient:code=z&_sort=_id", "anna bert +", "anna +"},
	{"Patient?_has:Encounter:patient:status=planned", "bert +", "+"},
	{"Practitioner?_has:Encounter:participant:class=IMP", "dora +", "+"},
	{"Practitioner?_has:Encounter:participant:class=AMB", "dora +", "dora +"},
	{"Observation?_has:Observation:derived-from:date=ge2026-01-07", "o1 +", "+"},
	{"Observation?_has:Observation:has-member:_has:List:item:_id=l2&_sort=_id", "+", "+"},
	{"Observation?_has:List:item:_id=l1&_sort=_id", "h1 o1 +", "o1 +"},
	{"Observation?_has:List:item:_id=l2&_sort=_id", "o2 +", "+"},
	{"Observation?_list=l1&_sort=_id", "h1 o1 +", "o1 +"},
	{"Practitioner?_has:Encounter:participant:patient.name=bauer", "dora +", "+"},
	{"Questionnaire?_has:QuestionnaireResponse:questionnaire:status=amended", "q2 +", "+"},
	{"Questionnaire?_has:QuestionnaireResponse:questionnaire:status=completed", "q1 +", "q1 +"},
	// filters
	{"Observation?_filter=not (code eq w) and (date lt 2026-01-01 or performer pr false)&_sort=_id", "h2 h3 o3 o4 o5 +", "o3 o4 o5 +"},
	{"Observation?_filter=encounter[class eq IMP].status eq planned", "o5 +", "+"},
	// includes
	{"Observation?_id=o5&_include=Observation:encounter", "o5 + e2", "o5 +"},
	{"Observation?_id=o4&_include=Observation:encounter", "o4 + e1", "o4 + e1"},
	{"Observation?_id=o3&_include=Observation:has-member", "o3 + h2 o2", "o3 + o2"},
	{"Observation?_id=o3&_include:iterate=Observation:has-member&_include:iterate=Observation:derived-from", "o3 + h2 o1 o2", "o3 + o1 o2"},
	{"Observation?_id=o3&_include=Observation:has-member&_include:iterate=Observation:performer:Practitioner", "o3 + h2 o2 emil", "o3 + o2 emil"},
	{"Observation?_id=o3,o2&_sort=_id&_include=Observation:has-member", "o2 o3 + h2", "o2 o3 +"},
	{"Observation?_id=o2&_include=Observation:*", "o2 + o1 anna emil", "o2 + o1 anna emil"},
	{"Observation?_id=o1&_revinclude=Observation:derived-from", "o1 + h1 o2", "o1 + o2"},
	{"Observation?_id=o1&_revinclude=List:item&_revinclude=Observation:has-member", "o1 + l1 h2", "o1 + l1"},
	{"Observation?_id=o1&_revinclude=Observation:*", "o1 + h1 h2 o2", "o1 + o2"},
	{"Encounter?_id=e2&_revinclude=Observation:encounter", "e2 + o5", "+"},
	{"QuestionnaireResponse?_include=QuestionnaireResponse:questionnaire&_sort=_id", "qr1 qr2 + q1 q2", "qr1 + q1"},
	{"Questionnaire?_revinclude=QuestionnaireResponse:questionnaire&_sort=_id", "q1 q2 + qr1 qr2", "q1 q2 + qr1"},
	{"Patient?_id=anna&_revinclude=Encounter:patient&_include:iterate=Encounter:participant", "anna + e1 dora", "anna + e1 dora"},
	// sort
	{"Observation?_sort=date", "o5 o3 o1 o2 h1 h2 h3 o4 +", "o5 o3 o1 o2 o4 +"},
	{"Observation?_sort=-date", "h2 h1 o2 o1 o3 o5 o4 h3 +", "o2 o1 o3 o5 o4 +"},
	{"Observation?_sort=-date&date=ge2026-01-05", "h2 h1 o2 o1 o3 +", "o2 o1 o3 +"},
	{"Observation?_sort=date&date=ge2026-01-05&date=lt2026-01-07", "o3 o1 o2 +", "o3 o1 o2 +"},
	{"Observation?_sort=code,-date", "h2 o3 o4 h1 o2 o1 o5 h3 +", "o3 o4 o2 o1 o5 +"},
	{"Observation?_sort=-code,date", "o5 h3 o1 o2 h1 o3 h2 o4 +", "o5 o1 o2 o3 o4 +"},
	{"Observation?_sort=value-quantity", "o5 h2 o1 o2 h1 o4 h3 o3 +", "o5 o1 o2 o4 o3 +"},
	{"Observation?_sort=-value-quantity", "o4 h1 o2 o1 h2 o5 o3 h3 +", "o4 o2 o1 o5 o3 +"},
	{"Observation?_sort=performer,_id", "o1 o2 h1 h2 h3 o3 o4 o5 +", "o1 o2 o3 o4 o5 +"},
	{"Questionnaire?_sort=-title", "q2 q1 +", "q2 q1 +"},
	{"Questionnaire?_sort=url", "q2 q1 +", "q2 q1 +"},
	{"Patient?_sort=name", "anna bert +", "anna +"},
	{"Patient?_sort=birthdate", "anna bert +", "anna +"},
	{"Patient?_sort=-birthdate", "anna bert +", "anna +"},
	{"RiskAssessment?_sort=-probability", "r3 r2 r1 +", "r2 r1 +"},
	// several types
	{"?_type=Encounter,List&_sort=_id", "e1 e2 l1 l2 +", "e1 l1 +"},
	{"?_type=Encounter,List&_id=l1,e2&_sort=-_id", "l1 e2 +", "l1 +"},
	{"?_type=Questionnaire,Encounter,Observation&_sort=-_lastUpdated&_count=4", "q2 q1 e2 e1 +", "q2 q1 e1 o5 +"},
}

func TestOperators(t *testing.T) {
	h := ward(t)
	all, dora := h.operator(), h.as("therapist", "TREAT", "Practitioner/dora")
	hers := map[string]string{}
	run := func(stage string) {
		for _, a := range asked {
			q := query(t, a.query)
			q.Total = search.Accurate
			page, found := h.find(dora, q)
			if found != a.hers {
				t.Errorf("%s, %s: she finds %q, want %q", stage, a.query, found, a.hers)
			}
			if was, ok := hers[a.query]; ok && was != said(page) {
				t.Errorf("%s, %s: the page says %s, with the hidden rows there %s", stage, a.query, said(page), was)
			}
			hers[a.query] = said(page)
		}
	}
	run("all there")
	everything := func(stage string) {
		for _, a := range asked {
			if _, found := h.find(all, query(t, a.query)); found != a.all {
				t.Errorf("operator, %s, %s: found %q, want %q", stage, a.query, found, a.all)
			}
		}
	}
	everything("all there")
	t.Run("each row asked", func(t *testing.T) {
		postgres.WithoutProbes(t)
		run("each row asked")
		everything("each row asked")
	})
	h.excise(dora)
	run("hidden gone")
}

// said is all that a page says beside its resources.
func said(p record.Page) string {
	text := func(c search.Cursor) string {
		s := string(c.Type) + "/" + string(c.ID)
		for _, k := range c.Keys {
			s += " " + strconv.Quote(k.Text) + strconv.FormatBool(k.Null)
		}
		return s
	}
	return strings.Join([]string{strconv.Itoa(p.Total), strconv.FormatBool(p.More), strconv.FormatBool(p.Less), strconv.FormatBool(p.Cut), text(p.First), text(p.Last)}, ", ")
}

// excise destroys what p cannot see.
func (h *house) excise(p authz.Principal) {
	h.t.Helper()
	ctx := context.Background()
	sees := map[fhir.ResourceType]authz.Restriction{}
	for _, t := range fhir.ResourceTypes() {
		if _, r, err := h.plan(p, fhir.SearchType, t); err == nil {
			sees[t] = r
		}
	}
	conn, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := postgres.Excise(ctx, conn, sees); err != nil {
		h.t.Fatal(err)
	}
}

func TestMatchIsASearch(t *testing.T) {
	h := ward(t)
	for _, c := range []struct{ query, all, hers string }{
		{"Observation?code=w", "h1 o1", "o1 o2"},
		{"Observation?code-value-quantity=w$gt71", "h1 o2", "o2"},
		{"Observation?patient.name=bauer&code=w", "h1", ""},
		{"Patient?_has:Encounter:patient:status=planned", "bert", ""},
		{"Observation?code:not=w&date:missing=true", "h3 o4", "o4"},
	} {
		for p, want := range map[*authz.Principal]string{ptr(h.operator()): c.all, ptr(h.as("therapist", "TREAT", "Practitioner/dora")): c.hers} {
			q := query(t, c.query)
			q.Count = 2
			ids, err := h.store.Match(context.Background(), h.reach(*p, q), q)
			if err != nil {
				t.Fatalf("%s: %v (%v)", c.query, err, errors.Unwrap(outcome.Of(err)))
			}
			var got []string
			for _, id := range ids {
				got = append(got, string(id))
			}
			slices.Sort(got)
			if strings.Join(got, " ") != want {
				t.Errorf("%s: got %v, want %s", c.query, got, want)
			}
		}
	}
}

func ptr[T any](v T) *T { return &v }

// A page includes so many resources and says when there are more: of those that
// the caller may see.
func TestIncludesAreCut(t *testing.T) {
	h := ward(t)
	postgres.WithIncludes(t, 2)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	for _, c := range []struct {
		query string
		who   authz.Principal
		want  string
		cut   bool
	}{
		{"Observation?_id=o1&_revinclude=Observation:*&_revinclude=List:item", h.operator(), "o1 + l1 h1", true},
		{"Observation?_id=o1&_revinclude=Observation:*&_revinclude=List:item", dora, "o1 + l1 o2", false},
		{"Observation?_id=o3&_include=Observation:has-member&_include:iterate=Observation:performer&_include:iterate=Observation:derived-from", h.operator(), "o3 + h2 o2", true},
		{"Observation?_id=o3&_include=Observation:has-member&_include:iterate=Observation:performer", dora, "o3 + o2 emil", false},
		{"Observation?_id=o3&_include=Observation:has-member&_include:iterate=Observation:*", dora, "o3 + o2 anna", true},
	} {
		page, found := h.find(c.who, query(t, c.query))
		if found != c.want || page.Cut != c.cut {
			t.Errorf("%s: %q, cut %v; want %q, %v", c.query, found, page.Cut, c.want, c.cut)
		}
	}
}

// A circle of references ends, at the latest after some rounds.
func TestIncludesGoRoundOnce(t *testing.T) {
	h := ward(t)
	const ring = 12
	for i := range ring {
		h.load(measured("c"+strconv.Itoa(10+i), "anna", "c", "", "", ",'hasMember':[{'reference':'Observation/c"+strconv.Itoa(10+(i+1)%ring)+"'}]"))
	}
	page, found := h.find(h.operator(), query(t, "Observation?_id=c10&_include:iterate=Observation:has-member"))
	if found != "c10 + c11 c12 c13 c14 c15 c16 c17 c18" || !page.Cut {
		t.Errorf("%q, cut %v", found, page.Cut)
	}
	page, found = h.find(h.operator(), query(t, "Observation?_id=c10,c11,c12,c13,c14,c15&_sort=_id&_include:iterate=Observation:has-member"))
	if found != "c10 c11 c12 c13 c14 c15 + c16 c17 c18 c19 c20 c21" || page.Cut {
		t.Errorf("%q, cut %v", found, page.Cut)
	}
}
