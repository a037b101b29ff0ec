// Package patch changes a resource as a JSON Patch (RFC 6902) or a FHIRPath Patch (R4 fhirpatch.html) says, as pure functions.
//
// A patch works on a copy, all operations or none; the result passes every check of fhir/codec. Identity and
// labels are out of its reach. What an error says comes from the patch, never from the stored resource: of a
// test that fails nobody learns more than that it failed.
package patch

import (
	"mime"
	"strconv"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// The media types of a patch (R4 http.html#patch).
const (
	JSONPatch     = "application/json-patch+json"
	FHIRPathPatch = "application/fhir+json" // a Parameters resource; application/json is the same
)

// MaxOperations bounds the operations of one patch.
const MaxOperations = 1000

// Patch is a patch that was read. The zero Patch changes nothing.
type Patch struct{ operations []operation }

// operation is one step; d is the document that it changes.
type operation interface {
	apply(d *document) error
}

// Parse reads the body of a PATCH request by its Content-Type. The error is an *outcome.Error: 415 for another
// media type, 400 for what is no patch, 413 for one that is too long.
func Parse(contentType string, body []byte) (Patch, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = ""
	}
	switch kind {
	case JSONPatch:
		return parseJSON(body)
	case FHIRPathPatch, "application/json":
		return parseFHIRPath(body)
	}
	return Patch{}, outcome.New(outcome.MediaType, "a patch is "+JSONPatch+", or a Parameters resource as "+FHIRPathPatch)
}

// document is the copy of a resource while a patch works on it.
type document struct {
	root *element.Node
	left int // bytes and nodes that may still be added
}

// maxGrowth bounds what the operations of one patch add together; a copy of a copy doubles.
const maxGrowth = 16 << 20

// Apply gives the changed resource; r stays as it is. The error is an *outcome.Error: 422 with every fault of the
// result, or with the one operation that cannot be done. What every update does with the labels inside
// (codec.Resource.StripSecurity) is left to whoever stores the result.
func (p Patch) Apply(r *codec.Resource) (*codec.Resource, error) {
	d := &document{root: r.Root.Clone(), left: maxGrowth}
	for i, o := range p.operations {
		if err := o.apply(d); err != nil {
			e := outcome.Of(err)
			for j := range e.Issues {
				e.Issues[j].Text = "operation " + strconv.Itoa(i) + ": " + e.Issues[j].Text
			}
			return nil, e
		}
	}
	if d.root.Kind != element.Object {
		return nil, outcome.New(outcome.Unprocessable, "the patch leaves no resource")
	}
	prune("", d.root)
	if err := keep(r.Root, d.root); err != nil {
		return nil, err
	}
	// Through the reader again: it holds the limits of depth and size for whatever was put together.
	return codec.Parse(d.root.AppendJSON(nil))
}

// take takes n from the growth that is left.
func (d *document) take(n *element.Node) error {
	n.Walk(func(name string, x *element.Node) bool {
		d.left -= 8 + len(name) + len(x.Text)
		return d.left > 0
	})
	if d.left <= 0 {
		return outcome.New(outcome.TooLong, "the patch makes the resource too large")
	}
	return nil
}

// prune removes the arrays and objects that the operations left empty: FHIR has none (json.html). In the array of
// extensions of a primitive a null holds their place.
func prune(name string, n *element.Node) {
	switch n.Kind {
	case element.Object:
		fields := n.Fields[:0]
		for _, f := range n.Fields {
			prune(f.Name, f.Value)
			if !empty(f.Value) {
				fields = append(fields, f)
			}
		}
		n.Fields = fields
	case element.Array:
		items, padding := n.Items[:0], true
		for _, x := range n.Items {
			prune("", x)
			if empty(x) {
				if name == "" || name[0] != '_' {
					continue
				}
				x = &element.Node{}
			}
			items = append(items, x)
			padding = padding && x.Kind == element.Null
		}
		if n.Items = items; padding {
			n.Items = nil
		}
	}
}

func empty(n *element.Node) bool {
	return n.Kind == element.Object && len(n.Fields) == 0 || n.Kind == element.Array && len(n.Items) == 0
}

// keep refuses to change what is not the client's: type, id, version and labels. A version that the patch removed
// together with the rest of meta comes back.
func keep(before, after *element.Node) error {
	for _, name := range []string{"resourceType", "id", "_id"} {
		if !equal(before.Get(name), after.Get(name)) {
			return outcome.At(outcome.BusinessRule, "Resource."+name, "a patch cannot change type or id of a resource")
		}
	}
	old, now := before.Get("meta"), after.Get("meta")
	for _, name := range []string{"versionId", "lastUpdated"} {
		had, has := old.Get(name), now.Get(name)
		switch {
		case has != nil && !equal(had, has):
			return outcome.At(outcome.BusinessRule, "Resource.meta."+name, "a patch cannot change the version of a resource")
		case had != nil && has == nil && now != nil && now.Kind == element.Object:
			now.Set(name, had.Clone())
		case had != nil && has == nil && now == nil:
			now = element.NewObject(element.Field{Name: name, Value: had.Clone()})
			after.Set("meta", now)
		}
	}
	if !equal(old.Get("security"), now.Get("security")) {
		return outcome.At(outcome.BusinessRule, "Resource.meta.security", "a patch cannot change the labels of a resource")
	}
	return nil
}
