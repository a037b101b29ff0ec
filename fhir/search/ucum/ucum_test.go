package ucum

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

// TestEqual lists measures that are the same one.
func TestEqual(t *testing.T) {
	for _, tt := range []struct{ a, inA, b, inB string }{
		{"100", "mg/dL", "1", "g/L"},
		{"100", "mg/dL", "1000", "ug/mL"},
		{"1", "kg", "1000", "g"},
		{"2.54", "cm", "1", "[in_i]"},
		{"12", "[in_i]", "1", "[ft_i]"},
		{"1", "[lb_av]", "453.59237", "g"},
		{"1", "[lb_av]", "16", "[oz_av]"},
		{"98.6", "[degF]", "37", "Cel"},
		{"0", "Cel", "273.15", "K"},
		{"-40", "[degF]", "-40", "Cel{oral}"},
		{"0", "[degRe]", "0", "Cel"},
		{"1", "mCel", "273.151", "K"},
		{"120", "mm[Hg]", "12", "cm[Hg]"},
		{"1", "m[Hg]", "133.322", "kPa"},
		{"60", "/min", "1", "Hz"},
		{"60", "{beats}/min", "1", "/s"},
		{"5", "10*3/uL", "5", "10*9/L"},
		{"5", "10^3/uL", "5000", "/uL"},
		{"1", "[IU]/L", "1", "m[IU]/mL"},
		{"1", "[iU]", "1", "[IU]"},
		{"1", "U/L", "1", "umol/min/L"},
		{"1", "kat", "60000000", "U"},
		{"1", "mmol/L", "1", "mol/m3"},
		{"7", "d", "1", "wk"},
		{"24", "h", "1", "d"},
		{"12", "mo", "1", "a"},
		{"365.25", "d", "1", "a"},
		{"50", "%", "0.5", "1"},
		{"5", "{score}", "5", "{INR}"},
		{"5", "1", "5", "{score}"},
		{"90", "mL/min/{1.73_m2}", "90", "mL/min"},
		{"1", "L", "1", "dm3"},
		{"1", "l", "1000", "cm3"},
		{"25", "kg/m2", "25", "kg.m-2"},
		{"25", "kg/(m.m)", "25", "kg/m/m"},
		{"1", "N", "1", "kg.m.s-2"},
		{"1", "J", "1", "N.m"},
		{"4.184", "J", "1", "cal"},
		{"1", "kcal", "1", "[Cal]"},
		{"180", "deg", "3.1415926535897932384626433832795028841971693993751058209749445923", "rad"},
		{"8", "bit", "1", "By"},
		{"1", "KiBy", "1024", "By"},
		{"1", "meq/L", "1", "mmol/L"},
		{"10", "dB", "1", "B"},
		{"1", "2.mg", "2", "mg"},
		{"1", "m+2", "1", "m2"},
		{"1", "/m", "1", "m-1"},
		{"1", "g{dry}/L", "1", "g/L"},
	} {
		a, b := canonical(t, tt.a, tt.inA), canonical(t, tt.b, tt.inB)
		if a != b {
			t.Errorf("%s %s is %s, %s %s is %s", tt.a, tt.inA, a, tt.b, tt.inB, b)
		}
	}
}

// TestDiffer lists measures that are not the same one.
func TestDiffer(t *testing.T) {
	for _, tt := range []struct{ a, b string }{
		{"[pH]", "1"}, {"[IU]", "1"}, {"[IU]", "[arb'U]"}, {"[IU]", "U"}, {"g", "m"}, {"Cel", "1"}, {"s", "Hz"},
		{"M[iU]", "m[iU]"}, {"mmol", "umol"}, {"mm[Hg]", "mm"}, {"a", "ar"}, {"cd", "cg"}, {"Pa", "P"}, {"min", "m"}, {"B", "Np"},
	} {
		if canonical(t, "1", tt.a) == canonical(t, "1", tt.b) {
			t.Errorf("1 %s and 1 %s are the same", tt.a, tt.b)
		}
	}
}

func canonical(t testing.TB, number, code string) string {
	t.Helper()
	u, ok := Parse(code)
	if !ok {
		t.Fatalf("%q is no unit", code)
	}
	n, ok := Decimal(number)
	if !ok {
		t.Fatalf("%q is no decimal", number)
	}
	return u.Convert(n).RatString() + " " + u.Canonical()
}

func TestNoUnits(t *testing.T) {
	for _, code := range []string{
		"", " ", "mg / dL", "MG/DL", "lbs", "mmHg", "[degf]", "x", "kgg", "k", "m0", "m65", "m-65", "m+", "m-", "1m", "0", "0.5m", "m..s", "m/", "m.", "(m", "m)", "()",
		"{", "}", "{a", "a}", "{a{b}}", "{é}", "[", "[in_i", "mm[Hg", "k[in_i]", "mmin", "Cel2", "/Cel", "J/Cel", "[degF]/min", "m[degF]", "kCel.m", "hundred",
		strings.Repeat("(", 17) + "m" + strings.Repeat(")", 17), strings.Repeat("m.", 70) + "m", "Ym64.Ym64.Ym64.Ym64.Ym64",
	} {
		if u, ok := Parse(code); ok {
			t.Errorf("%q is read as %s", code, u.Canonical())
		}
	}
	circle := strings.Join([]string{"one\t\t1\tother", "other\t\t1\tone"}, "\n")
	if _, err := readUnits(circle); err == nil {
		t.Error("units that are defined by each other are read")
	}
	for _, table := range []string{"a\t\t1\n", "a\t\t1\t!\na\t\t1\t!\n", "a\t\tx\t1\n", "a\t\t1\tb\n"} {
		if _, err := readUnits(table); err == nil {
			t.Errorf("a faulty table is read: %q", table)
		}
	}
}

// unit draws units by the grammar.
func unit(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		if rapid.IntRange(0, 9).Draw(t, "over") == 0 {
			b.WriteByte('/')
		}
		for i := range rapid.IntRange(1, 3).Draw(t, "components") {
			if i > 0 {
				b.WriteString(rapid.SampledFrom([]string{".", "/"}).Draw(t, "operator"))
			}
			switch kind := rapid.IntRange(0, 9).Draw(t, "kind"); {
			case kind == 0 && depth > 0:
				b.WriteString("(" + unit(depth-1).Draw(t, "term") + ")")
			case kind == 1:
				b.WriteString(strconv.Itoa(rapid.IntRange(1, 1000).Draw(t, "factor")))
			default:
				b.WriteString(rapid.SampledFrom([]string{"g", "mg", "kg", "L", "dL", "mol", "mmol", "s", "min", "h", "d", "m", "cm", "[in_i]", "[lb_av]", "mm[Hg]", "U", "[IU]", "10*", "%", "K", "J", "kat", "deg", "bar"}).Draw(t, "symbol"))
				b.WriteString(rapid.SampledFrom([]string{"", "", "", "2", "-1", "3"}).Draw(t, "power"))
			}
			if rapid.IntRange(0, 9).Draw(t, "annotated") == 0 {
				b.WriteString("{note}")
			}
		}
		return b.String()
	})
}

func decimalText() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return rapid.StringMatching(`-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "decimal")
	})
}

// TestThereAndBack: a number in a unit and back is the same number, exactly.
func TestThereAndBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		code := rapid.OneOf(unit(2), rapid.SampledFrom([]string{"Cel", "[degF]", "[degRe]", "mCel"})).Draw(rt, "unit")
		u, ok := Parse(code)
		if !ok {
			rt.Fatalf("%q is no unit", code)
		}
		n, ok := Decimal(decimalText().Draw(rt, "number"))
		if !ok {
			rt.Skip("too long")
		}
		if back := u.Revert(u.Convert(n)); back.Cmp(n) != 0 {
			rt.Fatalf("%s %s came back as %s", n, code, back)
		}
	})
}

// TestCommutes: the order of factors does not matter, a unit over itself is one,
// and a product converts as its factors do, one after the other.
func TestCommutes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := unit(1).Draw(rt, "a"), unit(1).Draw(rt, "b")
		ab, ok1 := Parse("(" + a + ").(" + b + ")")
		ba, ok2 := Parse("(" + b + ").(" + a + ")")
		ua, ok3 := Parse(a)
		ub, ok4 := Parse(b)
		over, ok5 := Parse("(" + a + ")/(" + a + ")")
		if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
			rt.Fatal("no units")
		}
		one := big.NewRat(1, 1)
		if ab.Canonical() != ba.Canonical() || ab.Convert(one).Cmp(ba.Convert(one)) != 0 {
			rt.Fatalf("%s and %s do not commute", a, b)
		}
		if want := new(big.Rat).Mul(ua.Convert(one), ub.Convert(one)); want.Cmp(ab.Convert(one)) != 0 {
			rt.Fatalf("(%s).(%s) is %s, its factors %s", a, b, ab.Convert(one), want)
		}
		if over.Canonical() != "1" || over.Convert(one).Cmp(one) != 0 {
			rt.Fatalf("%s over itself is %s", a, over.Canonical())
		}
	})
}

// TestFloatIsTheNearest: the quick way gives what the exact one does.
func TestFloatIsTheNearest(t *testing.T) {
	quick := 0
	rapid.Check(t, func(rt *rapid.T) {
		code := rapid.OneOf(unit(1), rapid.SampledFrom([]string{"Cel", "[degF]", "/min", "mg/dL", "{score}"})).Draw(rt, "unit")
		text := decimalText().Draw(rt, "number")
		u, ok := Parse(code)
		if !ok {
			rt.Fatalf("%q is no unit", code)
		}
		n, ok := Decimal(text)
		if !ok {
			rt.Skip("too long")
		}
		want, _ := u.Convert(n).Float64()
		got, ok := u.Float(text)
		if want-want == 0 && (!ok || got != want) {
			rt.Fatalf("%s %s is %v, the nearest is %v", text, code, got, want)
		}
		if mantissa, exponent, _ := split(text); u.simple {
			if _, ok := u.quick(mantissa, exponent+u.power); ok {
				quick++
			}
		}
	})
	if quick == 0 {
		t.Error("the quick way was never taken")
	}
}

// TestFloatOfLongNumbers is where the quick way must not be taken.
func TestFloatOfLongNumbers(t *testing.T) {
	u, _ := Parse("[lb_av]")
	for n := int64(1); n < 900_000_000_000_000; n = n*13/7 + 11 {
		for _, text := range []string{strconv.FormatInt(n, 10), strconv.FormatInt(n, 10) + "e-9"} {
			r, _ := Decimal(text)
			want, _ := u.Convert(r).Float64()
			if got, _ := u.Float(text); got != want {
				t.Errorf("%s: %v is not %v", text, got, want)
			}
		}
	}
}

func TestDecimal(t *testing.T) {
	for _, s := range []string{"", "-", ".", "1.", ".5", "1e", "1e+", "0x1p4", "1_0", "Inf", "NaN", "1/2", "1e401", "1e-401", "1e99999999999", " 1", strings.Repeat("1", 401), "--1", "1e1.5"} {
		if _, ok := Decimal(s); ok {
			t.Errorf("%q is read", s)
		}
	}
	if f, ok := (Unit{factor: big.NewRat(1, 1), simple: true, times: 1, over: 1}).Float("1e309"); ok {
		t.Errorf("1e309 is %v", f)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"mg/dL", "10*3/uL", "(m.s-2){x}/[in_i]2", "Cel", "B[10.nV]", "/{a}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, code string) {
		u, ok := Parse(code)
		if !ok {
			return
		}
		if u.Canonical() == "" || u.factor.Sign() <= 0 {
			t.Fatalf("%q: %s %s", code, u.factor, u.Canonical())
		}
		again, ok := Parse(u.Canonical())
		if !ok && len(u.Canonical()) <= maxLength || ok && again.Canonical() != u.Canonical() {
			// Powers beyond the bound can only come from products.
			for _, p := range strings.FieldsFunc(u.Canonical(), func(r rune) bool { return (r < '0' || r > '9') }) {
				if n, err := strconv.Atoi(p); err == nil && n > maxPower {
					return
				}
			}
			t.Fatalf("%q: its canonical unit %s is none", code, u.Canonical())
		}
	})
}

// TestCommonUnits reads every unit of the value sets that R4 has of UCUM.
func TestCommonUnits(t *testing.T) {
	dir := shareddata.Open(t, shareddata.Definitions)
	count := 0
	for _, name := range []string{"common", "bodylength", "bodytemp", "bodyweight", "vitals-common"} {
		var set struct {
			Compose struct {
				Include []struct{ Concept []struct{ Code string } }
			}
		}
		if err := json.Unmarshal(shareddata.Read(t, dir, "ValueSet-ucum-"+name+".json"), &set); err != nil {
			t.Fatal(err)
		}
		for _, include := range set.Compose.Include {
			for _, c := range include.Concept {
				count++
				if _, ok := Parse(c.Code); !ok {
					t.Errorf("%s: %q is no unit", name, c.Code)
				}
			}
		}
	}
	t.Logf("%d units", count)
	if count < 1000 {
		t.Error("the value sets are not what they were")
	}
}

func BenchmarkFloat(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		u, _ := Parse("mg/dL")
		u.Float("98.6")
	}
}
