package codec

import (
	"iter"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Link is one string of a resource that names another one. Who rewrites a
// reference sets Node.Text.
type Link struct {
	Node  *element.Node
	Path  string        // FHIRPath from the resource, such as "Observation.subject.reference"
	Owner *element.Node // the Reference whose reference this is; nil for another link
}

// walker visits every element of a checked tree with its definition. What the
// table does not know, and text where an object should be, it passes over: a
// stored resource was checked when it came in.
type walker struct {
	trail trail
	visit func(w *walker, owner *typeDef, e *fieldDef, n, parent *element.Node) (deeper bool)
}

func (r *Resource) walk(visit func(w *walker, owner *typeDef, e *fieldDef, n, parent *element.Node) bool) {
	w := walker{visit: visit}
	w.resource(string(r.Type), -1, r.Root)
}

func (w *walker) resource(name string, index int, n *element.Node) {
	w.trail.push(name, index)
	if d := types()[n.Get("resourceType").String()]; d != nil {
		w.object(d, n)
	}
	w.trail.pop()
}

func (w *walker) object(d *typeDef, n *element.Node) {
	if n == nil {
		return
	}
	for i := range n.Fields {
		f := &n.Fields[i]
		e := d.fields[f.Name]
		if e == nil {
			if name, ok := strings.CutPrefix(f.Name, "_"); ok && d.fields[name] != nil {
				w.each(d, companionOf(d.fields[name]), n, f.Value)
			}
			continue
		}
		w.each(d, e, n, f.Value)
	}
}

// companionOf is the _name half of a primitive: an Element of extensions.
func companionOf(e *fieldDef) *fieldDef {
	return &fieldDef{name: e.name, json: "_" + e.json, typ: types()["Element"], list: e.list, slot: -1}
}

func (w *walker) each(d *typeDef, e *fieldDef, parent, v *element.Node) {
	if v == nil {
		return
	}
	if v.Kind != element.Array {
		w.one(d, e, parent, v, -1)
		return
	}
	for i, x := range v.Items {
		w.one(d, e, parent, x, i)
	}
}

func (w *walker) one(d *typeDef, e *fieldDef, parent, n *element.Node, index int) {
	if n == nil || n.Kind == element.Null {
		return
	}
	if e.any {
		w.resource(e.name, index, n)
		return
	}
	w.trail.push(e.name, index)
	if w.visit(w, d, e, n, parent) && e.typ != nil {
		w.object(e.typ, n)
	}
	w.trail.pop()
}

// References lists every Reference.reference of the resource, in contained
// resources and the resources of entries and parameters too.
func (r *Resource) References() []Link {
	var out []Link
	r.walk(func(w *walker, d *typeDef, e *fieldDef, n, owner *element.Node) bool {
		if d.meaning == isReference && e.json == "reference" && n.Kind == element.String {
			out = append(out, Link{n, w.trail.String(), owner})
		}
		return true
	})
	return out
}

// linkLike says whether e holds a URI that may name a resource, other than a
// Reference does. Extension.url names a definition.
func linkLike(d *typeDef, e *fieldDef) bool {
	switch e.prim {
	case uri, url, canonical:
		return d.meaning != isReference && (d.meaning != isExtension || e.json != "url")
	}
	return false
}

// URLs lists every value of type uri, url or canonical, outside References and
// Extension.url, whose text is a local reference ([fhir.ParseRef]); a version after | and
// a fragment do not hide it ([LocalRef] reads the text of such a Link).
func (r *Resource) URLs() []Link {
	var out []Link
	r.walk(func(w *walker, d *typeDef, e *fieldDef, n, _ *element.Node) bool {
		if linkLike(d, e) && n.Kind == element.String {
			if _, ok := LocalRef(n.Text); ok {
				out = append(out, Link{Node: n, Path: w.trail.String()})
			}
		}
		return true
	})
	return out
}

// URNs lists every value of type uri, url, canonical, oid or uuid, outside
// References, that is a urn:uuid: or urn:oid:. A transaction replaces those among
// them that are the fullUrl of an entry (http.html#trules).
func (r *Resource) URNs() []Link {
	var out []Link
	r.walk(func(w *walker, d *typeDef, e *fieldDef, n, _ *element.Node) bool {
		if (linkLike(d, e) || e.prim == uuid || e.prim == oid) && n.Kind == element.String &&
			(strings.HasPrefix(n.Text, "urn:uuid:") || strings.HasPrefix(n.Text, "urn:oid:")) {
			out = append(out, Link{Node: n, Path: w.trail.String()})
		}
		return true
	})
	return out
}

// LocalRef reads a local reference that may carry the version of a canonical
// or a fragment ("Questionnaire/phq-9|1.0").
func LocalRef(text string) (fhir.Ref, bool) {
	if i := strings.IndexAny(text, "|#"); i >= 0 {
		text = text[:i]
	}
	return fhir.ParseRef(text)
}

// identities are the uri elements that identify something by their whole text:
// made relative they would identify nothing.
var identities = words("system fullUrl namespace implicitRules source")

// Localise makes absolute references and URLs relative where they start with
// base, the server's own base URL ("https://host/fhir"): scheme and host in any
// case, as URLs have it. Identifying URIs (Coding.system, the url of a definition, Bundle.entry.fullUrl)
// stay, and so does what is no reference without the base.
func (r *Resource) Localise(base string) {
	base = strings.TrimRight(base, "/")
	r.walk(func(_ *walker, d *typeDef, e *fieldDef, n, _ *element.Node) bool {
		if n.Kind != element.String {
			return true
		}
		rest, ok := cutBase(n.Text, base)
		if !ok {
			return true
		}
		switch {
		case d.meaning == isReference && e.json == "reference":
			if _, ok := fhir.ReferenceType(rest); ok {
				n.Text = rest
			}
		case e.prim == uri && (identities[e.json] || d.resource && e.json == "url"):
		case linkLike(d, e):
			_, local := LocalRef(rest)
			if t, _, query := strings.Cut(rest, "?"); local || query && fhir.ResourceType(t).Valid() {
				n.Text = rest
			}
		}
		return true
	})
}

func cutBase(text, base string) (string, bool) {
	_, after, ok := strings.Cut(base, "://")
	if !ok || len(text) <= len(base) || text[len(base)] != '/' {
		return "", false
	}
	host := len(base) - len(after) // where the authority begins
	if i := strings.IndexByte(after, '/'); i >= 0 {
		host += i
	} else {
		host = len(base)
	}
	if !strings.EqualFold(text[:host], base[:host]) || text[host:len(base)] != base[host:] {
		return "", false
	}
	return text[len(base)+1:], true
}

// systemURI is the code system of URIs themselves.
const systemURI = "urn:ietf:rfc:3986"

// Coding is a code that a resource holds, and where.
type Coding struct{ System, Code, Path string }

// Codings yields system and code of every Coding anywhere in the resource, in
// contained resources and extensions too, and of every Quantity that has a coded
// unit. With system "" it yields every other element of type code and the LOINC codes
// that the linkIds of a questionnaire are made of ("/44249-1/44250-9"), and as codes of
// urn:ietf:rfc:3986 the definitions that the resource names: the questionnaire that was
// answered, or is asked. Labels (meta.security) are not among them.
func (r *Resource) Codings() iter.Seq2[string, string] {
	return func(yield func(system, code string) bool) {
		r.codings(func(_ *walker, system, code string) bool { return yield(system, code) })
	}
}

// Coded lists what [Resource.Codings] yields, with the path of each.
func (r *Resource) Coded() []Coding {
	var out []Coding
	r.codings(func(w *walker, system, code string) bool {
		out = append(out, Coding{system, code, w.trail.String()})
		return true
	})
	return out
}

func (r *Resource) codings(yield func(w *walker, system, code string) bool) {
	done := false
	emit := func(w *walker, system, code string) {
		if !done && code != "" && !yield(w, system, code) {
			done = true
		}
	}
	r.walk(func(w *walker, d *typeDef, e *fieldDef, n, _ *element.Node) bool {
		switch {
		case done, d.meaning == isMeta && (e.json == "security" || e.json == "profile"):
			return false
		case e.typ != nil && (e.typ.meaning == isCoding || e.typ.meaning == isQuantity):
			emit(w, n.Get("system").String(), n.Get("code").String())
		case e.json == "code" && (d.meaning == isCoding || d.meaning == isQuantity): // said with its system
		case e.prim == code:
			emit(w, "", n.String())
		case e.prim == canonical, e.json == "url" && d.name == "Questionnaire":
			emit(w, systemURI, n.String())
		case e.json == "linkId":
			for part := range strings.SplitSeq(n.String(), "/") {
				emit(w, "", part)
			}
		}
		return !done
	})
}

// Security yields system and code of every security label, in the meta of
// contained resources too.
func (r *Resource) Security() iter.Seq2[string, string] {
	return func(yield func(system, code string) bool) {
		done := false
		r.walk(func(_ *walker, d *typeDef, e *fieldDef, n, _ *element.Node) bool {
			if !done && d.meaning == isMeta && e.json == "security" {
				done = !yield(n.Get("system").String(), n.Get("code").String())
			}
			return !done
		})
	}
}

// Canonicals lists every value of type canonical with its path, such as
// QuestionnaireResponse.questionnaire.
func (r *Resource) Canonicals() []Link {
	var out []Link
	r.walk(func(w *walker, _ *typeDef, e *fieldDef, n, _ *element.Node) bool {
		if e.prim == canonical && n.Kind == element.String {
			out = append(out, Link{Node: n, Path: w.trail.String()})
		}
		return true
	})
	return out
}
