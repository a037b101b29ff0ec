package intake

import (
	"fmt"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/egress"
)

// Request is what a client asks for at kick-off
// (Bulk Data Import Proposal, Manifest Approach, "Bulk Data Import Kick-Off Request").
type Request struct {
	URL    string  `json:"url"`              // as the client wrote it
	Source string  `json:"source,omitempty"` // inputSource
	Inputs []Input `json:"inputs"`
	Dry    bool    `json:"dry,omitempty"`
	Gzip   bool    `json:"gzip,omitempty"` // the inputs are packed, whatever their names say
}

// Input is one file.
type Input struct {
	Type fhir.ResourceType `json:"type,omitempty"` // of its lines; "" of an upload: any
	URL  string            `json:"url,omitempty"`
}

// MaxInputs is how many files one import takes.
const MaxInputs = 1000

func (r *Request) check(g *egress.Guard) error {
	for i, in := range r.Inputs {
		if _, err := g.Check(in.URL); err != nil {
			return outcome.At(outcome.Invalid, fmt.Sprintf("input[%d].url", i), outcome.Of(err).Issues[0].Text)
		}
	}
	return nil
}

func fault(path, text string) error { return outcome.At(outcome.Invalid, path, text) }

// ReadManifest reads the JSON body of a kick-off, or a Parameters resource that says the same.
func ReadManifest(n *element.Node) (Request, error) {
	if n.Get("resourceType").String() == "Parameters" {
		n = plain(n)
	}
	var r Request
	if n == nil || n.Kind != element.Object {
		return r, fault("", "the body is a JSON object with inputFormat, inputSource and input, or a Parameters resource that says the same")
	}
	for _, f := range n.Fields {
		switch f.Name {
		case "inputFormat", "inputSource", "input", "storageDetail", "mode", "resourceType", "extension":
		default:
			return r, fault("", "a manifest has no field of one of these names here: it has inputFormat, inputSource, input, storageDetail, and mode")
		}
	}
	switch format, err := str(n, "inputFormat"); {
	case err != nil:
		return r, err
	case format != "application/fhir+ndjson" && format != "application/ndjson" && format != "ndjson":
		return r, fault("inputFormat", "the one format is application/fhir+ndjson")
	}
	var err error
	if r.Source, err = str(n, "inputSource"); err != nil || len(r.Source) > egress.MaxURL || strings.ContainsFunc(r.Source, func(c rune) bool { return c <= ' ' }) {
		return r, fault("inputSource", "it is a text, the address that the data are from")
	}
	mode, err := str(n, "mode")
	if err != nil {
		return r, err
	}
	if r.Dry, err = Mode(mode); err != nil {
		return r, err
	}
	if r.Gzip, err = storage(n.Get("storageDetail")); err != nil {
		return r, err
	}
	err = r.inputs(n.Get("input"))
	return r, err
}

// Mode reads the parameter mode: store, which is the default, or dry-run.
func Mode(text string) (dry bool, err error) {
	switch text {
	case "", "store":
		return false, nil
	case "dry-run":
		return true, nil
	}
	return false, fault("mode", "it is store, which is the default, or dry-run")
}

func (r *Request) inputs(n *element.Node) error {
	if n == nil || n.Kind != element.Array || len(n.Items) == 0 || len(n.Items) > MaxInputs {
		return fault("input", fmt.Sprintf("it is a list of 1 to %d files, each with a type and a url", MaxInputs))
	}
	seen := map[string]bool{}
	for i, x := range n.Items {
		at := fmt.Sprintf("input[%d]", i)
		if x == nil || x.Kind != element.Object {
			return fault(at, "it is an object with a type and a url")
		}
		name, err := str(x, "type")
		t := fhir.ResourceType(name)
		if err != nil || !t.Valid() {
			return fault(at+".type", "it is the R4 resource type of the lines")
		}
		url, err := str(x, "url")
		if err != nil || url == "" {
			return fault(at+".url", "it is the address of the file")
		}
		if seen[url] {
			return fault(at+".url", "the file is listed twice: keep one of the two")
		}
		seen[url] = true
		r.Inputs = append(r.Inputs, Input{t, url})
	}
	return nil
}

// storage reads storageDetail: how the files are kept.
func storage(n *element.Node) (packed bool, err error) {
	if n == nil {
		return false, nil
	}
	bad := fault("storageDetail", "the one type is https, with the contentEncoding gzip or none")
	if n.Kind != element.Object {
		return false, bad
	}
	for _, f := range n.Fields {
		switch {
		case f.Name == "type" && f.Value.Kind == element.String && f.Value.Text == "https":
		case f.Name == "contentEncoding" && f.Value.Kind == element.Array && len(f.Value.Items) == 1:
			x := f.Value.Items[0]
			if x.Kind != element.String || x.Text != "gzip" && x.Text != "identity" {
				return false, bad
			}
			packed = x.Text == "gzip"
		default:
			return false, bad
		}
	}
	return packed, nil
}

// str is a text, "" where there is none.
func str(n *element.Node, name string) (string, error) {
	v := n.Get(name)
	switch {
	case v == nil:
		return "", nil
	case v.Kind != element.String:
		return "", fault(name, "it is a text")
	}
	return v.Text, nil
}

// plain is a Parameters resource as the JSON of the proposal: parts are fields, and what can
// stand several times is a list.
func plain(n *element.Node) *element.Node {
	out := element.NewObject()
	for _, p := range n.Get("parameter").List() {
		name, v := p.Get("name").String(), value(p)
		switch {
		case name == "input" || name == "contentEncoding":
			list := out.Get(name)
			if list == nil {
				list = &element.Node{Kind: element.Array}
				out.Set(name, list)
			}
			list.Items = append(list.Items, v)
		case out.Get(name) != nil:
			out.Set(name, &element.Node{Kind: element.Array}) // what stands twice means nothing
		default:
			out.Set(name, v)
		}
	}
	return out
}

func value(p *element.Node) *element.Node {
	if parts := p.Get("part"); parts != nil {
		return plain(element.NewObject(element.Field{Name: "parameter", Value: parts}))
	}
	for _, f := range p.Fields {
		if len(f.Name) > 5 && f.Name[:5] == "value" {
			return f.Value
		}
	}
	return element.NewObject()
}
