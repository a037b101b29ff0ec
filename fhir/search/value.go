package search

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cloister-health/cloister/fhir"
)

// modifier is what stands after the colon of a parameter's name.
type modifier struct {
	match  StringMatch
	target fhir.ResourceType
}

// modifier reads the modifiers that are supported: :exact and :contains of a
// string, :[type] of a reference that can point to that type.
func (p *Param) modifier(s string) (modifier, bool) {
	switch {
	case p.Type == String && s == "exact":
		return modifier{match: Exact}, true
	case p.Type == String && s == "contains":
		return modifier{match: Contains}, true
	case p.Type == Reference && fhir.ResourceType(s).Valid():
		return modifier{target: fhir.ResourceType(s)}, p.canTarget(fhir.ResourceType(s))
	default:
		return modifier{}, false
	}
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
func (p *parser) value(def *Param, m modifier, item string) ([]Value, string) {
	if def.Code == "_id" {
		id := fhir.ID(item)
		if !id.Valid() {
			return nil, "has a value that is no logical id"
		}
		return []Value{{ID: id}}, ""
	}
	switch def.Type {
	case Token:
		return tokenValue(def, item)
	case Date:
		return dateValue(item, p.opt.Now)
	}
	text, ok := unescape(item)
	if !ok {
		return nil, badEscape
	}
	switch def.Type {
	case String:
		return stringValue(m.match, text)
	case URI:
		if !uriLike(text) {
			return nil, "has a value that is no uri"
		}
		return []Value{{Hash: hash(kindURI, def.Code, text)}}, ""
	default:
		return p.referenceValue(def, m.target, text)
	}
}

const badEscape = `has a backslash that escapes none of , | $ \`

func tokenValue(def *Param, item string) ([]Value, string) {
	parts := splitEscaped(item, '|')
	for i := range parts {
		var ok bool
		if parts[i], ok = unescape(parts[i]); !ok {
			return nil, badEscape
		}
	}
	switch len(parts) {
	case 1:
		if def.boolean() && parts[0] != "true" && parts[0] != "false" {
			return nil, "takes true or false"
		}
		return []Value{{Hash: hash(kindCode, def.Code, parts[0])}}, ""
	case 2:
		system, code := parts[0], parts[1]
		switch {
		case system == "" && code == "":
			return nil, "has an empty value"
		case code == "":
			return []Value{{Hash: hash(kindSystem, def.Code, system)}}, ""
		default:
			return []Value{{Hash: hash(kindSystemCode, def.Code, system, code)}}, ""
		}
	default:
		return nil, `has a value with more than one |: write \| for one that belongs to the code`
	}
}

// boolean reports that every element of the parameter is true or false.
func (p *Param) boolean() bool {
	for i := range p.paths {
		if l := p.paths[i].leaf; l != leafBoolean && l != leafTruth {
			return false
		}
	}
	return len(p.paths) > 0
}

func dateValue(item string, now time.Time) ([]Value, string) {
	prefix := "eq"
	if len(item) > 2 && item[0] >= 'a' && item[0] <= 'z' {
		prefix, item = item[:2], item[2:]
	}
	switch prefix {
	case "eq", "ne", "lt", "gt", "le", "ge", "sa", "eb", "ap":
	default:
		return nil, "has a prefix that is not one of eq, ne, lt, gt, le, ge, sa, eb, ap"
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

func stringValue(match StringMatch, text string) ([]Value, string) {
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
	local := func(r fhir.Ref) Value { return Value{Hash: TargetHash(r)} }
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
