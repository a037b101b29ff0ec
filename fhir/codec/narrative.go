package codec

import (
	"strconv"
	"strings"
)

// wrongXHTML checks a narrative against txt-1 and txt-2 (R4 narrative): one div of the
// XHTML namespace, well formed, of listed elements and attributes only, without
// anything that runs or loads by itself. It returns what is wrong, or "".
//
// A browser may read the text as HTML and not as XML, so whatever the two would
// read differently is refused as well.
func wrongXHTML(s string) string {
	x := xhtmlScanner{s: s}
	x.run()
	return x.fault
}

type xhtmlScanner struct {
	s       string
	pos     int
	open    []string
	content bool
	closed  bool
	fault   string
}

const maxOpenTags = 256

func (x *xhtmlScanner) fail(text string) {
	if x.fault == "" {
		x.fault = text
	}
}

func (x *xhtmlScanner) run() {
	x.s = strings.TrimSpace(x.s)
	if !strings.HasPrefix(x.s, "<div") {
		x.fail("is not one XHTML div")
		return
	}
	for x.pos < len(x.s) && x.fault == "" {
		rest := x.s[x.pos:]
		switch {
		case x.closed:
			x.fail("is not one XHTML div: something follows it")
		case strings.HasPrefix(rest, "<!--"):
			x.comment(rest)
		case strings.HasPrefix(rest, "</"):
			x.end(rest)
		case rest[0] == '<':
			x.start()
		default:
			i := strings.IndexByte(rest, '<')
			if i < 0 {
				i = len(rest)
			}
			x.text(rest[:i])
			x.pos += i
		}
	}
	switch {
	case x.fault != "":
	case len(x.open) > 0:
		x.fail("is not well-formed XHTML: an element is not closed")
	case !x.content:
		x.fail("has no content (txt-2)")
	}
}

// comment: HTML ends a comment at "<!-->", "<!--->" and "--!>", where XML goes on.
func (x *xhtmlScanner) comment(rest string) {
	body := rest[len("<!--"):]
	i := strings.Index(body, "--")
	if i < 0 || !strings.HasPrefix(body[i:], "-->") || strings.HasPrefix(body, ">") || strings.HasPrefix(body, "->") {
		x.fail("has a malformed comment")
		return
	}
	x.pos += len("<!--") + i + len("-->")
}

func (x *xhtmlScanner) end(rest string) {
	i := strings.IndexByte(rest, '>')
	if i < 0 || len(x.open) == 0 || strings.TrimRight(rest[2:i], " \t\r\n") != x.open[len(x.open)-1] {
		x.fail("is not well-formed XHTML: an end tag does not match")
		return
	}
	x.open = x.open[:len(x.open)-1]
	x.closed = len(x.open) == 0
	x.pos += i + 1
}

func (x *xhtmlScanner) text(s string) {
	if strings.Trim(s, " \t\r\n\u00a0") != "" {
		x.content = true
	}
	if wrong := wrongCharacters(s); wrong != "" {
		x.fail(wrong)
	}
	if strings.Contains(s, "]]>") {
		x.fail("is not well-formed XHTML: ]]> in text")
	}
}

func (x *xhtmlScanner) name() string {
	start := x.pos
	for x.pos < len(x.s) {
		c := x.s[x.pos]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != ':' && c != '-' && c != '_' {
			break
		}
		x.pos++
	}
	return x.s[start:x.pos]
}

func (x *xhtmlScanner) blank() bool {
	start := x.pos
	for x.pos < len(x.s) && strings.IndexByte(" \t\r\n", x.s[x.pos]) >= 0 {
		x.pos++
	}
	return x.pos > start
}

func (x *xhtmlScanner) start() {
	x.pos++
	tag := x.name()
	if !narrativeElements[tag] {
		x.fail("has an element that a narrative may not have (txt-1)")
		return
	}
	var seen []string
	namespace := false
	for {
		blank := x.blank()
		if x.pos >= len(x.s) {
			x.fail("is not well-formed XHTML: a tag is not closed")
			return
		}
		if x.s[x.pos] == '>' || strings.HasPrefix(x.s[x.pos:], "/>") {
			break
		}
		if !blank {
			x.fail("is not well-formed XHTML: malformed tag")
			return
		}
		name := x.name()
		value, ok := x.value()
		if !ok {
			return
		}
		for _, s := range seen {
			if s == name {
				x.fail("is not well-formed XHTML: an attribute occurs twice")
				return
			}
		}
		seen = append(seen, name)
		if name == "xmlns" {
			namespace = value == "http://www.w3.org/1999/xhtml"
			if !namespace {
				x.fail("is not in the namespace http://www.w3.org/1999/xhtml")
			}
			continue
		}
		if x.attribute(tag, name, value); x.fault != "" {
			return
		}
	}
	if len(x.open) == 0 && !namespace {
		x.fail("is not in the namespace http://www.w3.org/1999/xhtml")
	}
	if tag == "img" {
		x.content = true
	}
	if x.s[x.pos] == '/' {
		x.pos += 2
		x.closed = len(x.open) == 0
		return
	}
	x.pos++
	if x.open = append(x.open, tag); len(x.open) > maxOpenTags {
		x.fail("is nested too deep")
	}
}

func (x *xhtmlScanner) value() (string, bool) {
	x.blank()
	if x.pos >= len(x.s) || x.s[x.pos] != '=' {
		x.fail("is not well-formed XHTML: an attribute has no value")
		return "", false
	}
	x.pos++
	x.blank()
	if x.pos >= len(x.s) || x.s[x.pos] != '"' && x.s[x.pos] != '\'' {
		x.fail("is not well-formed XHTML: an attribute is not quoted")
		return "", false
	}
	quote := x.s[x.pos]
	i := strings.IndexByte(x.s[x.pos+1:], quote)
	if i < 0 {
		x.fail("is not well-formed XHTML: an attribute does not end")
		return "", false
	}
	raw := x.s[x.pos+1 : x.pos+1+i]
	x.pos += i + 2
	if strings.IndexByte(raw, '<') >= 0 {
		x.fail("is not well-formed XHTML: < in an attribute")
		return "", false
	}
	if wrong := wrongCharacters(raw); wrong != "" {
		x.fail(wrong)
		return "", false
	}
	return unescapeXML(raw), true
}

func (x *xhtmlScanner) attribute(tag, name, value string) {
	switch {
	case !narrativeAttributes[name]:
		x.fail("has an attribute that a narrative may not have (txt-1)")
	case name == "style" && !safeStyle(value):
		x.fail("has a style that loads or runs something")
	case name == "src" && (tag != "img" || !safeLink(value, true)):
		x.fail("has a src that a narrative may not have")
	case (name == "href" || name == "cite" || name == "longdesc") && !safeLink(value, false):
		x.fail("has a link of a scheme that a narrative may not have")
	}
}

// wrongCharacters looks for entities beyond the five of XML ("there is no support for HTML
// entities", R4 narrative) and for characters that XML cannot carry.
func wrongCharacters(s string) string {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '&':
			end := strings.IndexByte(s[i:], ';')
			if end < 0 || entity(s[i+1:i+end]) < 0 {
				return "has an entity that XML does not define"
			}
		case c < 0x20 && c != '\t' && c != '\n' && c != '\r':
			return "has a control character"
		}
	}
	return ""
}

func entity(name string) rune {
	switch name {
	case "amp":
		return '&'
	case "lt":
		return '<'
	case "gt":
		return '>'
	case "quot":
		return '"'
	case "apos":
		return '\''
	}
	digits, ok := strings.CutPrefix(name, "#")
	if !ok {
		return -1
	}
	base := 10
	if h, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = h, 16
	}
	v, err := strconv.ParseUint(digits, base, 32)
	if err != nil || v > 0x10FFFF || v >= 0xD800 && v < 0xE000 || v < 0x20 && v != '\t' && v != '\n' && v != '\r' {
		return -1
	}
	return rune(v)
}

// unescapeXML replaces the entities of s, which wrongCharacters has accepted.
func unescapeXML(s string) string {
	if strings.IndexByte(s, '&') < 0 {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '&')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		end := i + strings.IndexByte(s[i:], ';')
		b.WriteString(s[:i])
		b.WriteRune(entity(s[i+1 : end]))
		s = s[end+1:]
	}
}

// safeLink allows relative links, fragments and a few schemes. A browser drops
// tabs and line ends inside a scheme, so a link with any of them is refused.
func safeLink(s string, image bool) bool {
	s = strings.Trim(s, " ")
	if strings.ContainsAny(s, "\t\r\n\x00\\") {
		return false
	}
	i := strings.IndexAny(s, ":/?#")
	if i < 0 || s[i] != ':' {
		return true
	}
	switch scheme := strings.ToLower(s[:i]); scheme {
	case "http", "https":
		return true
	case "mailto", "tel", "urn":
		return !image
	case "data":
		kind, _, _ := strings.Cut(strings.ToLower(s[i+1:]), ";")
		switch strings.TrimSpace(kind) {
		case "image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp", "image/bmp":
			return image
		}
	}
	return false
}

// safeStyle refuses every CSS construct that loads, runs or hides one that does
// (escapes and comments). An image that the style itself holds is no load: the
// specification's own tables are drawn with such.
func safeStyle(s string) bool {
	rest := strings.ToLower(s)
	var plain strings.Builder // what is left without the images
	for {
		before, after, found := strings.Cut(rest, "url(")
		plain.WriteString(before)
		if !found {
			break
		}
		link, after, closed := strings.Cut(after, ")")
		link = strings.Trim(strings.ReplaceAll(link, " ", ""), `'"`)
		if !closed || !strings.HasPrefix(link, "data:") || !safeLink(link, true) {
			return false
		}
		plain.WriteByte(' ')
		rest = after
	}
	s = plain.String()
	for _, bad := range []string{"expression", "javascript", "@", "\\", "/*", "<", "behavior", "-moz-binding", "image-set", "src("} {
		if strings.Contains(s, bad) {
			return false
		}
	}
	return true
}

// txt-1 lists these.
var narrativeElements = words(`a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em
	h1 h2 h3 h4 h5 h6 hr i img li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var`)

// txt-1 lists these, and the two attributes of XML itself.
var narrativeAttributes = words(`abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign
	char charoff charset cite class colspan compact coords dir frame headers height href hreflang hspace id lang longdesc
	name nowrap rel rev rowspan rules scope shape span src start style summary tabindex title type valign value vspace width
	xml:lang xml:space`)

func words(list string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		m[w] = true
	}
	return m
}
