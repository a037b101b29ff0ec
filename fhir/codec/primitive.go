package codec

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// primitive is one of the primitive types of R4 (http://hl7.org/fhir/R4/datatypes.html#primitive).
type primitive uint8

const (
	noPrimitive primitive = iota
	base64Binary
	boolean
	canonical
	code
	date
	dateTime
	decimal
	id
	instant
	integer
	markdown
	oid
	positiveInt
	str
	timeOfDay
	unsignedInt
	uri
	url
	uuid
	xhtml
)

var primitives = map[string]primitive{
	"base64Binary": base64Binary, "boolean": boolean, "canonical": canonical, "code": code, "date": date,
	"dateTime": dateTime, "decimal": decimal, "id": id, "instant": instant, "integer": integer, "markdown": markdown,
	"oid": oid, "positiveInt": positiveInt, "string": str, "time": timeOfDay, "unsignedInt": unsignedInt,
	"uri": uri, "url": url, "uuid": uuid, "xhtml": xhtml,
}

// maxString is the greatest length of a string in characters (R4 datatypes, string).
const maxString = 1 << 20

// maxExponent keeps decimals within what every part of the server can compute
// with; R4 sets no bound, but asks for no more than 18 digits.
const (
	maxDecimal  = 128
	maxExponent = 1000
)

// wrong says what is wrong with n as a value of type p, or "". It never repeats
// the value: the text may end in a log.
func (p primitive) wrong(n *element.Node) string {
	switch p {
	case boolean:
		if n.Kind != element.Bool {
			return "is not true or false"
		}
		return ""
	case decimal, integer, unsignedInt, positiveInt:
		if n.Kind != element.Number {
			return "is not a JSON number"
		}
		return p.wrongNumber(n.Text)
	}
	if n.Kind != element.String {
		return "is not a JSON string"
	}
	s := n.Text
	if s == "" {
		return "is empty"
	}
	switch p {
	case str, markdown:
		if len(s) > maxString && utf8.RuneCountInString(s) > maxString {
			return "is longer than 1,048,576 characters"
		}
		for i := 0; i < len(s); i++ {
			if c := s[i]; c < 0x20 && c != '\t' && c != '\n' && c != '\r' {
				return "has a control character"
			}
		}
	case code:
		if !isCode(s) {
			return "is not a code: no white space at its ends, and no more than one blank inside"
		}
	case id:
		if !fhir.ID(s).Valid() {
			return "is not an id: 1 to 64 of A-Z a-z 0-9 - ."
		}
	case uri, url, canonical:
		if !isURI(s) {
			return "is not a URI: it has white space or a control character"
		}
	case oid:
		if !isOID(s) {
			return "is not an OID: urn:oid: and numbers with dots"
		}
	case uuid:
		if !isUUID(s) {
			return "is not a UUID: urn:uuid: and its lower-case form"
		}
	case date:
		if _, rest := scanDate(s); rest != "" {
			return "is not a date: YYYY, YYYY-MM or YYYY-MM-DD"
		}
	case dateTime:
		if !isDateTime(s, false) {
			return "is not a dateTime: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with optional fraction and a time zone"
		}
	case instant:
		if !isDateTime(s, true) {
			return "is not an instant: YYYY-MM-DDThh:mm:ss with optional fraction and a time zone"
		}
	case timeOfDay:
		if rest, ok := scanTime(s); !ok || rest != "" {
			return "is not a time: hh:mm:ss with optional fraction"
		}
	case base64Binary:
		if !isBase64(s) {
			return "is not base64"
		}
	case xhtml:
		return wrongXHTML(s)
	}
	return ""
}

func (p primitive) wrongNumber(s string) string {
	if p == decimal {
		if len(s) > maxDecimal {
			return "is longer than " + strconv.Itoa(maxDecimal) + " characters"
		}
		if i := strings.IndexAny(s, "eE"); i >= 0 {
			if e, err := strconv.Atoi(s[i+1:]); err != nil || e > maxExponent || e < -maxExponent {
				return "has an exponent beyond " + strconv.Itoa(maxExponent)
			}
		}
		return ""
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || s == "-0" {
		if strings.ContainsAny(s, ".eE") || s == "-0" {
			return "is not an integer"
		}
		return "is out of the range of 32 bits"
	}
	switch {
	case v > math.MaxInt32 || v < math.MinInt32:
		return "is out of the range of 32 bits"
	case p == positiveInt && v < 1:
		return "is not positive"
	case p == unsignedInt && v < 0:
		return "is negative"
	}
	return ""
}

func isCode(s string) bool {
	blank := true
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
			if blank {
				return false
			}
			blank = true
			continue
		}
		if c < 0x20 {
			return false
		}
		blank = false
	}
	return !blank
}

func isURI(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return true
}

func isOID(s string) bool {
	s, ok := strings.CutPrefix(s, "urn:oid:")
	if !ok || s == "" || s[0] < '0' || s[0] > '2' || !strings.Contains(s, ".") {
		return false
	}
	for arc := range strings.SplitSeq(s, ".") {
		if arc == "" || len(arc) > 1 && arc[0] == '0' || strings.Trim(arc, "0123456789") != "" {
			return false
		}
	}
	return s[1] == '.'
}

func isUUID(s string) bool {
	s, ok := strings.CutPrefix(s, "urn:uuid:")
	if !ok || len(s) != 36 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isBase64 allows white space between groups, as R4's pattern does.
func isBase64(s string) bool {
	count, pad := 0, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '+', c == '/':
			if pad > 0 {
				return false
			}
			count++
		case c == '=':
			pad++
			count++
		case c == ' ', c == '\t', c == '\n', c == '\r':
		default:
			return false
		}
	}
	return count > 0 && count%4 == 0 && pad <= 2
}

// number reads exactly n digits.
func number(s string, n int) (int, string, bool) {
	if len(s) < n {
		return 0, s, false
	}
	v := 0
	for i := range n {
		if s[i] < '0' || s[i] > '9' {
			return 0, s, false
		}
		v = v*10 + int(s[i]-'0')
	}
	return v, s[n:], true
}

// scanDate reads YYYY, YYYY-MM or YYYY-MM-DD at the start of s. parts is how many of
// the three it found; rest is what follows, and all of s where there is no date.
func scanDate(s string) (parts int, rest string) {
	y, t, ok := number(s, 4)
	if !ok || y == 0 {
		return 0, s
	}
	if t == "" || t[0] != '-' {
		return 1, t
	}
	m, t, ok := number(t[1:], 2)
	if !ok || m < 1 || m > 12 {
		return 0, s
	}
	if t == "" || t[0] != '-' {
		return 2, t
	}
	d, t, ok := number(t[1:], 2)
	if !ok || d < 1 || d > time.Date(y, time.Month(m)+1, 0, 0, 0, 0, 0, time.UTC).Day() {
		return 0, s
	}
	return 3, t
}

// scanTime reads hh:mm:ss with an optional fraction. R4 allows the leap second.
func scanTime(s string) (rest string, ok bool) {
	h, t, ok := number(s, 2)
	if !ok || h > 23 || t == "" || t[0] != ':' {
		return s, false
	}
	m, t, ok := number(t[1:], 2)
	if !ok || m > 59 || t == "" || t[0] != ':' {
		return s, false
	}
	sec, t, ok := number(t[1:], 2)
	if !ok || sec > 60 {
		return s, false
	}
	if t != "" && t[0] == '.' {
		i := 1
		for i < len(t) && t[i] >= '0' && t[i] <= '9' {
			i++
		}
		if i == 1 || i > maxFraction+1 {
			return s, false
		}
		t = t[i:]
	}
	return t, true
}

// maxFraction bounds the digits of a second; beyond 18 nothing can be meant.
const maxFraction = 18

func isDateTime(s string, whole bool) bool {
	parts, t := scanDate(s)
	if parts == 0 {
		return false
	}
	if t == "" {
		return !whole
	}
	if parts < 3 || t[0] != 'T' {
		return false
	}
	t, ok := scanTime(t[1:])
	if !ok || t == "" {
		return false
	}
	if t == "Z" {
		return true
	}
	if t[0] != '+' && t[0] != '-' {
		return false
	}
	h, t, ok := number(t[1:], 2)
	if !ok || h > 14 || t == "" || t[0] != ':' {
		return false
	}
	m, t, ok := number(t[1:], 2)
	return ok && m <= 59 && (h < 14 || m == 0) && t == ""
}
