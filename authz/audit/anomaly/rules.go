package anomaly

import (
	"errors"
	"strings"
	"time"
)

// ParseRules are DefaultRules with the hours of a practice: an IANA time zone, two times of the
// day such as 07:00, and English names of weekdays parted by commas ("never" for none). What
// is "" stays as it is, and the zone is UTC. Its errors are for whoever wrote them.
func ParseRules(zone, opens, closes, closed string) (Rules, error) {
	loc := time.UTC
	if zone != "" {
		var err error
		if loc, err = time.LoadLocation(zone); err != nil || zone == "Local" {
			return Rules{}, errors.New("zone is an IANA time zone, such as America/New_York")
		}
	}
	r := DefaultRules(loc)
	for _, x := range []struct {
		text string
		into *time.Duration
	}{{opens, &r.Hours.Opens}, {closes, &r.Hours.Closes}} {
		if x.text == "" {
			continue
		}
		at, err := time.Parse("15:04", x.text)
		if err != nil {
			return Rules{}, errors.New("opens and closes are times of the day, such as 07:00")
		}
		*x.into = time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute
	}
	if r.Hours.Opens >= r.Hours.Closes {
		return Rules{}, errors.New("the practice opens before it closes")
	}
	if closed == "" {
		return r, nil
	}
	r.Hours.Closed = nil
	if closed == "never" {
		return r, nil
	}
next:
	for _, name := range strings.Split(closed, ",") {
		for d := time.Sunday; d <= time.Saturday; d++ {
			if strings.EqualFold(d.String(), strings.TrimSpace(name)) {
				r.Hours.Closed = append(r.Hours.Closed, d)
				continue next
			}
		}
		return Rules{}, errors.New("closed is a list of weekdays, such as saturday,sunday, or never")
	}
	return r, nil
}
