package server_test

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
)

// TestTwinQuestions holds $evaluate, the hook and the check of signatures to the promise:
// what the caller may not see is not in the answer, whatever is asked.
func TestTwinQuestions(t *testing.T) {
	for i, name := range []string{"privacy-officer", "sud-patient", "therapist"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := persona(name)
			w := newTwins(t, p, nil)
			m := gather(p.Practice)
			r := rand.New(rand.NewPCG(17, uint64(i)))
			answered := 0
			for range rounds(t, "CLOISTER_TWIN_QUERIES", 25) {
				of := seenBy(p)
				if r.IntN(2) == 0 {
					of = pick(r, m.patients)
				}
				c := m.question(r, of)
				if a := w.check(t, c); a.status == http.StatusOK && !strings.Contains(a.body, "NO_CONSENT") {
					answered++
				}
			}
			w.ceremonies(t)
			if answered < 5 {
				t.Errorf("only %d questions were answered", answered)
			}
		})
	}
}

// seenBy is the id of a patient whom the persona sees.
func seenBy(p clinic.Persona) string {
	given := map[string]string{"privacy-officer": "Daniel", "sud-patient": "Colin", "therapist": "Daniel"}[p.Name]
	for _, s := range sampleRecords() {
		if s.ref.Type == "Patient" && s.given == given && s.practice == p.Practice {
			return string(s.ref.ID)
		}
	}
	return ""
}
