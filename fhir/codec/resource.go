package codec

import (
	"strconv"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// ID is the logical id, or "".
func (r *Resource) ID() fhir.ID { return fhir.ID(r.Root.Get("id").String()) }

// Ref is type and id; its ID is "" where the resource has none yet.
func (r *Resource) Ref() fhir.Ref { return fhir.Ref{Type: r.Type, ID: r.ID()} }

// Clone copies the resource with its tree.
func (r *Resource) Clone() *Resource { return &Resource{Type: r.Type, Root: r.Root.Clone()} }

// SetID sets the logical id.
func (r *Resource) SetID(id fhir.ID) {
	setAfter(r.Root, "resourceType", "id", element.NewString(string(id)))
}

// instantLayout is the form in which the server writes an instant: UTC, milliseconds.
const instantLayout = "2006-01-02T15:04:05.000Z07:00"

// SetMeta writes meta.versionId and meta.lastUpdated (UTC, milliseconds) and keeps the
// rest of meta.
func (r *Resource) SetMeta(version fhir.VersionID, updated time.Time) {
	meta := r.Root.Get("meta")
	if meta == nil || meta.Kind != element.Object {
		meta = element.NewObject()
		after := "id"
		if r.Root.Get("id") == nil {
			after = "resourceType"
		}
		setAfter(r.Root, after, "meta", meta)
	}
	meta.Delete("_versionId")
	meta.Delete("_lastUpdated")
	meta.Set("versionId", element.NewString(version.String()))
	meta.Set("lastUpdated", element.NewString(updated.UTC().Format(instantLayout)))
}

// setAfter sets a field; a new one comes to stand behind the field of that name.
func setAfter(n *element.Node, after, name string, v *element.Node) {
	if n.Get(name) != nil {
		n.Set(name, v)
		return
	}
	at := 0
	for i := range n.Fields {
		if n.Fields[i].Name == after {
			at = i + 1
		}
	}
	fields := make([]element.Field, 0, len(n.Fields)+1)
	fields = append(fields, n.Fields[:at]...)
	fields = append(fields, element.Field{Name: name, Value: v})
	n.Fields = append(fields, n.Fields[at:]...)
}

// StripSecurity removes meta.security, and security of every other value of type Meta,
// from the resource and from all resources inside it: labels are the server's own, nobody
// sends them. A meta that is empty then goes too.
func (r *Resource) StripSecurity() {
	stripSecurity(types()[string(r.Type)], r.Root)
}

// stripSecurity reports whether n has become empty.
func stripSecurity(d *typeDef, n *element.Node) bool {
	if n == nil || n.Kind != element.Object {
		return false
	}
	if d == nil || d.resource {
		if d = types()[n.Get("resourceType").String()]; d == nil {
			return false
		}
	}
	had := len(n.Fields)
	if d.meaning == isMeta {
		n.Delete("security")
	}
	for i := 0; i < len(n.Fields); i++ {
		f := &n.Fields[i]
		e := d.fields[f.Name]
		if e == nil && f.Name[:min(1, len(f.Name))] == "_" && d.fields[f.Name[1:]] != nil {
			e = &fieldDef{typ: types()["Element"]}
		}
		if e == nil || e.prim != noPrimitive {
			continue
		}
		if f.Value == nil {
			continue
		}
		if f.Value.Kind != element.Array {
			if stripSecurity(e.typ, f.Value) {
				n.Delete(f.Name)
				i--
			}
			continue
		}
		for _, x := range f.Value.Items {
			stripSecurity(e.typ, x)
		}
	}
	return had > 0 && len(n.Fields) == 0
}

// Entry is one entry of a Bundle.
type Entry struct {
	FullURL         string
	Method          string // request.method
	URL             string // request.url, as sent
	IfNoneExist     string
	IfMatch         string
	IfNoneMatch     string
	IfModifiedSince string    // an instant, as sent
	Resource        *Resource // shares the tree of the Bundle; nil if the entry has none
	Path            string    // FHIRPath of the entry: "Bundle.entry[3]"
	Node            *element.Node
}

// BundleType is Bundle.type, or "" for another resource.
func (r *Resource) BundleType() string {
	if r.Type != "Bundle" {
		return ""
	}
	return r.Root.Get("type").String()
}

// Entries lists the entries of a Bundle, in order; nil for another resource.
func (r *Resource) Entries() []Entry {
	if r.Type != "Bundle" {
		return nil
	}
	items := r.Root.Get("entry").List()
	out := make([]Entry, 0, len(items))
	for i, n := range items {
		req := n.Get("request")
		e := Entry{
			FullURL:         n.Get("fullUrl").String(),
			Method:          req.Get("method").String(),
			URL:             req.Get("url").String(),
			IfNoneExist:     req.Get("ifNoneExist").String(),
			IfMatch:         req.Get("ifMatch").String(),
			IfNoneMatch:     req.Get("ifNoneMatch").String(),
			IfModifiedSince: req.Get("ifModifiedSince").String(),
			Path:            "Bundle.entry[" + strconv.Itoa(i) + "]",
			Node:            n,
		}
		if res := n.Get("resource"); res != nil {
			if t := fhir.ResourceType(res.Get("resourceType").String()); t.Valid() {
				e.Resource = &Resource{Type: t, Root: res}
			}
		}
		out = append(out, e)
	}
	return out
}
