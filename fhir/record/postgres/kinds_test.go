package postgres_test

import (
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
)

// kindsClinic has a program's Observation and Claim of Anna's, an ordinary Observation of hers, and a directory.
func kindsClinic(t *testing.T) (h *house, program, ordinary, claim fhir.Ref) {
	t.Helper()
	h = clinic(t)
	h.load("{'resourceType':'Organization','id':'county','name':'Court'}")
	h.load(encounter("e1", "sud"))
	program = h.load(strings.Replace(observation(",'encounter':{'reference':'Encounter/e1'}"), "{", "{'id':'o1',", 1))
	ordinary = h.load(strings.Replace(observation(""), "{", "{'id':'o2',", 1))
	claim = h.load("{'resourceType':'Claim','id':'k1','status':'active','type':{'text':'x'},'use':'claim','patient':{'reference':'Patient/anna'},'created':'2026-01-10'," +
		"'provider':{'reference':'Organization/county'},'priority':{'text':'x'},'insurance':[{'sequence':1,'focal':true,'coverage':{'display':'x'}}]}")
	return h, program, ordinary, claim
}

func given(kind, recipient string, purposes ...string) part2Consent {
	c := specific()
	c.id, c.kind, c.recipient, c.purposes = "given", kind, recipient, purposes
	return c
}

// seen checks what each caller sees, record by record.
func seen(t *testing.T, h *house, what string, callers map[string]authz.Principal, want map[string]bool, ref fhir.Ref) {
	t.Helper()
	for name, p := range callers {
		if got := h.sees(p, ref); got != want[name] {
			t.Errorf("%s: %s sees %s: %v", what, name, ref.Type, got)
		}
	}
}

// A consent to proceedings opens a program's record to whom it names, for them; no other consent does.
func TestS6_S13_2_31_d_ProceedingsForWhomTheConsentNames(t *testing.T) {
	h, program, ordinary, _ := kindsClinic(t)
	callers := map[string]authz.Principal{
		"court": h.as("court", "LEGAL", "", "county"), "another court": h.as("court", "LEGAL", "", "other"), "court, to treat": h.as("court", "TREAT", "", "county"),
		"officer": h.as("privacy-officer", "HLEGAL", "Practitioner/emil"), "officer of the program": h.as("privacy-officer", "HLEGAL", "Practitioner/zoe", "sud"), "hie": h.as("hie", "TREAT", "", "county"),
	}
	seen(t, h, "no consent", callers, nil, program)
	h.load(given("part2-specific", "Organization/county", "TREAT").String())
	seen(t, h, "a consent to treatment", callers, map[string]bool{"hie": true}, program)
	h.load(given("part2-legal", "Organization/county", "LEGAL", "HLEGAL").String())
	seen(t, h, "a consent to proceedings", callers, map[string]bool{"court": true}, program)
	seen(t, h, "what no program holds", map[string]authz.Principal{"court": callers["court"]}, nil, ordinary)
	h.load(given("part2-legal", "Practitioner/emil", "HLEGAL").String())
	seen(t, h, "a consent that names the officer", callers, map[string]bool{"officer": true}, program)
	mixed := given("part2-legal", "Organization/county", "LEGAL", "TREAT")
	h.load(mixed.String())
	seen(t, h, "a consent to proceedings and treatment", callers, nil, program)
	revoked := given("part2-legal", "Organization/county", "LEGAL")
	revoked.status = "inactive"
	h.load(revoked.String())
	seen(t, h, "a revoked one", callers, nil, program)
}

// A consent to research opens a program's record to whom it names, for research.
func TestS35_2_31_a_7_ResearchForWhomTheConsentNames(t *testing.T) {
	h, program, ordinary, _ := kindsClinic(t)
	callers := map[string]authz.Principal{
		"analyst": h.as("research-analyst", "HRESCH", "", "county"), "another analyst": h.as("research-analyst", "HRESCH", "", "other"), "hie": h.as("hie", "TREAT", "", "county"),
	}
	seen(t, h, "no consent", callers, nil, program)
	h.load(given("part2-research", "Organization/county", "HRESCH").String())
	seen(t, h, "a consent to research", callers, map[string]bool{"analyst": true}, program)
	seen(t, h, "what no program holds", map[string]authz.Principal{"analyst": callers["analyst"]}, nil, ordinary)
	h.load(given("part2-specific", "Organization/county", "TREAT").String())
	seen(t, h, "another consent", callers, map[string]bool{"hie": true}, program)
}

// Software that drafts documentation sees what the patient consented to show it: of a program's records, what a consent for
// them permits besides.
func TestJ14_225_ILCS_155_15_SoftwareSeesWithConsent(t *testing.T) {
	h, program, ordinary, _ := kindsClinic(t)
	callers := map[string]authz.Principal{"scribe": h.as("ai-assistant", "TREAT", "Device/scribe", "county"), "another": h.as("ai-assistant", "TREAT", "Device/other", "other")}
	seen(t, h, "no consent", callers, nil, ordinary)
	h.load(given("hipaa-authorization", "Organization/county", "TREAT").String())
	seen(t, h, "an authorization", callers, nil, ordinary)
	machine := given("ai-documentation", "Organization/county", "TREAT")
	h.load(machine.String())
	seen(t, h, "a consent to that", callers, map[string]bool{"scribe": true}, ordinary)
	seen(t, h, "a consent to that, for a program's record", callers, nil, program)
	disclosed := given("part2-specific", "Organization/county", "TREAT")
	disclosed.id = "disclosed"
	h.load(disclosed.String())
	seen(t, h, "both", callers, map[string]bool{"scribe": true}, program)
	machine.status = "inactive"
	h.load(machine.String())
	seen(t, h, "a revoked one", callers, nil, program)
	seen(t, h, "a revoked one, for an ordinary record", callers, nil, ordinary)
}

// What was paid for in full is kept from the plan without the practice's agreement, and from nobody else.
func TestS25_H3_164_522_a_1_vi_WhatWasPaidIsKeptFromThePlan(t *testing.T) {
	h, _, _, claim := kindsClinic(t)
	biller := h.as("biller", "HPAYMT", "Practitioner/bill")
	if !h.sees(biller, claim) {
		t.Fatal("the biller does not see the claim")
	}
	asked := given("restriction", "class:payers", "HPAYMT")
	asked.status, asked.effect = "proposed", "deny"
	h.load(asked.String())
	if !h.sees(biller, claim) {
		t.Error("what was only asked for binds")
	}
	paid := func(c part2Consent) string {
		return strings.Replace(c.String(), "'policyRule'", "'policy':[{'uri':'"+fhir.ConsentStatement+"#paid-in-full'}],'policyRule'", 1)
	}
	h.load(paid(asked))
	if h.sees(biller, claim) {
		t.Error("what was paid for in full goes to the plan (45 CFR 164.522(a)(1)(vi))")
	}
	if !h.sees(h.as("patient", "PATRQT", "Patient/anna"), claim) {
		t.Error("it is kept from the patient")
	}
	asked.status = "rejected"
	h.load(paid(asked))
	if !h.sees(biller, claim) {
		t.Error("what the practice rejected, because it was not paid, binds")
	}
}
