package clinic

import (
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// consent writes a written consent under 42 CFR 2.31, in FHIR's terms: who (patient),
// who discloses (organization), what (securityLabel), to whom (actor), for what
// (purpose), until when (period), signed by whom (performer, verification) and when (dateTime).
func (c *chart) consent(d directive) {
	signed := days(c.start(), 7)
	end := days(c.Now, 240)
	status, kind, name := "active", "part2-tpo", "tpo"
	title := "Consent to treatment, payment and operations"
	purposes := []code{{actReason, "TREAT", "Treatment"}, {actReason, "HPAYMT", "Payment"}, {actReason, "HOPERAT", "Operations"}}
	var actors []node
	for _, class := range []code{
		{fhir.RecipientClass, "treating-providers", "My treating providers"},
		{fhir.RecipientClass, "payers", "My health plans and third-party payers"},
		{fhir.RecipientClass, "operations", "People who help to operate this program"},
	} {
		actors = append(actors, recipient(object(
			nest("identifier", str("system", class.system), str("value", class.code)), str("display", class.display))))
	}
	switch d {
	case tpo:
	case specific:
		kind, name, title = "part2-specific", "specific", "Consent to disclosure to the health exchange"
		purposes = purposes[:1]
		actors = []node{recipient(to(c.hie))}
	case revoked:
		status, name = "inactive", "revoked"
	case expired:
		name, end = "expired", days(c.Now, -60)
	}
	var purpose []node
	for _, p := range purposes {
		purpose = append(purpose, p.coding())
	}
	c.put(c.ref("Consent", name),
		narrative(title),
		str("status", status),
		conceptField("scope", "Privacy", code{terminology + "consentscope", "patient-privacy", "Privacy"}),
		list("category", concept(title, code{fhir.ConsentKind, kind, title})),
		reference("patient", c.self), str("dateTime", instant(signed.Add(15*time.Hour))),
		references("performer", c.self), references("organization", c.sud.org),
		nest("sourceAttachment", str("contentType", "application/pdf"), str("title", title)),
		list("policy", object(str("authority", "https://www.samhsa.gov"), str("uri", "https://www.ecfr.gov/current/title-42/part-2"))),
		conceptField("policyRule", "Disclosure with the patient's consent only", code{actCode, "OPTIN", "Opt in"}),
		list("verification", object(yes("verified"), reference("verifiedWith", c.self),
			str("verificationDate", instant(signed.Add(15*time.Hour))))),
		nest("provision", str("type", "permit"),
			nest("period", str("start", date(signed)), str("end", date(end))),
			list("actor", actors...),
			list("action",
				concept("Access", code{terminology + "consentaction", "access", "Access"}),
				concept("Disclose", code{terminology + "consentaction", "disclose", "Disclose"}),
				concept("Use", code{terminology + "consentaction", "use", "Use"})),
			list("securityLabel", code{actCode, "42CFRPart2", "Records of a Part 2 program"}.coding()),
			list("purpose", purpose...)))
}

// recipient is one provision.actor.
func recipient(reference node) node {
	return object(conceptField("role", "Recipient", code{partType, "IRCP", "Information recipient"}),
		field{Name: "reference", Value: reference})
}
