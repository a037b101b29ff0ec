package fhirpath

import (
	"strconv"
	"strings"
	"time"
)

// precision of a moment: the last part that it states.
type precision uint8

const (
	toYear precision = iota + 1
	toMonth
	toDay
	toHour
	toMinute
	toSecond // with any fraction: seconds and milliseconds are one precision (FHIRPath N1, comparison)
)

// moment is a Date, DateTime or Time with its precision. A DateTime without an offset is taken as UTC, so that
// no answer depends on where the server stands.
type moment struct {
	at     time.Time
	to     precision
	digits int  // of the fraction of the second
	zoned  bool // says its offset
	offset int  // seconds east
}

// moment reads the text of a Date, DateTime or Time.
func (v Value) moment() (moment, bool) {
	s := v.text
	m := moment{}
	year, month, day, minute, second, nano := 1, 1, 1, 0, 0, 0
	var hour int
	var ok bool
	if v.kind != Time {
		if year, s, ok = digits(s, 4); !ok {
			return m, false
		}
		m.to = toYear
		if strings.HasPrefix(s, "-") {
			if month, s, ok = digits(s[1:], 2); !ok {
				return m, false
			}
			m.to = toMonth
			if strings.HasPrefix(s, "-") {
				if day, s, ok = digits(s[1:], 2); !ok {
					return m, false
				}
				m.to = toDay
			}
		}
		if s == "" {
			m.at = time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
			return m, year >= 1 && month >= 1 && month <= 12 && m.at.Day() == day
		}
		if v.kind == Date || s[0] != 'T' || m.to != toDay {
			return m, false
		}
		s = s[1:]
	}
	if hour, s, ok = digits(s, 2); !ok || hour > 24 {
		return m, false
	}
	m.to = toHour
	if strings.HasPrefix(s, ":") {
		if minute, s, ok = digits(s[1:], 2); !ok || minute > 59 {
			return m, false
		}
		m.to = toMinute
		if strings.HasPrefix(s, ":") {
			if second, s, ok = digits(s[1:], 2); !ok || second > 60 {
				return m, false
			}
			m.to = toSecond
			if strings.HasPrefix(s, ".") {
				n := 1
				for n < len(s) && isDigit(s[n]) {
					n++
				}
				m.digits = n - 1
				if m.digits == 0 {
					return m, false
				}
				nano, _ = strconv.Atoi((s[1:min(n, 10)] + "000000000")[:9])
				s = s[n:]
			}
		}
	}
	if s != "" {
		if v.kind == Time {
			return m, false
		}
		if m.offset, ok = offset(s); !ok {
			return m, false
		}
		m.zoned = true
	}
	m.at = time.Date(year, time.Month(month), day, hour, minute, second, nano, time.UTC)
	if m.at.Day() != day && hour < 24 && second < 60 {
		return m, false
	}
	m.at = m.at.Add(-time.Duration(m.offset) * time.Second)
	return m, month >= 1 && month <= 12 && year >= 1
}

func digits(s string, n int) (int, string, bool) {
	if len(s) < n {
		return 0, s, false
	}
	v := 0
	for i := range n {
		if !isDigit(s[i]) {
			return 0, s, false
		}
		v = v*10 + int(s[i]-'0')
	}
	return v, s[n:], true
}

func offset(s string) (seconds int, ok bool) {
	if s == "Z" {
		return 0, true
	}
	sign := 1
	switch s[0] {
	case '-':
		sign = -1
	case '+':
	default:
		return 0, false
	}
	h, rest, ok := digits(s[1:], 2)
	if !ok || !strings.HasPrefix(rest, ":") {
		return 0, false
	}
	m, rest, ok := digits(rest[1:], 2)
	return sign * (h*3600 + m*60), ok && rest == "" && m < 60 && h <= 14
}

// local is the moment as its own clock shows it.
func (m moment) local() time.Time { return m.at.Add(time.Duration(m.offset) * time.Second) }

// parts are the stated parts, from the year to the second with its fraction, on UTC where the time of day is known.
func (m moment) parts() [6]int64 {
	t := m.at
	return [6]int64{int64(t.Year()), int64(t.Month()), int64(t.Day()), int64(t.Hour()), int64(t.Minute()),
		int64(t.Second())*1_000_000_000 + int64(t.Nanosecond())}
}

// compare compares part by part; known is false where the one that states less leaves it open.
func (m moment) compare(o moment) (order int, known bool) {
	a, b := m.parts(), o.parts()
	for i := range a {
		p := precision(i) + 1
		if p > m.to || p > o.to {
			return 0, m.to == o.to
		}
		switch {
		case a[i] < b[i]:
			return -1, true
		case a[i] > b[i]:
			return 1, true
		}
	}
	return 0, true
}

// text writes the moment as a literal of that kind, with its own precision and offset.
func (m moment) text(k Kind) string {
	t := m.local()
	fraction := ""
	if m.digits > 0 {
		fraction = "." + strings.Repeat("0", min(m.digits, 9))
	}
	layout := "2006-01-02T15:04:05" + fraction
	switch m.to {
	case toYear:
		layout = "2006"
	case toMonth:
		layout = "2006-01"
	case toDay:
		layout = "2006-01-02"
	case toHour:
		layout = "2006-01-02T15"
	case toMinute:
		layout = "2006-01-02T15:04"
	}
	s := t.Format(layout)
	if k == Time {
		_, s, _ = strings.Cut(s, "T")
		return s
	}
	if m.zoned {
		s += time.Unix(0, 0).In(time.FixedZone("", m.offset)).Format("Z07:00")
	}
	return s
}

// add adds n of a calendar unit (FHIRPath N1, date/time arithmetic); ok is false where the unit is none.
func (m moment) add(n int64, unit string) (moment, bool) {
	// More than all the years of FHIR leads out of what can be written.
	if n > 400_000_000_000_000 || n < -400_000_000_000_000 {
		return m, false
	}
	months, d := int64(0), time.Duration(0)
	step := func(each time.Duration) bool {
		if n > int64(1<<62)/int64(each) || n < -int64(1<<62)/int64(each) {
			return false
		}
		d = time.Duration(n) * each
		return true
	}
	ok := true
	switch unit {
	case "year", "a":
		months = n * 12
	case "month", "mo":
		months = n
	case "week", "wk":
		ok = step(7 * 24 * time.Hour)
	case "day", "d":
		ok = step(24 * time.Hour)
	case "hour", "h":
		ok = step(time.Hour)
	case "minute", "min":
		ok = step(time.Minute)
	case "second", "s":
		ok = step(time.Second)
	case "millisecond", "ms":
		ok = step(time.Millisecond)
	default:
		return m, false
	}
	if !ok {
		return m, false
	}
	if months != 0 {
		if months > 12*10_000 || months < -12*10_000 {
			return m, false
		}
		t := m.local()
		first := time.Date(t.Year(), t.Month(), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC).AddDate(0, int(months), 0)
		last := first.AddDate(0, 1, -1).Day()
		m.at = first.AddDate(0, 0, min(t.Day(), last)-1).Add(-time.Duration(m.offset) * time.Second)
	}
	switch { // what is finer than the precision counts in whole units of it
	case m.to == toYear && d != 0:
		m.at = m.at.AddDate(int(d/(365*24*time.Hour)), 0, 0)
	case m.to == toMonth && d != 0:
		m.at = m.at.AddDate(0, int(d/(30*24*time.Hour)), 0)
	case m.to == toDay && d != 0:
		m.at = m.at.Add(d.Truncate(24 * time.Hour))
	default:
		m.at = m.at.Add(d)
	}
	y := m.at.Year()
	return m, y >= 1 && y <= 9999
}
