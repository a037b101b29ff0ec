package intake

import (
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// A manifest that is taken names inputs that are whole; any other is refused as the client's fault.
func FuzzManifest(f *testing.F) {
	for _, text := range []string{
		`{"inputFormat":"application/fhir+ndjson","inputSource":"https://other.example","storageDetail":{"type":"https","contentEncoding":["gzip"]},"input":[{"type":"Patient","url":"https://files.example/a"}],"mode":"dry-run"}`,
		`{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueCode":"ndjson"},{"name":"storageDetail","part":[{"name":"type","valueCode":"https"},{"name":"contentEncoding","valueString":"gzip"}]},{"name":"input","part":[{"name":"type","valueCode":"Patient"},{"name":"url","valueUrl":"https://files.example/a"}]}]}`,
		`{"input":null}`, `[]`, `{"resourceType":"Parameters","parameter":[{"part":[{"part":[]}]}]}`, `{"inputFormat":1,"input":[1,{}]}`,
		`{"resourceType":"Parameters","parameter":[{"name":"mode","valueCode":"store"},{"name":"mode","valueCode":"dry-run"}]}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := codec.ReadJSON([]byte(text), codec.DefaultLimits)
		if err != nil {
			return
		}
		r, err := ReadManifest(n)
		if err != nil {
			if outcome.Of(err).Status() != 400 {
				t.Fatalf("%v", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, in := range r.Inputs {
			if !in.Type.Valid() || in.URL == "" || seen[in.URL] {
				t.Fatalf("%+v", r)
			}
			seen[in.URL] = true
		}
		if len(r.Inputs) == 0 || len(r.Inputs) > MaxInputs {
			t.Fatalf("%d inputs", len(r.Inputs))
		}
	})
}
