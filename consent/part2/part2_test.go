package part2_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/consent/part2"
)

var whole = part2.Written{Patient: true, Discloser: true, Description: true, Recipient: true, Purpose: true, Statements: true, Expiry: true, Signature: true, Date: true}

func TestS7_2_31_a_EveryElementIsRequired(t *testing.T) {
	for _, k := range []part2.Kind{part2.TPO, part2.Specific} {
		if m := part2.Missing(k, whole); m != nil {
			t.Errorf("%s: a whole consent lacks %v", k, m)
		}
		for i := range reflect.TypeFor[part2.Written]().NumField() {
			w := whole
			reflect.ValueOf(&w).Elem().Field(i).SetBool(false)
			name := reflect.TypeFor[part2.Written]().Field(i).Name
			m := part2.Missing(k, w)
			if want := name != "Expiry" || k == part2.Specific; (len(m) == 1) != want {
				t.Errorf("%s without %s: %v", k, name, m)
			}
		}
		if m := part2.Missing(k, part2.Written{}); len(m) < 8 || !strings.Contains(strings.Join(m, ";"), "2.31(a)(8)") {
			t.Errorf("%s: nothing lacks %v", k, m)
		}
	}
}

func TestS8_2_31_c_ExpiredOrNotYetInForce(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		start, end time.Time
		want       bool
	}{
		"in between":      {noon.Add(-time.Hour), noon.Add(time.Hour), true},
		"from this on":    {noon, time.Time{}, true},
		"until this":      {time.Time{}, noon, false},
		"not yet":         {noon.Add(1), time.Time{}, false},
		"open":            {time.Time{}, time.Time{}, true},
		"one moment left": {time.Time{}, noon.Add(1), true},
	} {
		if got := part2.InForce(c.start, c.end, noon); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestS6_S13_2_12_d_1_Proceedings(t *testing.T) {
	for p, want := range map[string]bool{"HLEGAL": true, "LEGAL": true, "HOPERAT": false, "TREAT": false, "": false} {
		if part2.Proceeding(p) != want {
			t.Errorf("Proceeding(%q) = %v", p, !want)
		}
		if want && part2.Consentable(p) {
			t.Errorf("a consent covers %s", p)
		}
	}
}

func TestS14_2_33_a_1_SpecificPurposes(t *testing.T) {
	for p, want := range map[string]bool{"TREAT": true, "HPAYMT": true, "HOPERAT": true, "COC": true, "HLEGAL": false, "ETREAT": false, "BTG": false, "HMARKT": false, "HRESCH": false, "": false, "HSYSADMIN": false} {
		if part2.Consentable(p) != want {
			t.Errorf("Consentable(%q) = %v", p, !want)
		}
	}
}

func TestS15_2_33_a_2_TPOPhrase(t *testing.T) {
	for text, want := range map[string]bool{
		"TREAT HPAYMT HOPERAT": true, "HOPERAT TREAT HPAYMT TREAT": true, "TREAT HPAYMT": false, "HPAYMT HOPERAT": false, "TREAT HOPERAT": false, "TREAT": false, "": false,
		"TREAT HPAYMT HOPERAT HLEGAL": false, "TREAT HPAYMT HLEGAL": false, "ETREAT HPAYMT HOPERAT": false, "TREAT HPAYMT HOPERAT HMARKT": false,
	} {
		if part2.IsTPO(strings.Fields(text)) != want {
			t.Errorf("IsTPO(%s) = %v", text, !want)
		}
	}
}

func TestS11_2_31_b_NoConsentOfThisVersionCoversCounselingNotes(t *testing.T) {
	for _, k := range []part2.Kind{part2.TPO, part2.Specific, "other"} {
		if part2.CoversCounselingNotes(k) {
			t.Errorf("%s does", k)
		}
	}
	if !part2.TPO.Valid() || !part2.Specific.Valid() || part2.Kind("other").Valid() || part2.Kind("").Valid() {
		t.Error("kinds")
	}
}

func TestS27_2_14_b_OnlyThePatientConsents(t *testing.T) {
	if !part2.MayConsent("Patient/1", "Patient/1") || part2.MayConsent("Patient/1", "RelatedPerson/1") || part2.MayConsent("", "") {
		t.Error("who may consent")
	}
}

func TestS5_S26_S38_MayDisclose(t *testing.T) {
	for name, c := range map[string]struct {
		b       part2.Basis
		purpose string
		want    bool
	}{
		"S38 program":    {part2.Basis{Program: true}, "TREAT", true},
		"S15 consent":    {part2.Basis{Consent: true}, "HPAYMT", true},
		"S26 self":       {part2.Basis{Self: true}, "PATRQT", true},
		"S42 none":       {part2.Basis{}, "TREAT", false},
		"S6 proceedings": {part2.Basis{Program: true, Consent: true, Self: true}, "HLEGAL", false},
	} {
		if got := part2.MayDisclose(c.b, c.purpose); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestS7_2_31_a_7_NoEnd(t *testing.T) {
	for k, want := range map[part2.Kind]bool{part2.TPO: true, part2.Research: true, part2.Specific: false, part2.Legal: false, part2.SUDCN: false} {
		if got := part2.ExpiryEvent(k, "expires-none"); got != want {
			t.Errorf("%s: %v", k, got)
		}
	}
	yes(t, part2.ExpiryEvent(part2.Legal, "expires-end-of-treatment"), "the end of the treatment")
	no(t, part2.ExpiryEvent(part2.TPO, "expires-end-of-study"), "the end of a study that is none")
}
