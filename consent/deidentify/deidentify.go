// Package deidentify holds the rules of 45 CFR 164.514 on de-identified data, one
// function each, over plain values.
//
// The numbers D1 to D8 are those of the segmentation rules; [Rules] lists them.
package deidentify

import (
	"crypto/rand"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/consent/rule"
)

// oldest is the age from which all ages are one category.
const oldest = 90

// Age is how an age, in years, may be given (D1, 45 CFR 164.514(b)(2)(i)(C)): those over 89 are "90+".
func Age(years int) string {
	if years >= oldest {
		return "90+"
	}
	return strconv.Itoa(max(years, 0))
}

// Year is how a date about an individual may be given (D1): its year, or "" where the year tells that the
// individual is over 89.
func Year(birth, date, now time.Time) string {
	if !now.Before(birth.AddDate(oldest, 0, 0)) && !date.After(birth.AddDate(1, 0, 0)) {
		return ""
	}
	return date.Format("2006")
}

// populous are the three-digit ZIP areas with more than 20,000 people in the census of 2020, as ranges.
const populous = `
006-007 009-035 037-054 056-058 060-089 100-101 103-191 193-201 206-212 214-268 270-310 312-331 333-339
341-342 344 346-347 349-352 354-368 370-374 376-398 400-418 420-427 430-458 460-508 510-516 520-528 530-532
534-535 537-551 553-554 557-567 570-577 580-588 590-620 622-631 633-641 644-648 650-658 660-662 664-681
683-691 693 700-701 703-708 710-714 716-731 734-741 743-752 754-770 773-816 820 822 824-838 840-841 843-847
850-853 855-857 859-860 863-865 870-871 873-875 877 880-883 890-891 894-895 897-898 900 902-908 910-928
930-937 939-941 943-961 967-968 970-986 988-999
`

var populated = func() map[string]bool {
	m := map[string]bool{}
	for _, r := range strings.Fields(populous) {
		first, last, ranged := strings.Cut(r, "-")
		if !ranged {
			last = first
		}
		from, _ := strconv.Atoi(first) // the table above is ours
		to, _ := strconv.Atoi(last)
		for n := from; n <= to; n++ {
			m[pad(n)] = true
		}
	}
	return m
}()

func pad(n int) string {
	s := strconv.Itoa(n)
	return strings.Repeat("0", 3-len(s)) + s
}

// ZIP3 is how a postal code may be given (D2, 45 CFR 164.514(b)(2)(i)(B)): its first three digits where more than
// 20,000 people live under them, else "000", as for whatever is not in the census.
func ZIP3(zip string) string {
	if len(zip) >= 3 && populated[zip[:3]] {
		return zip[:3]
	}
	return "000"
}

// Code makes a code by which only who keeps the key finds the individual again (D3, 45 CFR 164.514(c)): it is random, because one that is derived from the
// individual, by a hash or otherwise, is not allowed.
func Code() string { return rand.Text() }

// kept are what a limited data set may have of what the safe harbor removes; its sixteen direct identifiers
// (45 CFR 164.514(e)(2)) are not among them.
var kept = map[string]bool{"city": true, "state": true, "zip": true, "date": true, "age": true}

// InLimitedSet reports whether a kind of element may be in a limited data set (D4, 45 CFR 164.514(e)); what is not known may not.
func InLimitedSet(kind string) bool { return kept[kind] }

// LimitedSetPermits reports whether a limited data set may be disclosed (D4): under a data use agreement, for research, public health or operations.
func LimitedSetPermits(agreement bool, purpose string) bool {
	return agreement && (purpose == "HRESCH" || purpose == "PUBHLTH" || purpose == "HOPERAT")
}

// FreeText reports whether an element holds free text, which no automatic reading makes de-identified (D6): it is left out.
func FreeText(element string) bool {
	switch element {
	case "text", "div", "note", "comment", "description", "display", "data", "annotation":
		return true
	}
	return false
}

// MayInclude reports whether a patient's record may go into a de-identified set (D7, 42 CFR 2.16, 2.52, 2.54): part 2 does not bar it, and the patient's
// wish that it does not is asked first.
func MayInclude(optedOut bool) bool { return !optedOut }

// smallest is the least count that is told.
const smallest = 11

// Suppress reports whether a count is too small to be told (D8): under 11. None is told.
func Suppress(count int) bool { return count > 0 && count < smallest }

// Count is how a number of people may be told (D8).
func Count(n int) string {
	if Suppress(n) {
		return "<" + strconv.Itoa(smallest)
	}
	return strconv.Itoa(n)
}

func funcs(names ...string) []string {
	for i := range names {
		names[i] = "consent/deidentify." + names[i]
	}
	return names
}

// Rules lists D1 to D8.
func Rules() []rule.Rule {
	return []rule.Rule{
		{ID: "D1", Title: "Dates become years, ages over 89 one category", Citation: "45 CFR 164.514(b)(2)(i)(C)", Funcs: funcs("Age", "Year"), Status: rule.Decides, Mark: rule.Known, Doubt: "The other sixteen identifiers are elements that are on no list"},
		{ID: "D2", Title: "Three digits of a ZIP code where more than 20,000 people live, else 000", Citation: "45 CFR 164.514(b)(2)(i)(B)", Funcs: funcs("ZIP3"), Status: rule.Decides, Mark: rule.Read},
		{ID: "D3", Title: "A code for re-identification is random", Citation: "45 CFR 164.514(c)", Funcs: funcs("Code"), Status: rule.Decides, Mark: rule.Known},
		{ID: "D4", Title: "What a limited data set may have, and what for", Citation: "45 CFR 164.514(e)", Funcs: funcs("InLimitedSet", "LimitedSetPermits"), Status: rule.Decides, Mark: rule.Known},
		{ID: "D5", Title: "Determination by an expert", Citation: "45 CFR 164.514(b)(1)", Status: rule.Outside, Mark: rule.Known, Doubt: "An expert's judgement about one release"},
		{ID: "D6", Title: "Free text is left out", Citation: "45 CFR 164.514(b)", Funcs: funcs("FreeText"), Status: rule.Decides, Mark: rule.Ours},
		{ID: "D7", Title: "Part 2 does not bar de-identified data; the patient's opt-out is asked first", Citation: "42 CFR 2.16, 2.52(b)(3), 2.54", Funcs: funcs("MayInclude"), Status: rule.Decides, Mark: rule.Known},
		{ID: "D8", Title: "Counts under 11 are not told", Citation: "CMS cell size policy", Funcs: funcs("Suppress", "Count"), Status: rule.Decides, Mark: rule.Known},
	}
}
