package label

import (
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// NoteFaults says what keeps a resource from being a note of a session, or
// makes it carry one where it cannot: all faults at once, none for a resource that has
// nothing to do with such notes. What 45 CFR 164.501 excludes from psychotherapy
// notes, and 42 CFR 2.11 from SUD counseling notes (prescriptions, session times,
// modalities, test results, summaries of diagnosis and plan), must not hide
// inside one as structure: it belongs to the record, where the patient has access to it.
func NoteFaults(root *element.Node) []outcome.Issue {
	t := fhir.ResourceType(root.Get("resourceType").String())
	document := t == "DocumentReference" || t == "Composition"
	name := string(t)
	var f noteFaults
	var kinds Set
	unknown := false
	anywhere, inType := 0, 0
	root.Walk(func(_ string, n *element.Node) bool {
		if n.Kind == element.Object && n.Get("system").String() == fhir.NoteKind {
			anywhere++
			k := noteKind(n.Get("code").String())
			kinds |= k
			unknown = unknown || k == 0
		}
		return true
	})
	if anywhere == 0 {
		return nil
	}
	if !document {
		f.add(name, "a note of a session is a DocumentReference or a Composition of its own; nothing else can carry one")
		return f.issues
	}
	for _, c := range root.Get("type").Get("coding").List() {
		if c.Get("system").String() == fhir.NoteKind {
			inType++
		}
	}
	if inType != anywhere {
		f.add(name+".type", "the kind of a note of a session stands in its type and nowhere else")
	}
	if unknown {
		f.add(name+".type", "the kind of a note of a session is psychotherapy-note or sud-counseling-note")
	}
	if kinds.Has(Notes) {
		f.add(name+".type", "a note of a session is of one kind")
	}
	f.absent(root, name, "contained", "a note of a session contains no other resource")
	f.absent(root, name, "relatesTo", "a note of a session refers to no other document")
	if t == "DocumentReference" {
		context := root.Get("context")
		at := name + ".context"
		f.absent(context, at, "period", "session start and stop times are not part of a note of a session")
		f.absent(context, at, "encounter", "a note of a session is kept apart from the encounter")
		f.absent(context, at, "event", "modalities of treatment are not part of a note of a session")
		f.absent(context, at, "related", "a note of a session refers to no other part of the record")
	} else {
		f.absent(root, name, "encounter", "a note of a session is kept apart from the encounter")
		f.absent(root, name, "event", "session times and modalities of treatment are not part of a note of a session")
		f.sections(root, name)
	}
	f.authors(root, name)
	return f.issues
}

type noteFaults struct{ issues []outcome.Issue }

func (f *noteFaults) add(path, text string) {
	f.issues = append(f.issues, outcome.Issue{Category: outcome.BusinessRule, Path: path, Text: text})
}

func (f *noteFaults) absent(n *element.Node, at, field, text string) {
	if n.Get(field) != nil {
		f.add(at+"."+field, text)
	}
}

func (f *noteFaults) sections(n *element.Node, at string) {
	for _, s := range n.Get("section").List() {
		f.absent(s, at+".section", "entry", "a note of a session refers to no other part of the record")
		f.sections(s, at+".section")
	}
}

// authors: by 45 CFR 164.501 the author is a mental health professional, so a
// patient's journal or a device's report is none of these notes.
func (f *noteFaults) authors(root *element.Node, name string) {
	authors := root.Get("author").List()
	if len(authors) == 0 {
		f.add(name+".author", "a note of a session names the professional who wrote it")
	}
	for _, a := range authors {
		ref := a.Get("reference").String()
		if !strings.Contains(ref, "Practitioner/") && !strings.Contains(ref, "PractitionerRole/") {
			f.add(name+".author", "a note of a session is written by a Practitioner")
		}
	}
}
