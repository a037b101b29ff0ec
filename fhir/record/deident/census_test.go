package deident

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/consent/deidentify"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

// The three digits of a ZIP code that may be told are those of the census of 2020: all but the eighteen under which 20,000 people or
// fewer live, and but what is in no census.
func TestD2_164_514_b_2_i_B_TheCensusOf2020(t *testing.T) {
	body, ok := shareddata.File(t, "zcta-2020-population.csv")
	if !ok {
		t.Skip("the census is not here: set " + shareddata.Variable)
	}
	people := map[string]int{}
	for line := range strings.Lines(string(body)) {
		area, count, ok := strings.Cut(strings.TrimSpace(line), ",")
		n, err := strconv.Atoi(count)
		if ok && err == nil && len(area) == 5 {
			people[area[:3]] += n
		}
	}
	var restricted []string
	for n := range 1000 {
		zip := fmt.Sprintf("%03d", n)
		want := "000"
		if people[zip] > 20_000 {
			want = zip
		} else if _, counted := people[zip]; counted {
			restricted = append(restricted, zip)
		}
		if got := deidentify.ZIP3(zip + "01"); got != want {
			t.Errorf("%s, where %d people live: %s, want %s", zip, people[zip], got, want)
		}
	}
	if len(restricted) != 18 || !slices.Contains(restricted, "059") {
		t.Errorf("%d are restricted: %v", len(restricted), restricted)
	}
}
