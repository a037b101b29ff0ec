package deident

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/consent/deidentify"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Quasi is a quasi-identifier: something of a patient that does not name her, and that
// with others may still tell who she is.
type Quasi string

// The quasi-identifiers that a determination can let into a release.
const (
	BirthYear     Quasi = "birth-year"
	Gender        Quasi = "gender"
	State         Quasi = "state"
	ZIP3          Quasi = "zip3"
	MaritalStatus Quasi = "marital-status"
	Race          Quasi = "race"
	Ethnicity     Quasi = "ethnicity"
	Language      Quasi = "language"
	Deceased      Quasi = "deceased"
)

var quasiOrder = map[Quasi]int{BirthYear: 1, Gender: 2, State: 3, ZIP3: 4, MaritalStatus: 5, Race: 6, Ethnicity: 7, Language: 8, Deceased: 9}

// Report says what is in a release and what was left out of it, for whoever answers for
// it. It is no part of the release: it has counts and codes that the release keeps back.
type Report struct {
	Profile    string
	Members    int                                  // resources that were surveyed and can be in it
	LeftOut    map[fhir.ResourceType]map[Reason]int // in the survey
	Determined *Determined                          // Expert
}

func (r *Report) leave(t fhir.ResourceType, why Reason) {
	if r.LeftOut[t] == nil {
		r.LeftOut[t] = map[Reason]int{}
	}
	r.LeftOut[t][why]++
}

// Determined says what was done for the sake of a determination.
type Determined struct {
	Patients    int    // surveyed
	Groups      int    // of patients who are alike in all quasi-identifiers, in the release
	Smallest    int    // of these groups
	Generalised int    // patients without any quasi-identifier, because too few were like them
	Suppressed  int    // patients who are not in it, because even so too few were like them
	Cells       []Cell // codes that were left out
}

// Cell is a code that so few patients have, in one element, that it was left out.
type Cell struct{ Element, System, Code string }

// cell is a Cell as a key.
func cell(parent, name, system, code string) string {
	return parent + "." + name + "\t" + system + "\t" + code
}

// tally counts the patients of a release, and who has which code. It holds a number for
// each patient and each code that she has.
type tally struct {
	numbers     map[fhir.ID]uint32
	like        map[fhir.ID]string
	having      map[string][]uint32
	generalised map[fhir.ID]bool
	suppressed  map[fhir.ID]bool
	rare        map[string]bool
}

func newTally() *tally {
	return &tally{numbers: map[fhir.ID]uint32{}, like: map[fhir.ID]string{}, having: map[string][]uint32{},
		generalised: map[fhir.ID]bool{}, suppressed: map[fhir.ID]bool{}, rare: map[string]bool{}}
}

func (t *tally) add(m made) {
	if m.patient == "" {
		return
	}
	n := t.number(m.patient)
	if m.like != "" {
		t.like[m.patient] = m.like
	}
	for c := range m.cells {
		t.cell(c, n)
	}
}

// number gives a patient a number.
func (t *tally) number(patient fhir.ID) uint32 {
	n, ok := t.numbers[patient]
	if !ok {
		n = uint32(len(t.numbers)) //nolint:gosec // no practice has four thousand million patients
		t.numbers[patient] = n
	}
	return n
}

func (t *tally) cell(c string, n uint32) {
	if list := t.having[c]; len(list) == 0 || list[len(list)-1] != n {
		t.having[c] = append(list, n)
	}
}

// settle applies k to the patients and then the least count to the codes of those who are left.
func (t *tally) settle(k int) *Determined {
	groups := map[string]int{}
	for id := range t.numbers {
		groups[t.like[id]]++
	}
	nothing := 0
	for id := range t.numbers {
		if like := t.like[id]; groups[like] < k || blank(like) {
			t.generalised[id] = true
			nothing++
		}
	}
	out := &Determined{Patients: len(t.numbers), Generalised: nothing}
	if nothing < k {
		out.Generalised, out.Suppressed = 0, nothing
		t.suppressed = t.generalised
	}
	for like, size := range groups {
		if size >= k && !blank(like) {
			out.Groups++
			if out.Smallest == 0 || size < out.Smallest {
				out.Smallest = size
			}
		}
	}
	if out.Generalised > 0 {
		out.Groups++
		if out.Smallest == 0 || nothing < out.Smallest {
			out.Smallest = nothing
		}
	}
	gone := map[uint32]bool{}
	for id := range t.suppressed {
		gone[t.numbers[id]] = true
	}
	for _, c := range slices.Sorted(maps.Keys(t.having)) {
		list := slices.Clone(t.having[c])
		slices.Sort(list)
		list = slices.DeleteFunc(slices.Compact(list), func(n uint32) bool { return gone[n] })
		if deidentify.Suppress(len(list)) {
			t.rare[c] = true
			f := strings.Split(c, "\t")
			out.Cells = append(out.Cells, Cell{f[0], f[1], f[2]})
		}
	}
	return out
}

// blank reports whether a group has no quasi-identifier at all.
func blank(like string) bool { return strings.Trim(like, "\t") == "" }

// generalise makes of a Patient of the safe harbor one that has nothing but the
// quasi-identifiers that were determined, or none. like is the group to which she belongs.
func generalise(p, stored *element.Node, d Determination, none bool) (out *element.Node, like string) {
	out = element.NewObject()
	for _, name := range []string{"resourceType", "id", "meta"} {
		out.Set(name, p.Get(name))
	}
	address := element.NewObject()
	var extensions []*element.Node
	parts := make([]string, len(quasiOrder))
	for _, q := range d.Quasi {
		if none {
			break
		}
		var value *element.Node
		name := string(q)
		switch q {
		case BirthYear:
			name, value = "birthDate", band(p.Get("birthDate").String(), d.YearBand)
		case Gender:
			value = p.Get("gender")
		case MaritalStatus:
			name, value = "maritalStatus", p.Get("maritalStatus")
		case Language:
			name, value = "communication", languages(p.Get("communication"))
		case Deceased:
			dead := stored.Get("deceasedDateTime") != nil || stored.Get("_deceasedDateTime") != nil || text(stored.Get("deceasedBoolean")) == "true"
			name, value = "deceasedBoolean", element.NewNode(element.Bool, strconv.FormatBool(dead))
		case State, ZIP3:
			name = map[Quasi]string{State: "state", ZIP3: "postalCode"}[q]
			if list := p.Get("address").List(); len(list) > 0 {
				value = list[0].Get(name)
			}
		case Race, Ethnicity:
			if value = group(p.Get("extension"), "us-core-"+string(q)); value != nil {
				extensions = append(extensions, value)
			}
		}
		if value == nil || isMark(value) {
			continue
		}
		parts[quasiOrder[q]-1] = string(value.AppendJSON(nil))
		switch q {
		case State, ZIP3:
			address.Set(name, value)
		case Race, Ethnicity:
		default:
			out.Set(name, value)
		}
	}
	if len(address.Fields) > 0 {
		out.Set("address", listOf(address))
	}
	if len(extensions) > 0 {
		out.Set("extension", listOf(extensions...))
	}
	return out, strings.Join(parts, "\t")
}

func text(n *element.Node) string {
	if n == nil {
		return ""
	}
	return n.Text
}

// band is the first year of the band in which a year lies.
func band(year string, width int) *element.Node {
	y, err := strconv.Atoi(year)
	if err != nil {
		return nil
	}
	if width > 1 {
		y -= y % width
	}
	return element.NewString(strconv.Itoa(y))
}

// languages keeps the languages alone, in an order that says nothing.
func languages(list *element.Node) *element.Node {
	var out []*element.Node
	for _, c := range list.List() {
		if l := c.Get("language"); l != nil && !isMark(l) {
			out = append(out, element.NewObject(element.Field{Name: "language", Value: l}))
		}
	}
	slices.SortFunc(out, func(a, b *element.Node) int {
		return strings.Compare(string(a.AppendJSON(nil)), string(b.AppendJSON(nil)))
	})
	if len(out) == 0 {
		return nil
	}
	return listOf(out...)
}

// group keeps of the extension for race or ethnicity its categories, in order.
func group(list *element.Node, name string) *element.Node {
	for _, x := range list.List() {
		url := x.Get("url").String()
		if !strings.HasSuffix(url, "/"+name) {
			continue
		}
		var in []*element.Node
		for _, y := range x.Get("extension").List() {
			if y.Get("url").String() == "ombCategory" {
				in = append(in, y)
			}
		}
		slices.SortFunc(in, func(a, b *element.Node) int {
			return strings.Compare(string(a.AppendJSON(nil)), string(b.AppendJSON(nil)))
		})
		if len(in) > 0 {
			return element.NewObject(element.Field{Name: "url", Value: element.NewString(url)}, element.Field{Name: "extension", Value: listOf(in...)})
		}
	}
	return nil
}

// Known reports whether q is a quasi-identifier of the list.
func (q Quasi) Known() bool { return quasiOrder[q] != 0 }
