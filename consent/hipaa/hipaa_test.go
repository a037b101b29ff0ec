package hipaa_test

import (
	"testing"

	"github.com/cloister-health/cloister/consent/hipaa"
)

func TestP4_P5_P13_P19_164_508_a_2_OriginatorForTreatment(t *testing.T) {
	if !hipaa.MayUsePsychotherapyNote(true, "TREAT") {
		t.Error("P5: the originator may")
	}
	for _, purpose := range []string{"", "HPAYMT", "HOPERAT", "PATRQT", "HRESCH", "HLEGAL", "ETREAT", "BTG", "TRAIN", "PUBHLTH"} {
		if hipaa.MayUsePsychotherapyNote(true, purpose) {
			t.Errorf("the originator may for %q", purpose)
		}
	}
	if hipaa.MayUsePsychotherapyNote(false, "TREAT") {
		t.Error("P4: a colleague may")
	}
}

func TestP17_164_524_a_1_i_NoRightOfAccess(t *testing.T) {
	if hipaa.RightOfAccess(true) || !hipaa.RightOfAccess(false) {
		t.Error("access is to everything but psychotherapy notes")
	}
}

func TestP14_164_508_b_3_ii_Combined(t *testing.T) {
	notes := func(k string) bool { return k == "notes" }
	for _, c := range []struct {
		kinds []string
		want  bool
	}{{[]string{"notes"}, true}, {[]string{"notes", "notes"}, true}, {[]string{"notes", "marketing"}, false}, {nil, false}} {
		if hipaa.AuthorizationStandsAlone(c.kinds, notes) != c.want {
			t.Errorf("%v: %v", c.kinds, !c.want)
		}
	}
}
