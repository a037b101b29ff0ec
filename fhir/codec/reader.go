package codec

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cloister-health/cloister/fhir/element"
)

// flaw is a fault of the JSON that does not stop the reading. It hangs on the
// object (for a name) or on the string in which it stands, so that the checker
// reports it in document order among the faults of content.
type flaw struct {
	field int // position in the object's Fields, or -1 for the string itself
	text  string
}

const (
	flawDuplicate = "this name occurs twice in one object"
	flawVariant   = "this name differs from another one of the same object only in upper and lower case"
	flawUTF8      = "the text is not valid UTF-8"
	flawSurrogate = "the text has an unpaired surrogate"
	flawNull      = `the text has a \u0000 character`
)

// reader reads one JSON value strictly (RFC 8259) into nodes. It keeps number
// literals as text and never reads a byte twice.
type reader struct {
	s        string
	pos      int
	depth    int
	maxDepth int
	badUTF8  bool
	flawed   int
	flaws    map[*element.Node][]flaw

	nodes  []element.Node
	fields []element.Field // fields of the objects that are open
	items  []*element.Node // items of the arrays that are open
	packF  []element.Field // where the fields of closed objects live
	packI  []*element.Node

	fault   string
	at      int
	tooDeep bool
	path    []string // the innermost segment first
}

// read reads the whole of r.s; nil with r.fault set if it is not one JSON value.
func (r *reader) read() *element.Node {
	r.badUTF8 = !utf8.ValidString(r.s)
	r.space()
	n := r.value()
	if n == nil {
		return nil
	}
	r.space()
	if r.pos < len(r.s) {
		return r.fail("there is data after the end of the resource")
	}
	if r.flawed > maxFlaws {
		return r.fail("too many names are repeated, or too many strings have characters that are not allowed")
	}
	return n
}

func (r *reader) fail(text string) *element.Node {
	r.fault, r.at = text, r.pos
	return nil
}

func (r *reader) space() {
	for r.pos < len(r.s) {
		switch r.s[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

func (r *reader) node(k element.Kind, text string) *element.Node {
	if len(r.nodes) == 0 {
		// About one node for 24 bytes of a resource; slabs stay small because a
		// slab lives as long as any node of it.
		r.nodes = make([]element.Node, max(8, min(256, (len(r.s)-r.pos)/24+2)))
	}
	n := &r.nodes[0]
	r.nodes = r.nodes[1:]
	n.Kind, n.Text = k, text
	return n
}

func (r *reader) value() *element.Node {
	if r.pos >= len(r.s) {
		return r.fail("the JSON ends too early")
	}
	switch c := r.s[r.pos]; c {
	case '{':
		return r.object()
	case '[':
		return r.array()
	case '"':
		text, bad, ok := r.text()
		if !ok {
			return nil
		}
		n := r.node(element.String, text)
		if bad != "" {
			r.mark(n, -1, bad)
		}
		return n
	case 't':
		return r.literal(element.Bool, "true")
	case 'f':
		return r.literal(element.Bool, "false")
	case 'n':
		return r.literal(element.Null, "null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return r.number()
		}
		return r.fail("this is not JSON")
	}
}

// maxFlaws is how many flaws are kept; a body with more is refused as a whole.
const maxFlaws = 10 * MaxIssues

func (r *reader) mark(n *element.Node, field int, text string) {
	if r.flawed++; r.flawed > maxFlaws {
		return
	}
	if r.flaws == nil {
		r.flaws = map[*element.Node][]flaw{}
	}
	r.flaws[n] = append(r.flaws[n], flaw{field, text})
}

func (r *reader) literal(k element.Kind, word string) *element.Node {
	if !strings.HasPrefix(r.s[r.pos:], word) {
		return r.fail("this is not JSON")
	}
	r.pos += len(word)
	if k == element.Null {
		return r.node(k, "")
	}
	return r.node(k, word)
}

func (r *reader) number() *element.Node {
	start := r.pos
	n := scanNumber(r.s[start:])
	if n == 0 {
		return r.fail("this is not a JSON number")
	}
	r.pos += n
	return r.node(element.Number, r.s[start:r.pos])
}

// scanNumber gives the length of the JSON number at the start of s, or 0.
func scanNumber(s string) int {
	i := 0
	digits := func() bool {
		from := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if !digits() {
		return 0
	}
	if i < len(s) && s[i] == '.' {
		i++
		if !digits() {
			return 0
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return 0
		}
	}
	return i
}

// text reads a string; bad names what is wrong with its characters.
func (r *reader) text() (text, bad string, ok bool) {
	start := r.pos + 1
	for i := start; i < len(r.s); i++ {
		switch c := r.s[i]; {
		case c == '"':
			text = r.s[start:i]
			r.pos = i + 1
			if r.badUTF8 && !utf8.ValidString(text) {
				bad = flawUTF8
			}
			return text, bad, true
		case c == '\\':
			return r.escaped(start, i)
		case c < 0x20:
			r.pos = i
			r.fail("a control character inside a string must be escaped")
			return "", "", false
		}
	}
	r.pos = len(r.s)
	r.fail("the JSON ends inside a string")
	return "", "", false
}

func (r *reader) escaped(start, i int) (text, bad string, ok bool) {
	buf := make([]byte, 0, i-start+64)
	buf = append(buf, r.s[start:i]...)
	stop := func(text string) (string, string, bool) {
		r.pos = min(i, len(r.s))
		r.fail(text)
		return "", "", false
	}
	for i < len(r.s) {
		c := r.s[i]
		switch {
		case c == '"':
			r.pos = i + 1
			text = string(buf)
			if bad == "" && r.badUTF8 && !utf8.ValidString(text) {
				bad = flawUTF8
			}
			return text, bad, true
		case c < 0x20:
			return stop("a control character inside a string must be escaped")
		case c != '\\':
			buf = append(buf, c)
			i++
			continue
		}
		if i++; i >= len(r.s) {
			break
		}
		switch c := r.s[i]; c {
		case '"', '\\', '/':
			buf = append(buf, c)
		case 'b':
			buf = append(buf, '\b')
		case 'f':
			buf = append(buf, '\f')
		case 'n':
			buf = append(buf, '\n')
		case 'r':
			buf = append(buf, '\r')
		case 't':
			buf = append(buf, '\t')
		case 'u':
			u, ok := hex4(r.s[i+1:])
			if !ok {
				return stop(`\u needs four hexadecimal digits`)
			}
			i += 4
			if u >= 0xD800 && u < 0xE000 {
				low, ok := rune(0), false
				if u < 0xDC00 && strings.HasPrefix(r.s[i+1:], `\u`) {
					low, ok = hex4(r.s[i+3:])
					ok = ok && low >= 0xDC00 && low < 0xE000
				}
				if ok {
					u = 0x10000 + (u-0xD800)<<10 + (low - 0xDC00)
					i += 6
				} else {
					bad, u = flawSurrogate, utf8.RuneError
				}
			}
			if u == 0 {
				bad = flawNull
			}
			buf = utf8.AppendRune(buf, u)
		default:
			return stop("this escape is not JSON")
		}
		i++
	}
	return stop("the JSON ends inside a string")
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	u := rune(0)
	for i := range 4 {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		u = u<<4 | rune(c)
	}
	return u, true
}

func (r *reader) enter() bool {
	if r.depth++; r.depth > r.maxDepth {
		r.tooDeep = true
		r.fail("the resource is nested more than " + strconv.Itoa(r.maxDepth) + " levels deep")
		return false
	}
	r.pos++
	r.space()
	return true
}

func (r *reader) object() *element.Node {
	if !r.enter() {
		return nil
	}
	n := r.node(element.Object, "")
	start := len(r.fields)
	var seen map[string]string // only for objects of many names
	if r.pos < len(r.s) && r.s[r.pos] == '}' {
		r.pos++
		r.depth--
		return n
	}
	for {
		if r.pos >= len(r.s) || r.s[r.pos] != '"' {
			return r.fail("a name in quotation marks is expected here")
		}
		name, bad, ok := r.text()
		if !ok {
			return nil
		}
		open := r.fields[start:]
		if bad == "" {
			bad, seen = repeated(open, name, seen)
		}
		if bad != "" {
			r.mark(n, len(open), bad)
		}
		r.space()
		if r.pos >= len(r.s) || r.s[r.pos] != ':' {
			r.path = append(r.path, segment(name))
			return r.fail("a colon is expected here")
		}
		r.pos++
		r.space()
		v := r.value()
		if v == nil {
			r.path = append(r.path, segment(name))
			return nil
		}
		r.fields = append(r.fields, element.Field{Name: name, Value: v})
		r.space()
		if r.pos >= len(r.s) {
			return r.fail("the JSON ends inside an object")
		}
		switch r.s[r.pos] {
		case ',':
			r.pos++
			r.space()
		case '}':
			r.pos++
			r.depth--
			n.Fields = pack(&r.packF, r.fields[start:])
			r.fields = r.fields[:start]
			return n
		default:
			return r.fail("a comma or the end of the object is expected here")
		}
	}
}

const manyNames = 24

// repeated says whether name, or another spelling of it, is among the names of
// open. From manyNames on it keeps them in seen, so that a hostile object costs
// no more than its length.
func repeated(open []element.Field, name string, seen map[string]string) (string, map[string]string) {
	if len(open) < manyNames {
		for i := range open {
			if o := open[i].Name; len(o) == len(name) && strings.EqualFold(o, name) {
				if o == name {
					return flawDuplicate, seen
				}
				return flawVariant, seen
			}
		}
		return "", seen
	}
	if seen == nil {
		seen = make(map[string]string, 2*len(open))
		for i := range open {
			seen[strings.ToLower(open[i].Name)] = open[i].Name
		}
	}
	folded := strings.ToLower(name)
	o, ok := seen[folded]
	switch {
	case !ok:
		seen[folded] = name
		return "", seen
	case o == name:
		return flawDuplicate, seen
	default:
		return flawVariant, seen
	}
}

func (r *reader) array() *element.Node {
	if !r.enter() {
		return nil
	}
	n := r.node(element.Array, "")
	start := len(r.items)
	if r.pos < len(r.s) && r.s[r.pos] == ']' {
		r.pos++
		r.depth--
		return n
	}
	for {
		v := r.value()
		if v == nil {
			r.path = append(r.path, "["+strconv.Itoa(len(r.items)-start)+"]")
			return nil
		}
		r.items = append(r.items, v)
		r.space()
		if r.pos >= len(r.s) {
			return r.fail("the JSON ends inside an array")
		}
		switch r.s[r.pos] {
		case ',':
			r.pos++
			r.space()
		case ']':
			r.pos++
			r.depth--
			n.Items = pack(&r.packI, r.items[start:])
			r.items = r.items[:start]
			return n
		default:
			return r.fail("a comma or the end of the array is expected here")
		}
	}
}

// pack copies what is in src to its final place. The capacity ends with the
// length, so that whoever appends later cannot run into a neighbour.
func pack[T any](store *[]T, src []T) []T {
	if len(*store) < len(src) {
		*store = make([]T, max(64, len(src)))
	}
	dst := (*store)[:len(src):len(src)]
	*store = (*store)[len(src):]
	copy(dst, src)
	return dst
}
