package terminology

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/element"
)

func TestLookup(t *testing.T) {
	s := newService(t, Options{})
	n, err := s.Lookup(ctx, Lookup{Coding: Coding{System: "http://x/animals", Code: "dog"}, DisplayLanguage: "fr"})
	if err != nil {
		t.Fatal(err)
	}
	want := quoted(`{'resourceType':'Parameters','parameter':[{'name':'name','valueString':'Animals'},{'name':'version','valueString':'2'},{'name':'display','valueString':'Chien'},` +
		`{'name':'designation','part':[{'name':'language','valueCode':'de-CH'},{'name':'value','valueString':'Hund'}]},` +
		`{'name':'designation','part':[{'name':'language','valueCode':'fr'},{'name':'use','valueCoding':{'code':'x'}},{'name':'value','valueString':'Chien'}]},` +
		`{'name':'property','part':[{'name':'code','valueCode':'definition'},{'name':'value','valueString':'It barks.'}]},` +
		`{'name':'property','part':[{'name':'code','valueCode':'parent'},{'name':'value','valueCode':'mammal'},{'name':'description','valueString':'Mammal'}]},` +
		`{'name':'property','part':[{'name':'code','valueCode':'inactive'},{'name':'value','valueBoolean':false}]},` +
		`{'name':'property','part':[{'name':'code','valueCode':'legs'},{'name':'value','valueInteger':4}]},` +
		`{'name':'property','part':[{'name':'code','valueCode':'cousin'},{'name':'value','valueCoding':{'system':'http://x/animals','code':'wolf'}}]}]}`)
	if got := string(n.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if n, err = s.Lookup(ctx, Lookup{Coding: Coding{System: "http://x/animals", Code: "bat"}, Properties: []string{"parent"}}); err != nil || strings.Count(string(n.AppendJSON(nil)), `"property"`) != 2 {
		t.Errorf("%s %v", n.AppendJSON(nil), err)
	}
	for _, c := range []Coding{
		{System: "http://x/animals", Code: "yeti"}, {System: "http://x/unheard", Code: "a"}, {System: "http://x/absent", Code: "a"}, {System: "http://x/animals", Version: "7", Code: "dog"}, {Code: "dog"},
	} {
		if _, err := s.Lookup(ctx, Lookup{Coding: c}); category(err) != "not-found" {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if n, err = s.Lookup(ctx, Lookup{Coding: Coding{System: "http://x/animals", Version: "1", Code: "dog"}}); err != nil || parameter(n, "display") != `"Old dog"` {
		t.Errorf("%s %v", n.AppendJSON(nil), err)
	}
}

func TestValidateCode(t *testing.T) {
	s := newService(t, Options{})
	animal := func(code string) Coding { return Coding{System: "http://x/animals", Code: code} }
	for name, c := range map[string]struct {
		system, set bool
		q           ValidateCode
		result      string
		has         string
	}{
		"in system":           {true, false, ValidateCode{URL: "http://x/animals", Codings: []Coding{{Code: "dog"}}}, "true", `"Dog"`},
		"not in system":       {true, false, ValidateCode{URL: "http://x/animals", Codings: []Coding{{Code: "yeti"}}}, "false", "no such code"},
		"in part":             {true, false, ValidateCode{URL: "http://x/part", Codings: []Coding{{Code: "b"}}}, "false", "installed in part"},
		"other system":        {true, false, ValidateCode{URL: "http://x/animals", Codings: []Coding{{System: "http://x/colours", Code: "dog"}}}, "false", "and not of"},
		"unheard system":      {true, false, ValidateCode{URL: "http://x/unheard", Codings: []Coding{{Code: "dog"}}}, "! not-found", ""},
		"display":             {true, true, ValidateCode{Codings: []Coding{{System: "http://x/animals", Code: "bat", Display: "bat  (Animal)"}}}, "true", `"Bat (animal)"`},
		"wrong display":       {true, true, ValidateCode{Codings: []Coding{{System: "http://x/animals", Code: "bat", Display: "cat"}}}, "false", "it is Bat (animal)"},
		"designation":         {true, true, ValidateCode{Codings: []Coding{{System: "http://x/animals", Code: "dog", Display: "Chien"}}}, "true", `"Dog"`},
		"language":            {true, true, ValidateCode{Codings: []Coding{animal("dog")}, DisplayLanguage: "de"}, "true", `"Hund"`},
		"abstract":            {true, true, ValidateCode{Codings: []Coding{animal("being")}}, "true", `"Being"`},
		"no abstract":         {true, true, ValidateCode{Codings: []Coding{animal("being")}, RefuseAbstract: true}, "false", "abstract"},
		"one of several":      {true, true, ValidateCode{Codings: []Coding{animal("yeti"), animal("dog")}}, "true", `"Dog"`},
		"none of several":     {true, true, ValidateCode{Codings: []Coding{animal("yeti"), animal("troll")}}, "false", "troll"},
		"not in set":          {false, true, ValidateCode{URL: "http://x/vs/isa", Codings: []Coding{animal("bird")}}, "false", "is not in the value set http://x/vs/isa"},
		"cannot be said":      {false, true, ValidateCode{URL: "http://x/vs/unheard", Codings: []Coding{{System: "http://x/unheard", Code: "a"}}}, "false", "cannot be said"},
		"listed":              {false, true, ValidateCode{URL: "http://x/vs/list", Codings: []Coding{animal("dog")}}, "true", `"Good dog"`},
		"listed, its system":  {false, true, ValidateCode{URL: "http://x/vs/list", Codings: []Coding{{System: "http://x/animals", Code: "dog", Display: "Dog"}}}, "true", `"Good dog"`},
		"listed, own display": {false, true, ValidateCode{URL: "http://x/vs/unlisted", Codings: []Coding{{System: "http://x/unheard", Code: "u", Display: "V"}}}, "false", "it is U"},
		"unheard set":         {false, true, ValidateCode{URL: "http://x/vs/nowhere", Codings: []Coding{animal("dog")}}, "! not-found", ""},
	} {
		ask := func(kind, url string, f func(context.Context, ValidateCode) (*element.Node, error)) {
			q := c.q
			if q.URL == "" {
				q.URL = url
			}
			n, err := f(ctx, q)
			got := parameter(n, "result")
			if err != nil {
				got = "! " + category(err)
			}
			if text := parameter(n, "message") + parameter(n, "display"); got != c.result || !strings.Contains(text, c.has) {
				t.Errorf("%s, %s: %s %s", name, kind, got, text)
			}
		}
		if c.system {
			ask("system", "http://x/animals", s.InCodeSystem)
		}
		if c.set {
			ask("set", "http://x/vs/all", s.InValueSet)
		}
	}
	inline := node(t, "{'resourceType':'CodeSystem','url':'http://x/new','content':'complete','concept':[{'code':'n'}]}")
	if n, err := s.InCodeSystem(ctx, ValidateCode{Inline: inline, Codings: []Coding{{Code: "n"}}}); err != nil || parameter(n, "result") != "true" {
		t.Error(err)
	}
	set := node(t, valueSetOf("new", include("{'valueSet':['http://x/vs/isa']}")))
	if n, err := s.InValueSet(ctx, ValidateCode{Inline: set, Codings: []Coding{animal("bat")}}); err != nil || parameter(n, "result") != "true" {
		t.Error(err)
	}
}

func TestSubsumes(t *testing.T) {
	s := newService(t, Options{})
	for _, c := range []struct{ system, a, b, want string }{
		{"http://x/animals", "dog", "dog", `"equivalent"`}, {"http://x/animals", "being", "bat", `"subsumes"`}, {"http://x/animals", "bat", "flyer", `"subsumed-by"`},
		{"http://x/animals", "dog", "flyer", `"not-subsumed"`}, {"http://x/colours", "red", "RED", `"equivalent"`}, {"http://x/hand", "hand", "thumb", `"not-subsumed"`},
		{"http://x/animals", "dog", "yeti", "! not-found"}, {"http://x/unheard", "dog", "dog", "! not-found"},
	} {
		n, err := s.Subsumes(ctx, c.system, "", c.a, c.b)
		got := parameter(n, "outcome")
		if err != nil {
			got = "! " + category(err)
		}
		if got != c.want {
			t.Errorf("%s %s: %s, want %s", c.a, c.b, got, c.want)
		}
	}
}

func TestTranslate(t *testing.T) {
	s := newService(t, Options{})
	dog := []Coding{{System: "http://x/animals", Code: "dog"}}
	const red = `[{"name":"equivalence","valueCode":"wider"},{"name":"concept","valueCoding":{"system":"http://x/colours","code":"Red","display":"Red"}},{"name":"source","valueUri":"http://x/cm/a"}]`
	for name, c := range map[string]struct {
		q      Translate
		result string
		match  string // of the matches, that is all or a part
	}{
		"system":  {Translate{ConceptMap: "http://x/cm/a", Codings: dog, TargetSystem: "http://x/colours"}, "true", red},
		"depends": {Translate{ConceptMap: "http://x/cm/a", Codings: dog, TargetSystem: "http://x/colours", Dependencies: []Dependency{{"http://x/season", Coding{Code: "spring"}}}}, "true", `"code":"green"}},{"name":"product","part":[{"name":"element","valueUri":"http://x/shade"},{"name":"concept","valueCoding":{"system":"http://x/shades","code":"light"}}]}`},
		"unmatched": {Translate{ConceptMap: "http://x/cm/a", Codings: []Coding{{System: "http://x/animals", Code: "bird"}}, TargetSystem: "http://x/colours"}, "false",
			`[{"name":"equivalence","valueCode":"unmatched"},{"name":"source","valueUri":"http://x/cm/a"}]`},
		"fixed":      {Translate{ConceptMap: "http://x/cm/a", Codings: []Coding{{System: "http://x/animals", Code: "bat"}}, TargetSystem: "http://x/colours"}, "true", `"code":"green","display":"Green"`},
		"provided":   {Translate{ConceptMap: "http://x/cm/a", Codings: dog, TargetSystem: "http://x/same"}, "true", `{"system":"http://x/same","code":"dog"}`},
		"other map":  {Translate{ConceptMap: "http://x/cm/a", Codings: dog, TargetSystem: "http://x/other"}, "true", `"code":"d"}},{"name":"source","valueUri":"http://x/cm/b"}`},
		"reverse":    {Translate{ConceptMap: "http://x/cm/a", Codings: []Coding{{System: "http://x/colours", Code: "Red"}}, Reverse: true}, "true", `[{"name":"equivalence","valueCode":"narrower"},{"name":"concept","valueCoding":{"system":"http://x/animals","code":"dog","display":"Dog"}}`},
		"by scope":   {Translate{Source: "http://x/vs/all", Target: "http://x/vs/colours", Codings: dog}, "true", red},
		"all maps":   {Translate{Codings: dog, TargetSystem: "http://x/other"}, "true", `"http://x/cm/b"`},
		"no scope":   {Translate{Source: "http://x/vs/isa", Codings: dog}, "false", ""},
		"other code": {Translate{ConceptMap: "http://x/cm/b", Codings: []Coding{{System: "http://x/animals", Code: "bat"}}}, "false", ""},
		"no map":     {Translate{ConceptMap: "http://x/cm/none", Codings: dog}, "! not-found", ""},
	} {
		n, err := s.Translate(ctx, c.q)
		got := parameter(n, "result")
		if err != nil {
			got = "! " + category(err)
		}
		m := parameter(n, "match")
		if got != c.result || !strings.Contains(m, c.match) || c.match == "" && m != "" || c.match == red && m != red {
			t.Errorf("%s: %s %s", name, got, m)
		}
	}
}

// growing is a source to which a package comes later.
type growing struct {
	*definition.Set
	revision atomic.Int64
	later    *definition.Set
}

func (g *growing) Revision(context.Context) (int64, error) { return g.revision.Load(), nil }

func (g *growing) Find(ctx context.Context, t fhir.ResourceType, c string) (*element.Node, bool, error) {
	if g.revision.Load() > 0 {
		return g.later.Find(ctx, t, c)
	}
	return g.Set.Find(ctx, t, c)
}

func TestWhatIsKeptIsOfOneRevision(t *testing.T) {
	p := func(version, code string) *definition.Package {
		x, err := definition.New("p", version, quoted("{'resourceType':'CodeSystem','url':'http://x/c','version':'"+version+"','content':'complete','concept':[{'code':'"+code+"'}]}"), quoted(valueSetOf("c", include("{'system':'http://x/c'}"))))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	one, two := p("1.0.0", "a"), p("2.0.0", "b")
	g := &growing{Set: definition.NewSet(one), later: definition.NewSet(one, two)}
	s := New(g, Options{})
	for i, want := range []string{"a", "b"} {
		g.revision.Store(int64(i))
		for range 2 {
			if got := codes(s.Expand(ctx, Expand{ValueSet: "http://x/vs/c", Count: -1})); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
}
