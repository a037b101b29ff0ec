package fhirpath

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tEnd tokenKind = iota
	tName
	tQuoted // `name`
	tString
	tNumber
	tTime     // @..., without the @
	tExternal // %name
	tSymbol
)

type token struct {
	kind tokenKind
	text string
	at   int // byte offset
}

// SyntaxError says what is wrong with the text of an expression, and where.
type SyntaxError struct {
	At   int // byte offset
	Text string
}

func (e *SyntaxError) Error() string {
	return "FHIRPath: " + e.Text + " (character " + strconv.Itoa(e.At+1) + ")"
}

func lex(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		c := s[i]
		start := i
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			continue
		case strings.HasPrefix(s[i:], "//"):
			if n := strings.IndexByte(s[i:], '\n'); n >= 0 {
				i += n
			} else {
				i = len(s)
			}
			continue
		case strings.HasPrefix(s[i:], "/*"):
			n := strings.Index(s[i+2:], "*/")
			if n < 0 {
				return nil, &SyntaxError{start, "a comment does not end"}
			}
			i += n + 4
			continue
		case isNameStart(c):
			for i < len(s) && (isNameStart(s[i]) || isDigit(s[i])) {
				i++
			}
			out = append(out, token{tName, s[start:i], start})
		case c == '`' || c == '\'':
			text, n, err := quoted(s[i:], i)
			if err != nil {
				return nil, err
			}
			i += n
			kind := tString
			if c == '`' {
				kind = tQuoted
			}
			out = append(out, token{kind, text, start})
		case isDigit(c):
			for i < len(s) && isDigit(s[i]) {
				i++
			}
			if i+1 < len(s) && s[i] == '.' && isDigit(s[i+1]) {
				i++
				for i < len(s) && isDigit(s[i]) {
					i++
				}
			}
			if i-start > maxNumber {
				return nil, &SyntaxError{start, "the number is too long"}
			}
			out = append(out, token{tNumber, s[start:i], start})
		case c == '@':
			i++
			for i < len(s) && (isDigit(s[i]) || strings.IndexByte("-T:Z", s[i]) >= 0 || s[i] == '+' ||
				s[i] == '.' && i+1 < len(s) && isDigit(s[i+1])) {
				i++
			}
			out = append(out, token{tTime, s[start+1 : i], start})
		case c == '%':
			i++
			if i < len(s) && (s[i] == '`' || s[i] == '\'') {
				text, n, err := quoted(s[i:], i)
				if err != nil {
					return nil, err
				}
				i += n
				out = append(out, token{tExternal, text, start})
				break
			}
			for i < len(s) && (isNameStart(s[i]) || isDigit(s[i]) || s[i] == '-' && i+1 < len(s) && isNameStart(s[i+1])) {
				i++
			}
			if i == start+1 {
				return nil, &SyntaxError{start, "a name is expected after %"}
			}
			out = append(out, token{tExternal, s[start+1 : i], start})
		case c == '$':
			i++
			for i < len(s) && isNameStart(s[i]) {
				i++
			}
			out = append(out, token{tSymbol, s[start:i], start})
		default:
			n := 1
			if i+1 < len(s) {
				switch s[i : i+2] {
				case "<=", ">=", "!=", "!~":
					n = 2
				}
			}
			if n == 1 && strings.IndexByte(".,()[]{}+-*/|&=~<>", c) < 0 {
				return nil, &SyntaxError{start, "this character does not belong here"}
			}
			i += n
			out = append(out, token{tSymbol, s[start:i], start})
		}
	}
	return append(out, token{tEnd, "", len(s)}), nil
}

func isNameStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// quoted reads a string or a delimited identifier at the start of s; n is its length in s.
func quoted(s string, at int) (text string, n int, err error) {
	end := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		if c == end {
			return b.String(), i + 1, nil
		}
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		if i++; i >= len(s) {
			break
		}
		switch c := s[i]; c {
		case '\'', '"', '`', '\\', '/':
			b.WriteByte(c)
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			if len(s) < i+5 {
				return "", 0, &SyntaxError{at + i, `\u needs four hexadecimal digits`}
			}
			u, err := strconv.ParseUint(s[i+1:i+5], 16, 16)
			if err != nil {
				return "", 0, &SyntaxError{at + i, `\u needs four hexadecimal digits`}
			}
			r := rune(u)
			if !utf8.ValidRune(r) {
				r = utf8.RuneError
			}
			b.WriteRune(r)
			i += 4
		default:
			// Published invariants escape in patterns what needs no escape: the backslash belongs to the pattern.
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return "", 0, &SyntaxError{at, "a string does not end"}
}
