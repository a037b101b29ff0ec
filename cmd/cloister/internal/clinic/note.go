package clinic

import (
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// noteLines are what progress notes say.
var noteLines = []string{
	"Came on time. We went over the week and the agreed exercises.",
	"Sleep somewhat better. Reviewed the plan and kept it.",
	"Harder week after a family visit. Practised breathing and planned two activities.",
	"Reports more energy. Agreed on one new step until the next session.",
	"Went through the questionnaire together. Plan unchanged.",
	"Spoke of work. Mood steadier than last time.",
}

// apartLines are what the notes say that are kept apart: the conversation, and
// nothing that 45 CFR 164.501 excludes from psychotherapy notes.
var apartLines = []string{
	"A dream of the old house came up again; stayed with the image for a long while.",
	"Anger at her sister was close to the surface. My own impatience was worth noticing.",
	"Silence after the question about the father. It said more than the answer.",
	"Laughed for the first time when telling of the garden.",
}

// The kinds of notes that are kept apart from the record.
var (
	psychotherapyNote = code{fhir.NoteKind, "psychotherapy-note", "Psychotherapy note"}
	sudCounselingNote = code{fhir.NoteKind, "sud-counseling-note", "SUD counseling note"}
)

func clinicalNote() field {
	return list("category", concept("Clinical note",
		code{"http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category", "clinical-note", "Clinical note"}))
}

func plainText(title, text string) field {
	return list("content", object(nest("attachment",
		str("contentType", "text/plain; charset=utf-8"), str("language", "en-US"), str("data", text), str("title", title))))
}

// progressNote writes the note of one visit, in the shape of US Core's DocumentReference.
func (c *chart) progressNote(v visit, n int) {
	c.put(c.ref("DocumentReference", v.key("note", n)), declares("documentreference"), str("status", "current"), str("docStatus", "final"),
		conceptField("type", "Progress note", code{loinc, "11506-3", "Progress note"}), clinicalNote(),
		reference("subject", c.self), str("date", instant(v.start.Add(2*time.Hour))),
		references("author", v.by.ref()), reference("custodian", v.program.org),
		str("description", "Progress note of a session"),
		plainText("Progress note", pick(c.dice, noteLines)),
		nest("context", references("encounter", v.encounter),
			period("period", v.start, v.start.Add(50*time.Minute))))
}

// apartNote writes a psychotherapy or SUD counseling note. It refers to no
// Encounter and tells no session time: what tells those is no such note (45 CFR
// 164.501, 42 CFR 2.11), and nothing refers to it.
func (c *chart) apartNote(v visit, n int, kind code) {
	key := v.key(kind.code, n)
	c.put(c.ref("DocumentReference", key), str("status", "current"), str("docStatus", "final"),
		conceptField("type", kind.display, kind),
		reference("subject", c.self), str("date", instant(days(v.start.Truncate(24*time.Hour), 1).Add(time.Hour))),
		references("author", v.by.ref()), reference("custodian", v.program.org),
		str("description", "Kept apart from the record"),
		plainText("Note", pick(c.dice, apartLines)))
}
