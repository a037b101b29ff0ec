package deident

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/cloister-health/cloister/fhir/view/clinical"
	"github.com/cloister-health/cloister/fhir/view/tabular"
)

// BenchmarkTabulate makes tables of PHQ-9 answers, a row a resource.
func BenchmarkTabulate(b *testing.B) {
	const n = 500
	var in []stored
	for i := range n {
		s := chart[5]
		s.body = fmt.Sprintf(`{'resourceType':'QuestionnaireResponse','id':'r%d',`, i) + s.body[len(`{'resourceType':'QuestionnaireResponse','id':'res',`):]
		in = append(in, s)
	}
	x := newTrial(b, "safe-harbor")
	ds := x.made(in...)
	v, _ := clinical.Named("phq9_response")
	for _, f := range tabular.Formats() {
		b.Run(f.Name, func(b *testing.B) {
			b.ReportAllocs()
			rows := 0
			for b.Loop() {
				w, err := f.New(io.Discard, v)
				if err != nil {
					b.Fatal(err)
				}
				table := NewTable(v, w)
				for _, d := range ds {
					if err := x.release.Tabulate(context.Background(), d, table); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
				rows += table.Count()
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
