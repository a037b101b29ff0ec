package terminology

import (
	"testing"

	"github.com/cloister-health/cloister/fhir/definition"
)

// Whatever resource comes with a request, the answer is one or an error, never a panic, and what is in an expansion is a member.
func FuzzInline(f *testing.F) {
	for _, s := range []string{
		valueSetOf("f", include("{'system':'http://x/animals','filter':[{'property':'concept','op':'is-a','value':'mammal'}]}")),
		valueSetOf("f", "{'include':[{'valueSet':['http://x/vs/isa']}],'exclude':[{'system':'http://x/animals','concept':[{'code':'dog'}]}]}"),
		"{'resourceType':'CodeSystem','url':'http://x/new','content':'complete','concept':[{'code':'dog','property':[{'code':'parent','valueCode':'dog'}],'concept':[{'code':'dog'}]}]}",
		"{'group':[{'source':'http://x/animals','element':[{'code':'dog','target':[{'code':'d'}]}],'unmapped':{'mode':'other-map','url':'http://x/cm/a'}}]}",
		"{'compose':{'include':[3,null,[]]},'concept':'x','group':{'element':true}}",
	} {
		f.Add(quoted(s))
	}
	s := newService(f, Options{Work: 10_000})
	f.Fuzz(func(t *testing.T, text string) {
		n, err := definition.Parse([]byte(text))
		if err != nil {
			return
		}
		dog := []Coding{{System: "http://x/animals", Code: "dog"}}
		_, _ = s.InCodeSystem(ctx, ValidateCode{Inline: n, Codings: dog})
		_, _ = s.Translate(ctx, Translate{Inline: n, Codings: dog})
		out, err := s.Expand(ctx, Expand{Inline: n, Count: -1, IncludeDesignations: true, DisplayLanguage: "de", Filter: "o"})
		if err != nil {
			return
		}
		for _, c := range out.Get("expansion").Get("contains").List() {
			v, err := s.InValueSet(ctx, ValidateCode{Inline: n, Codings: []Coding{{System: c.Get("system").String(), Code: c.Get("code").String()}}})
			if err == nil && parameter(v, "result") != "true" {
				t.Fatalf("%s is in the expansion, and %s", c.AppendJSON(nil), v.AppendJSON(nil))
			}
		}
	})
}
