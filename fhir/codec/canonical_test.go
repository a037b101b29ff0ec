package codec

import (
	"testing"
	"time"
)

func TestCanonicalIsWhatTheResourceSays(t *testing.T) {
	const body = `{"resourceType":"Consent","id":"c","meta":{"versionId":"3","lastUpdated":"2026-01-01T00:00:00.000Z"},
"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},"status":"active",
"scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
"category":[{"text":"a"},{"text":"b"}],"sourceAttachment":{"title":"Form","size":100},"policyRule":{"text":"p"}}`
	const want = `{"category":[{"text":"a"},{"text":"b"}],"id":"c","policyRule":{"text":"p"},"resourceType":"Consent",` +
		`"scope":{"coding":[{"code":"patient-privacy","system":"http://terminology.hl7.org/CodeSystem/consentscope"}]},` +
		`"sourceAttachment":{"size":100,"title":"Form"},"status":"active"}`
	r, err := Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(r.Canonical()); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	r.SetMeta(4, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC))
	if got := string(r.Canonical()); got != want {
		t.Errorf("another version: %s", got)
	}
	r.Root.Get("category").Items[0], r.Root.Get("category").Items[1] = r.Root.Get("category").Items[1], r.Root.Get("category").Items[0]
	if got := string(r.Canonical()); got == want {
		t.Error("a list in another order is the same")
	}
}
