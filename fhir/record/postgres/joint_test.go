package postgres_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/compartment"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/search"
)

// compartments are searches of all types at once, and what dora finds by one page that takes all.
var compartments = []struct{ of, query, hers string }{
	{"Patient/anna", "", "t4 t3 t2 t1 r2 r1 l1 qr1 e1 o5 o4 o3 o2 o1 team anna"},
	{"Patient/bert", "", ""},
	{"Patient/anna", "_sort=_lastUpdated", "anna team o1 o2 o3 o4 o5 e1 qr1 l1 r1 r2 t1 t2 t3 t4"},
	{"Patient/anna", "_type=Observation,Encounter,List", "t2 t1 l1 e1 o5 o4 o3 o2 o1"},
	{"Patient/anna", "_lastUpdated=ge{o5}", "t4 t3 t2 t1 r2 r1 l1 qr1 e1 o5"},
	{"Patient/anna", "_lastUpdated=le{o5}", "o5 o4 o3 o2 o1 team anna"},
	{"Encounter/e1", "", "e1 o4"},
}

// What several types are asked for in one SELECT is what each finds alone:
// in the order of the page, there and back, for whoever asks.
func TestJointLegs(t *testing.T) {
	h := ward(t)
	var one []record.Change
	for _, text := range []string{ // at the same moment: in the order of their types, and then of their ids
		"{'resourceType':'RiskAssessment','id':'t4','status':'final','subject':{'reference':'Patient/anna'}}",
		"{'resourceType':'Observation','id':'t1','status':'final','code':{'text':'x'},'performer':[{'reference':'Patient/anna'}],'subject':{'reference':'Patient/anna'}}",
		"{'resourceType':'QuestionnaireResponse','id':'t3','status':'completed','author':{'reference':'Patient/anna'},'subject':{'reference':'Patient/anna'}}",
		"{'resourceType':'Observation','id':'t2','status':'final','code':{'text':'x'},'subject':{'reference':'Patient/anna'}}",
		// A requester makes a member of a SupplyRequest, and not of this.
		"{'resourceType':'MedicationRequest','id':'u1','status':'active','intent':'order','medicationCodeableConcept':{'text':'x'},'subject':{'reference':'Patient/bert'},'requester':{'reference':'Patient/anna'}}",
	} {
		r := h.resource(text)
		c := record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r}
		imported(&c)
		one = append(one, c)
	}
	if _, err := h.write(h.operator(), one...); err != nil {
		t.Fatal(err)
	}
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	page, _ := h.find(h.operator(), query(t, "Observation?_id=o5"))
	since := page.First.Keys[0].Text
	asked := func(of, text string) search.Query {
		v, err := url.ParseQuery(strings.ReplaceAll(text, "{o5}", url.QueryEscape(since)))
		if err != nil {
			t.Fatal(err)
		}
		ref, _ := fhir.ParseRef(of)
		q, _, err := search.ParseCompartment(ref, search.Every, v, search.Options{Membership: compartment.Membership})
		if err != nil {
			t.Fatal(err)
		}
		q.Count = search.MaxCount
		return q
	}
	walk := func(q search.Query, count int) (found []string) {
		for q.Count = count; ; {
			page, names := h.find(dora, q)
			found = append(found, strings.Fields(strings.TrimSuffix(names, "+"))...)
			if !page.More {
				break
			}
			last := page.Last
			q.After = &last
		}
		if q.After == nil {
			return found
		}
		at := *q.After
		at.Backward = true
		q.After = &at
		var back []string
		for {
			page, names := h.find(dora, q)
			back = append(strings.Fields(strings.TrimSuffix(names, "+")), back...)
			if !page.Less {
				break
			}
			at := page.First
			at.Backward = true
			q.After = &at
		}
		if len(back) >= len(found) || !slices.Equal(found[:len(back)], back) || len(back) == 0 && count < len(found)-1 {
			t.Errorf("there %v, back %v", found, back)
		}
		return found
	}
	answers := func(counts ...int) (out []string) {
		for _, c := range compartments {
			q := asked(c.of, c.query)
			for _, who := range []string{"dora", "operator"} {
				p := dora
				if who == "operator" {
					p = h.operator()
				}
				_, names := h.find(p, q)
				out = append(out, c.of+"?"+c.query+" "+who+": "+names)
				if got := strings.TrimSpace(strings.TrimSuffix(names, "+")); who == "dora" && got != c.hers {
					t.Errorf("%s?%s: %q, want %q", c.of, c.query, got, c.hers)
				}
			}
			for _, count := range counts {
				if got := strings.Join(walk(q, count), " "); got != c.hers {
					t.Errorf("%s?%s by %d: %q, want %q", c.of, c.query, count, got, c.hers)
				}
			}
		}
		return out
	}
	joint := answers(1, 3)
	t.Run("each alone", func(t *testing.T) {
		postgres.WithoutJointLegs(t)
		if alone := answers(); !slices.Equal(alone, joint) {
			t.Errorf("together:\n%s\nalone:\n%s", strings.Join(joint, "\n"), strings.Join(alone, "\n"))
		}
	})
	h.excise(dora)
	if gone := answers(2); len(gone) != len(joint) {
		t.Error("answers are missing")
	}
}
