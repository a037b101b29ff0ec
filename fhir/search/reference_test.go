package search

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

func TestLocalRef(t *testing.T) {
	const base = "https://h.example/fhir"
	for literal, want := range map[string]string{
		"Patient/1": "Patient/1", "Patient/1/_history/3": "Patient/1", base + "/Patient/1": "Patient/1", base + "/Patient/1/_history/2": "Patient/1",
		"Questionnaire/q|2": "Questionnaire/q", "Binary/b#page": "Binary/b",
		"https://h.example/fhirPatient/1": "", "https://h.example/fhir2/Patient/1": "", "https://other.example/fhir/Patient/1": "",
		"urn:uuid:1": "", "#p": "", "": "", "Nonsense/1": "", "Patient/": "", "Patient/1/x": "", "patient/1": "", "Patient?identifier=1": "",
		base: "", base + "/": "",
	} {
		for _, b := range []string{base, base + "/"} {
			r, ok := LocalRef(b, literal)
			if ok != (want != "") || ok && r.String() != want {
				t.Errorf("LocalRef(%q, %q) = %v, %v", b, literal, r, ok)
			}
		}
	}
	if _, ok := LocalRef("", "https://h.example/fhir/Patient/1"); ok {
		t.Error("without a base an absolute url was local")
	}
}

const referring = `{"resourceType":"Bundle","entry":[
  {"fullUrl":"http://h.example/fhir/Observation/full","resource":{"resourceType":"DocumentReference",
   "subject":{"reference":"Patient/a"},"description":"Patient/no",
   "content":[{"attachment":{"url":"Binary/b","title":"Binary/no"}},{"attachment":{"url":"http://h.example/fhir/Binary/c"}}],
   "contained":[{"resourceType":"Observation","subject":{"reference":"Patient/d/_history/4"}}],
   "extension":[{"url":"x","valueReference":{"reference":"Group/e"}},{"url":"y","valueUri":"Location/f"},
                {"url":"z","valueCanonical":"Questionnaire/g|1"},{"url":"s","valueString":"Patient/no"}]}},
  {"resource":{"resourceType":"Provenance","target":[{"reference":"Patient/a"},{"reference":"http://else.example/fhir/Patient/no"}],
   "_recorded":{"extension":[{"url":"p","valueReference":{"reference":"Device/h"}}]}}}]}`

func TestReferencesAreFoundAnywhere(t *testing.T) {
	n := read(t, referring)
	names := func(base string) []string {
		var out []string
		for _, r := range References(base, n) {
			out = append(out, r.String())
		}
		return out
	}
	want := []string{"Binary/b", "Device/h", "Group/e", "Location/f", "Patient/a", "Patient/d", "Questionnaire/g"}
	if diff := cmp.Diff(want, names("")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want = append(want, "Binary/c", "Observation/full")
	slices.Sort(want)
	if diff := cmp.Diff(want, names("http://h.example/fhir")); diff != "" {
		t.Errorf("with a base (-want +got):\n%s", diff)
	}
	x := Options{Base: "http://h.example/fhir"}.Extract("Bundle", n)
	for _, r := range References("http://h.example/fhir", n) {
		if !slices.Contains(keys(x.Refs), TargetHash(r)) {
			t.Errorf("%s is referred to and not in the index", r)
		}
	}
}

func TestTargets(t *testing.T) {
	n := read(t, observation)
	if diff := cmp.Diff([]fhir.Ref{{Type: "Patient", ID: "p1"}}, Targets("Observation", "patient", n)); diff != "" {
		t.Error(diff)
	}
	for _, code := range []string{"performer", "focus", "code", "nonsense", "_id"} {
		if got := Targets("Observation", code, n); len(got) > 0 {
			t.Errorf("%s selects %v", code, got)
		}
	}
}

func TestRelativise(t *testing.T) {
	n := read(t, `{"url":"http://h.example/fhir/Questionnaire/q","subject":{"reference":"http://h.example/fhir/Patient/1/_history/2"},
	  "other":[{"reference":"http://h.example/fhir/"},{"reference":"http://else.example/fhir/Patient/1"},{"reference":"Patient/2"}]}`)
	if got := Relativise("http://h.example/fhir", n); got != 1 {
		t.Errorf("%d rewritten", got)
	}
	want := `{"url":"http://h.example/fhir/Questionnaire/q","subject":{"reference":"Patient/1/_history/2"},` +
		`"other":[{"reference":"http://h.example/fhir/"},{"reference":"http://else.example/fhir/Patient/1"},{"reference":"Patient/2"}]}`
	if got := string(n.AppendJSON(nil)); got != want {
		t.Error(got)
	}
	if Relativise("", n) != 0 || Relativise("http://h.example/fhir", (*element.Node)(nil)) != 0 {
		t.Error("nothing was to be rewritten")
	}
}
