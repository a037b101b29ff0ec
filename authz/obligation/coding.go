package obligation

import (
	"slices"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir/element"
)

const (
	systemConfidentiality = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
	systemActCode         = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

	// ds4p is where the extensions of HL7's Data Segmentation for Privacy guide live.
	ds4p = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/"
)

// Labelling says which security labels go with a released record.
type Labelling uint8

// The labellings. What 42 CFR 2.32 obliges to goes along in each of them.
const (
	Obliged  Labelling = iota // no others
	Labels                    // confidentiality, policy and sensitivity
	Detailed                  // these with basis and classifier (HL7 DS4P)
)

// classifier names who sets the labels, in the DS4P extension.
const classifier = "Cloister security labeling service"

// Security is meta.security of a record that is released under these
// obligations, as a JSON array; nil is none. consents are the URLs of those that
// it is released under.
//
// The order is that of HL7's Healthcare Privacy and Security Classification System:
// confidentiality, policy and sensitivity, refrain, mark.
func Security(s label.Set, due []Name, l Labelling, consents []string) []byte {
	noticed := slices.Contains(due, part2.Notice)
	refrain := slices.Contains(due, part2.NoRedisclosure)
	if l == Obliged && !noticed && !refrain {
		return nil
	}
	out := []byte("[")
	if l != Obliged {
		out = append(out, Confidentiality(s.Confidentiality())...)
		if l == Detailed {
			out = detailed(out, basis(s))
		}
	}
	for bit := label.Set(1); bit != 0 && bit <= label.All; bit <<= 1 {
		if !s.Has(bit) || l == Obliged && !protected.Has(bit) {
			continue
		}
		if system, code := label.LabelCode(bit); code != "" {
			out = coding(out, system, code)
			if l == Detailed {
				out = detailed(out, law(bit))
			}
		}
	}
	if refrain {
		out = coding(out, systemActCode, string(part2.NoRedisclosure))
		for i, url := range consents {
			if i == 0 {
				out = append(out[:len(out)-1], `,"extension":[`...)
			} else {
				out = append(out, ',')
			}
			out = append(out, `{"url":"`+ds4p+`extension-sec-label-related-artifact","valueRelatedArtifact":{"type":"justification","url":`...)
			out = element.AppendQuoted(out, url)
			out = append(out, `}}`...)
		}
		if len(consents) > 0 {
			out = append(out, `]}`...)
		}
	}
	if noticed {
		out = coding(out, systemActCode, "RedisclosureProhibitionMark")
		out = append(out[:len(out)-1], `,"extension":[{"url":"`+ds4p+`extension-display","valueAnnotation":{"text":"`+ShortNotice+`"}}]}`...)
	}
	return append(out, ']')
}

// Confidentiality is the coding of c.
func Confidentiality(c label.Confidentiality) string {
	return `{"system":"` + systemConfidentiality + `","code":"` + c.String() + `"}`
}

func coding(out []byte, system, code string) []byte {
	if len(out) > 1 {
		out = append(out, ',')
	}
	return append(out, `{"system":"`+system+`","code":"`+code+`"}`...)
}

// detailed adds to the last coding why it is there, and who says so.
func detailed(out []byte, why string) []byte {
	out = append(out[:len(out)-1], `,"extension":[`...)
	if why != "" {
		out = append(out, `{"url":"`+ds4p+`extension-sec-label-basis","valueCoding":{"system":"`+systemActCode+`","code":"`+why+`"}},`...)
	}
	return append(out, `{"url":"`+ds4p+`extension-sec-label-classifier","valueContributor":{"type":"author","name":"`+classifier+`"}}]}`...)
}

// basis is the law because of which a record is more than normally confidential,
// as a code of v3-ActCode, or "".
func basis(s label.Set) string {
	for _, source := range []label.Set{protected, label.PsychNote} {
		if s.Any(source) {
			return law(source & s)
		}
	}
	return ""
}

// law is the law behind one label, as a code of v3-ActCode, or "".
func law(s label.Set) string {
	switch {
	case s.Any(protected):
		return "42CFRPart2"
	case s.Any(label.PsychNote):
		return "HIPAAPsyNotes"
	}
	return ""
}
