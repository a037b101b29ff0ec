package postgres

import (
	"strings"

	"github.com/cloister-health/cloister/fhir/search"
)

// text compares a string of the index, which is normalised already.
func (k *compiler) text(v *search.Value) string {
	p := func(text string) string { return k.value(v, "text", text) }
	switch v.Match {
	case search.StartsWith:
		return "i.text LIKE " + p(escapeLike(v.Text)+"%")
	case search.Contains:
		return "i.text LIKE " + p("%"+escapeLike(v.Text)+"%")
	case search.Ends:
		return "i.text LIKE " + p("%"+escapeLike(v.Text))
	case search.Equal:
		return "i.text = " + p(v.Text)
	case search.Exact:
		return "i.exact = " + p(v.Text)
	default:
		return "false"
	}
}

func escapeLike(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

// like compares a text of a body.
func (k *compiler) like(s string, v *search.Value) string {
	p := k.value(v, "text", v.Text) + "::text"
	folded := `record.fold(` + s + `)`
	switch v.Match {
	case search.StartsWith:
		return "starts_with(" + folded + ", " + p + ")"
	case search.Contains:
		return "position(" + p + " IN " + folded + ") > 0"
	case search.Ends:
		return "right(" + folded + ", length(" + p + ")) = " + p
	case search.Equal:
		return folded + " = " + p
	case search.Exact:
		return s + " = " + p
	case search.Below:
		return "(" + s + " = " + p + " OR starts_with(" + s + ", " + k.value(v, "slash", strings.TrimSuffix(v.Text, "/")+"/") + "))"
	case search.Above:
		return "(" + s + " = " + p + " OR starts_with(" + p + ", rtrim(" + s + ", '/') || '/'))"
	default:
		return "false"
	}
}

// maxWords is how many characters of a text are searched for words: a tsvector
// holds a megabyte, and a text that is too long must not fail the search, least
// of all one that the caller cannot see.
const maxWords = "100000"

// words is the condition that the narrative, or every string, holds the words.
func (k *compiler) words(alias string, c *term) string {
	text := alias + ".body #>> '{text,div}'"
	if c.Param == "_content" {
		text = "(SELECT string_agg(j.v #>> '{}', ' ') FROM jsonb_path_query(" + alias + `.body, 'strict $.** ? (@.type() == "string")', '{}', true) AS j(v))`
	}
	vector := "to_tsvector('simple', left(record.fold(regexp_replace(" + text + ", '<[^>]*>', ' ', 'g')), " + maxWords + "))"
	return either(len(c.Any), func(i int) string {
		v := &c.Any[i]
		return vector + " @@ plainto_tsquery('simple', " + k.value(v, "text", v.Text) + ")"
	})
}
