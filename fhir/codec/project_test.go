package codec

import (
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
	"github.com/cloister-health/cloister/fhir/search"
)

var views = []View{
	{Summary: search.SummaryTrue}, {Summary: search.SummaryText}, {Summary: search.SummaryData},
	{Elements: []string{"identifier"}}, {Elements: []string{"Patient.name", "code", "value", "none"}},
}

// What a view leaves is a valid resource, has no element that the whole did not
// have, and says that it is not the whole.
func checkViews(t *testing.T, name string, body []byte) {
	t.Helper()
	whole, err := Parse(body)
	if err != nil {
		return // an example that this server would not store
	}
	for _, v := range views {
		out, err := Project(body, v)
		if err != nil {
			t.Fatalf("%s %+v: %v", name, v, err)
		}
		part, err := Parse(out)
		if err != nil {
			t.Errorf("%s %+v is not valid: %v", name, v, err)
			continue
		}
		for _, f := range part.Root.Fields {
			if f.Name != "meta" && whole.Root.Get(f.Name) == nil {
				t.Errorf("%s %+v: %s is new", name, v, f.Name)
			}
		}
		if tags := part.Root.Get("meta").Get("tag").List(); len(tags) == 0 || tags[len(tags)-1].Get("code").String() != "SUBSETTED" && !strings.Contains(string(part.Root.Get("meta").AppendJSON(nil)), "SUBSETTED") {
			t.Errorf("%s %+v is not marked", name, v)
		}
		if v.Summary != search.SummaryText && v.Elements == nil {
			continue
		}
		if (v.Summary == search.SummaryText) != (part.Root.Get("text") != nil) && whole.Root.Get("text") != nil {
			t.Errorf("%s %+v: the narrative", name, v)
		}
	}
}

func TestProject(t *testing.T) {
	checkViews(t, "patient", []byte(`{"resourceType":"Patient","id":"1","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},"identifier":[{"value":"1"}],"_birthDate":{"extension":[{"url":"http://x","valueCode":"a"}]},"photo":[{"data":"AA=="}],"contact":[{"name":{"family":"c"}}]}`))
	for _, c := range []struct {
		body string
		view View
		want string
	}{
		{`{"resourceType":"Patient","name":[{"family":"a","_family":{"id":"x"}}],"photo":[{"data":"AA=="}],"link":[{"id":"l","other":{"reference":"Patient/2"},"type":"refer"}],"multipleBirthInteger":2}`, View{Summary: search.SummaryTrue},
			`{"resourceType":"Patient","name":[{"family":"a","_family":{"id":"x"}}],"link":[{"id":"l","other":{"reference":"Patient/2"},"type":"refer"}]}`},
		{`{"resourceType":"Patient","name":[{"family":"a"}],"active":false,"multipleBirthInteger":2}`, View{Elements: []string{"multipleBirth"}},
			`{"resourceType":"Patient","active":false,"multipleBirthInteger":2}`},
		{`{"resourceType":"Basic","code":{"text":"x"},"contained":[{"resourceType":"Patient","id":"p"}],"subject":{"reference":"#p"}}`, View{Elements: []string{"author"}},
			`{"resourceType":"Basic","code":{"text":"x"}}`},
		{`{"resourceType":"Basic","code":{"text":"x"},"contained":[{"resourceType":"Patient","id":"p"}],"subject":{"reference":"#p"}}`, View{Elements: []string{"Basic.subject", "Patient.name"}},
			`{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"#p"},"contained":[{"resourceType":"Patient","id":"p"}]}`},
	} {
		out, err := Project([]byte(c.body), c.view)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Parse(out)
		if err != nil {
			t.Fatal(err)
		}
		r.Root.Delete("meta")
		if got := string(r.Root.AppendJSON(nil)); got != c.want {
			t.Errorf("%+v:\n%s, want\n%s", c.view, got, c.want)
		}
	}
	for _, broken := range []string{"", "[]", `{"resourceType":"Nothing"}`, `{"id":`} {
		if _, err := Project([]byte(broken), views[0]); err == nil {
			t.Errorf("%q is projected", broken)
		}
	}
	var n *element.Node
	if refersInside(n) {
		t.Error("nothing refers inside")
	}
}

func TestProjectPublishedExamples(t *testing.T) {
	dir := shareddata.Open(t, shareddata.Examples)
	for _, name := range shareddata.Files(t, dir) {
		checkViews(t, name, shareddata.Read(t, dir, name))
	}
}
