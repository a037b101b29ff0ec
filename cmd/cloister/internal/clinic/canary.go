package clinic

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/cloister-health/cloister/fhir/element"
)

// CanaryPattern matches one canary: a token that stands in exactly one text of
// exactly one resource.
const CanaryPattern = `CNRY-[0-9a-f]{16}`

var (
	canary = regexp.MustCompile(CanaryPattern)
	// encoded finds stretches that may be base64 of a text with a canary in it.
	encoded = regexp.MustCompile(`[A-Za-z0-9+/_-]{28,}={0,2}`)
)

// freeText lists the R4 elements, by JSON name, whose text people write. They
// carry a canary wherever they stand; names of people carry theirs in
// HumanName.text, so that family and given stay searchable.
var freeText = map[string]bool{
	"text": true, "display": true, "div": true, "title": true, "description": true,
	"comment": true, "patientInstruction": true, "name": true, "line": true,
	"suffix": true, "data": true, "valueString": true,
}

// Canaries lists the canaries of one resource in document order, those inside
// base64 attachments included.
func Canaries(resource *element.Node) []string {
	var out []string
	resource.Walk(func(name string, n *element.Node) bool {
		if n.Kind != element.String {
			return true
		}
		text := n.Text
		if name == "data" {
			if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
				text = string(raw)
			}
		}
		out = append(out, canary.FindAllString(text, -1)...)
		return true
	})
	return out
}

// FindCanaries lists the canaries in any bytes, such as a log, a header or a
// whole HTTP answer: plain ones, then those inside stretches of base64.
func FindCanaries(b []byte) []string {
	var out []string
	for _, c := range canary.FindAll(b, -1) {
		out = append(out, string(c))
	}
	for _, stretch := range encoded.FindAll(b, -1) {
		text := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(string(stretch), "="))
		// What stands before may belong to the alphabet too: try each alignment.
		for skip := range 4 {
			part := text[skip:]
			if len(part)%4 == 1 {
				part = part[:len(part)-1]
			}
			raw, err := base64.RawStdEncoding.DecodeString(part)
			if err == nil {
				out = append(out, canary.FindAllString(string(raw), -1)...)
			}
		}
	}
	return out
}

// plant puts a canary into every free text of resource. The token is a hash of
// practice, type, id and the path of the text, so no two texts share one. It
// also encodes attachments, which are built as plain text.
func plant(practice string, resource *element.Node) {
	path := make([]byte, 0, 160)
	path = append(path, practice...)
	path = append(path, '/')
	path = append(path, resource.Get("resourceType").String()...)
	path = append(path, '/')
	path = append(path, resource.Get("id").String()...)
	plantBelow(path, resource)
}

func plantBelow(path []byte, n *element.Node) {
	for i := range n.Fields {
		f := &n.Fields[i]
		below := append(append(path, '.'), f.Name...)
		switch f.Value.Kind {
		case element.Object:
			plantBelow(below, f.Value)
		case element.Array:
			for j, item := range f.Value.Items {
				at := strconv.AppendInt(append(below, '/'), int64(j), 10)
				if item.Kind == element.String {
					plantText(f.Name, at, item)
				} else {
					plantBelow(at, item)
				}
			}
		case element.String:
			plantText(f.Name, below, f.Value)
		}
	}
}

const divEnd = "</p></div>"

func plantText(name string, path []byte, n *element.Node) {
	if !freeText[name] {
		return
	}
	var token [21]byte
	copy(token[:], "CNRY-")
	var sum [8]byte
	binary.BigEndian.PutUint64(sum[:], xxhash.Sum64(path))
	hex.Encode(token[5:], sum[:])
	switch name {
	case "div":
		n.Text = strings.TrimSuffix(n.Text, divEnd) + " " + string(token[:]) + divEnd
	case "data":
		n.Text = base64.StdEncoding.EncodeToString([]byte(n.Text + " " + string(token[:])))
	default:
		n.Text += " " + string(token[:])
	}
}
