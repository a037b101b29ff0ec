package search

import (
	"context"
	"strings"

	"github.com/cloister-health/cloister/fhir/outcome"
)

// Terminology knows value sets and the order of codes. An error that is an
// *outcome.Error of a status below 500 means that it does not know them.
type Terminology interface {
	// Codes lists the codes of a value set, by the canonical url, perhaps with
	// |version, that the client wrote.
	Codes(ctx context.Context, valueSet string) ([]Coding, error)
	// Descendants lists a code with all codes below it.
	Descendants(ctx context.Context, system, code string) ([]string, error)
	// Ancestors lists a code with all codes above it.
	Ancestors(ctx context.Context, system, code string) ([]string, error)
}

// Coding is a code of a code system.
type Coding struct{ System, Code string }

// tokenParts cuts a token at its |, escapes resolved.
func tokenParts(item string) ([]string, string) {
	parts := splitEscaped(item, '|')
	for i := range parts {
		var ok bool
		if parts[i], ok = unescape(parts[i]); !ok {
			return nil, badEscape
		}
	}
	return parts, ""
}

const manyBars = `has a value with more than one |: write \| for one that belongs to the code`

// tokenValue reads the forms of R4 search, token: code, system|code, |code and system|.
func tokenValue(param, item string) ([]Value, string) {
	parts, reason := tokenParts(item)
	switch {
	case reason != "":
		return nil, reason
	case len(parts) > 2:
		return nil, manyBars
	case len(parts) == 1:
		return []Value{{Hash: hash(kindCode, param, parts[0])}}, ""
	}
	system, code := parts[0], parts[1]
	switch {
	case system == "" && code == "":
		return nil, "has an empty value"
	case code == "":
		return []Value{{Hash: hash(kindSystem, param, system)}}, ""
	default:
		return []Value{{Hash: hash(kindSystemCode, param, system, code)}}, ""
	}
}

// contactValue reads a token of a ContactPoint, which the index holds as written
// and in a plain form: it is asked for in both, so that 555-0100 finds (555) 0100.
func contactValue(def *Param, item string) ([]Value, string) {
	out, reason := tokenValue(def.name(), item)
	if reason != "" {
		return nil, reason
	}
	parts, _ := tokenParts(item)
	var plain string
	switch {
	case len(parts) == 2 && parts[0] != "" && parts[1] != "":
		if plain = plainContact(parts[0], parts[1]); plain != "" && plain != parts[1] {
			out = append(out, Value{Hash: hash(kindSystemCode, def.name(), parts[0], plain)})
		}
		return out, ""
	case len(parts) == 2:
		return out, ""
	case strings.Contains(parts[0], "@"):
		plain = plainContact("email", parts[0])
	case strings.Trim(parts[0], "0123456789+-(). /") == "":
		plain = plainContact("phone", parts[0])
	}
	if plain != "" && plain != parts[0] {
		out = append(out, Value{Hash: hash(kindCode, def.name(), plain)})
	}
	return out, ""
}

// contact reports that the parameter selects ContactPoints only.
func (p *Param) contact() bool {
	for i := range p.paths {
		if p.paths[i].leaf != leafContactPoint {
			return false
		}
	}
	return len(p.paths) > 0
}

// specialValues is the code system that true and false have as tokens (R4 search, token).
const specialValues = "http://hl7.org/fhir/special-values|"

func booleanValue(def *Param, item string) ([]Value, string) {
	item = strings.TrimPrefix(item, specialValues)
	if item != "true" && item != "false" {
		return nil, "takes true or false"
	}
	return []Value{{Hash: hash(kindCode, def.name(), item)}}, ""
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

// identifies reports that the parameter selects Identifiers.
func (p *Param) identifies() bool {
	for i := range p.paths {
		if p.paths[i].leaf == leafIdentifier {
			return true
		}
	}
	return false
}

func ofTypeValue(def *Param, item string) ([]Value, string) {
	parts, reason := tokenParts(item)
	switch {
	case reason != "":
		return nil, reason
	case len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "":
		return nil, "takes system|code|value, of the type and of the identifier"
	}
	return []Value{{Hash: ofTypeHash(def.name(), parts[0], parts[1], parts[2])}}, ""
}

// setValue reads a value that stands for many codes.
func (p *parser) setValue(def *Param, s set, item string) ([]Value, string) {
	if p.opt.Terminology == nil {
		return nil, "has a modifier that needs terminology, which is not at hand here"
	}
	ctx := p.opt.Context
	if ctx == nil {
		ctx = context.Background()
	}
	var codings []Coding
	var err error
	if s == inValueSet {
		url, ok := unescape(item)
		if !ok || !uriLike(url) {
			return nil, "has a value that is no url of a value set"
		}
		codings, err = p.opt.Terminology.Codes(ctx, url)
	} else {
		parts, reason := tokenParts(item)
		switch {
		case reason != "":
			return nil, reason
		case len(parts) != 2 || parts[0] == "" || parts[1] == "":
			return nil, "takes system|code with this modifier"
		}
		relatives := p.opt.Terminology.Descendants
		if s == above {
			relatives = p.opt.Terminology.Ancestors
		}
		var codes []string
		codes, err = relatives(ctx, parts[0], parts[1])
		codings = append(codings, Coding{parts[0], parts[1]})
		for _, code := range codes {
			codings = append(codings, Coding{parts[0], code})
		}
	}
	switch {
	case err != nil && outcome.Of(err).Status() >= 500:
		p.failed = err
		return nil, "cannot be answered now"
	case err != nil:
		return nil, "has a value that the terminology of this server does not know"
	case len(codings) > MaxCodes:
		return nil, "stands for too many codes"
	}
	out := make([]Value, 0, len(codings))
	for _, c := range codings {
		out = append(out, Value{Hash: hash(kindSystemCode, def.name(), c.System, c.Code)})
	}
	return out, ""
}
