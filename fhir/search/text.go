package search

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxText is the most bytes of one string value that the index keeps: a longer
// one is found by its beginning. PostgreSQL refuses B-tree entries above 2,704.
const MaxText = 1024

// Normalise gives the form in which strings are compared (R4 search, string):
// lower case, without accents, white space collapsed to single spaces and trimmed.
func Normalise(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	gap := false
	for _, r := range norm.NFD.String(s) {
		switch {
		case unicode.IsSpace(r) || unicode.IsControl(r):
			gap = b.Len() > 0
			continue
		case unicode.Is(unicode.Mn, r):
			continue
		}
		if gap {
			b.WriteByte(' ')
			gap = false
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// isPlain reports that s is already normalised ASCII.
func isPlain(s string) bool {
	space := true
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == ' ':
			if space {
				return false
			}
			space = true
		case c < ' ' || c >= 0x7f || c >= 'A' && c <= 'Z':
			return false
		default:
			space = false
		}
	}
	return s == "" || !space
}

// clip cuts s to MaxText bytes at the start of a character and makes it text
// that the database takes.
func clip(s string) string {
	if len(s) > MaxText {
		i := MaxText
		for i > 0 && !utf8.RuneStart(s[i]) {
			i--
		}
		s = s[:i]
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
		if len(s) > MaxText {
			return clip(s)
		}
	}
	return s
}
