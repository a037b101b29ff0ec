package redact_test

import (
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/redact"
)

// read reads JSON with single quotes for double ones.
func read(t *testing.T, text string) (fhir.ResourceType, *element.Node) {
	t.Helper()
	r, err := codec.Parse([]byte(strings.ReplaceAll(text, "'", `"`)))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return r.Type, r.Root
}

func text(n *element.Node) string { return strings.ReplaceAll(string(n.AppendJSON(nil)), `"`, "'") }

const div = "<div xmlns=\\\"http://www.w3.org/1999/xhtml\\\">"

// samples are resources of several shapes, with what may repeat a mention.
var samples = []string{
	"{'resourceType':'Encounter','text':{'status':'generated','div':'" + div + "a b c</div>'},'status':'finished','class':{'code':'AMB'},'reasonCode':[{'text':'a'},{'text':'b'}],'diagnosis':[{'condition':{'display':'c'}}]}",
	"{'resourceType':'Composition','text':{'status':'generated','div':'" + div + "all</div>'},'status':'final','type':{'text':'t'},'date':'2026-01-01','author':[{'display':'x'}],'title':'T','section':[" +
		"{'title':'A','text':{'status':'generated','div':'" + div + "a</div>'},'entry':[{'display':'a1'},{'display':'a2'}]}," +
		"{'title':'B','section':[{'title':'B1','entry':[{'display':'b1'}]},{'title':'B2','text':{'status':'generated','div':'" + div + "b</div>'}}]}," +
		"{'title':'C','entry':[{'display':'c1'}]}]}",
	"{'resourceType':'Claim','status':'active','type':{'text':'p'},'use':'claim','patient':{'display':'p'},'created':'2026-01-01','provider':{'display':'o'},'priority':{'text':'n'},'insurance':[{'sequence':1,'focal':true,'coverage':{'display':'c'}}]," +
		"'diagnosis':[{'sequence':1,'diagnosisCodeableConcept':{'text':'d1'}},{'sequence':2,'diagnosisCodeableConcept':{'text':'d2'}}]," +
		"'item':[{'sequence':1,'diagnosisSequence':[1,2],'productOrService':{'text':'i1'}},{'sequence':2,'diagnosisSequence':[2],'productOrService':{'text':'i2'}}]}",
	"{'resourceType':'Communication','status':'completed','note':[{'text':'n1'},{'text':'n2'}],'reasonCode':[{'text':'a'},{'text':'b'}],'payload':[{'contentString':'about a'},{'contentReference':{'display':'x'}}]}",
	"{'resourceType':'CarePlan','contained':[{'resourceType':'Condition','id':'c','subject':{'display':'p'}},{'resourceType':'Condition','id':'d','subject':{'display':'p'}}],'status':'active','intent':'plan','description':'about c'," +
		"'subject':{'display':'p'},'addresses':[{'reference':'#c'},{'reference':'#d'}],'activity':[{'detail':{'status':'in-progress','reasonReference':[{'display':'e'}]}}],'note':[{'text':'n'}]}",
	"{'resourceType':'Appointment','status':'booked','description':'x','comment':'y','patientInstruction':'z','reasonCode':[{'text':'a'}],'participant':[{'actor':{'display':'p'},'status':'accepted'}]}",
	"{'resourceType':'Goal','lifecycleStatus':'active','description':{'text':'kept'},'subject':{'display':'p'},'addresses':[{'display':'a'}]}",
}

// keepers are all ways to leave mentions out.
func keepers(n int) (out []func(int) bool) {
	for set := range 1 << n {
		out = append(out, func(i int) bool { return set&(1<<i) != 0 })
	}
	return out
}

// Every view is a valid resource, says nothing of what it leaves out, and what
// it is written back to is as it was.
func TestViewsAreValidAndLoseNothing(t *testing.T) {
	for _, s := range samples {
		rt, root := read(t, s)
		items := redact.Items(rt, root)
		before := text(root)
		for n, keep := range keepers(len(items)) {
			view := redact.View(rt, root, keep, nil)
			if _, err := codec.Parse(view.AppendJSON(nil)); err != nil {
				t.Fatalf("view %b of %s: %v", n, s, err)
			}
			for i, x := range items {
				if !keep(i) && strings.Contains(text(view), text(x.Node)) && rt != "Claim" {
					t.Errorf("view %b of %s shows %s: %s", n, rt, text(x.Node), text(view))
				}
			}
			for _, hint := range []string{"a b c", "all</div>", ">a</div>", ">b</div>", "about", "'note'", "'x','comment'", "'y'", "'z'"} {
				if n != len(keepers(len(items)))-1 && strings.Contains(text(view), hint) {
					t.Errorf("view %b of %s repeats %q: %s", n, rt, hint, text(view))
				}
			}
			written := view.Clone()
			redact.Merge(rt, written, root, view)
			if !equal(written, root) {
				t.Errorf("view %b written back:\n%s\nwas\n%s", n, text(written), before)
			}
			// A second time, too.
			again := view.Clone()
			redact.Merge(rt, again, written, view)
			if !equal(again, root) {
				t.Errorf("view %b written back twice:\n%s", n, text(again))
			}
		}
		if text(root) != before {
			t.Errorf("%s was changed", rt)
		}
	}
}

// equal compares without regard to the order of members.
func equal(a, b *element.Node) bool {
	if a == nil || b == nil || a.Kind != b.Kind || a.Text != b.Text || len(a.Fields) != len(b.Fields) || len(a.Items) != len(b.Items) {
		return false
	}
	for i := range a.Fields {
		if !equal(a.Fields[i].Value, b.Get(a.Fields[i].Name)) {
			return false
		}
	}
	for i := range a.Items {
		if !equal(a.Items[i], b.Items[i]) {
			return false
		}
	}
	return true
}

func TestView(t *testing.T) {
	rt, root := read(t, samples[1])
	if got, want := text(redact.View(rt, root, func(i int) bool { return i == 0 }, nil)), "'section':[{'title':'A','entry':[{'display':'a1'}]}]}"; !strings.HasSuffix(got, want) {
		t.Errorf("sections that say nothing go: %s", got)
	}
	rt, root = read(t, samples[2])
	got := text(redact.View(rt, root, func(i int) bool { return i != 1 }, nil))
	if strings.Contains(got, "d2") || !strings.Contains(got, "'diagnosisSequence':[1]") || strings.Contains(got, "[2]") || !strings.Contains(got, "i2") {
		t.Errorf("pointers to a diagnosis that is not there: %s", got)
	}
	rt, root = read(t, samples[4])
	got = text(redact.View(rt, root, func(i int) bool { return i == 1 }, nil))
	if strings.Contains(got, "'id':'c'") || !strings.Contains(got, "'id':'d'") {
		t.Errorf("contained resources to which nothing refers: %s", got)
	}
	// What the same view showed before stays as long as it is the same.
	rt, root = read(t, samples[0])
	was := root.Clone()
	got = text(redact.View(rt, root, func(i int) bool { return i == 0 }, was))
	if !strings.Contains(got, "a b c") {
		t.Errorf("a text that was shown before is gone: %s", got)
	}
}

// What somebody who saw less has written is merged with what she did not see.
func TestMerge(t *testing.T) {
	rt, root := read(t, samples[1])
	view := redact.View(rt, root, func(i int) bool { return i == 0 }, nil)
	written := view.Clone()
	// She removes the section that she saw, and writes another.
	written.Set("section", &element.Node{Kind: element.Array, Items: []*element.Node{element.NewObject(element.Field{Name: "title", Value: element.NewString("D")},
		element.Field{Name: "entry", Value: &element.Node{Kind: element.Array, Items: []*element.Node{element.NewObject(element.Field{Name: "display", Value: element.NewString("d1")})}}})}})
	redact.Merge(rt, written, root, view)
	got := text(written)
	for _, want := range []string{"a2", "b1", "c1", "d1", "all", ">a</div>", ">b</div>"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is gone: %s", want, got)
		}
	}
	if strings.Contains(got, "a1") {
		t.Errorf("what she removed is back: %s", got)
	}
	if _, err := codec.Parse(written.AppendJSON(nil)); err != nil {
		t.Error(err)
	}
	// An id that a hidden contained resource bears is free for her.
	rt, root = read(t, samples[4])
	view = redact.View(rt, root, func(i int) bool { return i == 1 }, nil)
	written = view.Clone()
	contained := written.Get("contained").List()[0].Clone()
	contained.Set("id", element.NewString("c"))
	written.Get("contained").Items = append(written.Get("contained").Items, contained)
	redact.Merge(rt, written, root, view)
	if got := text(written); !strings.Contains(got, "'id':'c-1'") || !strings.Contains(got, "'reference':'#c-1'") || strings.Contains(got, "'reference':'#c'") {
		t.Errorf("hidden contained resource: %s", got)
	}
}
