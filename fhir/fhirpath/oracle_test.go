package fhirpath_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	gofhir "github.com/gofhir/fhirpath"
	"github.com/gofhir/fhirpath/funcs"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

// typeOnly resolves a reference to a resource of the type that it names, and looks nothing up.
type typeOnly struct{}

func (typeOnly) Resolve(_ context.Context, ref string) ([]byte, error) {
	t, _ := fhir.ReferenceType(ref)
	if t == "" {
		return nil, fmt.Errorf("no type")
	}
	return []byte(`{"resourceType":"` + string(t) + `"}`), nil
}

// secondOpinion is what github.com/gofhir/fhirpath says.
func secondOpinion(e *gofhir.Expression, body []byte) ([]string, error) {
	out, err := e.EvaluateWithOptions(body, gofhir.WithResolver(typeOnly{}))
	if err != nil {
		return nil, err
	}
	texts := make([]string, 0, len(out))
	for _, v := range out {
		texts = append(texts, v.String())
	}
	return texts, nil
}

// opinion is ours, in the same words.
func opinion(e *fhirpath.Expression, v fhirpath.Value) ([]string, error) {
	out, err := e.Eval(context.Background(), v, fhirpath.Options{Now: noon})
	if err != nil {
		return nil, err
	}
	texts := make([]string, 0, len(out))
	for _, x := range out {
		switch {
		case x.Kind() == fhirpath.Complex:
			texts = append(texts, string(x.Node().AppendJSON(nil)))
		case x.HasValue():
			texts = append(texts, x.Text())
		}
	}
	return texts, nil
}

// searchExpressions reads the expressions of the published search parameters, by the type on which each part starts.
func searchExpressions(t *testing.T) map[string][]string {
	t.Helper()
	dir := shareddata.Open(t, shareddata.Definitions)
	by := map[string][]string{}
	for _, name := range shareddata.Files(t, dir) {
		if !strings.HasPrefix(name, "SearchParameter-") {
			continue
		}
		var p struct{ Expression string }
		if err := json.Unmarshal(shareddata.Read(t, dir, name), &p); err != nil {
			t.Fatal(err)
		}
		if _, err := fhirpath.Compile(p.Expression); err != nil && p.Expression != "" {
			t.Errorf("%s: %s: %v", name, p.Expression, err)
		}
		for _, part := range strings.Split(p.Expression, " | ") {
			part = strings.TrimSpace(part)
			typ, _, _ := strings.Cut(strings.Trim(part, "("), ".")
			if fhir.ResourceType(typ).Valid() && strings.Count(part, "(") == strings.Count(part, ")") && !slices.Contains(by[typ], part) {
				by[typ] = append(by[typ], part)
			}
		}
	}
	return by
}

// Both engines find the same in the published examples, but where the other one is known to be wrong.
func TestSecondOpinion(t *testing.T) {
	funcs.SetTraceLogger(funcs.NullTraceLogger{})
	expressions := searchExpressions(t)
	invariants, err := os.ReadFile("../profile/invariants.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(invariants)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) == 4 && fhir.ResourceType(f[0]).Valid() {
			expressions[f[0]] = append(expressions[f[0]], f[3])
		}
	}
	dir := shareddata.Open(t, shareddata.Examples)
	n, differ := 0, 0
	theirs := map[string]*gofhir.Expression{}
	for i, name := range shareddata.Files(t, dir) {
		body := shareddata.Read(t, dir, name)
		if i%3 != 0 && testing.Short() || len(body) > 12_000 {
			continue // the other one reads the whole resource for each expression
		}
		r, err := codec.Parse(body)
		if err != nil {
			continue
		}
		body = r.Root.AppendJSON(nil)
		v, _ := fhirpath.Resource(r.Root)
		for _, x := range expressions[string(r.Type)] {
			e, err := fhirpath.Compile(x)
			if err != nil {
				t.Errorf("%s: %v", x, err)
				continue
			}
			if theirs[x] == nil {
				if theirs[x], err = gofhir.Compile(x); err != nil {
					t.Fatalf("%s: %v", x, err)
				}
			}
			n++
			ours, err1 := opinion(e, v)
			other, err2 := secondOpinion(theirs[x], body)
			if (err1 == nil) == (err2 == nil) && slices.Equal(ours, other) || known(x, ours, other, err2) {
				continue
			}
			if differ++; differ < 40 {
				t.Errorf("%s: %s\nours   %.200q %v\ntheirs %.200q %v", name, x, ours, err1, other, err2)
			}
		}
	}
	t.Log(n, "evaluations,", differ, "differences")
}

// known are the disagreements with their reasons.
func known(expression string, ours, theirs []string, err error) bool {
	switch {
	case err != nil && strings.Contains(expression, "%ucum"): // not defined there
		return true
	case len(ours) == len(theirs) && slices.EqualFunc(ours, theirs, func(a, b string) bool { return strings.ReplaceAll(a, "+00:00", "Z") == b }):
		return true // the other one rewrites the offset
	case len(theirs) == 0 && strings.Contains(expression, "resolve()") && len(ours) > 0:
		return true // contained resources, and Reference.type
	}
	return false
}

// Nothing of a resource reaches the outputs of the process.
func TestSilence(t *testing.T) {
	stdout, stderr := os.Stdout, os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout, os.Stderr = w, w
	for _, x := range []string{"name.trace('names')", "trace('all', name.family).name.given.trace('given').count()", "name.single()", "%nothing", "name.family.toInteger()"} {
		e, err := fhirpath.Compile(x)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := e.Eval(context.Background(), value(t, patient), fhirpath.Options{}); err != nil && strings.Contains(err.Error(), "Chalmers") {
			t.Errorf("%s: %v", x, err)
		}
	}
	os.Stdout, os.Stderr = stdout, stderr
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(r); err != nil || len(said) > 0 {
		t.Errorf("%q was printed, %v", said, err)
	}
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{"name.where(use = 'official').given.first()", "1 + 2 * 3 - -4", "@2020-01-01T10:00:00Z + 3 months > now()", "descendants().where($this is string).distinct().count()",
		"name.repeat(given).aggregate($total & $this, '')", "(1|2|3).all($this > 0) implies {}.empty()", "iif(active, %resource, `name`)", "5 'mg' * 2.5 / 3 'g'", "'a'.replaceMatches('[a-z]+', '$0$0').matches('x')",
		"2.power(1000).log(3).round(2).toString().length()", "generalPractitioner.resolve() is Practitioner // x"} {
		f.Add(s)
	}
	v := value(f, patient)
	before := string(v.Node().AppendJSON(nil))
	f.Fuzz(func(t *testing.T, s string) {
		e, err := fhirpath.Compile(s)
		if err != nil {
			return
		}
		out, err := e.Eval(context.Background(), v, fhirpath.Options{Now: noon, Limits: fhirpath.Limits{Steps: 20_000, Items: 2_000, Text: 20_000}})
		if err != nil {
			if strings.Contains(err.Error(), "Chalmers") || err == fhirpath.ErrFailed { //nolint:errorlint // the very one
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if len(out) > 2_000 {
			t.Fatalf("%q: %d items", s, len(out))
		}
		if string(v.Node().AppendJSON(nil)) != before {
			t.Fatalf("%q changes the resource", s)
		}
	})
}
