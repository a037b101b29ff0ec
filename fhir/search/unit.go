package search

import (
	"math/big"

	"github.com/cloister-health/cloister/fhir/search/ucum"
)

// currencySystem is the system of currency codes; the index knows them by
// their code alone, because that is all that a Money holds.
const currencySystem = "urn:iso:std:iso:4217"

// Unit is one unit that a searched quantity may mean, as the index knows it.
type Unit struct {
	Hash int64 // for Value.Unit; compared with QuantityEntry.Unit
	ucum ucum.Unit
	conv bool
}

// Float turns a searched number (its value, or a bound of its precision; the
// exact decimal) into the unit in which the index keeps UnitLo and UnitHi.
func (u Unit) Float(v *big.Rat) float64 {
	if u.conv {
		v = u.ucum.Convert(v)
	}
	f, _ := v.Float64()
	return f
}

// UnitOf lists what a searched unit may mean (R4 search, quantity): a code of
// UCUM is any commensurable unit; a code of another system is that code alone.
// Without a system it is both a code of UCUM, where it is one, and the code or
// unit as somebody has written it: then a Value for each. code is never "":
// such a search names no unit and has Value.Unit 0.
func UnitOf(system, code string) []Unit {
	var out []Unit
	if system == "" || system == ucum.System {
		if u, ok := ucum.Parse(code); ok {
			out = append(out, Unit{Hash: hash(kindUnit, ucum.System, u.Canonical()), ucum: u, conv: true})
		}
	}
	switch {
	case system == "" || system == currencySystem:
		out = append(out, Unit{Hash: hash(kindUnit, code)})
	case len(out) == 0:
		out = append(out, Unit{Hash: hash(kindUnit, system, code, "")})
	}
	return out
}
