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

// place is what is released of an address.
func place(t *testing.T, profile, address string) string {
	t.Helper()
	out := newTrial(t, profile).run(stored{body: "{'resourceType':'Patient','id':'p','address':[" + address + "]}"})[0]
	if a := out.Get("address"); a != nil {
		return shown(a.Items[0])
	}
	return ""
}

func TestD2_164_514_b_2_i_B_Places(t *testing.T) {
	kept := 0
	p := person{method: SafeHarbor, now: today}
	for n := range 1000 {
		prefix := fmt.Sprintf("%03d", n)
		for _, rest := range []string{"", "01", "01-1234", "011234"} {
			got := p.zipOf(prefix + rest)
			if want := deidentify.ZIP3(prefix); got != want {
				t.Errorf("%s%s: %s, want %s", prefix, rest, got, want)
			}
		}
		if p.zipOf(prefix+"01") == prefix && prefix != "000" {
			kept++
		}
	}
	if kept != 876 {
		t.Errorf("%d prefixes are kept", kept)
	}
	for _, c := range []struct{ profile, in, want string }{
		{"safe-harbor", "{'use':'home','text':'x','line':['1 Main St'],'city':'Troy','district':'Rensselaer','state':'NY','postalCode':'12180-1234','country':'US'}", "{'use':'home','state':'NY','postalCode':'121','country':'US'}"},
		{"safe-harbor", "{'state':'New York','postalCode':'03601'}", "{'state':'NY','postalCode':'000'}"},
		{"safe-harbor", "{'state':'c/o Smith','postalCode':'9021 Main'}", ""},
		{"safe-harbor", "{'postalCode':'9021 Main'}", "{'postalCode':'000'}"},
		{"safe-harbor", "{'postalCode':'12180'}", "{'postalCode':'121'}"},
		{"safe-harbor", "{'state':'BE','postalCode':'10115'}", ""}, // Berlin, and nobody says so
		{"safe-harbor", "{'state':'Ontario','postalCode':'12180','country':'US'}", "{'country':'US'}"},
		{"safe-harbor", "{'postalCode':'K1A 0B1'}", "{'postalCode':'000'}"},
		{"safe-harbor", "{'postalCode':'75008','country':'France'}", ""},
		{"safe-harbor", "{'state':'PR','postalCode':'00901'}", "{'state':'PR','postalCode':'009'}"},
		{"safe-harbor", "{'state':'VT','postalCode':'05901-0001'}", "{'state':'VT','postalCode':'000'}"},
		{"safe-harbor", "{'state':'MN','postalCode':'556123456'}", "{'state':'MN','postalCode':'000'}"},
		{"safe-harbor", "{'state':'BE','postalCode':'10115','country':'DE'}", ""},
		{"limited-data-set", "{'line':['1 Main St'],'city':'Troy','district':'x','state':'NY','postalCode':'12180-1234'}", "{'city':'Troy','state':'NY','postalCode':'12180'}"},
		{"limited-data-set", "{'line':['1 Main St'],'city':'c/o 12 Smith','postalCode':'x'}", "{'postalCode':'00000'}"},
	} {
		if got := place(t, c.profile, c.in); got != c.want && (c.want != "{'postalCode':'00000'}" || got != "") {
			t.Errorf("%s: %s is %s, want %s", c.profile, c.in, got, c.want)
		}
	}
}
