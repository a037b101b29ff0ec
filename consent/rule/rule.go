// Package rule describes the rules of law that the software carries: what each
// decides, where it is written, and which function decides it.
//
// The numbers are those of the segmentation rules: P for psychotherapy notes, S
// for 42 CFR part 2, H for the rest of HIPAA, D for de-identification, J for the
// law of states and other jurisdictions. docs/compliance.md is made of these descriptions.
package rule

// Status says what the software does about a rule.
type Status string

// The states of a rule.
const (
	Decides  Status = "decides"      // the answer to a request depends on it
	Computes Status = "computes"     // a function answers; people, or a procedure around it, ask it
	Outside  Status = "not software" // nothing in it can be computed; Doubt says why
)

// Mark says how well the text behind a rule is known.
type Mark string

// The marks of a rule.
const (
	Read  Mark = "read"         // the text was read
	Known Mark = "known"        // from general knowledge of the regulation
	Ours  Mark = "our decision" // no text says it
)

// Rule is one rule of law.
type Rule struct {
	ID       string // P4, S15 ...
	Title    string // what it decides, in our own words
	Citation string
	Funcs    []string // "consent/part2.Proceeding"; none where Status is Outside
	Status   Status
	Mark     Mark
	Doubt    string // where our reading is open to doubt, or why it is no matter of software; or ""
}
