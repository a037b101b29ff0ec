package server_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// What US Core 7.0.0 asks of a server is a table of facts, made from its
// CapabilityStatement and its SearchParameters: what is expected of which type,
// and what each parameter must understand.
const (
	usCorePackage = "hl7.fhir.us.core-7.0.0.tgz"
	usCoreTable   = "testdata/uscore-7.0.0.tsv"
)

var update = flag.Bool("update", false, "write the table of US Core anew")

// demand is one row of the table: a search by several parameters together, an
// include, an interaction or an operation.
type demand struct{ resource, expectation, what string }

func (d demand) String() string { return d.resource + "?" + d.what }

// ability is what a parameter must understand beside a single value: prefixes, lists.
type ability struct {
	kind     string   // of the parameter
	prefixes []string // SHALL
	lists    bool     // SHALL or SHOULD
}

func TestUSCoreTableIsThatOfThePackage(t *testing.T) {
	dir := os.Getenv("CLOISTER_SHARED_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "..", "shared", "data") // beside the module
	}
	body, err := os.ReadFile(filepath.Join(dir, usCorePackage)) //nolint:gosec // a folder of the one who runs the test
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%v (set CLOISTER_SHARED_DATA to the folder of the package)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	made := usCoreFacts(t, body)
	if *update {
		if err := os.WriteFile(usCoreTable, []byte(made), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(usCoreTable)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != made {
		t.Errorf("%s is not what the package says: go test -run USCoreTable -update", usCoreTable)
	}
}

// Each search, include, interaction and operation of the table works, by GET
// and by POST, and finds what it must find and nothing else.
func TestUSCore(t *testing.T) {
	demands, abilities, definitions := usCoreRows(t)
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	h.callers["everybody"] = clinic.Persona{Name: "everybody", Claims: clinic.Claims{
		Subject: "us-core", Client: "test", Practice: "harbor", Roles: []string{authz.Operator}, Purpose: "HSYSADMIN", Scope: "system/*.cruds",
	}}
	w := usCoreWorld{house: h, abilities: abilities, ids: map[string][]string{}, own: map[string]bool{}}
	var defined []string
	for _, d := range definitions {
		defined = append(defined, w.define(t, d))
	}
	w.index(t, defined)
	for _, f := range usCoreFixtures {
		w.store(t, f)
	}
	w.statement = h.do("", get("/metadata")).body
	seen := map[string]int{}
	for _, d := range demands {
		seen[d.expectation]++
		t.Run(d.expectation+" "+d.String(), func(t *testing.T) {
			if err := w.meets(d); err != nil {
				t.Error(err)
			}
		})
	}
	if seen["SHALL"] < 100 || seen["SHOULD"] < 40 {
		t.Errorf("the table has %v", seen)
	}
}

// usCoreWorld is a server with the fixtures in it.
type usCoreWorld struct {
	*house
	abilities map[string]ability  // by Type.parameter
	ids       map[string][]string // what was stored of each type
	own       map[string]bool     // US Core's own parameters, by Type.parameter
	statement string
}

// decoy names the resource that differs from the one to be found in one
// parameter; of dates there are two, one before and one after.
func decoy(resource, parameter string, i int) string {
	return strings.ToLower(fmt.Sprintf("usc-%s-%s-%d", resource, strings.Trim(parameter, "_"), i))
}

func hit(resource string) string { return strings.ToLower("usc-" + resource) }

// ownParameter is a search parameter that US Core defines itself.
type ownParameter struct{ resource, code, kind, expression string }

// define gives the path of the definition.
func (w *usCoreWorld) define(t *testing.T, d ownParameter) string {
	t.Helper()
	w.own[d.resource+"."+d.code] = true
	body, err := json.Marshal(map[string]any{
		"resourceType": "SearchParameter", "status": "active", "url": "http://hl7.org/fhir/us/core/SearchParameter/" + d.resource + "." + d.code, "name": "USCore",
		"description": "of US Core", "code": d.code, "base": []string{d.resource}, "type": d.kind, "expression": d.expression,
	})
	if err != nil {
		t.Fatal(err)
	}
	a := w.do("practice-admin", call{method: "POST", path: "/fhir/SearchParameter", body: string(body)})
	if a.status != http.StatusCreated {
		t.Fatalf("%v: %d %s", d, a.status, a.body)
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Location"), base), "/_history")
	return path
}

// index waits until what the practice has is indexed by the parameters that were defined.
func (w *usCoreWorld) index(t *testing.T, defined []string) {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.core.Store.Reindex(ctx, time.Millisecond, func(err error) { t.Error(err) })
	}()
	for _, path := range defined {
		for !t.Failed() && !strings.Contains(w.do("practice-admin", get(path+"/$reindex")).body, "completed") {
			time.Sleep(time.Millisecond)
		}
	}
	end()
	<-ended
}

func (w *usCoreWorld) store(t *testing.T, f usCoreFixture) {
	t.Helper()
	put := func(id, body string) {
		var r map[string]any
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		r["resourceType"], r["id"] = f.resource, id
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		a := w.do("everybody", call{method: "PUT", path: "/fhir/" + f.resource + "/" + id, body: string(text)})
		if a.status != http.StatusCreated {
			t.Fatalf("%s: %d %s", id, a.status, a.body)
		}
		w.ids[f.resource] = append(w.ids[f.resource], id)
	}
	put(hit(f.resource), f.body)
	for _, p := range f.parameters {
		for i, other := range p.others {
			changed := strings.ReplaceAll(f.body, p.at, other)
			if changed == f.body {
				t.Fatalf("%s has no %s", f.resource, p.at)
			}
			put(decoy(f.resource, p.name, i), changed)
		}
	}
}

// clause is one parameter of a search, and which decoys it leaves out.
type clause struct {
	name, value string
	without     []string
}

// meets says what is missing, or nil.
func (w *usCoreWorld) meets(d demand) error {
	kind, what, _ := strings.Cut(d.what, "=")
	switch kind {
	case "interaction":
		return w.stated(d.resource, "interaction", "code", what)
	case "operation":
		a := w.do("everybody", get("/"+d.resource+"/$"+what+"?patient="+hit("Patient")))
		if a.status != http.StatusOK {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	case "_include", "_revinclude":
		return w.includes(d.resource, kind, what)
	}
	f := usCoreFixtureOf(d.resource)
	if f == nil {
		return errors.New("there is no fixture")
	}
	names := strings.Split(d.what, "&")
	var forms [][]clause // for each parameter, the ways to ask
	for _, name := range names {
		if err := w.stated(d.resource, "searchParam", "name", name); err != nil && !strings.HasPrefix(name, "_") && !w.own[d.resource+"."+name] {
			return err
		}
		asked := w.ways(f, name)
		if len(asked) == 0 {
			return fmt.Errorf("the fixture has no value for %s", name)
		}
		forms = append(forms, asked)
	}
	var faults []error
	for i, asked := range forms {
		for n, c := range asked {
			if n == 0 && i > 0 {
				continue // all in their first form: once is enough
			}
			search := make([]clause, 0, len(forms))
			for j := range forms {
				search = append(search, forms[j][0])
			}
			search[i] = c
			faults = append(faults, w.finds(d.resource, search))
		}
	}
	return errors.Join(faults...)
}

// ways are the forms in which a client may ask for the value of the resource that is to be found.
func (w *usCoreWorld) ways(f *usCoreFixture, name string) []clause {
	switch name {
	case "_id":
		var others []string
		for _, id := range w.ids[f.resource] {
			if id != hit(f.resource) {
				others = append(others, id)
			}
		}
		return []clause{{name, hit(f.resource), others}}
	case "_lastUpdated":
		day, all := noon.Format("2006-01-02"), w.ids[f.resource]
		return []clause{{name, day, nil}, {name, "ge" + day, nil}, {name, "gt" + noon.AddDate(0, 0, -1).Format("2006-01-02"), nil}, {name, "le" + day, nil}, {name, "lt" + day, all}}
	}
	i := slices.IndexFunc(f.parameters, func(p usCoreParameter) bool { return p.name == name })
	if i < 0 {
		return nil
	}
	p, can := f.parameters[i], w.abilities[f.resource+"."+name]
	var without []string
	for n := range p.others {
		without = append(without, decoy(f.resource, name, n))
	}
	out := []clause{{name, p.value, without}}
	switch can.kind {
	case "token":
		if _, code, ok := strings.Cut(p.value, "|"); ok {
			out = append(out, clause{name, code, without})
		}
	case "reference":
		if !strings.Contains(p.value, "/") {
			kind := map[string]string{"patient": "Patient", "encounter": "Encounter", "location": "Location", "practitioner": "Practitioner"}[name]
			out = append(out, clause{name, kind + "/" + p.value, without})
		}
	}
	if can.lists {
		out = append(out, clause{name, p.value + ",nothing-else", without})
	}
	for _, prefix := range can.prefixes { // others[0] is before, others[1] after
		if day := map[string]string{"gt": "2024-03-04", "ge": "2024-03-05", "lt": "2024-03-06", "le": "2024-03-05"}[prefix]; prefix[0] == 'g' {
			out = append(out, clause{name, prefix + day, without[:1]})
		} else {
			out = append(out, clause{name, prefix + day, without[1:]})
		}
	}
	return out
}

// finds searches by GET and by POST: all that was stored of the type but what
// the clauses leave out must be found, and nothing else of it.
func (w *usCoreWorld) finds(resource string, search []clause) error {
	q, want := url.Values{"_count": {"200"}}, map[string]bool{}
	for _, id := range w.ids[resource] {
		want[id] = true
	}
	for _, c := range search {
		q.Add(c.name, c.value)
		for _, id := range c.without {
			delete(want, id)
		}
	}
	for _, rq := range []call{
		get("/" + resource + "?" + q.Encode()),
		{method: "POST", path: "/fhir/" + resource + "/_search", body: q.Encode(), header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}},
	} {
		a := w.do("everybody", rq)
		if a.status != http.StatusOK {
			return fmt.Errorf("%s %s: %d %s", rq.method, q.Encode(), a.status, a.body)
		}
		got := map[string]bool{}
		for _, e := range bundled(a.body) {
			if strings.HasPrefix(e.Resource.ID, "usc-") {
				got[e.Resource.ID] = true
			}
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("%s %s found %v, want %v", rq.method, q.Encode(), slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
	return nil
}

type bundledEntry struct {
	Resource struct{ ResourceType, ID string }
	Search   struct{ Mode string }
}

func bundled(body string) []bundledEntry {
	var b struct{ Entry []bundledEntry }
	_ = json.Unmarshal([]byte(body), &b) // what is no Bundle has no entries
	return b.Entry
}

// includes asks for the resource to be found and what refers to it, or what it refers to.
func (w *usCoreWorld) includes(resource, kind, what string) error {
	parts := strings.Split(what, ":")
	came := usCoreIncluded[what]
	if kind == "_revinclude" {
		came = "Provenance"
	}
	if came == "" {
		return fmt.Errorf("the fixtures have nothing for %s", what)
	}
	if len(parts) == 3 {
		came = parts[2]
	}
	q := url.Values{"_id": {hit(resource)}, kind: {what}}.Encode()
	for _, rq := range []call{
		get("/" + resource + "?" + q),
		{method: "POST", path: "/fhir/" + resource + "/_search", body: q, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}},
	} {
		a := w.do("everybody", rq)
		got := map[string]string{}
		for _, e := range bundled(a.body) {
			got[e.Resource.ResourceType+"/"+e.Resource.ID] = e.Search.Mode
		}
		want := map[string]string{resource + "/" + hit(resource): "match", came + "/" + hit(came): "include"}
		if a.status != http.StatusOK || !maps.Equal(got, want) {
			return fmt.Errorf("%s: %d %v, want %v", rq.method, a.status, got, want)
		}
	}
	return nil
}

// stated says whether the CapabilityStatement lists it for the type.
func (w *usCoreWorld) stated(resource, list, key, value string) error {
	var c struct {
		Rest []struct {
			Resource []map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(w.statement), &c); err != nil {
		return err
	}
	for _, r := range c.Rest[0].Resource {
		var items []map[string]any
		if string(r["type"]) != `"`+resource+`"` || json.Unmarshal(r[list], &items) != nil {
			continue
		}
		for _, x := range items {
			if x[key] == value {
				return nil
			}
		}
	}
	return fmt.Errorf("the capability statement does not list %s %s", list, value)
}

// usCoreRows reads the table.
func usCoreRows(t *testing.T) (demands []demand, abilities map[string]ability, definitions []ownParameter) {
	t.Helper()
	text, err := os.ReadFile(usCoreTable)
	if err != nil {
		t.Fatal(err)
	}
	abilities = map[string]ability{}
	for _, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		x := strings.Split(line, "\t")
		switch {
		case strings.HasPrefix(line, "#"):
		case len(x) == 5 && x[1] == "parameter":
			a := ability{kind: x[3]}
			for _, w := range strings.Fields(x[4]) {
				if w == "list" {
					a.lists = true
				} else {
					a.prefixes = append(a.prefixes, w)
				}
			}
			abilities[x[0]+"."+x[2]] = a
		case len(x) == 5 && x[1] == "definition":
			definitions = append(definitions, ownParameter{x[0], x[2], x[3], x[4]})
		case len(x) == 3:
			demands = append(demands, demand{x[0], x[1], x[2]})
		default:
			t.Fatalf("%s: %q", usCoreTable, line)
		}
	}
	return demands, abilities, definitions
}

// --- the table, from the package -------------------------------------------------

type expected struct {
	Extension []struct {
		URL         string
		ValueCode   string
		ValueString string
		Extension   []struct{ URL, ValueCode, ValueString string }
	}
}

func (e expected) expectation() string {
	for _, x := range e.Extension {
		if strings.HasSuffix(x.URL, "/capabilitystatement-expectation") {
			return x.ValueCode
		}
	}
	return ""
}

// combinations are the searches by several parameters, by expectation.
func (e expected) combinations(visit func(expectation string, names []string)) {
	for _, x := range e.Extension {
		if !strings.HasSuffix(x.URL, "/capabilitystatement-search-parameter-combination") {
			continue
		}
		expectation, names := "", []string{}
		for _, y := range x.Extension {
			if y.ValueCode != "" {
				expectation = y.ValueCode
			} else {
				names = append(names, y.ValueString)
			}
		}
		slices.Sort(names)
		visit(expectation, names)
	}
}

// usCoreFacts makes the table of what SHALL and SHOULD be.
func usCoreFacts(t *testing.T, pack []byte) string {
	t.Helper()
	files := unpackUSCore(t, pack)
	parse := func(name string, into any) {
		if err := json.Unmarshal(files[name], into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var c struct {
		Rest []struct {
			Resource []struct {
				expected
				Type        string
				Interaction []struct {
					expected
					Code string
				}
				SearchParam []struct {
					expected
					Name, Definition, Type string
				}
				Operation []struct {
					expected
					Name string
				}
				SearchInclude    []string
				IncludeExpect    []expected `json:"_searchInclude"`
				SearchRevInclude []string
				RevincludeExpect []expected `json:"_searchRevInclude"`
			}
		}
	}
	parse("CapabilityStatement-us-core-server.json", &c)
	lines := map[string]bool{}
	row := func(resource, expectation, what string) {
		if expectation == "SHALL" || expectation == "SHOULD" {
			lines[resource+"\t"+expectation+"\t"+what] = true
		}
	}
	for _, r := range c.Rest[0].Resource {
		used := map[string]bool{}
		for _, p := range r.SearchParam {
			row(r.Type, p.expectation(), p.Name)
			used[p.Name] = p.expectation() == "SHALL" || p.expectation() == "SHOULD"
		}
		r.combinations(func(expectation string, names []string) {
			row(r.Type, expectation, strings.Join(names, "&"))
			for _, n := range names {
				used[n] = true
			}
		})
		for _, i := range r.Interaction {
			if i.expectation() == "SHALL" {
				row(r.Type, "SHALL", "interaction="+i.Code)
			}
		}
		for _, o := range r.Operation {
			if r.Type != "ValueSet" {
				row(r.Type, o.expectation(), "operation="+o.Name)
			}
		}
		for i, x := range r.SearchInclude {
			row(r.Type, r.IncludeExpect[i].expectation(), "_include="+x)
		}
		for i, x := range r.SearchRevInclude {
			row(r.Type, r.RevincludeExpect[i].expectation(), "_revinclude="+x)
		}
		for _, p := range r.SearchParam {
			if !used[p.Name] {
				continue
			}
			var s struct {
				DerivedFrom, Expression string

				Comparator []string
				Expect     []expected `json:"_comparator"`
				Or         expected   `json:"_multipleOr"`
			}
			parse("SearchParameter-"+path.Base(p.Definition)+".json", &s)
			var can []string
			for i, x := range s.Comparator {
				if s.Expect[i].expectation() == "SHALL" {
					can = append(can, x)
				}
			}
			if e := s.Or.expectation(); e == "SHALL" || e == "SHOULD" {
				can = append(can, "list")
			}
			if s.DerivedFrom == "" {
				lines[strings.Join([]string{r.Type, "definition", p.Name, p.Type, s.Expression}, "\t")] = true
			}
			lines[strings.Join([]string{r.Type, "parameter", p.Name, p.Type, strings.Join(can, " ")}, "\t")] = true
		}
	}
	return "# What US Core 7.0.0 expects of a server: type, SHALL or SHOULD, what; of each parameter its type and what it must understand;\n" +
		"# and the definitions of the parameters that are no R4 parameters.\n" +
		"# Made from the package: go test -run USCoreTable -update\n" +
		strings.Join(slices.Sorted(maps.Keys(lines)), "\n") + "\n"
}

// unpackUSCore gives the files of the package's main folder by name.
func unpackUSCore(t *testing.T, pack []byte) map[string][]byte {
	t.Helper()
	plain, err := gzip.NewReader(bytes.NewReader(pack))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(plain); ; {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if path.Dir(head.Name) != "package" {
			continue
		}
		if files[path.Base(head.Name)], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}
