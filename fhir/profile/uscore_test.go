package profile_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/profile"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

func TestUSCoreExamples(t *testing.T) {
	for _, name := range []string{"hl7.fhir.us.core-6.1.0.tgz", "hl7.fhir.us.core-7.0.0.tgz"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			examples := w.pack(t, name)
			w.core(t)
			v := profile.New(w, w, clock)
			names := make([]string, 0, len(examples))
			for n := range examples {
				names = append(names, n)
			}
			slices.Sort(names)
			ok, total, unreadable := 0, 0, 0
			var spent time.Duration
			for _, n := range names {
				r, err := codec.Parse(examples[n])
				if err != nil {
					t.Logf("%s is no valid R4: %.300v", n, err)
					unreadable++
					continue
				}
				if !strings.Contains(string(examples[n]), "/us/core/StructureDefinition") {
					continue
				}
				total++
				if _, err := v.Validate(context.Background(), r, profile.Options{}); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				issues, err := v.Validate(context.Background(), r, profile.Options{})
				spent += time.Since(start)
				if err != nil {
					t.Fatal(n, err)
				}
				bad := false
				for _, i := range issues {
					if !i.Warning {
						bad = true
						t.Logf("%s: %s: %s", n, i.Path, i.Text)
					}
				}
				if !bad {
					ok++
				}
			}
			t.Log(fmt.Sprintf("%d of %d ok, %d unreadable, %v each", ok, total, unreadable, spent/time.Duration(max(total, 1))))
		})
	}
}
