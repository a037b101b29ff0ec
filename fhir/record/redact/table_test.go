package redact_test

import (
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record/redact"
)

// Every mention is a list element of its type that may be left out, as the codec has it from the definitions.
func TestMentionsAreOptionalLists(t *testing.T) {
	for _, rt := range redact.Types() {
		if !rt.Valid() {
			t.Errorf("%s is no type", rt)
		}
		for _, name := range redact.Mentions(rt) {
			faults := func(value string) string {
				_, err := codec.Parse([]byte(`{"resourceType":"` + string(rt) + `"` + value + `}`))
				if err == nil {
					return ""
				}
				return err.Error()
			}
			if f := faults(`,"` + name + `":{"id":"x"}`); !strings.Contains(f, string(rt)+"."+name+": this element repeats") {
				t.Errorf("%s.%s is no list: %s", rt, name, f)
			}
			if f := faults(""); strings.Contains(f, string(rt)+"."+name) {
				t.Errorf("%s.%s is required: %s", rt, name, f)
			}
		}
	}
}
