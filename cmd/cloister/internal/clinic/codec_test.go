package clinic

import (
	"bytes"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
)

// TestCodecAcceptsEverything reads each resource as the server would and finds
// the same tree again.
func TestCodecAcceptsEverything(t *testing.T) {
	for _, c := range []Config{sample(), {Seed: 11, Patients: 80, Now: today}} {
		for _, r := range all(c) {
			made := r.AppendJSON(nil)
			got, err := codec.Parse(made)
			if err != nil {
				t.Fatalf("%v: %v", refOf(r), err)
			}
			if read := got.Root.AppendJSON(nil); !bytes.Equal(made, read) {
				t.Fatalf("%v: what was read differs:\nmade %s\nread %s", refOf(r), made, read)
			}
		}
	}
}
