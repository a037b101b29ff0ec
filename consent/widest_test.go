package consent_test

import (
	"slices"
	"testing"

	"github.com/cloister-health/cloister/consent"
)

func TestWidest(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{nil, nil},
		{[]string{"TREAT", "COC", "CLINTRL"}, []string{"TREAT"}},
		{[]string{"HPAYMT", "COVERAGE", "ELIGVER", "COC"}, []string{"COC", "HPAYMT"}},
		{[]string{"TREAT", "ETREAT", "TREAT"}, []string{"ETREAT", "TREAT"}}, // what has to be named stays named
		{[]string{"HLEGAL", "HOPERAT"}, []string{"HLEGAL", "HOPERAT"}},
		{[]string{"X"}, []string{"X"}},
	} {
		if got := consent.Widest(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v", c.in, got)
		}
	}
}

func TestCategory(t *testing.T) {
	for in, want := range map[string]string{"TREAT": "TREAT", "BTG": "TREAT", "ELIGVER": "HPAYMT", "TRAIN": "HOPERAT", "HLEGAL": "HOPERAT", "LEGAL": "LEGAL", "X": "X", "": ""} {
		if got := consent.Category(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
