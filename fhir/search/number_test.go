package search

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir/search/ucum"
)

func TestNumbers(t *testing.T) {
	for in, want := range map[string]Value{
		"100":      {Prefix: "eq", At: 100, Low: 99.5, High: 100.5},
		"100.00":   {Prefix: "eq", At: 100, Low: 99.995, High: 100.005},
		"1e2":      {Prefix: "eq", At: 100, Low: 95, High: 105},
		"1.0e2":    {Prefix: "eq", At: 100, Low: 95, High: 105},
		"5.4":      {Prefix: "eq", At: 5.4, Low: 5.35, High: 5.45},
		"5.40":     {Prefix: "eq", At: 5.4, Low: 5.395, High: 5.405},
		"5.40e-3":  {Prefix: "eq", At: 0.0054, Low: 0.005395, High: 0.005405},
		"5.4E3":    {Prefix: "eq", At: 5400, Low: 5350, High: 5450},
		"-3":       {Prefix: "eq", At: -3, Low: -3.5, High: -2.5},
		"0":        {Prefix: "eq", At: 0, Low: -0.5, High: 0.5},
		"0.8":      {Prefix: "eq", At: 0.8, Low: 0.75, High: 0.85},
		"gt100":    {Prefix: "gt", At: 100, Low: 99.5, High: 100.5},
		"ne-1.5":   {Prefix: "ne", At: -1.5, Low: -1.55, High: -1.45},
		"ap100":    {Prefix: "ap", At: 100, Low: 90, High: 110},
		"ap-100":   {Prefix: "ap", At: -100, Low: -110, High: -90},
		"ap1":      {Prefix: "ap", At: 1, Low: 0.5, High: 1.5}, // a tenth is finer than what was written
		"eb1e100":  {Prefix: "eb", At: 1e100, Low: 0.95e100, High: 1.05e100},
		"sa1e-100": {Prefix: "sa", At: 1e-100, Low: 0.95e-100, High: 1.05e-100},
	} {
		got, reason := numberValue(in)
		if reason != "" || len(got) != 1 || got[0] != want {
			t.Errorf("%s: %+v %s, want %+v", in, got, reason, want)
		}
	}
	for _, in := range []string{"", "a", "gt", "1.", ".5", "1e", "e5", "1e5.5", "1e101", "1e-101", "--1", "+1", "1 ", "0x10", "1_0", "Inf", "NaN", "1,5", "eqeq1",
		"12345678901234567890123456789012345678901", "zz1"} {
		if got, reason := numberValue(in); reason == "" {
			t.Errorf("%q was read as %+v", in, got)
		}
	}
}

// TestNumbersAreWithinTheirPrecision: bounds are the nearest floats of exact decimals.
func TestNumbersAreWithinTheirPrecision(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.StringMatching(`-?[0-9]{1,12}(\.[0-9]{1,8})?([eE]-?[0-9]{1,2})?`).Draw(rt, "s")
		got, reason := numberValue(s)
		if reason != "" {
			rt.Fatal(reason)
		}
		v := got[0]
		if !(v.Low <= v.At && v.At <= v.High) || v.Low == v.High {
			rt.Fatalf("%+v", v)
		}
		exact, ok := new(big.Rat).SetString(s)
		if !ok {
			rt.Fatal("no decimal")
		}
		if f, _ := exact.Float64(); f != v.At {
			rt.Fatalf("%v, not %v", v.At, f)
		}
	})
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"1e2", "-5.40e-3", "gt1", "1e-100", "ap99999999999999999999e99"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, reason := numberValue(s)
		for _, v := range got {
			if reason != "" || !(v.Low <= v.At && v.At <= v.High) {
				t.Fatalf("%q: %+v %s", s, v, reason)
			}
		}
	})
}

func TestQuantities(t *testing.T) {
	unit := func(parts ...string) int64 { return hash(kindUnit, parts...) }
	got, reason := quantityValue("5.4")
	if reason != "" || len(got) != 1 || got[0] != (Value{Prefix: "eq", At: 5.4, Low: 5.35, High: 5.45}) {
		t.Errorf("%+v %s", got, reason)
	}
	got, reason = quantityValue("le5.4|urn:units|tab\\|let")
	if reason != "" || len(got) != 1 || got[0] != (Value{Prefix: "le", At: 5.4, Low: 5.35, High: 5.45, Unit: unit("urn:units", "tab|let", "")}) {
		t.Errorf("%+v %s", got, reason)
	}
	got, reason = quantityValue("5||tablet")
	if reason != "" || len(got) != 1 || got[0].Unit != unit("tablet") {
		t.Errorf("%+v %s", got, reason)
	}
	if u, ok := ucum.Parse("mg"); ok {
		got, reason = quantityValue("5.40e3|http://unitsofmeasure.org|mg")
		if reason != "" || len(got) != 1 || got[0].Unit != unit(ucum.System, u.Canonical()) || got[0].At != 5.4 || got[0].Low != 5.395 || got[0].High != 5.405 {
			t.Errorf("%+v %s", got, reason)
		}
		if got, reason = quantityValue("5||mg"); reason != "" || len(got) != 2 {
			t.Errorf("a unit without a system may be of UCUM or not: %+v %s", got, reason)
		}
	}
	for _, in := range []string{"", "a|b|c", "5|mg", "5|a|b|c", "5|urn:x|", "5||", "|urn:x|mg", "5|urn:x|m\\g", "xx5||mg", "gt||mg"} {
		if got, reason := quantityValue(in); reason == "" {
			t.Errorf("%q was read as %+v", in, got)
		}
	}
}
