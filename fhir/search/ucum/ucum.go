// Package ucum reads units of the Unified Code for Units of Measure and
// converts numbers in them to their canonical base units, exactly.
package ucum

import (
	"math/big"
)

// System is the URI of UCUM as a code system (R4 terminologies, 4.3.0).
const System = "http://unitsofmeasure.org"

// Unit is a unit as a rule how to turn numbers in it into numbers in the
// canonical unit of its dimension: times a factor, plus an offset.
type Unit struct {
	canonical string
	factor    *big.Rat
	offset    *big.Rat // nil is none
}

// Parse reads a unit in the case-sensitive form ("mg/dL"). It gives false for
// what UCUM does not define.
func Parse(code string) (Unit, bool) {
	return Unit{}, false
}

// Canonical is the same text for all units of one dimension: powers of the
// base units in alphabetical order ("g.m-3"), "1" for none.
func (u Unit) Canonical() string { return u.canonical }

// Convert turns a number in u into the number in the canonical unit.
func (u Unit) Convert(v *big.Rat) *big.Rat {
	out := new(big.Rat).Mul(v, u.factor)
	if u.offset != nil {
		out.Add(out, u.offset)
	}
	return out
}
