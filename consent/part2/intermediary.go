package part2

// Intermediated is whom a consent to disclosures through an intermediary names.
type Intermediated struct {
	Named             bool // the intermediary itself
	Participants      bool // some of its participants, by name
	TreatingProviders bool // its participants who have a treating provider relationship with the patient
	OtherClass        bool // participants by some other designation
}

// IntermediaryFaults says what such a consent lacks (S7, 42 CFR 2.31(a)(4)(ii)):
// the name of the intermediary, and the names of participants or a general
// designation that is limited to those with a treating provider relationship.
func IntermediaryFaults(i Intermediated) (out []string) {
	if !i.Named {
		out = append(out, "42 CFR 2.31(a)(4)(ii): the intermediary is not named")
	}
	if !i.Participants && !i.TreatingProviders {
		out = append(out, "42 CFR 2.31(a)(4)(ii)(A), (B): neither participants nor those with a treating provider relationship are named")
	}
	if i.OtherClass {
		out = append(out, "42 CFR 2.31(a)(4)(ii)(B): a general designation is limited to participants with a treating provider relationship")
	}
	return out
}
