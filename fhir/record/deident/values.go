package deident

import (
	"math/big"
	"strings"
	"time"

	"github.com/cloister-health/cloister/consent/deidentify"
	"github.com/cloister-health/cloister/fhir/element"
)

// oldest is the age from which all ages are one category (D1).
const oldest = 90

// person is what the treatment of a value depends on.
type person struct {
	method Method
	now    time.Time
	born   time.Time // the earliest day of birth that is possible; zero: not known
	owned  bool      // the resource belongs to a patient
	shift  int       // days; Expert
	moved  bool      // there is a shift
}

// elder reports whether the patient is over 89.
func (p person) elder() bool {
	return !p.born.IsZero() && !p.now.Before(p.born.AddDate(oldest, 0, 0))
}

// ages reports whether a span of time of below 90 years may be an age that, with the year of the record, tells that the
// patient is over 89 by now: she is, or nobody knows. It is one by its element, or told in years or months, or at least a year.
func (p person) ages(years *big.Rat, unit string, t treatment) bool {
	perhaps := p.owned && p.born.IsZero()
	return (p.elder() || perhaps) && (t == ages || unit == "a" || unit == "mo" || years.Cmp(big.NewRat(1, 1)) >= 0)
}

// day reads the date at the start of a date, dateTime or instant, as its first day.
func day(s string) (d time.Time, whole, ok bool) {
	if i := strings.IndexByte(s, 'T'); i >= 0 {
		s = s[:i]
	}
	for _, layout := range []string{"2006-01-02", "2006-01", "2006"} {
		if len(s) == len(layout) {
			d, err := time.Parse(layout, s)
			return d, layout == "2006-01-02", err == nil
		}
	}
	return time.Time{}, false, false
}

// year is the year of a date, or "" where it tells that somebody is over 89: the
// patient, or whoever was there in that year.
func (p person) year(s string) string {
	d, _, ok := day(s)
	if !ok {
		return ""
	}
	since := p.now.Year() - d.Year()
	if p.born.IsZero() {
		if since >= oldest-1 {
			return ""
		}
		return d.Format("2006")
	}
	if since >= oldest && (p.elder() || d.Year() != p.born.Year()) {
		return ""
	}
	return deidentify.Year(p.born, d, p.now)
}

// date is a date or dateTime as the profile tells it, or "".
func (p person) date(s string) string {
	switch p.method {
	case LimitedSet:
		if _, _, ok := day(s); !ok {
			return ""
		}
		return seconds(s)
	case Expert:
		d, whole, ok := day(s)
		y := p.year(s)
		if !ok || y == "" || !whole || !p.moved {
			return y
		}
		return d.AddDate(0, 0, p.shift).Format("2006-01-02")
	default:
		return p.year(s)
	}
}

// seconds is a time without fractions of a second: eighteen digits can say anything.
func seconds(s string) string {
	i := strings.IndexByte(s, '.')
	if i < 0 {
		return s
	}
	rest := strings.TrimLeft(s[i+1:], "0123456789")
	return s[:i] + rest
}

// instant is a date for an instant, which cannot be a year. The time of the day is not
// shifted, and would say which of two days is meant: it is left out.
func (p person) instant(s string) string {
	switch p.method {
	case LimitedSet:
		return p.date(s)
	case Expert:
		if d := p.date(s); len(d) == len("2006-01-02") {
			return d + "T00:00:00Z"
		}
	}
	return ""
}

// digits is how many digits an integer without a unit may have: telephone numbers,
// account numbers and the like have more.
const digits = 6

// precision is how many digits a number keeps: more than a measurement has, and fewer
// than a social security number or a telephone number. It is rounded to them.
const precision = 8

// rational reads a JSON number, and how it may be written.
func rational(n *element.Node) (v *big.Rat, literal string, ok bool) {
	if n == nil || n.Kind != element.Number || len(n.Text) > 40 || strings.ContainsAny(n.Text, "eE") {
		return nil, "", false
	}
	if v, ok = new(big.Rat).SetString(n.Text); !ok {
		return nil, "", false
	}
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(n.Text, "-"), ".")
	whole = strings.TrimLeft(whole, "0")
	if len(whole) > precision {
		return nil, "", false
	}
	if len(whole)+len(fraction) <= precision {
		return v, n.Text, true
	}
	literal = v.FloatString(precision - len(whole))
	return v, literal, true
}

// modest reports whether a number has so few digits before the point that it is no
// identifier.
func modest(v *big.Rat) bool {
	whole := new(big.Int).Quo(v.Num(), v.Denom())
	return len(whole.Abs(whole).String()) <= digits
}

// plain reports whether a number without a unit can be neither an age over 89 nor a year.
func plain(v *big.Rat) bool {
	return new(big.Rat).Abs(v).Cmp(big.NewRat(oldest-1, 1)) <= 0
}

// number is a number of an element that is not about a span of time.
func (p person) number(n *element.Node, t treatment) *element.Node {
	v, literal, ok := rational(n)
	if !ok || !modest(v) {
		return nil
	}
	if p.method != LimitedSet && (t == ages || t == answer && !plain(v)) {
		return nil // an age in unknown units, or perhaps one
	}
	return element.NewNode(element.Number, literal)
}

// quantity keeps value, comparator and coded unit. bare says that no comparator is allowed.
func (p person) quantity(n *element.Node, t treatment, bare bool) *element.Node {
	v, literal, ok := rational(n.Get("value"))
	if !ok {
		return nil
	}
	comparator, unit := n.Get("comparator").String(), n.Get("code").String()
	coded := n.Get("system").String() == ucum && isUCUM(unit)
	years, span := inYears(v, unit)
	switch {
	case coded && span && p.method != LimitedSet:
		limit := big.NewRat(oldest, 1)
		if strings.HasPrefix(comparator, ">") {
			limit = big.NewRat(oldest-1, 1)
		}
		if years.Cmp(limit) >= 0 {
			if bare {
				return nil
			}
			return overEightyNine()
		}
		if p.ages(years, unit, t) || p.method == Expert && t == ages {
			return nil
		}
	case coded && p.method != LimitedSet && stretched(unit):
		return nil
	case t == ages && p.method != LimitedSet: // in units that are not known
		return nil
	case coded && (unit == "1" || strings.HasPrefix(unit, "{")) && unit != "{score}":
		if p.number(n.Get("value"), t) == nil {
			return nil
		}
	case coded:
	case n.Get("unit") != nil || n.Get("code") != nil || n.Get("system") != nil || n.Get("_unit") != nil:
		return nil // a number of something that is not told means nothing
	default:
		if p.number(n.Get("value"), t) == nil {
			return nil
		}
	}
	out := element.NewObject(element.Field{Name: "value", Value: element.NewNode(element.Number, literal)})
	switch comparator {
	case "<", "<=", ">", ">=":
		if bare {
			return nil
		}
		out.Set("comparator", element.NewString(comparator))
	}
	if coded {
		out.Set("system", element.NewString(ucum))
		out.Set("code", element.NewString(unit))
	}
	return out
}

// overEightyNine is every age and span of 90 years or more (D1).
func overEightyNine() *element.Node {
	return element.NewObject(
		element.Field{Name: "value", Value: element.NewNumber(oldest)},
		element.Field{Name: "comparator", Value: element.NewString(">=")},
		element.Field{Name: "system", Value: element.NewString(ucum)},
		element.Field{Name: "code", Value: element.NewString("a")},
	)
}

// states are the states of the USA, its district and its territories, by their postal codes.
var states = words(`AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR PA RI
SC SD TN TX UT VT VA WA WV WI WY DC AS GU MP PR VI`)

// stateNames are their names.
var stateNames = func() map[string]string {
	m := map[string]string{}
	for line := range strings.SplitSeq(`AL Alabama,AK Alaska,AZ Arizona,AR Arkansas,CA California,CO Colorado,CT Connecticut,DE Delaware,FL Florida,GA Georgia,HI Hawaii,ID Idaho,
IL Illinois,IN Indiana,IA Iowa,KS Kansas,KY Kentucky,LA Louisiana,ME Maine,MD Maryland,MA Massachusetts,MI Michigan,MN Minnesota,MS Mississippi,MO Missouri,MT Montana,NE Nebraska,
NV Nevada,NH New Hampshire,NJ New Jersey,NM New Mexico,NY New York,NC North Carolina,ND North Dakota,OH Ohio,OK Oklahoma,OR Oregon,PA Pennsylvania,RI Rhode Island,SC South Carolina,
SD South Dakota,TN Tennessee,TX Texas,UT Utah,VT Vermont,VA Virginia,WA Washington,WV West Virginia,WI Wisconsin,WY Wyoming,DC District of Columbia,PR Puerto Rico`, ",") {
		code, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		m[name] = code
	}
	return m
}()

// usa are the ways to say that an address is in the USA.
var usa = words("US USA")

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// stateOf is the postal code of a state; "" for whatever is none.
func stateOf(s string) string {
	if states[s] {
		return s
	}
	return stateNames[s]
}

var shapeZIP, shapeCity = looks(`\d{5}(-?\d{4})?|\d{3}`), looks(`\pL[\pL .'-]{0,48}`)

// zipOf is a ZIP code as the profile tells it: three digits of it (D2), or five. What is none is "000".
func (p person) zipOf(s string) string {
	if !shapeZIP(s) {
		s = "000"
	}
	if p.method == LimitedSet {
		if len(s) < 5 {
			return ""
		}
		return s[:5]
	}
	return deidentify.ZIP3(s)
}

// isLOINCPath reports whether a linkId is made of LOINC codes ("/44249-1/44250-9"): it names
// a question and nobody.
func isLOINCPath(s string) bool {
	for part := range strings.SplitSeq(strings.TrimPrefix(s, "/"), "/") {
		if !isLOINC(part) {
			return false
		}
	}
	return true
}
