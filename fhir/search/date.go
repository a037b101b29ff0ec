package search

import (
	"time"
)

// Earliest and Latest stand for the open ends of a Period; no date of R4 lies
// outside of them.
var (
	Earliest = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	Latest   = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
)

// Instants reads a date, dateTime or instant as the range [lo, hi) that its
// precision spans (R4 search, date): years to microseconds. Without a time
// zone it is UTC. Minutes without seconds and, in place of a zone's "+", the
// space that form decoding leaves are accepted, as search URLs have them.
func Instants(s string) (lo, hi time.Time, ok bool) {
	r := reader{s: s}
	year := r.digits(4)
	if r.bad || year == 0 {
		return time.Time{}, time.Time{}, false
	}
	date := func(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }
	if r.done() {
		return bounded(date(year, 1, 1), date(year+1, 1, 1))
	}
	r.expect('-')
	month := r.digits(2)
	if r.bad || month < 1 || month > 12 {
		return time.Time{}, time.Time{}, false
	}
	if r.done() {
		return bounded(date(year, month, 1), date(year, month+1, 1))
	}
	r.expect('-')
	day := r.digits(2)
	if r.bad || day < 1 || date(year, month, day).Day() != day {
		return time.Time{}, time.Time{}, false
	}
	if r.done() {
		return bounded(date(year, month, day), date(year, month, day+1))
	}
	r.expect('T')
	at, precision, ok := r.clock()
	if !ok {
		return time.Time{}, time.Time{}, false
	}
	lo = date(year, month, day).Add(at)
	return bounded(lo, lo.Add(precision))
}

// bounded keeps a range within what the store can hold, never empty.
func bounded(lo, hi time.Time) (time.Time, time.Time, bool) {
	if lo.Before(Earliest) {
		lo = Earliest
	}
	if hi.After(Latest) {
		hi = Latest
	}
	// A time zone can put a whole value beyond either end.
	if !hi.After(Earliest) {
		hi = Earliest.Add(time.Microsecond)
	}
	if !lo.Before(hi) {
		lo = hi.Add(-time.Microsecond)
	}
	return lo, hi, true
}

// reader takes the fixed-width fields of a date off a string.
type reader struct {
	s   string
	bad bool
}

func (r *reader) done() bool { return r.s == "" }

func (r *reader) digits(n int) int {
	if r.bad || len(r.s) < n {
		r.bad = true
		return 0
	}
	v := 0
	for i := 0; i < n; i++ {
		c := r.s[i]
		if c < '0' || c > '9' {
			r.bad = true
			return 0
		}
		v = v*10 + int(c-'0')
	}
	r.s = r.s[n:]
	return v
}

func (r *reader) expect(c byte) {
	if r.bad || r.s == "" || r.s[0] != c {
		r.bad = true
		return
	}
	r.s = r.s[1:]
}

func (r *reader) next(c byte) bool {
	if r.bad || r.s == "" || r.s[0] != c {
		return false
	}
	r.s = r.s[1:]
	return true
}

// clock reads hh:mm[:ss[.f]][zone] as the time since midnight UTC and the
// length of what was not written. 60 is the leap second, held as 59.
func (r *reader) clock() (at, precision time.Duration, ok bool) {
	hour := r.digits(2)
	r.expect(':')
	minute := r.digits(2)
	if r.bad || hour > 23 || minute > 59 {
		return 0, 0, false
	}
	at = time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute
	precision = time.Minute
	if r.next(':') {
		second := r.digits(2)
		if r.bad || second > 60 {
			return 0, 0, false
		}
		at += time.Duration(min(second, 59)) * time.Second
		precision = time.Second
		if r.next('.') {
			fraction, unit, ok := r.fraction()
			if !ok {
				return 0, 0, false
			}
			at, precision = at+fraction, unit
		}
	}
	shift, ok := r.zone()
	return at - shift, precision, ok
}

// fraction reads decimals of a second; those beyond microseconds are cut off,
// because the database keeps no more.
func (r *reader) fraction() (v, unit time.Duration, ok bool) {
	unit = time.Second
	count := 0
	for !r.done() && r.s[0] >= '0' && r.s[0] <= '9' {
		if unit > time.Microsecond {
			unit /= 10
			v += time.Duration(r.s[0]-'0') * unit
		}
		r.s = r.s[1:]
		count++
	}
	return v, unit, count > 0
}

func (r *reader) zone() (time.Duration, bool) {
	if r.done() {
		return 0, true
	}
	sign := r.s[0]
	r.s = r.s[1:]
	if sign == 'Z' {
		return 0, r.done()
	}
	if sign != '+' && sign != '-' && sign != ' ' {
		return 0, false
	}
	hour := r.digits(2)
	r.expect(':')
	minute := r.digits(2)
	if r.bad || !r.done() || minute > 59 || hour > 14 || hour == 14 && minute > 0 {
		return 0, false
	}
	shift := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute
	if sign == '-' {
		shift = -shift
	}
	return shift, true
}
