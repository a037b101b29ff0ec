package profile_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/profile"
)

// anything answers every question for a StructureDefinition with one tree.
type anything struct {
	profile.Nothing
	n *element.Node
}

func (a anything) Find(context.Context, fhir.ResourceType, string) (*element.Node, bool, error) {
	return a.n, true, nil
}

// A definition that makes no sense stops nobody.
func FuzzDefinition(f *testing.F) {
	w := smallWorld(f)
	for key, body := range w.bodies {
		if strings.HasPrefix(key, "StructureDefinition ") {
			f.Add(body)
		}
	}
	r, err := codec.Parse([]byte(`{"resourceType":"Patient","extension":[{"url":"https://example.org/shade","valueCode":"x"}],"identifier":[{"system":"urn:mrn","value":"1"}],` +
		`"name":[{"family":"x","given":["a"],"_given":[{"id":"b"}]}],"birthDate":"2000","managingOrganization":{"reference":"Organization/1"},"contact":[{"name":{"text":"x"}}]}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := codec.ReadJSON(body, codec.DefaultLimits)
		if err != nil {
			return
		}
		a := anything{n: n}
		if _, err := profile.New(a, a, clock).Validate(context.Background(), r, profile.Options{Profiles: []string{"urn:x"}, Enforce: true}); err != nil {
			t.Fatal(err)
		}
	})
}
