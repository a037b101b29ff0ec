package deidentify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/consent/deidentify"
	"github.com/cloister-health/cloister/consent/rule"
)

func TestD1_164_514_b_2_i_C_AgesAndDates(t *testing.T) {
	yes(t, deidentify.Age(89) == "89" && deidentify.Age(90) == "90+" && deidentify.Age(104) == "90+" && deidentify.Age(0) == "0", "ages")
	no(t, deidentify.Age(-1) != "0", "an age before birth")
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	old, young := now.AddDate(-90, 0, 0), now.AddDate(-90, 0, 1)
	yes(t, deidentify.Year(young, young, now) == "1936", "the year of birth at 89")
	no(t, deidentify.Year(old, old, now) != "", "the year of birth at 90")
	yes(t, deidentify.Year(old, now, now) == "2026", "a year that tells no age")
	no(t, deidentify.Year(old, old.AddDate(1, 0, 0), now) != "", "the first year of life")
}

func TestD2_164_514_b_2_i_B_ZIP3(t *testing.T) {
	for _, zip := range strings.Fields("036 059 102 202 203 204 205 369 556 692 753 772 821 823 878 879 884 893") {
		no(t, deidentify.ZIP3(zip+"01") != "000", zip)
	}
	kept := 0
	for n := range 1000 {
		if zip := fmt.Sprintf("%03d", n); deidentify.ZIP3(zip+"00") == zip && zip != "000" {
			kept++
		}
	}
	yes(t, kept == 876, fmt.Sprint(kept, " areas"))
	yes(t, deidentify.ZIP3("90210") == "902" && deidentify.ZIP3("902") == "902", "902")
	no(t, deidentify.ZIP3("90") != "000" || deidentify.ZIP3("") != "000" || deidentify.ZIP3("K1A 0B1") != "000" || deidentify.ZIP3("00000-1234") != "000", "no ZIP code")
}

func TestD3_164_514_c_Random(t *testing.T) {
	a, b := deidentify.Code(), deidentify.Code()
	yes(t, len(a) >= 26, "128 bits")
	no(t, a == b, "the same code twice")
}

func TestD4_164_514_e_LimitedSet(t *testing.T) {
	yes(t, deidentify.InLimitedSet("zip") && deidentify.InLimitedSet("date"), "places and dates")
	no(t, deidentify.InLimitedSet("name") || deidentify.InLimitedSet("mrn") || deidentify.InLimitedSet("anything"), "identifiers")
	for _, purpose := range []string{"HRESCH", "PUBHLTH", "HOPERAT"} {
		yes(t, deidentify.LimitedSetPermits(true, purpose), purpose)
		no(t, deidentify.LimitedSetPermits(false, purpose), purpose)
	}
	no(t, deidentify.LimitedSetPermits(true, "HMARKT"), "marketing")
}

func TestD6_164_514_b_FreeText(t *testing.T) {
	for _, e := range strings.Fields("text div note comment description display data annotation") {
		yes(t, deidentify.FreeText(e), e)
	}
	no(t, deidentify.FreeText("code"), "a code")
}

func TestD7_2_16_OptOut(t *testing.T) {
	yes(t, deidentify.MayInclude(false), "no wish")
	no(t, deidentify.MayInclude(true), "opted out")
}

func TestD8_SmallCells(t *testing.T) {
	for count, want := range map[int]bool{0: false, 1: true, 10: true, 11: false} {
		if got := deidentify.Suppress(count); got != want {
			t.Errorf("%d: %v", count, got)
		}
	}
}

func TestD8_CountsOfPeople(t *testing.T) {
	for n, want := range map[int]string{0: "0", 1: "<11", 10: "<11", 11: "11", 4711: "4711"} {
		if got := deidentify.Count(n); got != want {
			t.Errorf("%d is told as %s", n, got)
		}
	}
}

func TestRulesAreListed(t *testing.T) {
	for _, r := range deidentify.Rules() {
		if r.Title == "" || r.Citation == "" || (r.Status == rule.Outside) != (len(r.Funcs) == 0) {
			t.Errorf("%+v", r)
		}
	}
	if len(deidentify.Rules()) != 8 {
		t.Error("eight rules")
	}
}
