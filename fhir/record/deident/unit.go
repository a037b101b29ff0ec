package deident

import (
	"math/big"
	"regexp"
	"strings"
)

// atoms are the units of UCUM that clinical records use; those before the bar take prefixes.
const atoms = `m s g L l mol eq osm Hz N Pa J W A V F Ohm S T lm lx Bq Gy Sv K Cel C cal Cal bar t u eV U kat rad [iU] [IU] B m[Hg] m[H2O]|
% a mo wk d h min deg [pH] [in_i] [ft_i] [yd_i] [mi_i] [lb_av] [oz_av] [oz_tr] [foz_us] [cup_us] [tsp_us] [tbs_us] [pt_us] [qt_us] [gal_us]
[degF] [psi] [drp] [ppm] [ppb] [CFU] [PFU] [HPF] [LPF] [arb'U] [GPL'U] [MPL'U] [APL'U] [beth'U] [e'U] [hnsf'U] [diop] [MET] [in_i'H2O] 10* 10^`

const prefixes = `Y Z E P T G M k h da d c m u n p f a z y`

// annotations are the braces that a unit may have: whatever else stands in braces is free text.
const annotations = `score # count beats breaths cells ratio INR T-score Z-score nominal index copies events times doses tbl 1.73_m2
pack-years PackYears pt RBC WBC mean titer tabs drinks {drinks}/wk visits days`

var unitAtoms, unitAnnotations = func() (map[string]bool, map[string]bool) {
	metric, other, _ := strings.Cut(atoms, "|")
	known := map[string]bool{}
	for _, a := range strings.Fields(metric) {
		known[a] = true
		for _, p := range strings.Fields(prefixes) {
			known[p+a] = true
		}
	}
	for _, a := range strings.Fields(other) {
		known[a] = true
	}
	notes := map[string]bool{}
	for _, a := range strings.Fields(annotations) {
		notes[a] = true
	}
	return known, notes
}()

var (
	component  = regexp.MustCompile(`^([^{}]*?)([+-]?[1-9]\d?)?(?:\{([^{}]*)\})?$`)
	multiplier = regexp.MustCompile(`^(1|10|100|1000)$`)
)

// isUCUM reports whether a unit is made of units, exponents and annotations that are known.
func isUCUM(unit string) bool {
	if unit == "" || len(unit) > 32 || strings.ContainsAny(unit, " \t\r\n") {
		return false
	}
	rest := strings.TrimPrefix(unit, "/")
	for part := range strings.FieldsFuncSeq(separated(rest), func(r rune) bool { return r == '\n' }) {
		m := component.FindStringSubmatch(part)
		switch {
		case len(m) != 4 || m[3] == "" && strings.HasSuffix(part, "}") || m[3] != "" && !unitAnnotations[m[3]]:
			return false
		case m[1]+m[2] == "": // an annotation alone
		case unitAtoms[m[1]] || multiplier.MatchString(m[1]+m[2]):
		default:
			return false
		}
	}
	return rest != "" && !strings.Contains(separated(rest), "\n\n") && !strings.HasSuffix(rest, ".") && !strings.HasSuffix(rest, "/")
}

// separated writes a line for each component: those in brackets and braces are one.
func separated(unit string) string {
	depth := 0
	return strings.Map(func(r rune) rune {
		switch r {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '.', '/':
			if depth == 0 {
				return '\n'
			}
		}
		return r
	}, unit)
}

// spans are the units of time by which an age may be told, and how many of each are a year.
var spans = map[string]*big.Rat{
	"a": big.NewRat(1, 1), "mo": big.NewRat(12, 1), "wk": big.NewRat(36525, 700), "d": big.NewRat(36525, 100),
	"h": big.NewRat(36525*24, 100), "min": big.NewRat(36525*24*60, 100), "s": big.NewRat(36525*24*3600, 100),
}

// Seconds take prefixes, which hide an age as well as any other unit does.
func init() {
	second := spans["s"]
	for prefix, power := range map[string]int64{"Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1} {
		spans[prefix+"s"] = new(big.Rat).Quo(second, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(power), nil)))
	}
}

// stretched reports whether a unit is a multiple of one of time ("10*3.d"): nobody measures in these, and an age would not
// be seen in them.
func stretched(unit string) bool {
	if spans[unit] != nil {
		return false
	}
	timed := false
	for over, rest := false, unit; rest != ""; {
		part := rest
		if i := strings.IndexAny(rest, "./"); i >= 0 {
			part, rest = rest[:i], rest[i:]
		} else {
			rest = ""
		}
		switch bare := strings.TrimRight(part, "+-0123456789"); {
		case part == "", bare == "", bare == "10*", bare == "10^": // a number
		case spans[bare] != nil:
			timed = timed || !over
		default:
			return false
		}
		if rest != "" {
			over, rest = over || rest[0] == '/', rest[1:]
		}
	}
	return timed
}

// inYears is a span of time in years; false where the unit is none of time.
func inYears(value *big.Rat, unit string) (*big.Rat, bool) {
	per := spans[unit]
	if per == nil {
		return nil, false
	}
	return new(big.Rat).Quo(value, per), true
}
