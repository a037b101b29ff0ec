package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/cloister-health/cloister/fhir/element"
)

// maxDepth bounds the nesting of objects and arrays together; a hierarchy of
// concepts takes two for each of its levels.
const maxDepth = 256

// Parse reads the JSON of a definition. Records of a practice never come this
// way: they have fhir/codec, which checks them.
func Parse(body []byte) (*element.Node, error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if !utf8.Valid(body) {
		return nil, errors.New("the text is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	p := parser{d: d, words: map[string]string{}}
	n, err := p.next(0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is data after the end of the resource")
	}
	if n.Kind != element.Object {
		return nil, errors.New("this is not the JSON of a resource")
	}
	return n, nil
}

type parser struct {
	d     *json.Decoder
	words map[string]string // names and short texts repeat themselves: each is kept once
}

const shortText = 64

func (p *parser) word(s string) string {
	if len(s) > shortText {
		return s
	}
	if w, ok := p.words[s]; ok {
		return w
	}
	p.words[s] = s
	return s
}

func (p *parser) next(depth int) (*element.Node, error) {
	t, err := p.d.Token()
	if err != nil {
		return nil, readError(err)
	}
	return p.value(t, depth)
}

func (p *parser) value(t json.Token, depth int) (*element.Node, error) {
	switch v := t.(type) {
	case string:
		return element.NewString(p.word(v)), nil
	case json.Number:
		return &element.Node{Kind: element.Number, Text: p.word(v.String())}, nil
	case bool:
		if v {
			return &element.Node{Kind: element.Bool, Text: "true"}, nil
		}
		return &element.Node{Kind: element.Bool, Text: "false"}, nil
	case json.Delim:
		if depth >= maxDepth {
			return nil, fmt.Errorf("the resource is nested more than %d levels deep", maxDepth)
		}
		if v == '[' {
			return p.array(depth + 1)
		}
		return p.object(depth + 1)
	default:
		return &element.Node{}, nil // null
	}
}

func (p *parser) array(depth int) (*element.Node, error) {
	n := &element.Node{Kind: element.Array}
	for p.d.More() {
		v, err := p.next(depth)
		if err != nil {
			return nil, err
		}
		n.Items = append(n.Items, v)
	}
	n.Items = append([]*element.Node(nil), n.Items...) // without spare room: it stays in memory
	_, err := p.d.Token()
	return n, readError(err)
}

func (p *parser) object(depth int) (*element.Node, error) {
	n := &element.Node{Kind: element.Object}
	for p.d.More() {
		t, err := p.d.Token()
		if err != nil {
			return nil, readError(err)
		}
		name, ok := t.(string)
		if !ok {
			return nil, errors.New("a name is expected")
		}
		if n.Get(name) != nil {
			return nil, fmt.Errorf("the name %q occurs twice in one object", name)
		}
		v, err := p.next(depth)
		if err != nil {
			return nil, err
		}
		n.Fields = append(n.Fields, element.Field{Name: p.word(name), Value: v})
	}
	n.Fields = append([]element.Field(nil), n.Fields...)
	_, err := p.d.Token()
	return n, readError(err)
}

func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return errors.New("the JSON ends too early")
	default:
		return fmt.Errorf("this is not JSON: %w", err)
	}
}

// Size is about how many bytes of memory the tree takes.
func Size(n *element.Node) int64 {
	const node, field, item = 88, 24, 8 // as laid out on 64-bit machines
	var sum int64
	n.Walk(func(_ string, n *element.Node) bool {
		sum += node + int64(cap(n.Fields))*field + int64(cap(n.Items))*item
		if len(n.Text) > shortText {
			sum += int64(len(n.Text))
		}
		return true
	})
	return sum
}
