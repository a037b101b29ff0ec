package codec_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/codec"
)

func TestWithSecurity(t *testing.T) {
	const s = `[{"code":"R"}]`
	for body, want := range map[string]string{
		`{"id": "1", "meta": {"versionId": "1"}, "resourceType": "Patient"}`: `{"id": "1", "meta": {"security": [{"code":"R"}], "versionId": "1"}, "resourceType": "Patient"}`,
		`{"meta":{}}`:                           `{"meta":{"security": [{"code":"R"}]}}`,
		` { "meta" : { "tag" : [ ] } } `:        ` { "meta" : {"security": [{"code":"R"}], "tag" : [ ] } } `,
		`{"a":{"meta":{"x":1}},"meta":{"y":2}}`: `{"a":{"meta":{"x":1}},"meta":{"security": [{"code":"R"}], "y":2}}`,
		`{"a":"\"meta\":{","b":[1,{"meta":{}}],"c":-1.5e3,"d":true,"meta":{"z":"}"}}`: `{"a":"\"meta\":{","b":[1,{"meta":{}}],"c":-1.5e3,"d":true,"meta":{"security": [{"code":"R"}], "z":"}"}}`,
		`{"a": 1 , "meta":{"tag":[{"security":1}]}}`:                                  `{"a": 1 , "meta":{"security": [{"code":"R"}], "tag":[{"security":1}]}}`,
	} {
		got, err := codec.WithSecurity([]byte(body), []byte(s))
		if err != nil || string(got) != want {
			t.Errorf("%s\n%s\nwant %s (%v)", body, got, want, err)
		}
	}
	for _, body := range []string{
		``, `{`, `{}`, `[]`, `{"meta`, `{"meta"`, `{"meta":`, `{"meta": `, `{"meta":1}`, `{"meta":null}`, `{"meta":{`, `{"id":"1"}`, `{"a":"x`, `{"a":"\`, `{"a":1`, `{"a":{`, `{"a":}`, `{"a" "b"}`,
		`{"a":{"meta":{}}}`, `{"meta":{"security":[]}}`, `{"meta":{"tag":[],"security":[{"code":"X"}]}}`,
	} {
		if got, err := codec.WithSecurity([]byte(body), []byte(s)); err == nil {
			t.Errorf("%s: %s", body, got)
		} else if strings.Contains(err.Error(), "meta") {
			t.Errorf("%s: the error quotes: %v", body, err)
		}
	}
}

// On whatever the codec stores, nothing changes but meta.security.
func TestWithSecurityOnWhatIsStored(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	bodies := [][]byte{[]byte(`{"resourceType":"Patient","name":[{"family":"a\\\"},{"}],"contained":[{"resourceType":"Patient","id":"p","meta":{"tag":[{"code":"x"}]}}],"link":[{"other":{"reference":"#p"},"type":"seealso"}]}`)}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, b)
	}
	for _, b := range bodies {
		r, err := codec.Parse(b)
		if err != nil {
			continue
		}
		r.StripSecurity()
		r.SetMeta(3, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
		stored := r.Root.AppendJSON(nil)
		for _, form := range [][]byte{stored, indented(t, stored)} {
			got, err := codec.WithSecurity(form, []byte(`[{"code":"R"}]`))
			if err != nil {
				t.Fatalf("%v: %s", err, form)
			}
			var had, has map[string]any
			if json.Unmarshal(form, &had) != nil || json.Unmarshal(got, &has) != nil {
				t.Fatalf("no JSON: %s", got)
			}
			meta, _ := has["meta"].(map[string]any)
			if meta["security"] == nil {
				t.Fatalf("no labels: %s", got)
			}
			delete(meta, "security")
			if !reflect.DeepEqual(had, has) {
				t.Fatalf("something else changed: %s", got)
			}
			// And a client that sends back what it read changes nothing.
			back, err := codec.Parse(got)
			if err != nil {
				t.Fatal(err)
			}
			back.StripSecurity()
			if !bytes.Equal(back.Root.AppendJSON(nil), stored) {
				t.Fatalf("sent back: %s", back.Root.AppendJSON(nil))
			}
		}
	}
}

func indented(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzWithSecurity: it never panics, and what it makes of JSON is JSON.
func FuzzWithSecurity(f *testing.F) {
	f.Add([]byte(`{"id":"1","meta":{"versionId":"1"}}`))
	f.Add([]byte(`{"a":"\\","meta":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := codec.WithSecurity(body, []byte(`[]`))
		if err == nil && json.Valid(body) && !json.Valid(got) {
			t.Fatalf("%s became %s", body, got)
		}
	})
}

func BenchmarkWithSecurity(b *testing.B) {
	body := []byte(`{"id": "1", "meta": {"versionId": "1", "lastUpdated": "2026-03-01T00:00:00.000Z"}, "text": "` + strings.Repeat("x", 2000) + `"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := codec.WithSecurity(body, []byte(`[]`)); err != nil {
			b.Fatal(err)
		}
	}
}
