package export_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// report is a DiagnosticReport with an attachment of that many bytes, which cannot be compressed.
func report(n, size int) string {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(data) // never fails
	return fmt.Sprintf(`{"resourceType":"DiagnosticReport","id":"r%03d","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"58410-2"}]},"subject":{"reference":"Patient/%s"},"presentedForm":[{"contentType":"application/pdf","data":%q}]}`,
		n, []string{"anna", "cleo"}[n%2], base64.StdEncoding.EncodeToString(data))
}

// diagnosis is a Condition with a note of that many bytes.
func diagnosis(n, size int) string {
	return fmt.Sprintf(`{"resourceType":"Condition","id":"d%03d","subject":{"reference":"Patient/%s"},"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F32.9"}]},"note":[{"text":%q}]}`,
		n, []string{"anna", "cleo"}[n%2], strings.Repeat("Anna ", size/5))
}

// watched is the opt-outs, which a release asks for while it has a page in hand.
type watched struct {
	export.OptOuts
	call func()
}

func (w watched) OptedOut(ctx context.Context, g authz.Grant, patients []fhir.ID) (map[fhir.ID]bool, error) {
	w.call()
	return w.OptOuts.OptedOut(ctx, g, patients)
}

// What lives in memory while a page is worked on follows from the bytes of a page alone: neither from how many
// resources there are nor from how long their attachments are, in an export as in a release.
func TestMemoryIsThatOfAPage(t *testing.T) {
	const page = 2 << 20
	for _, c := range []struct {
		name     string
		resource int
		bytes    int // of each attachment
	}{{"few and short", 8, 20_000}, {"many", 240, 30_000}, {"long", 20, 400_000}} {
		for name, r := range map[string]export.Request{"export": {Types: []fhir.ResourceType{"DiagnosticReport"}}, "release": released("DiagnosticReport"), "tables": tabled("parquet", "Condition")} {
			t.Run(name+", "+c.name, func(t *testing.T) {
				var most, before int64
				living := func() int64 {
					runtime.GC()
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					return int64(m.HeapAlloc)
				}
				h := newHouse(t, releasing, func(cfg *export.Config) {
					cfg.Page, cfg.Bytes = 500, page
					cfg.Sink = wrapped{cfg.Sink, func(string) error {
						most = max(most, living())
						return nil
					}}
					cfg.OptOuts = watched{cfg.OptOuts, func() { most = max(most, living()) }}
				})
				for n := range c.resource {
					if h.Load(report(n, c.bytes)); name == "tables" {
						h.Load(diagnosis(n, c.bytes))
					}
				}
				h.Clock.Add(1000)
				p := h.exchange()
				id := h.accept(p, r)
				before = living()
				h.finish()
				if name == "tables" {
					if got := h.tables(id, "parquet")["diagnosis"]; len(got.rows) != c.resource {
						t.Fatalf("%d of %d are written", len(got.rows), c.resource)
					}
				} else if got := h.fetched(p, id)["output DiagnosticReport"]; len(got) != c.resource || strings.Contains(got[0], "data") == (name == "release") {
					t.Fatalf("%d of %d are written: %.200s", len(got), c.resource, got)
				}
				if took := most - before; took > 3*page {
					t.Errorf("%d kB live while a page of %d kB is worked on", took>>10, page>>10)
				}
			})
		}
	}
}
