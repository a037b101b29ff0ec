package pdp

import (
	"github.com/cloister-health/cloister/authz"
	"strings"
	"testing"
)

const okLine = "p, therapist, TREAT, read, Patient, PSY, treating, allow, ok"

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ line, want string }{
		"short line":                 {"p, therapist, TREAT, read, Patient, PSY, treating, allow", "7 fields"},
		"long line":                  {okLine + ", more", "9 fields"},
		"another kind of line":       {"g, therapist, clinician", "starts with p"},
		"effect in capitals":         {"p, therapist, TREAT, read, Patient, PSY, -, Deny, x", `not "Deny"`},
		"effect that is no effect":   {"p, therapist, TREAT, read, Patient, PSY, -, permit, x", `not "permit"`},
		"empty effect":               {"p, therapist, TREAT, read, Patient, PSY, -, , x", `not ""`},
		"unknown role":               {"p, terapist, TREAT, read, Patient, PSY, -, allow, x", `unknown role "terapist"`},
		"role in capitals":           {"p, Therapist, TREAT, read, Patient, PSY, -, allow, x", "unknown role"},
		"unknown purpose":            {"p, therapist, TREATMENT, read, Patient, PSY, -, allow, x", "unknown purpose"},
		"unknown action":             {"p, therapist, TREAT, search, Patient, PSY, -, allow, x", "unknown action"},
		"unknown type":               {"p, therapist, TREAT, read, Patients, PSY, -, allow, x", "unknown resource type"},
		"unknown label":              {"p, therapist, TREAT, read, Patient, PSI, -, allow, x", "unknown label"},
		"unknown fact":               {"p, therapist, TREAT, read, Patient, PSY, treats, allow, x", "unknown fact"},
		"unknown exception":          {"p, therapist, TREAT, read, Patient, PSY, treats, deny, x", "unknown fact"},
		"alternatives of facts":      {"p, therapist, TREAT, read, Patient, PSY, treating|consent, allow, x", "unknown fact"},
		"conjunction of exceptions":  {"p, therapist, TREAT, read, Patient, PSY, treating+consent, deny, x", "unknown fact"},
		"name twice":                 {okLine, "is that of line 1"},
		"no name":                    {"p, therapist, TREAT, read, Patient, PSY, -, allow, ", "has a name"},
		"every role allowed":         {"p, *, TREAT, read, Patient, PSY, -, allow, x", "names each role"},
		"every purpose allowed":      {"p, therapist, *, read, Patient, PSY, -, allow, x", "names each purpose"},
		"every label allowed":        {"p, therapist, TREAT, read, Patient, *, -, allow, x", "names the labels"},
		"negation in an allow line":  {"p, !operator, TREAT, read, Patient, PSY, -, allow, x", "can be negated"},
		"negated action":             {"p, therapist, TREAT, !read, Patient, PSY, -, deny, x", "can be negated"},
		"deny that nothing sets off": {"p, therapist, TREAT, read, Patient, -, -, deny, x", "set it off"},
		"empty role":                 {"p, , TREAT, read, Patient, PSY, -, allow, x", "empty item"},
		"empty alternative":          {"p, therapist|, TREAT, read, Patient, PSY, -, allow, x", "empty item"},
		"empty label":                {"p, therapist, TREAT, read, Patient, PSY+, -, allow, x", "empty item"},
		"empty facts":                {"p, therapist, TREAT, read, Patient, PSY, , allow, x", "empty item"},
		"role twice":                 {"p, therapist|clinician, TREAT, read, Patient, PSY, -, allow, x", "twice"},
		"type twice":                 {"p, therapist, TREAT, read, Patient|demographics, PSY, -, allow, x", "twice"},
		"label twice":                {"p, therapist, TREAT, read, Patient, PSY+general, -, allow, x", "twice"},
		"demand in a deny line":      {"p, therapist, TREAT, read, Patient, PSYTHPN!, -, deny, x", "asks for a label"},
		"demand for a group":         {"p, therapist, TREAT, read, Patient, general!, -, allow, x", "asks for a label"},
		"demand for nothing":         {"p, therapist, TREAT, read, Patient, !, -, allow, x", "unknown label"},
		"label twice, once demanded": {"p, therapist, TREAT, read, Patient, PSY+PSY!, -, allow, x", "twice"},
		"type of the group none":     {"p, therapist, TREAT, read, AuditEvent, PSY, -, allow, x", "no line can name"},
		"the group none":             {"p, therapist, TREAT, read, none, PSY, -, deny, x", "no line can name"},
		"quotes":                     {`p, "therapist", TREAT, read, Patient, PSY, -, allow, x`, "unknown role"},
		"semicolons for commas":      {"p; therapist; TREAT; read; Patient; PSY; -; allow; x", "starts with p"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := build(Source{okLine + "\n\n# comment\n" + c.line, groupsText})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "policy.csv:4: ") {
				t.Errorf("got %v; want line 4 and %q", err, c.want)
			}
		})
	}
	if _, err := build(Source{okLine, groupsText}); err != nil {
		t.Errorf("the line that the others spoil: %v", err)
	}
	for _, empty := range []string{"", "\n# nothing\n"} {
		if _, err := build(Source{empty, groupsText}); err == nil || !strings.Contains(err.Error(), "no lines") {
			t.Errorf("an empty policy: %v", err)
		}
	}
}

func TestLoadReportsEveryFault(t *testing.T) {
	_, err := build(Source{"p, a, b, c, d, e, f, g, h\np, therapist\n" + okLine, groupsText})
	if err == nil {
		t.Fatal("accepted")
	}
	if n := strings.Count(err.Error(), "policy.csv:1: "); n != 7 {
		t.Errorf("%d faults of line 1, want 7: %v", n, err)
	}
	if !strings.Contains(err.Error(), "policy.csv:2: ") {
		t.Errorf("line 2 goes unmentioned: %v", err)
	}
}

func TestGroupsRefuse(t *testing.T) {
	for name, c := range map[string]struct{ add, want string }{
		"short row":               {"role, x", "2 fields"},
		"unknown kind":            {"person, x, y", "unknown kind"},
		"name that is syntax":     {"role, a|b, therapist", "no name"},
		"role's name taken":       {"role, therapist, patient", "taken"},
		"role group twice":        {"role, clinician, patient", "taken"},
		"unknown role":            {"role, x, nobody", "unknown role"},
		"operator in a group":     {"role, x, operator|patient", "stands alone"},
		"label's name taken":      {"label, PSY, MH", "taken"},
		"unknown label":           {"label, x, LABEL", "unknown label"},
		"no label":                {"label, x, -", "unknown label"},
		"source label in a group": {"label, x, PSY+PSYTHPN", "can be in no group"},
		"counseling note":         {"label, x, SUDCN", "can be in no group"},
		"type's name taken":       {"type, Patient, Group", "taken"},
		"unknown type":            {"type, x, Patients", "unknown resource type"},
		"type in two groups":      {"type, x, Patient", "already in"},
		"empty member":            {"role, x, therapist||patient", "empty item"},
		"member twice":            {"role, x, therapist|therapist", "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := build(Source{policyText, groupsText + c.add})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "groups.csv:") {
				t.Errorf("got %v; want %q", err, c.want)
			}
		})
	}
	short := strings.Replace(groupsText, "|VisionPrescription", "", 1)
	if _, err := build(Source{policyText, short}); err == nil || !strings.Contains(err.Error(), "VisionPrescription is in no group") {
		t.Errorf("a forgotten type: %v", err)
	}
}

// No text makes the loader panic, and what it accepts Casbin can decide.
func FuzzLoad(f *testing.F) {
	f.Add(okLine)
	f.Add(policyText)
	f.Add("p, !clinician|operator, !TREAT, *, *, PSYTHPN+SUDCN, -, deny, a\n" + okLine)
	f.Add("p, *, *, *, *, *, program|self, deny, \x00\n# c\n,,,\np,p,p,p,p,p,p,p,p")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := build(Source{text, groupsText})
		if err != nil {
			return
		}
		for _, n := range nevers()[:2] {
			q, ok := normal(questionOf(n))
			if !ok {
				t.Fatal("not a question")
			}
			if _, err := p.permit(q); err != nil {
				t.Errorf("%q cannot be decided: %v", text, err)
			}
		}
	})
}

func questionOf(n never) authz.Question {
	return authz.Question{Roles: n.roles[:1], Purpose: n.purposes[0], Action: n.actions[0], Type: n.types[0], Labels: n.labels[0]}
}
