package fhirpath_test

import (
	"context"
	"testing"

	"github.com/cloister-health/cloister/fhir/fhirpath"
)

func BenchmarkEval(b *testing.B) {
	for name, x := range map[string]struct{ on, expression string }{
		"path":      {patient, "Patient.name.given"},
		"where":     {patient, "name.where(use = 'official').family"},
		"invariant": {observation, "dataAbsentReason.empty() or value.empty()"},
		"digits":    {patient, "(name.select('1234567890'.substring(0,1).toInteger()).select(iif($this<5, $this*2, (($this*2)-9))).first() + '1234567890'.substring(1,1).toInteger() + 24) mod 10 = 0"},
	} {
		e, err := fhirpath.Compile(x.expression)
		if err != nil {
			b.Fatal(err)
		}
		v := value(b, x.on)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Eval(context.Background(), v, fhirpath.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
