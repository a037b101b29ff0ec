// Package clinical has the ready-made views of a behavioral health practice.
//
// They are ShareableViewDefinitions of this project, of what a de-identified release has: nothing in them
// asks for a name, a text or an identifier.
package clinical

import (
	"embed"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir/view"
)

//go:embed views/*.json
var definitions embed.FS

// names are the views, in the order in which people read them.
var names = []string{"patient", "encounter", "diagnosis", "phq9_score", "phq9_response", "level_of_care", "attendance"}

// Views lists the views.
func Views() []*view.View { return read() }

// Named finds a view by its name.
func Named(name string) (*view.View, bool) {
	for _, v := range read() {
		if v.Name() == name {
			return v, true
		}
	}
	return nil, false
}

// Definition is the ViewDefinition of that name as JSON, nil where there is none.
func Definition(name string) []byte {
	text, err := definitions.ReadFile("views/" + name + ".json")
	if err != nil || strings.ContainsAny(name, "/.") {
		return nil
	}
	return text
}

var read = sync.OnceValue(func() []*view.View {
	var out []*view.View
	for _, name := range names {
		v, err := view.Parse(Definition(name))
		if err != nil {
			panic("clinical: " + name + ": " + err.Error())
		}
		out = append(out, v)
	}
	return out
})
