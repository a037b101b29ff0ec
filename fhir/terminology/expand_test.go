package terminology

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir/definition"
)

const everything = "being mammal dog bat unicorn flyer bird"

func TestExpand(t *testing.T) {
	s := newService(t, Options{})
	for vs, want := range map[string]string{
		"all":   everything,
		"old":   "dog",
		"odd":   "dog",
		"list":  "dog yeti",
		"isa":   "mammal dog bat unicorn",
		"below": "dog bat unicorn",
		"nota":  "being flyer bird",
		"above": "being mammal bat flyer",
		"equal": "dog unicorn", "cousin": "dog", "parent": "bat bird",
		"in": "dog bird", "notin": "being mammal flyer", "regex": "bat", "exists": "dog bat unicorn bird", "missing": "being mammal flyer",
		"two":      "bat",
		"without":  "being flyer",
		"active":   "being mammal dog bat flyer bird",
		"both":     "dog",
		"narrow":   "dog bird",
		"sum":      "mammal dog bat unicorn being flyer red",
		"colours":  "Red green",
		"part":     "a",
		"unlisted": "u",
		"stored":   "p q r",
		"badop":    "! processing", "badproperty": "! processing", "badcode": "! code-invalid", "badregex": "! processing",
		"self":  "! processing",
		"deep0": everything, "deep25": everything,
		"absent": "! not-found", "unheard": "! not-found", "mixed": "! not-found", "dangling": "! not-found", "doubt": "! not-found",
		"torn": "! not-found", "empty": "! not-found", "nowhere": "! not-found",
	} {
		for range 2 { // from the definition, then from memory
			if got := codes(s.Expand(ctx, Expand{ValueSet: "http://x/vs/" + vs, Count: -1})); got != want {
				t.Errorf("%s: %q, want %q", vs, got, want)
			}
		}
	}
	for canonical, want := range map[string]string{
		"http://x/animals?fhir_vs": everything, "http://x/animals?fhir_vs=isa/flyer": "bat flyer bird", "http://x/animals?fhir_vs=refset/1": "! not-found",
		"http://x/vs/all|1": everything, "http://x/vs/all|2": "! not-found",
	} {
		if got := codes(s.Expand(ctx, Expand{ValueSet: canonical, Count: -1})); got != want {
			t.Errorf("%s: %q, want %q", canonical, got, want)
		}
	}
}

func TestExpandSaysWhatIsNotInstalled(t *testing.T) {
	s := newService(t, Options{})
	for vs, want := range map[string]string{
		"absent": "http://x/absent", "unheard": "http://x/unheard is not installed", "dangling": "http://x/vs/nowhere is not installed", "self": "imports itself",
	} {
		_, err := s.Expand(ctx, Expand{ValueSet: "http://x/vs/" + vs, Count: -1})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", vs, err)
		}
	}
}

func TestExpandTakesItsParameters(t *testing.T) {
	s := newService(t, Options{})
	for name, c := range map[string]struct {
		q    Expand
		want string
	}{
		"page":           {Expand{Offset: 2, Count: 2}, "dog bat"},
		"last page":      {Expand{Offset: 6, Count: 5}, "bird"},
		"past the end":   {Expand{Offset: 60, Count: 5}, ""},
		"none":           {Expand{Count: 0}, ""},
		"words":          {Expand{Count: -1, Filter: " ANIMAL ba"}, "bat"},
		"code":           {Expand{Count: -1, Filter: "unic"}, "unicorn"},
		"german":         {Expand{Count: -1, Filter: "hund", DisplayLanguage: "de"}, "dog"},
		"active":         {Expand{Count: -1, ActiveOnly: true}, "being mammal dog bat flyer bird"},
		"selectable":     {Expand{Count: -1, ExcludeNotForUI: true}, "mammal dog bat unicorn flyer bird"},
		"other version":  {Expand{Count: -1, SystemVersion: []string{"http://x/animals|1"}}, "dog"},
		"wrong version":  {Expand{Count: -1, SystemVersion: []string{"http://x/animals|9"}}, "! not-found"},
		"no version":     {Expand{Count: -1, SystemVersion: []string{"http://x/animals"}}, "! invalid"},
		"checked":        {Expand{Count: -1, CheckSystemVersion: []string{"http://x/animals|1"}}, "! processing"},
		"well checked":   {Expand{Count: -1, CheckSystemVersion: []string{"http://x/animals|2"}}, everything},
		"without system": {Expand{Count: -1, ExcludeSystem: []string{"http://x/animals"}}, ""},
	} {
		c.q.ValueSet = "http://x/vs/all"
		if got := codes(s.Expand(ctx, c.q)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := codes(s.Expand(ctx, Expand{ValueSet: "http://x/vs/old", Count: -1, SystemVersion: []string{"http://x/animals|2"}})); got != "dog" {
		t.Errorf("a version that the value set names was replaced: %q", got)
	}
	if got := codes(s.Expand(ctx, Expand{ValueSet: "http://x/vs/old", Count: -1, ForceSystemVersion: []string{"http://x/animals|2"}})); got != everything {
		t.Errorf("a version was not forced: %q", got)
	}
	inline := node(t, valueSetOf("inline", include("{'valueSet':['http://x/vs/both']}")))
	if got := codes(s.Expand(ctx, Expand{Inline: inline, Count: -1})); got != "dog" {
		t.Errorf("inline: %q", got)
	}
}

func TestExpansionInFull(t *testing.T) {
	s := newService(t, Options{})
	n, err := s.Expand(ctx, Expand{ValueSet: "http://x/vs/all", Offset: 1, Count: 2, IncludeDesignations: true, DisplayLanguage: "de"})
	if err != nil {
		t.Fatal(err)
	}
	want := quoted(`{'resourceType':'ValueSet','url':'http://x/vs/all','version':'1','status':'active','expansion':{` +
		`'identifier':'ID','timestamp':'2026-03-02T12:00:00Z','total':7,'offset':1,'parameter':[{'name':'displayLanguage','valueCode':'de'},` +
		`{'name':'includeDesignations','valueBoolean':true},{'name':'offset','valueInteger':1},{'name':'count','valueInteger':2},{'name':'used-codesystem','valueUri':'http://x/animals|2'}],` +
		`'contains':[{'system':'http://x/animals','version':'2','code':'mammal','display':'Mammal'},` +
		`{'system':'http://x/animals','version':'2','code':'dog','display':'Hund','designation':[{'language':'de-CH','value':'Hund'},{'language':'fr','use':{'code':'x'},'value':'Chien'}]}]}}`)
	id := n.Get("expansion").Get("identifier").String()
	if got := strings.Replace(string(n.AppendJSON(nil)), id, "ID", 1); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if m, err := s.Expand(ctx, Expand{ValueSet: "http://x/vs/all", Offset: 3, Count: 2, IncludeDesignations: true, DisplayLanguage: "de"}); err != nil || m.Get("expansion").Get("identifier").String() != id {
		t.Error("the next page has another identifier", err)
	}
	if m, err := s.Expand(ctx, Expand{ValueSet: "http://x/vs/all", Offset: 1, Count: 2, IncludeDesignations: true, DisplayLanguage: "fr"}); err != nil || m.Get("expansion").Get("identifier").String() == id {
		t.Error("another expansion has the same identifier", err)
	}
	n, err = s.Expand(ctx, Expand{ValueSet: "http://x/vs/all", Count: -1, IncludeDefinition: true})
	if err != nil || n.Get("compose") == nil {
		t.Errorf("%v", err)
	}
	c := n.Get("expansion").Get("contains").List()
	if !isTrue(c[0].Get("abstract")) || !isTrue(c[4].Get("inactive")) || isTrue(c[2].Get("inactive")) {
		t.Errorf("%s", n.AppendJSON(nil))
	}
	n, err = s.Expand(ctx, Expand{ValueSet: "http://x/vs/list", Count: -1, IncludeDesignations: true, DisplayLanguage: "it"})
	if err != nil {
		t.Fatal(err)
	}
	if d := n.Get("expansion").Get("contains").List()[0]; d.Get("display").String() != "Cane" || len(d.Get("designation").List()) != 3 {
		t.Errorf("%s", d.AppendJSON(nil))
	}
	n, err = s.Expand(ctx, Expand{ValueSet: "http://x/vs/part", Count: -1})
	if err != nil || !strings.Contains(string(n.AppendJSON(nil)), `{"name":"fragment","valueUri":"http://x/part"}`) {
		t.Errorf("an expansion of a part does not say so: %s %v", n.AppendJSON(nil), err)
	}
}

func TestExpandKnowsItsLimits(t *testing.T) {
	if got := codes(newService(t, Options{Codes: 6}).Expand(ctx, Expand{ValueSet: "http://x/vs/all", Count: 1})); got != "! too-costly" {
		t.Errorf("codes: %s", got)
	}
	if got := codes(newService(t, Options{Codes: 7}).Expand(ctx, Expand{ValueSet: "http://x/vs/all", Count: 1})); got != "being" {
		t.Errorf("codes: %s", got)
	}
	for _, pattern := range []string{strings.Repeat("a", 600), "(a{100}){10}", "x{1000}"} {
		inline := node(t, valueSetOf("pattern", filtered("code", "regex", pattern)))
		if got := codes(newService(t, Options{}).Expand(ctx, Expand{Inline: inline, Count: 1})); got != "! processing" {
			t.Errorf("%.20s: %s", pattern, got)
		}
	}
	many := strings.Repeat("{'valueSet':['http://x/vs/sum']},", 200)
	inline := node(t, valueSetOf("many", include(strings.TrimSuffix(many, ","))))
	if got := codes(newService(t, Options{Work: 1000}).Expand(ctx, Expand{Inline: inline, Count: 1})); got != "! too-costly" {
		t.Errorf("work: %s", got)
	}
}

func TestCodesAndRelatives(t *testing.T) {
	s := newService(t, Options{})
	got, err := s.Codes(ctx, "http://x/vs/both")
	if err != nil || !slices.Equal(got, []Coding{{System: "http://x/animals", Code: "dog"}}) {
		t.Error(got, err)
	}
	for _, c := range []struct {
		ask  string
		code string
		want string
	}{
		{"below", "mammal", "bat dog mammal unicorn"}, {"below", "flyer", "bat bird flyer"}, {"above", "bat", "bat being flyer mammal"}, {"below", "bird", "bird"}, {"above", "yeti", "yeti"},
	} {
		f := s.Descendants
		if c.ask == "above" {
			f = s.Ancestors
		}
		got, err := f(ctx, "http://x/animals", c.code)
		if err == nil && got[0] != c.code {
			t.Errorf("%s is not the first of %v", c.code, got)
		}
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s %s: %v %v", c.ask, c.code, got, err)
		}
	}
	if got, err := s.Descendants(ctx, "http://x/hand", "hand"); err != nil || len(got) != 1 {
		t.Errorf("a thumb is no hand: %v %v", got, err)
	}
	if _, err := s.Descendants(ctx, "http://x/unheard", "a"); category(err) != "not-found" {
		t.Error(err)
	}
}

func TestMember(t *testing.T) {
	s := newService(t, Options{})
	for _, c := range []struct {
		vs, system, code string
		in, known        bool
	}{
		{"all", "animals", "dog", true, true}, {"all", "animals", "yeti", false, true}, {"all", "colours", "dog", false, true}, {"all", "animals", "Dog", false, true},
		{"colours", "colours", "RED", true, true}, {"list", "animals", "yeti", true, true},
		{"part", "part", "a", true, true}, {"part", "part", "b", false, false}, {"part", "animals", "b", false, true},
		{"absent", "absent", "a", false, false}, {"absent", "animals", "a", false, true},
		{"mixed", "animals", "dog", true, true}, {"mixed", "unheard", "dog", false, false}, {"mixed", "animals", "yeti", false, true},
		{"unlisted", "unheard", "u", true, true}, {"unlisted", "unheard", "w", false, true},
		{"dangling", "animals", "dog", false, false}, {"nowhere", "animals", "dog", false, false},
		{"doubt", "animals", "dog", false, false}, {"doubt", "animals", "yeti", false, true},
		{"stored", "unheard", "q", true, true}, {"stored", "unheard", "z", false, true}, {"torn", "unheard", "p", false, false},
		{"active", "animals", "unicorn", false, true}, {"without", "animals", "bird", false, true}, {"empty", "animals", "dog", false, false},
		{"self", "animals", "dog", false, false}, {"badcode", "animals", "dog", false, false}, {"badregex", "animals", "dog", false, false},
	} {
		in, known, err := s.Member(ctx, "http://x/vs/"+c.vs, "http://x/"+c.system, c.code)
		if err != nil || in != c.in || known != c.known {
			t.Errorf("%s: %s|%s: %t %t %v", c.vs, c.system, c.code, in, known, err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := s.Member(ended, "http://x/vs/isa", "http://x/animals", "dog"); category(err) != "timeout" {
		t.Errorf("after the end of the request: %v", err)
	}
}

// For value sets of any make: a code is a member if and only if the expansion has it.
func TestMemberAgreesWithExpand(t *testing.T) {
	clauseOf := rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return "{'system':'http://x/animals'}"
		case 1:
			return "{'system':'http://x/animals','concept':[{'code':'" + rapid.SampledFrom([]string{"dog", "bird", "yeti"}).Draw(t, "code") + "'},{'code':'bat'}]}"
		case 2:
			op := rapid.SampledFrom([]string{"is-a", "descendent-of", "is-not-a", "generalizes"}).Draw(t, "op")
			return "{'system':'http://x/animals','filter':[{'property':'concept','op':'" + op + "','value':'" + rapid.SampledFrom(strings.Fields(everything)).Draw(t, "of") + "'},{'property':'legs','op':'" +
				rapid.SampledFrom([]string{"not-in", "in"}).Draw(t, "in") + "','value':'2'}]}"
		case 3:
			return "{'valueSet':['http://x/vs/" + rapid.SampledFrom([]string{"isa", "above", "sum", "active", "without"}).Draw(t, "a") + "','http://x/vs/" + rapid.SampledFrom([]string{"all", "in", "both"}).Draw(t, "b") + "']}"
		default:
			return "{'system':'http://x/colours','valueSet':['http://x/vs/colours']}"
		}
	})
	clauses := func(t *rapid.T, name string, least int) string {
		return strings.Join(rapid.SliceOfN(clauseOf, least, 3).Draw(t, name), ",")
	}
	base := make([]string, len(world))
	for i, w := range world {
		base[i] = quoted(w)
	}
	w, err := definition.New("test.world", "1.0.0", base...)
	if err != nil {
		t.Fatal(err)
	}
	full := 0
	rapid.Check(t, func(t *rapid.T) {
		compose := fmt.Sprintf("{'inactive':%t,'include':[%s],'exclude':[%s]}", rapid.Bool().Draw(t, "inactive"), clauses(t, "include", 1), clauses(t, "exclude", 0))
		p, err := definition.New("test.drawn", "1.0.0", quoted(valueSetOf("drawn", compose)))
		if err != nil {
			t.Fatal(err)
		}
		s := New(definition.NewSet(w, p), Options{})
		n, err := s.Expand(ctx, Expand{ValueSet: "http://x/vs/drawn", Count: -1})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Fields(codes(n, nil))
		if len(got) > 0 {
			full++
		}
		for system, codes := range map[string]string{"http://x/animals": everything + " yeti", "http://x/colours": "Red green"} {
			for _, code := range strings.Fields(codes) {
				in, known, err := s.Member(ctx, "http://x/vs/drawn", system, code)
				if err != nil || !known || in != slices.Contains(got, code) {
					t.Fatalf("%s: Member(%s) is %t %t %v, and the expansion is %v", compose, code, in, known, err, got)
				}
			}
		}
	})
	if full == 0 {
		t.Error("every value set was empty")
	}
}
