package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

const worker = "22222222-2222-4222-8222-222222222222"

// stricter are rules that find something in a code of their own.
func stricter(t *testing.T) *label.Classifier {
	t.Helper()
	v, err := label.ReadValueSet("x", "", []byte("HIV\turn:own\tx\nSDV\turn:own\ty"))
	if err != nil {
		t.Fatal(err)
	}
	return label.New(label.Options{Sets: []label.ValueSet{v}})
}

// relabelled classifies all of the practice anew.
func (h *house) relabelled(c *label.Classifier) {
	h.t.Helper()
	ctx := context.Background()
	if err := h.store.BeginRelabel(ctx, h.tenant, c); err != nil {
		h.t.Fatal(err)
	}
	for {
		busy, err := h.store.RelabelBatch(ctx, c, worker)
		if err != nil {
			h.t.Fatal(err)
		}
		if !busy {
			break
		}
	}
	if at, err := h.store.Relabelling(ctx, h.tenant); err != nil || at != (postgres.Relabelling{Rules: c.Version(), Percent: 100}) {
		h.t.Fatalf("after a relabelling: %+v, %v", at, err)
	}
}

func (h *house) downgrade(p authz.Principal, c *label.Classifier) (int, error) {
	h.t.Helper()
	g, err := h.engine.Authorize(context.Background(), p, fhir.Update, "Patient")
	if err != nil {
		return 0, err
	}
	return h.store.Downgrade(context.Background(), g, c)
}

// chart is a patient's record in which a code of stricter flows along
// references: through a chain, a cycle, a contained resource and a program.
func chart(h *house) {
	own := ",'component':[{'code':{'coding':[{'system':'urn:own','code':'%s'}]}}]"
	obs := func(id, extra string) string {
		return strings.Replace(observation(extra), "{", "{'id':'"+id+"',", 1)
	}
	h.load(obs("plain", ""))
	h.load(obs("x", fmt.Sprintf(own, "x")))
	h.load(obs("from-x", ",'derivedFrom':[{'reference':'Observation/x'}]"))
	h.load(obs("from-from-x", ",'derivedFrom':[{'reference':'Observation/from-x'}]"))
	h.load(obs("round", ",'derivedFrom':[{'reference':'Observation/about'}]"))
	h.load(obs("about", ",'derivedFrom':[{'reference':'Observation/round'},{'reference':'Observation/y'}]"))
	h.load(obs("y", fmt.Sprintf(own, "y")))
	h.load(obs("program", fmt.Sprintf(own, "y")+",'performer':[{'reference':'Organization/sud'}]"))
	h.load(obs("of-program", ",'derivedFrom':[{'reference':'Observation/program'}]"))
	h.load("{'resourceType':'DiagnosticReport','id':'report','status':'final','code':{'text':'r'},'subject':{'reference':'Patient/anna'},'result':[{'reference':'#o'}],'contained':[" + obs("o", fmt.Sprintf(own, "x")) + "]}")
	h.load(obs("stated", security("HIV", "42CFRPart2")))
	h.load(obs("from-stated", ",'derivedFrom':[{'reference':'Observation/stated'}]"))
	h.load("{'resourceType':'DocumentReference','id':'note','status':'current','subject':{'reference':'Patient/anna'},'author':[{'reference':'Practitioner/dora'}],'category':[{'coding':[{'system':'urn:own','code':'x'}]}]," +
		"'type':{'coding':[{'system':'" + fhir.NoteKind + "','code':'psychotherapy-note'}]},'content':[{'attachment':{'contentType':'text/plain','data':'eA=='}}]}")
}

// stored gives the labels of everything that the practice stores.
func (h *house) stored() map[string]label.Set {
	h.t.Helper()
	out := map[string]label.Set{}
	var refs []string
	var bits []int32
	h.query(`SELECT array_agg(r.type || '/' || r.id), array_agg(c.labels) FROM (SELECT type, id, label_class FROM record.resource UNION ALL SELECT type, id, label_class FROM notes.resource) r
JOIN record.label_class c ON c.id = r.label_class`, nil, &refs, &bits)
	for i, ref := range refs {
		out[ref] = label.Set(bits[i])
	}
	return out
}

// A relabelling gives what a practice has that was under the new rules all along; a
// downgrade back, what one has that never was under them. In between both protect.
func TestRelabelEqualsTheRulesFromTheBeginning(t *testing.T) {
	strict, house := stricter(t), label.Default()
	h, fresh := clinic(t), clinic(t)
	fresh.gate = fresh.gate.Labelling(strict)
	chart(h)
	chart(fresh)
	before, want := h.stored(), fresh.stored()
	hie := h.as("hie", "TREAT", "")
	x, referrer := fhir.Ref{Type: "Observation", ID: "x"}, fhir.Ref{Type: "Observation", ID: "from-from-x"}
	if !h.sees(hie, x) || !h.sees(hie, referrer) || maps.Equal(before, want) {
		t.Fatal("the stricter rules make no difference: the test shows nothing")
	}
	h.relabelled(strict)
	if got := h.stored(); !maps.Equal(got, want) {
		t.Errorf("relabelled\n%v\nfrom the beginning\n%v", got, want)
	}
	if h.sees(hie, x) || h.sees(hie, referrer) {
		t.Error("the new label does not protect")
	}
	h.relabelled(house)
	if got := h.stored(); !maps.Equal(got, want) {
		t.Errorf("a relabelling took labels away:\n%v", got)
	}
	n, err := h.downgrade(h.operator(), house)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.stored(); !maps.Equal(got, before) {
		t.Errorf("downgraded\n%v\nwithout ever\n%v", got, before)
	}
	if !h.sees(hie, x) || !h.sees(hie, referrer) {
		t.Error("after the downgrade it is hidden still")
	}
	lowered := 0
	for ref, was := range want {
		if before[ref] != was {
			lowered++
		}
	}
	if n != lowered || n == 0 {
		t.Errorf("%d downgraded, %d have fewer labels", n, lowered)
	}
	// Each is recorded, with the labels before and after.
	var rows, events int
	var entity string
	var old, left int32
	h.query("SELECT count(*), count(DISTINCT e.id) FROM audit.downgrade d JOIN audit.event e ON e.id = d.event AND e.tenant = d.tenant AND d.entity = ANY (e.entities)", nil, &rows, &events)
	h.query("SELECT entity, labels_old, labels_new FROM audit.downgrade WHERE entity LIKE 'Observation/from-x/%'", nil, &entity, &old, &left)
	if rows != n || events != 1 || entity != "Observation/from-x/_history/1" || label.Set(old) != label.PSY|label.MH|label.HIV || label.Set(left) != label.PSY|label.MH {
		t.Errorf("recorded: %d of %d in %d events; %s %d %d", rows, n, events, entity, old, left)
	}
	if again, err := h.downgrade(h.operator(), house); err != nil || again != 0 {
		t.Errorf("again: %d, %v", again, err)
	}
}

// A version that the new rules find something in is protected, and so are its
// successors: what the code was taken out of says that it was there.
func TestRelabelReachesVersions(t *testing.T) {
	h := clinic(t)
	dora, hie := h.as("therapist", "TREAT", "Practitioner/dora"), h.as("hie", "TREAT", "")
	ref := h.mustCreate(dora, observation(",'component':[{'code':{'coding':[{'system':'urn:own','code':'x'}]}}]"))
	if _, err := h.update(dora, strings.Replace(observation(""), "{", "{'id':'"+string(ref.ID)+"',", 1)); err != nil {
		t.Fatal(err)
	}
	if !h.sees(hie, ref) {
		t.Fatal("the exchange does not see it to begin with")
	}
	h.relabelled(stricter(t))
	var bits int32
	h.query("SELECT c.labels FROM record.resource_history r JOIN record.label_class c ON c.id = r.label_class WHERE r.id = $1", []any{string(ref.ID)}, &bits)
	if h.sees(hie, ref) || !h.labels(ref).Has(label.HIV) || !label.Set(bits).Has(label.HIV) {
		t.Errorf("current %s, version 1 %s", h.labels(ref), label.Set(bits))
	}
	// A downgrade goes by the content as it is now. The version keeps its label.
	if _, err := h.downgrade(h.operator(), stricter(t)); err != nil {
		t.Fatal(err)
	}
	g, r, err := h.plan(hie, fhir.VRead, "Observation")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.VRead(context.Background(), r, ref.ID, 1); err == nil || !h.sees(hie, ref) {
		t.Errorf("%v: the version is open, or the resource closed (%v)", g.Interaction(), err)
	}
}

// What one server has begun another one ends, once the lease has run out.
func TestRelabelIsResumedByAnotherServer(t *testing.T) {
	h := clinic(t)
	ctx, c := context.Background(), stricter(t)
	var changes []record.Change
	const many = 250
	for i := range many {
		r := h.resource(fmt.Sprintf("{'resourceType':'Observation','id':'o%d','status':'final','code':{'coding':[{'system':'urn:own','code':'x'}]}}", i))
		changes = append(changes, record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r, Upsert: true, Import: true})
	}
	if _, err := h.write(h.operator(), changes...); err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		h.query("SELECT count(*) FROM record.resource r JOIN record.label_class c ON c.id = r.label_class WHERE c.labels = $1", []any{int32(label.HIV)}, &n)
		return n
	}
	if err := h.store.BeginRelabel(ctx, h.tenant, c); err != nil {
		t.Fatal(err)
	}
	if busy, err := h.store.RelabelBatch(ctx, label.Default(), worker); busy || err != nil {
		t.Errorf("a server with other rules took it: %v", err)
	}
	if busy, err := h.store.RelabelBatch(ctx, c, worker); !busy || err != nil || count() == 0 || count() == many {
		t.Fatalf("one batch: %v, %d are labelled", err, count())
	}
	at, err := h.store.Relabelling(ctx, h.tenant)
	if err != nil || at.Next != c.Version() || at.Rules != "" || at.Percent <= 0 || at.Percent >= 100 {
		t.Errorf("under way: %+v, %v", at, err)
	}
	if _, err := h.downgrade(h.operator(), c); !errors.Is(err, postgres.ErrNotClassified) {
		t.Errorf("a downgrade in between: %v", err)
	}
	const other = "33333333-3333-4333-8333-333333333333"
	if busy, err := h.store.RelabelBatch(ctx, c, other); busy || err != nil {
		t.Errorf("another server took what is held: %v", err)
	}
	h.clock.Add(int64(2 * time.Minute / time.Millisecond))
	for busy := true; busy; {
		if busy, err = h.store.RelabelBatch(ctx, c, other); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(); n != many {
		t.Errorf("%d of %d are labelled", n, many)
	}
}

// A server begins by itself where the practice was classified by other rules, and rests where it was by its own.
func TestRelabelBeginsByItself(t *testing.T) {
	h := clinic(t)
	chart(h)
	c := stricter(t)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.store.Relabel(ctx, 10*time.Millisecond, c, func(err error) { t.Error(err) })
	}()
	h.eventually("all practices are classified", func() bool {
		for _, practice := range h.store.Practices() {
			if at, err := h.store.Relabelling(context.Background(), practice); err != nil || at.Rules != c.Version() || at.Next != "" {
				return false
			}
		}
		return true
	})
	stop()
	<-done
	if !h.labels(fhir.Ref{Type: "Observation", ID: "from-x"}).Has(label.HIV) {
		t.Error("it is not labelled")
	}
	if busy, err := h.store.RelabelDue(context.Background(), c, worker); busy || err != nil {
		t.Errorf("it begins again: %v", err)
	}
	if busy, err := h.store.RelabelDue(context.Background(), label.Default(), worker); !busy || err != nil {
		t.Errorf("it does not begin for other rules: %v", err)
	}
}

func TestDowngradeIsTheOperators(t *testing.T) {
	h := clinic(t)
	c := stricter(t)
	if _, err := h.downgrade(h.operator(), c); !errors.Is(err, postgres.ErrNotClassified) {
		t.Errorf("before any relabelling: %v", err)
	}
	h.relabelled(c)
	if _, err := h.downgrade(h.operator(), label.Default()); !errors.Is(err, postgres.ErrNotClassified) {
		t.Errorf("by other rules: %v", err)
	}
	if _, err := h.downgrade(h.as("practice-admin", "HOPERAT", "Practitioner/adm"), c); err == nil {
		t.Error("an administrator may")
	}
	if _, err := h.store.Downgrade(context.Background(), authz.Grant{}, c); !errors.Is(err, authz.ErrDenied) {
		t.Errorf("without a grant: %v", err)
	}
}

// What comes to be protected is left out of what only mentions it, and is
// mentioned again after a downgrade.
func TestRelabelOfMentions(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'general','name':'General'}")
	h.load("{'resourceType':'Condition','id':'found','subject':{'reference':'Patient/anna'},'code':{'coding':[{'system':'urn:own','code':'x'}]}}")
	visit := h.load("{'resourceType':'Encounter','id':'visit','status':'finished','class':{'code':'AMB'},'subject':{'reference':'Patient/anna'},'serviceProvider':{'reference':'Organization/general'}," +
		"'diagnosis':[{'condition':{'reference':'Condition/found'}}]}")
	about := h.load(strings.Replace(observation(",'encounter':{'reference':'Encounter/visit'}"), "{", "{'id':'about',", 1))
	patient, hie := h.as("patient", "PATRQT", "Patient/anna"), h.as("hie", "TREAT", "", "hie")
	says := func(p authz.Principal, when string, want bool) {
		t.Helper()
		body, err := h.read(p, visit)
		if err != nil || strings.Contains(body, "Condition/found") != want {
			t.Errorf("%s: %s reads %v\n%s", when, p.Subject, err, body)
		}
		if found, err := h.search(p, "Encounter", "diagnosis=Condition/found"); err != nil || (len(found) == 1) != want {
			t.Errorf("%s: %s finds %d, %v", when, p.Subject, len(found), err)
		}
		if !h.sees(p, about) {
			t.Errorf("%s: %s does not see what was observed at the visit", when, p.Subject)
		}
	}
	says(hie, "at first", true)
	h.relabelled(stricter(t))
	says(hie, "relabelled", false)
	says(patient, "relabelled", true)
	h.relabelled(stricter(t)) // views are classified, too
	says(hie, "relabelled again", false)
	h.relabelled(label.Default())
	says(hie, "until the downgrade", false)
	if _, err := h.downgrade(h.operator(), label.Default()); err != nil {
		t.Fatal(err)
	}
	says(hie, "downgraded", true)
	says(patient, "downgraded", true)
}
