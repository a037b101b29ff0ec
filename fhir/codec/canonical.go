package codec

import "github.com/cloister-health/cloister/fhir/element"

// Canonicalization names the form that [Resource.Canonical] gives
// (http://hl7.org/fhir/R4/json.html#canonical).
const Canonicalization = "http://hl7.org/fhir/canonicalization/json#static"

// Canonical is what a signature of the resource signs: its canonical JSON without
// narrative and meta, which a server may change without changing what the
// resource says. A resource that was stored and read again has the same.
func (r *Resource) Canonical() []byte {
	root := &element.Node{Kind: element.Object, Fields: make([]element.Field, 0, len(r.Root.Fields))}
	for _, f := range r.Root.Fields {
		if f.Name != "text" && f.Name != "meta" {
			root.Fields = append(root.Fields, f)
		}
	}
	return root.AppendCanonical(make([]byte, 0, 2048))
}
