package postgres

import (
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// window bounds the clinical dates that criteria admit, so that an index can
// find them: they end after from, and begin before to. The criteria themselves
// are still asked.
type window struct{ from, to time.Time } // zero: open

// clinical says that c compares the columns at_lo and at_hi.
func (c *term) clinical(t fhir.ResourceType) bool {
	if c.Op != search.Match || c.Type != search.Date {
		return false
	}
	at, ok := search.ClinicalDate(t)
	return ok && at == c.Param
}

// windowOf bounds what satisfies all of the criteria.
func windowOf(t fhir.ResourceType, list []*term) (w window) {
	for _, c := range list {
		if !c.clinical(t) || c.Not {
			continue
		}
		one := boundsOf(c.Any)
		if one.from.After(w.from) {
			w.from = one.from
		}
		if !one.to.IsZero() && (w.to.IsZero() || one.to.Before(w.to)) {
			w.to = one.to
		}
	}
	return w
}

// boundsOf bounds what satisfies one of the values.
func boundsOf(values []search.Value) (w window) {
	for i, v := range values {
		var one window
		switch v.Prefix {
		case "", "eq", "ap":
			one = window{v.Lo, v.Hi}
		case "gt", "sa":
			one.from = v.Hi
		case "ge":
			one.from = v.Lo
		case "lt", "eb":
			one.to = v.Lo
		case "le":
			one.to = v.Hi
		}
		if i == 0 {
			w = one
			continue
		}
		if one.from.Before(w.from) {
			w.from = one.from
		}
		if one.to.IsZero() || !w.to.IsZero() && one.to.After(w.to) {
			w.to = one.to
		}
	}
	return w
}

// spans are the longest that dates of a kind are: instants, days, and the rest.
// There is an index of the second kind, and one of the third.
var spans = []struct {
	sql    string
	length time.Duration
}{{"interval '00:01:00'", time.Minute}, {"interval '24:00:00'", 24 * time.Hour}, {}}

// arms are conditions of which each row in the window satisfies exactly one: by
// how long its date is. Where that is bounded, so is the beginning of what ends
// after a moment, and an index finds it.
func (k *compiler) arms(alias string, w window) []string {
	before := ""
	if !w.to.IsZero() {
		before = " AND " + alias + ".at_lo < " + k.instant(w.to)
	}
	if w.from.IsZero() {
		return []string{before}
	}
	arms := make([]string, len(spans))
	for i, s := range spans {
		span := " AND " + alias + ".at_hi - " + alias + ".at_lo"
		if i > 0 {
			arms[i] += span + " > " + spans[i-1].sql + " AND " + alias + ".at_hi > " + k.instant(w.from)
		}
		if s.sql != "" {
			arms[i] += span + " <= " + s.sql + " AND " + alias + ".at_lo > " + k.instant(w.from.Add(-s.length))
		}
		arms[i] += before
	}
	return arms
}

func (k *compiler) instant(t time.Time) string {
	return k.q.named(t, func() any { return t })
}

// within is the condition of being in the window, for an order that no index gives.
func (k *compiler) within(alias string, w window) string {
	if k.rechecked {
		return ""
	}
	arms := k.arms(alias, w)
	if len(arms) == 1 {
		return arms[0]
	}
	s := " AND (true" + strings.Join(arms, " OR true") + ")"
	if !w.to.IsZero() {
		s += " AND " + alias + ".at_lo < " + k.instant(w.to)
	}
	return s
}

// bounds is the window of the criteria as a condition, unless rows are found by
// something narrower.
func (k *compiler) bounds(alias string, t fhir.ResourceType, list []*term) string {
	if narrow(list) {
		return ""
	}
	return k.within(alias, windowOf(t, list))
}
