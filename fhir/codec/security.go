package codec

import (
	"bytes"

	"github.com/cloister-health/cloister/fhir/outcome"
)

var errBody = outcome.New(outcome.Internal, "the server failed; its log says why")

// WithSecurity gives the body of a stored resource with meta.security, which no
// stored body has: labels are kept beside it, and are not the same for everybody.
// Nothing else of the body changes, not even its spelling, and no more of it is
// read than what comes before the end of meta.
func WithSecurity(body, security []byte) ([]byte, error) {
	at := member(body, 0, "meta")
	if at < 0 || body[at] != '{' {
		return nil, errBody
	}
	if member(body, at, "security") >= 0 {
		return nil, errBody // two of the same name would mean whatever a reader likes
	}
	inside := blank(body, at+1)
	if inside >= len(body) {
		return nil, errBody
	}
	out := make([]byte, 0, len(body)+len(security)+len(`"security": , `))
	out = append(out, body[:at+1]...)
	out = append(out, `"security": `...)
	out = append(out, security...)
	if body[inside] != '}' {
		out = append(out, ", "...)
	}
	return append(out, body[inside:]...), nil
}

// member gives where the value of a member begins, in the object that begins at
// an offset; -1 if there is none or the text is not JSON as far as it was read.
func member(text []byte, at int, name string) int {
	at = blank(text, at)
	if at >= len(text) || text[at] != '{' {
		return -1
	}
	at = blank(text, at+1)
	for at < len(text) && text[at] == '"' {
		end := past(text, at)
		value := blank(text, end)
		if end < 0 || value >= len(text) || text[value] != ':' {
			return -1
		}
		value = blank(text, value+1)
		if value >= len(text) {
			return -1
		}
		if string(text[at+1:end-1]) == name {
			return value
		}
		if at = past(text, value); at < 0 {
			return -1
		}
		if at = blank(text, at); at >= len(text) || text[at] != ',' {
			return -1
		}
		at = blank(text, at+1)
	}
	return -1
}

// blank gives the next place that is no white space.
func blank(text []byte, at int) int {
	for at >= 0 && at < len(text) && (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r') {
		at++
	}
	if at < 0 {
		return len(text)
	}
	return at
}

// past gives the place behind the value that begins at an offset, or -1.
func past(text []byte, at int) int {
	depth := 0
	for at < len(text) {
		switch text[at] {
		case '"':
			for at++; ; at++ {
				next := bytes.IndexAny(text[min(at, len(text)):], `"\`)
				if next < 0 {
					return -1
				}
				if at += next; text[at] == '"' {
					break
				}
				at++ // what is escaped
			}
			at++
		case '{', '[':
			depth++
			at++
		case '}', ']':
			if depth == 0 {
				return at // behind a number or a word
			}
			depth--
			at++
		case ',':
			if depth == 0 {
				return at
			}
			at++
			continue
		default:
			at++
			if depth == 0 && at < len(text) && bytes.IndexByte([]byte(",}] \n\t\r"), text[at]) >= 0 {
				return at
			}
			continue
		}
		if depth == 0 {
			return at
		}
	}
	return -1
}
