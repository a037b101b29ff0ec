package search

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cloister-health/cloister/fhir"
)

// modifier is what stands after the colon of a parameter's name, but for :missing.
type modifier struct {
	match      StringMatch
	target     fhir.ResourceType
	not        bool
	text       bool // :text
	identifier bool // :identifier
	ofType     bool // :of-type
	set        set
	overlap    bool // of a date with prefix ap, not widened
}

// set says that a value stands for a set of codes.
type set uint8

const (
	inValueSet set = iota + 1
	above
	below
)

// modifier reads the modifiers of R4 search, 3.1.1.4.5, but for :missing; which there
// are depends on the type of the parameter.
func (p *Param) modifier(s string) (m modifier, ok bool) {
	switch p.Code {
	case "_id":
		return modifier{not: true}, s == "not"
	case "_lastUpdated", "_text", "_content":
		return modifier{}, false
	}
	switch p.Type {
	case String:
		switch s {
		case "exact":
			return modifier{match: Exact}, true
		case "contains":
			return modifier{match: Contains}, true
		}
	case URI:
		switch s {
		case "below":
			return modifier{match: Below}, true
		case "above":
			return modifier{match: Above}, true
		}
	case Token:
		m, ok = map[string]modifier{
			"not": {not: true}, "text": {text: true}, "of-type": {ofType: true},
			"in": {set: inValueSet}, "not-in": {set: inValueSet, not: true}, "above": {set: above}, "below": {set: below},
		}[s]
		return m, ok && (!m.ofType || p.identifies())
	case Reference:
		switch t := fhir.ResourceType(s); {
		case t.Valid():
			return modifier{target: t}, p.canTarget(t)
		case s == "identifier":
			return modifier{identifier: true}, true
		case s == "text":
			return modifier{text: true}, true
		}
	}
	return modifier{}, false
}

func (p *Param) canTarget(t fhir.ResourceType) bool {
	if p.Targets == nil {
		return true
	}
	for _, x := range p.Targets {
		if x == t {
			return true
		}
	}
	return false
}

// value reads one comma-separated item; it returns what is wrong with it, "" if nothing is.
func (p *parser) value(t fhir.ResourceType, def *Param, m modifier, item string) ([]Value, string) {
	switch {
	case def.Code == "_id":
		id := fhir.ID(item)
		if !id.Valid() {
			return nil, "has a value that is no logical id"
		}
		return []Value{{ID: id}}, ""
	case m.text:
		return textValue(StartsWith, item)
	case m.identifier:
		return tokenValue(identifierParam(def.name()), item)
	case m.ofType:
		return ofTypeValue(def, item)
	case m.set != 0:
		return p.setValue(def, m.set, item)
	}
	switch def.Type {
	case Token:
		switch {
		case def.boolean():
			return booleanValue(def, item)
		case def.contact():
			return contactValue(def, item)
		}
		return tokenValue(def.name(), item)
	case Date:
		now := p.opt.Now
		if m.overlap {
			now = time.Time{}
		}
		return dateValue(item, now)
	case Number:
		return numberValue(item)
	case Quantity:
		return quantityValue(item)
	case Composite:
		return p.compositeValue(t, def, item)
	case String:
		return textValue(m.match, item)
	}
	text, ok := unescape(item)
	switch {
	case !ok:
		return nil, badEscape
	case def.Type == Reference:
		return p.referenceValue(def, m.target, text)
	default:
		return uriValue(def, m.match, text)
	}
}

const badEscape = `has a backslash that escapes none of , | $ \`

func uriValue(def *Param, match StringMatch, text string) ([]Value, string) {
	switch {
	case !uriLike(text):
		return nil, "has a value that is no uri"
	case match != Below && match != Above:
		return []Value{{Hash: hash(kindURI, def.name(), text)}}, ""
	case len(text) >= 4 && strings.EqualFold(text[:4], "urn:"):
		return nil, "has a value that is below or above no other: a urn has no path"
	default:
		return []Value{{Text: text, Match: match}}, ""
	}
}

// prefixed cuts off the prefix of an ordered value (R4 search, 3.1.1.4.6 prefixes).
func prefixed(item string) (prefix, rest, reason string) {
	prefix = "eq"
	if len(item) > 2 && item[0] >= 'a' && item[0] <= 'z' {
		prefix, item = item[:2], item[2:]
	}
	switch prefix {
	case "eq", "ne", "lt", "gt", "le", "ge", "sa", "eb", "ap":
		return prefix, item, ""
	}
	return "", "", "has a prefix that is not one of eq, ne, lt, gt, le, ge, sa, eb, ap"
}

func dateValue(item string, now time.Time) ([]Value, string) {
	prefix, item, reason := prefixed(item)
	if reason != "" {
		return nil, reason
	}
	lo, hi, ok := Instants(item)
	if !ok {
		return nil, "has a value that is no date"
	}
	if prefix == "ap" {
		lo, hi = approximate(lo, hi, now)
	}
	return []Value{{Prefix: prefix, Lo: lo, Hi: hi}}, ""
}

// approximate widens a range by a tenth of its distance from now, as R4
// recommends for "ap" (search, prefixes).
func approximate(lo, hi, now time.Time) (time.Time, time.Time) {
	if now.IsZero() {
		return lo, hi
	}
	now = now.UTC()
	var margin time.Duration
	switch {
	case now.Before(lo):
		margin = lo.Sub(now) / 10
	case now.After(hi):
		margin = now.Sub(hi) / 10
	}
	margin = margin.Truncate(time.Microsecond)
	lo, hi, _ = bounded(lo.Add(-margin), hi.Add(margin))
	return lo, hi
}

// maxSearchText keeps searched text shorter than the texts that the index cuts
// off, so that an exact match never meets a cut one.
const maxSearchText = MaxText / 2

func textValue(match StringMatch, item string) ([]Value, string) {
	text, ok := unescape(item)
	if !ok {
		return nil, badEscape
	}
	normal := Normalise(text)
	switch {
	case len(text) > maxSearchText || len(normal) > maxSearchText:
		return nil, "has a text that is too long to search by"
	case normal == "":
		return nil, "has an empty value"
	case match == Exact:
		return []Value{{Text: text, Match: Exact}}, ""
	default:
		return []Value{{Text: normal, Match: match}}, ""
	}
}

// maxBareTargets is up to how many types a bare logical id may mean.
const maxBareTargets = 16

// referenceValue reads the forms of R4 search, reference: id, Type/id and url.
func (p *parser) referenceValue(def *Param, target fhir.ResourceType, text string) ([]Value, string) {
	local := func(r fhir.Ref) Value { return Value{Hash: TargetHash(r), Target: r} }
	if r, ok := LocalRef(p.opt.Base, text); ok {
		if target != "" && r.Type != target {
			return nil, "has a value of another type than its modifier"
		}
		return []Value{local(r)}, ""
	}
	if id := fhir.ID(text); id.Valid() {
		targets := def.Targets
		if target != "" {
			targets = []fhir.ResourceType{target}
		}
		if len(targets) == 0 || len(targets) > maxBareTargets {
			return nil, "can point to many types: give its value as Type/id"
		}
		values := make([]Value, len(targets))
		for i, t := range targets {
			values[i] = local(fhir.Ref{Type: t, ID: id})
		}
		return values, ""
	}
	if !uriLike(text) || !strings.Contains(text, ":") {
		return nil, "has a value that is no reference: give an id, Type/id or an absolute url"
	}
	return []Value{{Hash: URLHash(text)}}, ""
}

func uriLike(s string) bool {
	return s != "" && !strings.ContainsFunc(s, unicode.IsSpace)
}

// printable reports that s is text that a FHIR string can hold.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return true
}

// splitEscaped cuts at sep where no backslash stands before it; escapes stay.
func splitEscaped(s string, sep byte) []string {
	var out []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

// unescape resolves \, \| \$ and \\ (R4 search, escaping); any other backslash
// is a mistake.
func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
			if i == len(s) || strings.IndexByte(`,|$\`, s[i]) < 0 {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

// Escape writes a value so that Parse reads it back as one value (R4 search, escaping).
func Escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`).Replace(s)
}
