package export_test

import (
	"crypto/md5"  //nolint:gosec // what an attacker tries
	"crypto/sha1" //nolint:gosec // what an attacker tries
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/export"
)

const (
	alikes = 48
	first  = 20 // of their numbers; others have lower ones
)

// alike stores patients of whom a release says the same, each under a number that only the attacker's referee looks at, and who are
// told apart by all that a release has to leave out.
func alike(h *house) {
	for i := range alikes {
		id := fmt.Sprintf("mrn-%03d", i)
		noise := func(n int) string { return strings.Repeat("x", n%7) + id }
		var inside, in []string // none of them is released but the last
		for n := range i % 3 {
			inside = append(inside, fmt.Sprintf(`{"resourceType":"Practitioner","id":"no%d","name":[{"text":%q}]}`, n, noise(n)))
			in = append(in, fmt.Sprintf(`{"url":"https://x.example/in","valueReference":{"reference":"#no%d"}},`, n))
		}
		inside = append(inside, fmt.Sprintf(`{"resourceType":"Practitioner","id":"of-%s","active":true,"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">%s</div>"}}`, id, noise(i)))
		h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":%q,"meta":{"tag":[{"system":"https://x.example","code":%q}]},"name":[{"text":%q}],"identifier":[{"value":%q}],"gender":"female"}`, id, id, noise(i), id))
		h.Load(fmt.Sprintf(`{"resourceType":"Encounter","id":"visit-%s","status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB","display":%q},"subject":{"reference":"Patient/%s","display":%q},"period":{"start":"2024-03-05T10:15:%02dZ"}}`, id, noise(i), id, noise(i+3), i))
		h.Load(fmt.Sprintf(`{"resourceType":"Condition","id":"dx-%s","contained":[%s],"extension":[%s{"url":"https://x.example/%s","valueString":%q}],"code":{"coding":[{"id":%q,"system":"http://hl7.org/fhir/sid/icd-10-cm","version":"%d","code":"F32.9","display":%q}],"text":%q},
"subject":{"reference":"Patient/%s"},"encounter":{"reference":"Encounter/visit-%s"},"asserter":{"reference":"#of-%s"},"recordedDate":"2024-03-05T10:16:%02dZ","note":[{"text":%q}]}`, id, strings.Join(inside, ","), strings.Join(in, ""), id, noise(i), id, i, noise(i+1), noise(i+2), id, id, id, i, noise(i)))
		for range 1 + i%2 { // some have more versions
			h.Load(fmt.Sprintf(`{"resourceType":"Observation","id":"score-%s","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"44261-6"}]},"subject":{"reference":"Patient/%s"},"encounter":{"reference":"Encounter/visit-%s"},"effectiveDateTime":"2024-03-05","valueInteger":%d,"note":[{"text":%q}]}`, id, id, id, first+i, noise(i+4)))
		}
	}
	h.Clock.Add(1000)
}

// taken is what an attacker has of a release, and, for the referee, who is who.
type taken struct {
	lines  map[string][]string
	who    map[string]int   // surrogate of a patient: her number
	orders map[string][]int // by file: the numbers of the patients, line by line
	shifts []int            // by number
}

var (
	subjectOf = regexp.MustCompile(`"subject":\{"reference":"Patient/([A-Z2-7]{26})"`)
	numberOf  = regexp.MustCompile(`"valueInteger":(\d+)`)
	dayOf     = regexp.MustCompile(`"effectiveDateTime":"([0-9-]+)"`)
)

func take(t *testing.T, h *house, profile string) taken {
	t.Helper()
	x := taken{lines: map[string][]string{}, who: map[string]int{}, orders: map[string][]int{}, shifts: make([]int, alikes)}
	id := h.accept(h.exchange(), export.Request{Released: true, Profile: profile, Types: []fhir.ResourceType{"Condition", "Encounter", "Observation", "Patient"}})
	h.finish()
	for name, lines := range h.fetched(h.exchange(), id) {
		for _, l := range lines {
			if n := numberOf.FindStringSubmatch(l); strings.HasSuffix(name, "Observation") && n != nil {
				i, _ := strconv.Atoi(n[1])
				if i -= first; i < 0 {
					continue
				}
				x.who[subjectOf.FindStringSubmatch(l)[1]] = i
				if d, err := time.Parse("2006-01-02", dayOf.FindStringSubmatch(l)[1]); err == nil {
					x.shifts[i] = int(d.Sub(time.Date(2024, 3, 5, 0, 0, 0, 0, time.UTC)).Hours() / 24)
				}
			}
		}
		x.lines[name] = lines
	}
	for name, lines := range x.lines {
		for _, l := range lines {
			of := idOf.FindStringSubmatch(l)[1]
			if m := subjectOf.FindStringSubmatch(l); m != nil {
				of = m[1]
			}
			if i, ok := x.who[of]; ok {
				x.orders[name] = append(x.orders[name], i)
			}
		}
		if len(x.orders[name]) != alikes || len(x.lines) != 4 {
			t.Fatalf("%s has %d lines of these patients", name, len(x.orders[name]))
		}
	}
	return x
}

// related is how much two orders of the same numbers have in common: Spearman's rank correlation, and how many neighbours are
// neighbours in both. The latter also shows an order that was turned round or begun elsewhere.
func related(a, b []int) (rank float64, neighbours int) {
	at := make([]int, len(b))
	for i, x := range b {
		at[x] = i
	}
	n, sum := float64(len(a)), 0.0
	for i, x := range a {
		d := float64(i - at[x])
		sum += d * d
		if i > 0 {
			if gap := at[x] - at[a[i-1]]; gap == 1 || gap == -1 {
				neighbours++
			}
		}
	}
	return 1 - 6*sum/(n*(n*n-1)), neighbours
}

// Somebody who has two releases, and knows of one patient who she is in both, learns of no other: patients of whom the same is
// released are the same in every column, down to the last byte, in no order that both releases share, and nothing of a
// surrogate or a shift follows from what is stored, nor from the other release.
func TestD3_164_514_c_TwoReleasesCannotBeLinked(t *testing.T) {
	h := newHouse(t, releasing, func(c *export.Config) { c.Page = 20 })
	alike(h)
	determined(h, deident.Gender)
	stored := make([]int, alikes) // as they were stored, which is the order of their ids, too
	for i := range stored {
		stored[i] = i
	}
	for _, profile := range []string{"safe-harbor", "expert-determination"} {
		a, b := take(t, h, profile), take(t, h, profile)
		for name := range a.lines {
			columns := map[string]int{}
			for _, x := range []taken{a, b} {
				for _, l := range x.lines[name] {
					of := idOf.FindStringSubmatch(l)[1]
					if m := subjectOf.FindStringSubmatch(l); m != nil {
						of = m[1]
					}
					if _, ours := x.who[of]; ours {
						columns[numberOf.ReplaceAllString(plain(l), `"valueInteger":N`)]++
					}
				}
			}
			if len(columns) != 1 {
				t.Errorf("%s, %s: patients are told apart by\n%s", profile, name, strings.Join(slices.Sorted(maps.Keys(columns)), "\n"))
			}
		}
		orders := map[string][]int{"stored": stored}
		for name := range a.orders {
			orders["the first "+name], orders["the second "+name] = a.orders[name], b.orders[name]
		}
		names := slices.Sorted(maps.Keys(orders))
		for i, x := range names {
			for _, y := range names[:i] {
				// By chance: 0 with a deviation of 0.15, and 2.
				if rank, neighbours := related(orders[x], orders[y]); math.Abs(rank) > 0.75 || neighbours > 14 {
					t.Errorf("%s: the orders of %s and of %s have much in common: %.2f, %d neighbours", profile, x, y, rank, neighbours)
				}
			}
		}
		all := fmt.Sprint(a.lines)
		for s, i := range b.who {
			if strings.Contains(all, s) {
				t.Errorf("%s is in both", s)
			}
			for _, of := range []string{"mrn-%03d", "Patient/mrn-%03d", base + "/Patient/mrn-%03d", "harbor/mrn-%03d"} {
				if text := fmt.Sprintf(of, i); derived(s, text) {
					t.Errorf("%s follows from %s", s, text)
				}
			}
		}
		if profile == "safe-harbor" {
			continue
		}
		same, with := 0, map[int]bool{}
		for i, days := range a.shifts {
			if with[days] = true; days == 0 || days == b.shifts[i] {
				same++
			}
		}
		if same > 10 || len(with) < 18 { // by chance 1, and 33 of 60
			t.Errorf("%d patients have the same shift in both, of %d different ones", same, len(with))
		}
	}
}

// derived reports whether a surrogate is made of a text by a digest that somebody may think of.
func derived(surrogate, text string) bool {
	s1, m5, s2 := sha1.Sum([]byte(text)), md5.Sum([]byte(text)), sha256.Sum256([]byte(text))
	for _, sum := range [][]byte{s1[:], m5[:], s2[:], []byte(text)} {
		for _, form := range []string{base32.StdEncoding.EncodeToString(sum), strings.ToUpper(hex.EncodeToString(sum))} {
			if len(form) >= 12 && strings.Contains(surrogate, form[:12]) || strings.Contains(form, surrogate) {
				return true
			}
		}
	}
	return false
}
