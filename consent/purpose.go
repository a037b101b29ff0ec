package consent

import "slices"

// below is the hierarchy of the purposes of use in R4's v3-ActReason; LEGAL is
// of its older half.
var below = map[string]string{
	"HMARKT": "", "HOPERAT": "", "HPAYMT": "", "HRESCH": "", "PATRQT": "", "PUBHLTH": "", "TREAT": "", "LEGAL": "",
	"CAREMGT": "HOPERAT", "DONAT": "HOPERAT", "FRAUD": "HOPERAT", "GOV": "HOPERAT", "HACCRED": "HOPERAT", "HCOMPL": "HOPERAT", "HDECD": "HOPERAT",
	"HDIRECT": "HOPERAT", "HDM": "HOPERAT", "HLEGAL": "HOPERAT", "HOUTCOMS": "HOPERAT", "HPRGRP": "HOPERAT", "HQUALIMP": "HOPERAT",
	"HSYSADMIN": "HOPERAT", "LABELING": "HSYSADMIN", "METAMGT": "HSYSADMIN", "MEMADMIN": "HOPERAT", "MILCDM": "HOPERAT", "PATADMIN": "HOPERAT",
	"PATSFTY": "HOPERAT", "PERFMSR": "HOPERAT", "RECORDMGT": "HOPERAT", "SYSDEV": "HOPERAT", "HTEST": "SYSDEV", "TRAIN": "HOPERAT",
	"CLMATTCH": "HPAYMT", "COVAUTH": "HPAYMT", "COVERAGE": "HPAYMT", "ELIGDTRM": "COVERAGE", "ELIGVER": "COVERAGE", "ENROLLM": "COVERAGE",
	"MILDCRG": "COVERAGE", "REMITADV": "HPAYMT",
	"BIORCH": "HRESCH", "CLINTRCH": "HRESCH", "CLINTRCHNPC": "CLINTRCH", "CLINTRCHPC": "CLINTRCH", "PRECLINTRCH": "CLINTRCH", "DSRCH": "HRESCH",
	"POARCH": "HRESCH", "TRANSRCH": "HRESCH",
	"FAMRQT": "PATRQT", "PWATRNY": "PATRQT", "SUPNWK": "PATRQT", "DISASTER": "PUBHLTH", "THREAT": "PUBHLTH",
	"CLINTRL": "TREAT", "COC": "TREAT", "ETREAT": "TREAT", "BTG": "ETREAT", "ERTREAT": "ETREAT", "POPHLTH": "TREAT",
}

// apart are purposes that a permit has to name: nobody who consents to the wider
// one expects them. Proceedings are no operations (42 CFR 2.12(d)(1)), an emergency
// has conditions of its own (42 CFR 2.51), and so has a threat (45 CFR 164.512(j)).
var apart = []string{"HLEGAL", "ETREAT", "BTG", "THREAT"}

// isA reports whether a purpose is another one, or below it.
func isA(purpose, wide string) bool {
	for p := purpose; p != ""; p = below[p] {
		if p == wide {
			return true
		}
	}
	return false
}

// permitted reports whether a permit for a purpose covers another one: itself
// and what is below it, but for what has to be named.
func permitted(named, purpose string) bool {
	for p := purpose; p != named; p = below[p] {
		if p == "" || slices.Contains(apart, p) {
			return false
		}
	}
	return true
}

// expand lists the purposes that a provision for the codes covers, sorted. A
// deny covers everything below them.
func expand(e Effect, codes []string) []string {
	var out []string
	for p := range below {
		if slices.ContainsFunc(codes, func(c string) bool { return e == Deny && isA(p, c) || e == Permit && permitted(c, p) }) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}
