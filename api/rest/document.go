package rest

import (
	"net/url"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// registers are the types of which the practice keeps its own: a document that comes in
// refers to them, and neither makes nor changes one.
var registers = map[fhir.ResourceType]bool{
	"Patient": true, "RelatedPerson": true, "Person": true, "Practitioner": true, "PractitionerRole": true, "Organization": true,
	"OrganizationAffiliation": true, "Location": true, "HealthcareService": true, "Endpoint": true,
}

// document is a Bundle of type document (http://hl7.org/fhir/R4/documents.html) that is being filed.
type document struct {
	entries []codec.Entry
	left    map[int]bool
	names   map[string]int    // fullUrls, to entries
	patient map[string]string // fullUrls of Patients, to how a reference to the same patient here reads
	base    string
	faults  []outcome.Issue
}

// file makes the entries of a document those of a transaction that creates its records, each under labels of its own,
// and tells which entries are left: of the registers. It works on the tree of the Bundle.
func file(bundle *element.Node, entries []codec.Entry, faulty map[int]*outcome.Error, base string) (map[int]bool, error) {
	d := &document{entries: entries, left: map[int]bool{}, names: map[string]int{}, patient: map[string]string{}, base: base}
	d.check(bundle, faulty)
	if d.faults != nil {
		return nil, &outcome.Error{Issues: d.faults}
	}
	for i := range entries {
		if registers[entries[i].Resource.Type] {
			d.left[i] = true
			d.find(i)
		}
	}
	if first := entries[0].Resource.Root; first.Get("identifier") == nil {
		first.Set("identifier", bundle.Get("identifier").Clone())
	}
	stated := append(bundle.Get("meta").Get("security").List(), entries[0].Resource.Root.Get("meta").Get("security").List()...)
	for i := range entries {
		if d.left[i] {
			continue
		}
		entries[i].Method, entries[i].URL = "POST", string(entries[i].Resource.Type)
		d.refer(i)
		if i > 0 || bundle.Get("meta").Get("security") != nil {
			state(entries[i].Resource.Root, stated)
		}
	}
	d.about()
	if d.faults != nil {
		return nil, &outcome.Error{Issues: d.faults}
	}
	return d.left, nil
}

func (d *document) fail(c outcome.Category, path, text string) {
	d.faults = append(d.faults, outcome.Issue{Category: c, Path: path, Text: text})
}

// check holds the Bundle to what makes it a document (bdl-3, bdl-9, bdl-10, bdl-11).
func (d *document) check(bundle *element.Node, faulty map[int]*outcome.Error) {
	if id := bundle.Get("identifier"); id.Get("system").String() == "" || id.Get("value").String() == "" {
		d.fail(outcome.Required, "Bundle.identifier", "a document has an identifier with system and value")
	}
	if bundle.Get("timestamp") == nil {
		d.fail(outcome.Required, "Bundle.timestamp", "a document says when it was put together")
	}
	if bundle.Get("signature") != nil {
		d.fail(outcome.Unprocessable, "Bundle.signature", "a signature is of the document as it came, which is not kept: send a signed document as the attachment of a DocumentReference")
	}
	if len(d.entries) == 0 || d.entries[0].Resource == nil || d.entries[0].Resource.Type != "Composition" {
		d.fail(outcome.Required, "Bundle.entry", "the first entry of a document is its Composition")
	}
	for i := range d.entries {
		e, path := &d.entries[i], entryPath(i)
		switch {
		case faulty[i] != nil:
			d.faults = append(d.faults, faulty[i].Issues...)
		case e.Resource == nil:
			d.fail(outcome.Required, path+".resource", "an entry of a document is a resource")
		case e.Node.Get("request") != nil:
			d.fail(outcome.Invalid, path+".request", "an entry of a document asks for nothing: a transaction does")
		case e.FullURL == "":
			d.fail(outcome.Required, path+".fullUrl", "an entry of a document has a fullUrl")
		default:
			if _, twice := d.names[e.FullURL]; twice {
				d.fail(outcome.Invalid, path+".fullUrl", "the fullUrl stands in this Bundle twice")
			}
			d.names[e.FullURL] = i
		}
	}
}

// find says how a Patient of the document is referred to here: by the id, where it is one of this server, and else by
// the identifiers, of which the transaction must find exactly one patient that the caller may see.
func (d *document) find(i int) {
	e := &d.entries[i]
	if e.Resource.Type != "Patient" {
		return
	}
	if ref, ours := strings.CutPrefix(e.FullURL, d.base+"/"); ours {
		if _, ok := fhir.ParseRef(ref); ok {
			d.patient[e.FullURL] = ref
			return
		}
	}
	var tokens []string
	for _, x := range e.Resource.Root.Get("identifier").List() {
		if system, value := x.Get("system").String(), x.Get("value").String(); system != "" && value != "" {
			tokens = append(tokens, escaped.Replace(system)+"|"+escaped.Replace(value))
		}
	}
	if tokens == nil {
		d.fail(outcome.Required, entryPath(i)+".resource.identifier", "an identifier with system and value is needed, by which the patient is found here")
		return
	}
	d.patient[e.FullURL] = "Patient?identifier=" + url.QueryEscape(strings.Join(tokens, ","))
}

// escaped writes a text into a search parameter (http://hl7.org/fhir/R4/search.html#escaping).
var escaped = strings.NewReplacer(`\`, `\\`, `|`, `\|`, `,`, `\,`, `$`, `\$`)

// refer makes the references of an entry to what is left mean the same here.
func (d *document) refer(i int) {
	e := &d.entries[i]
	for _, l := range e.Resource.References() {
		plain, _, _ := strings.Cut(l.Node.Text, "/_history/")
		at, ok := named(d.names, plain, e.FullURL)
		if !ok {
			// What is relative is the sender's, and must not become the record that has this id here.
			if _, relative := fhir.ParseRef(plain); relative {
				if base, restful := baseOf(e.FullURL); restful && base != d.base {
					l.Node.Text = base + "/" + l.Node.Text
				}
			}
			continue
		}
		if !d.left[at] {
			continue
		}
		if here, ok := d.patient[d.entries[at].FullURL]; ok {
			l.Node.Text = here
			continue
		}
		logical(l.Owner, d.entries[at].Resource)
	}
}

// logical makes a literal reference a logical one (http://hl7.org/fhir/R4/references.html#logical):
// the sender's Practitioner is none of this practice, whoever has the same id here.
func logical(reference *element.Node, to *codec.Resource) {
	reference.Delete("reference")
	reference.Delete("_reference")
	reference.Set("type", element.NewString(string(to.Type)))
	if ids := to.Root.Get("identifier").List(); len(ids) > 0 && reference.Get("identifier") == nil {
		id := element.NewObject()
		for _, name := range []string{"use", "type", "system", "value"} {
			if v := ids[0].Get(name); v != nil {
				id.Set(name, v.Clone())
			}
		}
		if id.Fields != nil {
			reference.Set("identifier", id)
		}
	}
	if reference.Get("display") == nil {
		if name := nameOf(to.Root); name != "" {
			reference.Set("display", element.NewString(name))
		}
	}
}

// nameOf is what a human would call it: the name of a place, or of a person.
func nameOf(n *element.Node) string {
	name := n.Get("name")
	if text := name.String(); text != "" {
		return text
	}
	for _, x := range name.List() {
		if text := x.Get("text").String(); text != "" {
			return text
		}
		var parts []string
		for _, given := range x.Get("given").List() {
			parts = append(parts, given.String())
		}
		if text := strings.TrimSpace(strings.Join(append(parts, x.Get("family").String()), " ")); text != "" {
			return text
		}
	}
	return ""
}

// state adds labels that the document has as a whole to one of its records.
func state(resource *element.Node, labels []*element.Node) {
	if len(labels) == 0 {
		return
	}
	meta := resource.Get("meta")
	if meta == nil {
		meta = element.NewObject()
		resource.Set("meta", meta)
	}
	all := &element.Node{Kind: element.Array, Items: append([]*element.Node{}, meta.Get("security").List()...)}
	for _, l := range labels {
		all.Items = append(all.Items, l.Clone())
	}
	meta.Set("security", all)
}

// about holds the document to a patient: what is about nobody would be kept apart for nobody.
func (d *document) about() {
	subject := d.entries[0].Resource.Root.Get("subject").Get("reference").String()
	if !strings.HasPrefix(subject, "Patient/") && !strings.HasPrefix(subject, "Patient?") && !strings.HasPrefix(subject, d.base+"/Patient/") {
		d.fail(outcome.Required, entryPath(0)+".resource.subject", "the subject of a document is a Patient, in an entry of the document or of this server")
	}
}
