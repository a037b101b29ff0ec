package codec

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// trail is where a walk stands: the path is only put together where somebody
// asks for it.
type trail struct{ segs []step }

type step struct {
	name  string
	index int // -1: not in a list
}

func (t *trail) push(name string, index int) { t.segs = append(t.segs, step{name, index}) }
func (t *trail) pop()                        { t.segs = t.segs[:len(t.segs)-1] }

func (t *trail) String() string {
	var b []byte
	for i, s := range t.segs {
		if i > 0 {
			b = append(b, '.')
		}
		b = append(b, s.name...)
		if s.index >= 0 {
			b = append(b, '[')
			b = strconv.AppendInt(b, int64(s.index), 10)
			b = append(b, ']')
		}
	}
	return string(b)
}

// where is the FHIRPath of the value at which reading stopped.
func (r *reader) where() string {
	var b strings.Builder
	if len(r.fields) > 0 && r.fields[0].Name == "resourceType" {
		b.WriteString(segment(r.fields[0].Value.String()))
	}
	for i := len(r.path) - 1; i >= 0; i-- {
		if b.Len() > 0 && r.path[i][0] != '[' {
			b.WriteByte('.')
		}
		b.WriteString(r.path[i])
	}
	return b.String()
}

// segment makes a name of the request safe to stand in a path: what is no
// plain identifier is delimited, and cut where it is long.
func segment(name string) string {
	plain := name != "" && len(name) <= 64
	for i := 0; plain && i < len(name); i++ {
		c := name[i]
		plain = c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9'
	}
	if plain {
		return name
	}
	var b strings.Builder
	b.WriteByte('`')
	for i, c := range name {
		if i >= 32 {
			b.WriteString("...")
			break
		}
		if c < 0x20 || c == '`' || c == 0x7f || c == utf8.RuneError {
			c = '?'
		}
		b.WriteRune(c)
	}
	b.WriteByte('`')
	return b.String()
}
