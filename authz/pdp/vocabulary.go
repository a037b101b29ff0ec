package pdp

import (
	"sort"

	"github.com/cloister-health/cloister/authz"
)

// Operator is the role that only the command line holds, never a token.
const Operator = authz.Operator

// Roles lists the roles that a policy line can name, in the order of the
// manual. The caller owns the slice.
func Roles() []string { return authz.Roles() }

var roles = authz.Roles()

// Purposes lists the purposes that a policy line can name: the PurposeOfUse
// codes of R4's v3-ActReason, and LEGAL of its older half. The caller owns the slice.
func Purposes() []string { return append([]string(nil), purposes...) }

var purposes = []string{
	"TREAT", "CLINTRL", "COC", "ETREAT", "BTG", "ERTREAT", "POPHLTH",
	"HPAYMT", "CLMATTCH", "COVAUTH", "COVERAGE", "ELIGDTRM", "ELIGVER", "ENROLLM", "MILDCRG", "REMITADV",
	"HOPERAT", "CAREMGT", "DONAT", "FRAUD", "GOV", "HACCRED", "HCOMPL", "HDECD", "HDIRECT", "HDM", "HLEGAL",
	"HOUTCOMS", "HPRGRP", "HQUALIMP", "HSYSADMIN", "LABELING", "METAMGT", "MEMADMIN", "MILCDM", "PATADMIN",
	"PATSFTY", "PERFMSR", "RECORDMGT", "SYSDEV", "HTEST", "TRAIN",
	"HRESCH", "BIORCH", "CLINTRCH", "CLINTRCHNPC", "CLINTRCHPC", "PRECLINTRCH", "DSRCH", "POARCH", "TRANSRCH",
	"PATRQT", "FAMRQT", "PWATRNY", "SUPNWK",
	"PUBHLTH", "DISASTER", "THREAT", "HMARKT", "LEGAL",
}

// Actions lists the actions. The caller owns the slice.
func Actions() []authz.Action {
	return []authz.Action{
		authz.ActionRead, authz.ActionCreate, authz.ActionUpdate, authz.ActionDelete,
		authz.ActionPrepare, authz.ActionSign, authz.ActionRevoke, authz.ActionWitness,
		authz.ActionMask,
	}
}

var (
	knownRoles    = setOf(roles)
	knownPurposes = setOf(purposes)
	knownActions  = func() map[string]bool {
		m := map[string]bool{}
		for _, a := range Actions() {
			m[string(a)] = true
		}
		return m
	}()
	allFacts = func() (f authz.Fact) {
		for _, x := range authz.Facts() {
			f |= x.Bit
		}
		return f
	}()
)

func setOf(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// factNames spells a set of facts as policy lines do: "treating+program", or "-".
func factNames(f authz.Fact) string {
	out := ""
	for _, x := range authz.Facts() {
		if f&x.Bit != 0 {
			if out != "" {
				out += "+"
			}
			out += x.Name
		}
	}
	if out == "" {
		return "-"
	}
	return out
}

// knownCallerRoles keeps the roles that a line can name, sorted and distinct:
// a role that no policy knows gives nothing.
func knownCallerRoles(in []string) []string {
	out := make([]string, 0, len(in))
	for _, r := range in {
		if knownRoles[r] {
			out = append(out, r)
		}
	}
	sort.Strings(out)
	n := 0
	for i, r := range out {
		if i == 0 || r != out[n-1] {
			out[n] = r
			n++
		}
	}
	return out[:n]
}
