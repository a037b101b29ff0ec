package fhirpath

import (
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// boundaries are lowBoundary() and highBoundary() (FHIRPath, Utility functions, for trial use), without an argument:
// the least and the greatest value that a stated one may stand for. Moments of the day go to milliseconds, a DateTime
// without an offset is taken in the zone that is farthest (+14:00 and -12:00), a decimal is half a unit of its last
// digit away. A Period is its two ends.
func boundaries() map[string]*function {
	return map[string]*function{"lowBoundary": {call: boundary(false)}, "highBoundary": {call: boundary(true)}}
}

func boundary(high bool) func(*evaluator, *node, []Value, scope) ([]Value, error) {
	return func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
		if len(in) == 0 {
			return nil, nil
		}
		if len(in) > 1 {
			return nil, ErrSingle
		}
		v := in[0]
		if v.Is("Period") {
			end := "start"
			if high {
				end = "end"
			}
			ends := v.Child(end)
			if len(ends) == 0 {
				return nil, nil
			}
			v = ends[0]
		}
		if v.kind == Complex {
			return nil, ErrType
		}
		if !v.usable() {
			return nil, nil
		}
		out, ok := v.bound(high)
		if !ok {
			return nil, nil
		}
		return []Value{out}, nil
	}
}

func (v Value) bound(high bool) (Value, bool) {
	switch v.kind {
	case Integer:
		return Value{kind: Integer, text: v.text, index: -1}, true
	case Decimal:
		d, ok := number(v.text)
		if !ok {
			return Value{}, false
		}
		half := apd.New(5, d.Exponent-1)
		if !high {
			half.Negative = true
		}
		sum := new(apd.Decimal)
		if _, err := arithmetic.Add(sum, d, half); err != nil {
			return Value{}, false
		}
		return decimal(sum), true
	case Date, DateTime, Time:
		m, ok := v.moment()
		if !ok {
			return Value{}, false
		}
		s := m.bound(v.kind, high)
		return Value{kind: v.kind, text: s, index: -1}, true
	}
	return Value{}, false
}

// bound writes the least or the greatest moment that m stands for.
func (m moment) bound(k Kind, high bool) string {
	t := m.local()
	if high {
		t = m.last()
	}
	if k == Date {
		return t.Format(time.DateOnly)
	}
	layout := "2006-01-02T15:04:05.000"
	if m.digits > 3 {
		layout += strings.Repeat("0", min(m.digits, 9)-3)
	}
	s := t.Format(layout)
	switch {
	case k == Time:
		_, s, _ = strings.Cut(s, "T")
	case m.zoned:
		s += time.Unix(0, 0).In(time.FixedZone("", m.offset)).Format("Z07:00")
	case high:
		s += "-12:00"
	default:
		s += "+14:00"
	}
	return s
}

// last is the last millisecond of m on its own clock.
func (m moment) last() time.Time {
	t := m.local()
	var next time.Time
	switch m.to {
	case toYear:
		next = t.AddDate(1, 0, 0)
	case toMonth:
		next = t.AddDate(0, 1, 0)
	case toDay:
		next = t.AddDate(0, 0, 1)
	case toHour:
		next = t.Add(time.Hour)
	case toMinute:
		next = t.Add(time.Minute)
	default:
		unit := time.Second
		for range min(m.digits, 3) {
			unit /= 10
		}
		next = t.Add(unit)
		if m.digits >= 3 { // it is as exact as a boundary can be
			return t
		}
	}
	return next.Add(-time.Millisecond)
}
