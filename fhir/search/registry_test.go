package search

import (
	"fmt"
	neturl "net/url"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
)

// TestGoldenNamesWhatIsNotCompiled keeps the list of what cannot be searched
// and the table that refuses it the same list.
func TestGoldenNamesWhatIsNotCompiled(t *testing.T) {
	golden, err := os.ReadFile("testdata/golden/notcompiled.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for rt, params := range registry().list {
		for _, p := range params {
			if !p.Searchable() {
				got = append(got, fmt.Sprintf("%s\t%s\t%s\t%s", rt, p.Code, strings.TrimPrefix(p.Definition, definitionBase), p.Refused))
			}
		}
	}
	sort.Strings(got)
	want := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(golden)), "\n"), func(s string) bool { return strings.HasPrefix(s, "-\t") })
	if !slices.Equal(got, want) {
		t.Errorf("the golden list has %d refused parameters, the table %d", len(want), len(got))
	}
}

func TestRegistryCoversEveryType(t *testing.T) {
	var compiled, refused int
	for _, rt := range fhir.ResourceTypes() {
		for _, p := range Params(rt) {
			found, ok := Lookup(rt, p.Code)
			if !ok || found != p {
				t.Errorf("%s.%s is listed and not found", rt, p.Code)
			}
			switch {
			case !p.Searchable():
				refused++
			case p.Type == 0 || p.Type.String() != p.FHIRType:
				t.Errorf("%s.%s has type %q", rt, p.Code, p.FHIRType)
			case len(p.paths) == 0 && !slices.Contains(common, p):
				t.Errorf("%s.%s selects nothing", rt, p.Code)
			default:
				compiled++
			}
			if !p.Searchable() && p.Type != 0 && p.paths != nil {
				t.Errorf("%s.%s is refused and indexed", rt, p.Code)
			}
		}
		for _, code := range []string{"_id", "_lastUpdated", "_tag", "_profile", "_source"} {
			if p, ok := Lookup(rt, code); !ok || !p.Searchable() {
				t.Errorf("%s lacks %s", rt, code)
			}
		}
		if p, ok := Lookup(rt, "_security"); !ok || p.Searchable() {
			t.Errorf("%s: labels can be searched", rt)
		}
	}
	if compiled < 1500 {
		t.Errorf("only %d parameters are compiled", compiled)
	}
	if _, ok := Lookup("Nonsense", "_id"); ok || Params("Nonsense") != nil {
		t.Error("what is no resource type has parameters")
	}
	t.Logf("%d compiled, %d refused", compiled, refused)
}

func TestReadTableRefusesFaults(t *testing.T) {
	for name, text := range map[string]string{
		"no such type":     "@Nonsense\n",
		"columns":          "@Patient\na\ttoken\tid\tx\n",
		"twice":            "@Patient\na\ttoken\tid\t\ta:code\na\ttoken\tid\t\ta:code\n",
		"unsearched type":  "@Patient\na\tspecial\tid\t\ta:code\n",
		"lone component":   "@Patient\na\tcomposite\tid\t\ta:Element\tb token b:code\n",
		"no token":         "@Patient\na\tcomposite\tid\t\ta:Element\tb date b:date;c token c:code\n",
		"component":        "@Patient\na\tcomposite\tid\t\ta:Element\tb token b:code;c token c:Nonsense\n",
		"more":             "@Patient\na\ttoken\tid\t\ta:code\tclinical\n",
		"target":           "@Patient\na\treference\tid\tNonsense\ta:Reference\n",
		"datatype":         "@Patient\na\ttoken\tid\t\ta:Nonsense\n",
		"no datatype":      "@Patient\na\ttoken\tid\t\ta\n",
		"filter":           "@Patient\na\ttoken\tid\t\ta[b]:code\n",
		"filter on a type": "@Patient\na\ttoken\tid\t\ta[->Nonsense]:code\n",
	} {
		if _, err := readTable(text); err == nil {
			t.Errorf("%s: a faulty table was read", name)
		}
	}
	if _, err := readTable("@Patient\na\ttoken\tid\t\ta.b[url=http://x.y:1/z].c[0]:code(urn:a:b)|d[->Patient]:Reference\n"); err != nil {
		t.Error(err)
	}
}

// TestEveryWalkerAnswersItsSearch builds, for every compiled parameter of
// every type, the smallest resource that its first path selects from, and finds
// it by that value.
func TestEveryWalkerAnswersItsSearch(t *testing.T) {
	for _, rt := range fhir.ResourceTypes() {
		for _, p := range Params(rt) {
			for i := range p.paths {
				root, query := minimal(rt, p, &p.paths[i])
				q, _, err := Parse(rt, values(t, p.Code+"="+neturl.QueryEscape(query)), Options{})
				if err != nil {
					t.Errorf("%s.%s: %v", rt, p.Code, err)
					continue
				}
				if !matches(q, Extract(rt, root)) {
					t.Errorf("%s.%s path %d: %s is not found by %s", rt, p.Code, i, root.AppendJSON(nil), query)
				}
			}
		}
	}
}
