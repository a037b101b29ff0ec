// Package element is the tree of one FHIR resource as it was read: objects with
// their fields in order, arrays, and primitives as literal text.
//
// One tree serves validation, labels, index extraction and storage, so that no
// two parts of the server can disagree about what a resource says.
package element

import (
	"strconv"
	"unicode/utf8"
)

// Kind is the JSON kind of a Node.
type Kind uint8

// The kinds of JSON values.
const (
	Null Kind = iota
	Bool
	Number
	String
	Object
	Array
)

// Node is one JSON value. A nil *Node is an absent value: its methods are safe to call.
type Node struct {
	Kind   Kind
	Text   string  // String: the unescaped text; Number and Bool: the literal as received
	Fields []Field // Object
	Items  []*Node // Array
}

// Field is one member of an object.
type Field struct {
	Name  string
	Value *Node
}

// NewString makes a string node.
func NewString(s string) *Node { return &Node{Kind: String, Text: s} }

// NewObject makes an object node of the given fields.
func NewObject(fields ...Field) *Node { return &Node{Kind: Object, Fields: fields} }

// Get returns the member of that exact name, or nil.
func (n *Node) Get(name string) *Node {
	if n == nil {
		return nil
	}
	for i := range n.Fields {
		if n.Fields[i].Name == name {
			return n.Fields[i].Value
		}
	}
	return nil
}

// String returns the text of a string node and "" of any other.
func (n *Node) String() string {
	if n == nil || n.Kind != String {
		return ""
	}
	return n.Text
}

// List returns the items of an array, the node itself as a list of one if it
// is another value, or nil if it is absent: FHIR JSON read without regard to cardinality.
func (n *Node) List() []*Node {
	switch {
	case n == nil:
		return nil
	case n.Kind == Array:
		return n.Items
	default:
		return []*Node{n}
	}
}

// Set replaces or appends a member of an object.
func (n *Node) Set(name string, v *Node) {
	for i := range n.Fields {
		if n.Fields[i].Name == name {
			n.Fields[i].Value = v
			return
		}
	}
	n.Fields = append(n.Fields, Field{name, v})
}

// Delete removes a member of an object, if it is there.
func (n *Node) Delete(name string) {
	for i := range n.Fields {
		if n.Fields[i].Name == name {
			n.Fields = append(n.Fields[:i:i], n.Fields[i+1:]...)
			return
		}
	}
}

// Clone copies the whole tree.
func (n *Node) Clone() *Node {
	if n == nil {
		return nil
	}
	c := &Node{Kind: n.Kind, Text: n.Text}
	if n.Fields != nil {
		c.Fields = make([]Field, len(n.Fields))
		for i, f := range n.Fields {
			c.Fields[i] = Field{f.Name, f.Value.Clone()}
		}
	}
	if n.Items != nil {
		c.Items = make([]*Node, len(n.Items))
		for i, x := range n.Items {
			c.Items[i] = x.Clone()
		}
	}
	return c
}

// Walk visits n and everything below it, parents first. name is the field
// under which a node stands; items of an array carry the array's name. Where
// visit returns false, what lies below is passed over.
func (n *Node) Walk(visit func(name string, n *Node) bool) { n.walk("", visit) }

func (n *Node) walk(name string, visit func(string, *Node) bool) {
	if n == nil || !visit(name, n) {
		return
	}
	for i := range n.Fields {
		n.Fields[i].Value.walk(n.Fields[i].Name, visit)
	}
	for _, x := range n.Items {
		x.walk(name, visit)
	}
}

// AppendJSON appends the compact JSON of n to dst; number literals stay as they were received.
func (n *Node) AppendJSON(dst []byte) []byte {
	if n == nil {
		return append(dst, "null"...)
	}
	switch n.Kind {
	case Bool, Number:
		return append(dst, n.Text...)
	case String:
		return AppendQuoted(dst, n.Text)
	case Object:
		dst = append(dst, '{')
		for i := range n.Fields {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendQuoted(dst, n.Fields[i].Name)
			dst = append(dst, ':')
			dst = n.Fields[i].Value.AppendJSON(dst)
		}
		return append(dst, '}')
	case Array:
		dst = append(dst, '[')
		for i, x := range n.Items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = x.AppendJSON(dst)
		}
		return append(dst, ']')
	default:
		return append(dst, "null"...)
	}
}

// AppendQuoted appends s as a JSON string (RFC 8259); <, > and & stay as they
// are, because narrative is full of them.
func AppendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[start:i]...), `\ufffd`...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// NewNumber makes a number node of an integer.
func NewNumber(i int64) *Node { return &Node{Kind: Number, Text: strconv.FormatInt(i, 10)} }

// NewNode makes a node of a literal: a number, or true or false, as it was received.
func NewNode(k Kind, literal string) *Node { return &Node{Kind: k, Text: literal} }
